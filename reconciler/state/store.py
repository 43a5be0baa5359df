"""What a state is kept in: the words that its backends, its readers and its writer share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from reconciler.errors import ImgctlError, StateError
from reconciler.model.record import Recorded
from reconciler.state.emergency import EmergencyFiles
from reconciler.state.patch import Patch

if TYPE_CHECKING:
    # Reading needs no events.
    from reconciler.state.document import Document

# What to do while another run has what is asked for: called with each refusal, it waits, or raises it.
Wait = Callable[[StateError], None]


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds a lock, for messages: what counts is the lock itself.

    `since` is UTC, ISO 8601; `run` is the CI run's URL, empty outside CI.
    """

    who: str
    host: str
    pid: int
    since: str
    operation: str
    run: str = ""

    def __str__(self) -> str:
        run = f", run {self.run}" if self.run else ""
        return f"{self.who} on {self.host} (process {self.pid}), since {self.since}, for {self.operation}{run}"


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that somebody holds, as the place itself tells of it; `holder` is in words, `record` as it was told."""

    id: str
    holder: str
    record: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of a claim: the servers that another run has, with who that is, in words; in its order, what other runs
    have written meanwhile; and all that `others` have, whether it was claimed or not."""

    refused: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[Patch] = ()
    others: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """A stay in a state as one that writes it, from `Backend.begin` to `end`. Everything here may raise StateError."""

    @property
    def recorded(self) -> Recorded:
        """The state as it was when the stay began."""
        ...

    @property
    def alone(self) -> bool:
        """True where nobody else may write any of it: there is nothing to claim then."""
        ...

    def claim(self, server_ids: Collection[str]) -> Claim:
        """Become the only one to write these records, as far as no other run has them."""
        ...

    def release(self, server_ids: Collection[str]) -> None:
        """Let others write these records."""
        ...

    async def catch_up(self) -> Sequence[Patch]:
        """What other runs have written since this one learned of it last, in its order."""
        ...

    async def write(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """Make a patch of the document durable; gives back what other runs have written meanwhile, in its order."""
        ...

    def write_now(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """The same for what is found at the beginning, outside of any event loop."""
        ...

    async def replace(self, document: Document) -> None:
        """Put a whole other document in the place of the state."""
        ...

    def end(self, document: Document | None) -> None:
        """Leave. With a document, what was written is tidied up; None where a write has failed."""
        ...


class Backend(Protocol):
    """Where a state lives. Its name is what a message says of the place."""

    def read(self) -> tuple[Recorded, int]:
        """The state from one consistent moment, without a lock, and the number of the last write in it.

        `exists` is False where there is none. Repairs nothing. Raises StateError where it is damaged.
        """
        ...

    def begin(self, holder: LockHolder, wait: Wait | None = None, *, alone: bool = True) -> Session:
        """Begin to write. `alone`: nobody else may write any of it meanwhile, which may be so in any case.

        Raises StateLocked, or with `wait` what that raises, called at each refusal; StateError; where it was moved too.
        """
        ...


@runtime_checkable
class OutlivingLock(Protocol):
    """What a backend has besides where its lock outlives its owner: a person decides that the owner is dead."""

    def held_lock(self) -> HeldLock | None:
        """The lock as it is now, None where nobody holds it. Raises StateError."""
        ...

    def force_unlock(self, lock: HeldLock) -> bool:
        """Take that lock away from its owner; False where it was given back already. Raises StateError."""
        ...


@dataclass(frozen=True, slots=True)
class Store:
    """A state's place: where its bytes live, and where job IDs are kept when it takes nothing any more."""

    backend: Backend
    emergencies: EmergencyFiles

    def __str__(self) -> str:
        return str(self.backend)


def read(store: Store) -> Recorded:
    """The state as a reader sees it; `exists` is False where none was found.

    Raises StateError where it is damaged, or was moved elsewhere.
    """
    recorded, _ = store.backend.read()
    check_not_moved(recorded, str(store))
    return recorded


def check_not_moved(recorded: Recorded, place: str) -> None:
    """Raise StateError where a state is kept elsewhere by now: what is left behind is out of date."""
    if recorded.moved_to:
        raise StateError(
            f"the state at {place} was moved to {recorded.moved_to}",
            hint="Name the new place: --state, IMGCTL_STATE, or `state:` in the manifest.",
        )


def say_along(error: BaseException, stays: StateError) -> None:
    """Say with an error what else went wrong on the way out: a lock that stays behind, say."""
    if isinstance(error, ImgctlError):
        error.hint = "\n".join(text for text in (error.hint, stays.summary, stays.hint) if text)


def read_whole(store: Store) -> tuple[Recorded, int]:
    """The state wherever it was moved, and the number of the last write in it. Raises StateError."""
    return store.backend.read()

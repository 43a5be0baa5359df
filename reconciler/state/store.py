"""What a state is kept in, and reading it: without a lock, from one consistent moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from reconciler.errors import StateError
from reconciler.model.record import Recorded
from reconciler.state import journal
from reconciler.state.codec import Stored, decode, replay
from reconciler.state.emergency import EmergencyFiles

# A fold takes two renames; a reader that meets so many of them in a row meets something else.
_READS = 50


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


class Lock(Protocol):
    """A held lock; leaving it gives it back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """Where the bytes of a state live: a document, and the journal beside it. Dumb on purpose.

    What the bytes mean is the store's business. Everything that writes is durable on return, or raises StateError.
    """

    def read_document(self) -> bytes | None:
        """The whole document, None where there is none."""
        ...

    def read_journal(self) -> bytes | None:
        """The whole journal, its last write perhaps half done, None where there is none."""
        ...

    def lock(self, holder: LockHolder, wait: Callable[[StateError], None] | None = None) -> Lock:
        """Become the only writer. Raises StateLocked; with `wait`, what that raises, called at each refusal."""
        ...

    def replace_document(self, content: bytes) -> None:
        """Put a new document in the old one's place, in one step."""
        ...

    def replace_journal(self, content: bytes) -> None:
        """Put a new journal in the old one's place, in one step."""
        ...

    def append(self, frame: bytes) -> None:
        """Add a frame to the journal, in one write."""
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
    recorded, _, _ = read_with_journal(store.backend)
    check_not_moved(recorded, str(store))
    return recorded


def check_not_moved(recorded: Recorded, place: str) -> None:
    """Raise StateError where a state is kept elsewhere by now: what is left behind is out of date."""
    if recorded.moved_to:
        raise StateError(
            f"the state at {place} was moved to {recorded.moved_to}",
            hint="Name the new place: --state, IMGCTL_STATE, or `state:` in the manifest.",
        )


def read_whole(store: Store) -> tuple[Recorded, int]:
    """The state wherever it was moved, and the number of the last frame in it. Raises StateError."""
    recorded, found, folded = read_with_journal(store.backend)
    return recorded, folded if found is None else max(found.last, folded)


def read_with_journal(backend: Backend) -> tuple[Recorded, journal.Journal | None, int]:
    """The state with its journal's frames in it, the journal, and the last frame that the document has by itself.

    Repairs nothing. The journal may end before that frame: a power loss took what a killed run had not synced, and the
    run after it had folded it in already.
    """
    source = f"{backend}.journal"
    problem = ""
    for _ in range(_READS):
        before = _header(backend.read_journal(), source)
        content = backend.read_document()
        after = backend.read_journal()
        if before != _header(after, source):
            # The writer folded in between: what was read does not belong together.
            problem = "it keeps changing"
            continue
        if content is None:
            if after is None:
                return Recorded(), None, 0
            problem = "its document is missing"
            continue
        stored = decode(content, str(backend))
        if after is None:
            return stored.recorded, None, stored.folded
        found = journal.decode(after, source)
        if found.header.lineage != stored.recorded.lineage:
            problem = "it belongs to another document"
        elif found.header.after > stored.folded:
            problem = "its document is older than it is"
        else:
            return _replayed(stored, found, source), found, stored.folded
    raise StateError(
        f"{source} does not fit: {problem}",
        hint="Restore the state and its journal together from a backup, from the same moment.",
    )


def _header(content: bytes | None, source: str) -> journal.Header | None:
    return None if content is None else journal.decode_header(content, source)


def _replayed(stored: Stored, found: journal.Journal, source: str) -> Recorded:
    patches = (patch for number, patch in found.frames if number > stored.folded)
    return replay(stored.recorded, patches, source)

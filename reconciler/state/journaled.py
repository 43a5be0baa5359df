"""States that are bytes: one document, and beside it a journal of what was written since. One run writes at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reconciler.errors import StateError
from reconciler.model.record import Recorded
from reconciler.state import journal
from reconciler.state.codec import Stored, decode, replay
from reconciler.state.store import LockHolder, Wait

if TYPE_CHECKING:
    from reconciler.state.journal_session import JournalSession

# A fold takes two renames; a reader that meets so many of them in a row meets something else.
_READS = 50


class Lock:
    """A held lock; leaving it calls `unlock`, which gives it back."""

    def __init__(self, unlock: Callable[[], None]) -> None:
        self._unlock = unlock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unlock()


class Journaled(ABC):
    """Where the bytes of a state live: a document, and the journal beside it. Dumb on purpose.

    What the bytes mean is decided here, once for all of them. Everything that writes is durable on return, or raises
    StateError. One run writes at a time.
    """

    @abstractmethod
    def read_document(self) -> bytes | None:
        """The whole document, None where there is none."""

    @abstractmethod
    def read_journal(self) -> bytes | None:
        """The whole journal, its last write perhaps half done, None where there is none."""

    @abstractmethod
    def lock(self, holder: LockHolder, wait: Wait | None = None) -> Lock:
        """Become the only writer. Raises StateLocked; with `wait`, what that raises, called at each refusal."""

    @abstractmethod
    def replace_document(self, content: bytes) -> None:
        """Put a new document in the old one's place, in one step."""

    @abstractmethod
    def replace_journal(self, content: bytes) -> None:
        """Put a new journal in the old one's place, in one step."""

    @abstractmethod
    def append(self, frame: bytes) -> None:
        """Add a frame to the journal, in one write."""

    def read(self) -> tuple[Recorded, int]:
        """See Backend."""
        recorded, found, folded = read_with_journal(self)
        return recorded, folded if found is None else max(found.last, folded)

    def begin(self, holder: LockHolder, wait: Wait | None = None, *, alone: bool = True) -> JournalSession:
        """See Backend."""
        # Imported here: a plan reads, and pays for nothing else.
        from reconciler.state.journal_session import JournalSession

        del alone
        return JournalSession(self, holder, wait)


def read_with_journal(backend: Journaled) -> tuple[Recorded, journal.Journal | None, int]:
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

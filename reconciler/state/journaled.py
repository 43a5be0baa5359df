"""States that are bytes: one document, and beside it a journal of what was written since. One run writes at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from reconciler.errors import ImgctlError, StateError
from reconciler.model.record import Recorded
from reconciler.state import journal
from reconciler.state.codec import Stored, decode, encode, encode_patch, replay
from reconciler.state.document import Document, Patch
from reconciler.state.store import Claim, LockHolder, Wait, check_not_moved

# A fold takes two renames; a reader that meets so many of them in a row meets something else.
_READS = 50
# The journal is folded into the document when it has grown beyond this, and beyond the document, in bytes: so an event
# costs the same whatever the fleet's size.
_FOLD_BEYOND = 1 << 20


class Lock(Protocol):
    """A held lock; leaving it gives it back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
        del alone
        return JournalSession(self, holder, wait)


class JournalSession:
    """The only writer of a document and its journal: see Session, which this is one of."""

    def __init__(self, backend: Journaled, holder: LockHolder, wait: Wait | None) -> None:
        self._backend = backend
        self._lock = backend.lock(holder, wait)
        # The number of the last frame, and how large the journal and the document are, in bytes.
        self._number = self._journal_size = self._document_size = 0
        # False until there are files to append to: a command that records nothing leaves none behind.
        self._begun = False
        try:
            self.recorded = self._open()
        except BaseException as error:
            try:
                self._unlock()
            except StateError as stays:
                if isinstance(error, ImgctlError):
                    error.hint = "\n".join(text for text in (error.hint, stays.summary, stays.hint) if text)
            raise

    def _open(self) -> Recorded:
        recorded, found, folded = read_with_journal(self._backend)
        check_not_moved(recorded, str(self._backend))
        if found is None:
            return recorded
        # A frame with a number that the document has passed already would never be read.
        self._number = max(found.last, folded)
        self._begun = True
        if found.frames or found.torn or found.header.after < folded:
            # A run that did not end well left something: from here on the document has it.
            self._fold(encode(recorded, self._number), recorded.lineage)
        return recorded

    @property
    def alone(self) -> bool:
        """See Session. The lock is for all of it."""
        return True

    def claim(self, server_ids: Collection[str]) -> Claim:
        """See Session."""
        del server_ids
        return Claim()

    def release(self, server_ids: Collection[str]) -> None:
        """See Session."""

    async def catch_up(self) -> Sequence[Patch]:
        """See Session. There is nobody else."""
        return ()

    async def write(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """See Session. What is written is fixed before anything is waited for; the writing happens beside the loop."""
        if not self._begun:
            await self.replace(document)
            return ()
        frame = journal.encode_frame(document.lineage, self._number + 1, encode_patch(patch))
        await asyncio.to_thread(self._append, frame)
        if self._journal_size > max(_FOLD_BEYOND, self._document_size):
            await self.replace(document)
        return ()

    def write_now(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """See Session."""
        del patch
        self._fold(encode(document.view(), self._number), document.lineage)
        return ()

    async def replace(self, document: Document) -> None:
        """See Session."""
        await asyncio.to_thread(self._fold, encode(document.view(), self._number), document.lineage)

    def end(self, document: Document | None) -> None:
        """See Session."""
        try:
            if self._journal_size and document is not None:
                # A disk that takes no document any more has taken every frame: nothing is lost, the next writer folds.
                with suppress(StateError):
                    self._fold(encode(document.view(), self._number), document.lineage)
        finally:
            self._unlock()

    def _append(self, frame: bytes) -> None:
        self._backend.append(frame)
        self._number += 1
        self._journal_size += len(frame)

    def _fold(self, content: bytes, lineage: str) -> None:
        """Write the document, then begin a new journal after it; between the two the old journal changes nothing."""
        self._backend.replace_document(content)
        self._document_size = len(content)
        self._backend.replace_journal(journal.encode_header(journal.Header(lineage, self._number)))
        self._journal_size = 0
        self._begun = True

    def _unlock(self) -> None:
        self._lock.__exit__(None, None, None)


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

"""Writing a state that is bytes: events go to the journal, which is folded into the document now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from reconciler.errors import StateError
from reconciler.model.record import Recorded
from reconciler.state import journal
from reconciler.state.codec import encode, encode_patch
from reconciler.state.document import Document
from reconciler.state.journaled import Journaled, read_with_journal
from reconciler.state.patch import Patch
from reconciler.state.store import Claim, LockHolder, Wait, check_not_moved, say_along

# The journal is folded into the document when it has grown beyond this, and beyond the document, in bytes: so an event
# costs the same whatever the fleet's size.
_FOLD_BEYOND = 1 << 20


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
                say_along(error, stays)
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

"""Writing a state: one writer at a time, every event durable before its caller goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from reconciler.errors import ImgctlError, StateError
from reconciler.model.record import Recorded
from reconciler.state import emergency, journal
from reconciler.state.codec import encode, encode_patch
from reconciler.state.document import Document
from reconciler.state.events import BuildSubmitted, Event
from reconciler.state.store import LockHolder, Store, check_not_moved, read_with_journal

# The journal is folded into the document when it has grown beyond this, and beyond the document, in bytes: so an event
# costs the same whatever the fleet's size.
_FOLD_BEYOND = 1 << 20


class Writer:
    """The only writer of a state, from entering to leaving.

        with Writer(store, holder) as writer:
            await writer.commit(event, …)      # durable on return

    Events that arrive while a write is under way go to disk together with the next one. The first write that fails ends
    all writing: a job ID that is known and cannot be recorded goes to an emergency file, which the next writer takes in
    first. `wait` decides what happens while another process holds the lock, see Backend.
    """

    def __init__(self, store: Store, holder: LockHolder, wait: Callable[[StateError], None] | None = None) -> None:
        self._backend = store.backend
        self._emergencies = store.emergencies
        self._lock = store.backend.lock(holder, wait)
        self._waiting: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._broken: StateError | None = None
        # The number of the last frame, and how large the journal and the document are, in bytes.
        self._number = self._journal_size = self._document_size = 0
        # False until there are files to append to: a command that records nothing leaves none behind.
        self._begun = False
        try:
            self._open()
        except BaseException as error:
            self._unlock_after(error)
            raise

    def _open(self) -> None:
        recorded, found, folded = read_with_journal(self._backend)
        check_not_moved(recorded, str(self._backend))
        self._document = Document(recorded)
        if found is not None:
            # A frame with a number that the document has passed already would never be read.
            self._number = max(found.last, folded)
        found_jobs = emergency.missing_jobs(self._emergencies, recorded)
        for event in found_jobs:
            self._document.apply(event)
        if found_jobs or (found is not None and (found.frames or found.torn or found.header.after < folded)):
            # A run that did not end well left something: from here on the document has it.
            self._fold(encode(self.recorded, self._number))
        elif found is not None:
            self._begun = True
        # Files with job IDs of which this state knows nothing: for a person to look at.
        self.foreign_emergencies = emergency.clear(self._emergencies, self.recorded)
        self._document.take_patch()

    @property
    def recorded(self) -> Recorded:
        """The state with everything that was committed so far; a live view."""
        return self._document.view()

    async def commit(self, *events: Event) -> None:
        """Record events; on return they are on disk. Raises StateError where they cannot be, now and ever after."""
        try:
            await self._commit(events)
        except StateError:
            jobs = [event for event in events if isinstance(event, BuildSubmitted)]
            if self._broken is not None and jobs:
                place = emergency.save(self._emergencies, self.recorded, jobs)
                raise StateError(self._broken.summary, hint=f"{self._broken.hint}\n{place}".strip()) from self._broken
            raise

    async def replace(self, recorded: Recorded) -> None:
        """Put a whole other state in the place of this one; on return it is durable. Raises StateError."""
        self._document = Document(recorded)
        await asyncio.to_thread(self._fold, encode(recorded, self._number))

    async def _commit(self, events: tuple[Event, ...]) -> None:
        if self._broken is not None:
            raise self._broken
        if not events:
            return
        for event in events:
            self._document.apply(event)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        # A caller that is cancelled must not take the others' write with it.
        await asyncio.shield(durable)

    async def _flush(self) -> None:
        """Write until nothing waits. What is written is fixed here, the writing itself happens beside the loop."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
                self._broken = error if isinstance(error, StateError) else _fault(error)
                batch += self._waiting
                self._waiting = []
            for durable in batch:
                if self._broken is None:
                    durable.set_result(None)
                else:
                    durable.set_exception(self._broken)

    async def _write(self) -> None:
        patch = self._document.take_patch()
        if not self._begun:
            await asyncio.to_thread(self._fold, encode(self.recorded, self._number))
            return
        frame = journal.encode_frame(self.recorded.lineage, self._number + 1, encode_patch(patch))
        await asyncio.to_thread(self._backend.append, frame)
        self._number += 1
        self._journal_size += len(frame)
        if self._journal_size > max(_FOLD_BEYOND, self._document_size):
            await asyncio.to_thread(self._fold, encode(self.recorded, self._number))

    def _fold(self, document: bytes) -> None:
        """Write the document, then begin a new journal after it; between the two the old journal changes nothing."""
        self._backend.replace_document(document)
        self._document_size = len(document)
        header = journal.Header(self._document.lineage, self._number)
        self._backend.replace_journal(journal.encode_header(header))
        self._journal_size = 0
        self._begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._journal_size and self._broken is None:
                # A disk that takes no document any more has taken every frame: nothing is lost, the next writer folds.
                with suppress(StateError):
                    self._fold(encode(self.recorded, self._number))
        finally:
            self._unlock_after(error)

    def _unlock_after(self, error: BaseException | None) -> None:
        """Give the lock back. Where it stays, and something else went wrong before, that is said along with it."""
        try:
            self._unlock()
        except StateError as stays:
            if error is None:
                raise
            if isinstance(error, ImgctlError):
                error.hint = "\n".join(text for text in (error.hint, stays.summary, stays.hint) if text)

    def _unlock(self) -> None:
        self._lock.__exit__(None, None, None)


def _fault(error: Exception) -> StateError:
    return StateError(
        f"the state could not be written: {type(error).__name__}: {error}",
        hint="This is a fault of imgctl. What was recorded before is safe.",
    )

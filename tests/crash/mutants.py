"""Ways to break the promises, by name: mistakes that somebody could make. The harness must notice every one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reconciler.cloud import operations
from reconciler.execution.run import Run
from reconciler.model.record import BuildStatus
from reconciler.state import files, journal
from reconciler.state.document import Document
from reconciler.state.events import BuildIntended, BuildSubmitted, Event
from reconciler.state.journal_session import JournalSession
from reconciler.state.local import LocalState

_INTENT = f'"status":"{BuildStatus.INTENT}"'.encode()


def no_intent() -> None:
    """The intent is written together with what became of it: after the request."""
    record = Run.record
    kept: dict[str, Event] = {}

    async def late(self: Run, *happened: Event) -> None:
        waiting: list[Event] = []
        for event in happened:
            if isinstance(event, BuildIntended):
                kept[event.server_id] = event
                continue
            first = kept.pop(getattr(event, "server_id", ""), None)
            waiting += [event] if first is None else [first, event]
        if waiting:
            await record(self, *waiting)

    Run.record = late  # type: ignore[method-assign]


def intent_not_fsynced() -> None:
    """A frame that holds an intent is written and not synced."""
    write, sync = files.write, files.sync
    unsynced: set[int] = set()

    def noted_write(descriptor: int, content: bytes) -> None:
        write(descriptor, content)
        (unsynced.add if _INTENT in content else unsynced.discard)(descriptor)

    def forgetful_sync(descriptor: int) -> None:
        if descriptor not in unsynced:
            sync(descriptor)

    files.write, files.sync = noted_write, forgetful_sync


def post_before_fsync() -> None:
    """The request leaves while its intent is still on the way to the disk."""
    record = Run.record
    writing: set[asyncio.Task[None]] = set()

    async def hasty(self: Run, *happened: Event) -> None:
        task = asyncio.create_task(record(self, *happened))
        if all(isinstance(event, BuildIntended) for event in happened):
            writing.add(task)
            await asyncio.sleep(0)
        else:
            await task

    Run.record = hasty  # type: ignore[method-assign]


def no_folder_fsync() -> None:
    """A rename is left to the system to make durable."""

    def nothing(folder: Path) -> None:
        del folder

    files.sync_folder = nothing


def job_id_not_written() -> None:
    """The job ID is known in memory, and reaches the disk with whatever is written next."""
    record = Run.record

    async def lazy(self: Run, *happened: Event) -> None:
        for event in happened:
            if isinstance(event, BuildSubmitted):
                self.writer._document.apply(event)
        rest = [event for event in happened if not isinstance(event, BuildSubmitted)]
        if rest:
            await record(self, *rest)

    Run.record = lazy  # type: ignore[method-assign]


def resend_on_read_timeout() -> None:
    """A request without an answer is simply sent again."""
    operations.RECREATE = replace(operations.RECREATE, repeat=operations.Repeat.SAFE)


def unlock_before_fold() -> None:
    """The lock is given back, then the journal is folded; nobody checks that it is still held."""
    leave = JournalSession.end
    LocalState._check_owned = lambda self: None  # type: ignore[method-assign]

    def hasty(self: JournalSession, document: Document | None) -> None:
        self._unlock()
        self._unlock = lambda: None  # type: ignore[method-assign]
        leave(self, document)

    JournalSession.end = hasty  # type: ignore[method-assign]


def damage_ignored() -> None:
    """A damaged frame is left out, wherever it is."""

    def lenient(content: bytes, source: str) -> journal.Journal:
        header = journal.decode_header(content, source)
        found = [journal._frame(line, header) for line in content.split(b"\n")[1:]]
        return journal.Journal(header, tuple(frame for frame in found if frame is not None), torn=True)

    journal.decode = lenient


def lock_file_removed() -> None:
    """Whoever leaves takes the lock file along."""
    leave = LocalState._unlock

    def tidy(self: LocalState, descriptor: int) -> None:
        files.remove(Path("imgctl.state.json.lock"))
        leave(self, descriptor)

    LocalState._unlock = tidy  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        no_intent,
        intent_not_fsynced,
        post_before_fsync,
        no_folder_fsync,
        job_id_not_written,
        resend_on_read_timeout,
        unlock_before_fold,
        damage_ignored,
        lock_file_removed,
    )
}

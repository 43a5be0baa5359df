"""Writing a state: one writer at a time, every event durable before its caller goes on."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from reconciler.errors import StateError
from reconciler.model.record import Recorded
from reconciler.state.codec import encode
from reconciler.state.document import Document
from reconciler.state.events import Event
from reconciler.state.local import LockHolder
from reconciler.state.store import Backend, read


class Writer:
    """The only writer of a state, from entering to leaving.

        with Writer(backend, holder) as writer:
            await writer.commit(event, …)      # durable on return

    Events that arrive while a write is under way go to disk together with the next one, so the number of writes does
    not grow with the number of builds that start at once. The first write that fails ends all writing: what is in
    memory after that would be a lie to rely on.
    """

    def __init__(self, backend: Backend, holder: LockHolder) -> None:
        self._backend = backend
        self._lock = backend.lock(holder)
        try:
            self._document = Document(read(backend))
        except BaseException:
            self._lock.close()
            raise
        self._waiting: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._broken: StateError | None = None

    @property
    def recorded(self) -> Recorded:
        """The state with everything that was committed so far; a live view."""
        return self._document.view()

    async def commit(self, *events: Event) -> None:
        """Record events; on return they are on disk. Raises StateError where they cannot be, now and ever after."""
        if self._broken is not None:
            raise self._broken
        for event in events:
            self._document.apply(event)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        # A caller that is cancelled must not take the others' write with it.
        await asyncio.shield(durable)

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._backend.replace, encode(self.recorded))
            except StateError as error:
                self._broken = error
                batch += self._waiting
                self._waiting = []
            for durable in batch:
                if durable.cancelled():
                    continue
                if self._broken is None:
                    durable.set_result(None)
                else:
                    durable.set_exception(self._broken)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

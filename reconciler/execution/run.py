"""What all builds of one run share: the cloud, the state's writer, the watcher, and the word to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from reconciler.cloud.client import CloudClient
from reconciler.errors import ImgctlError, StateError
from reconciler.execution.polling import Polling
from reconciler.execution.readings import ServerReadings
from reconciler.execution.watcher import Watcher
from reconciler.model.observed import Observation
from reconciler.model.outcome import StopReason
from reconciler.model.plan import Plan
from reconciler.model.progress import Progress
from reconciler.model.record import Context
from reconciler.state.events import Event
from reconciler.state.writer import Writer

_T = TypeVar("_T")


class Stopped(Exception):  # noqa: N818 - not an error: the run was told to stop
    """Raised inside a build that must go no further; what it has done is recorded."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to carry out a plan. Times are in seconds.

    `max_in_flight` bounds the builds at one time (0: no bound). `wait` False returns once everything is submitted.
    `timeout` ends the waiting, not the builds. `quiet_time` is how long a request in doubt must leave no trace before
    it counts as not issued. `patience` is how long one build may take before a person should look at it. `submit` False
    sends no recreate-image request at all.
    """

    max_in_flight: int = 40
    wait: bool = True
    timeout: float | None = None
    quiet_time: float = 180.0
    patience: float = 3 * 3600.0
    submit: bool = True


class Run:
    """The shared part of one run. All it needs comes in from outside: it reads no environment and prints nothing."""

    def __init__(
        self,
        *,
        cloud: CloudClient,
        writer: Writer,
        plan: Plan,
        observed: Observation,
        observed_at: float,
        settings: Settings,
        context: Context,
        report: Callable[[Progress], None],
    ) -> None:
        self.cloud = cloud
        self.writer = writer
        self.plan = plan
        self.settings = settings
        self.context = context
        self._report = report
        self.observed = observed
        self.servers = ServerReadings(cloud, time.monotonic, observed.servers, observed_at)
        self.watcher = Watcher(cloud, Polling(plan.build_seconds), self.report, time.monotonic)
        self.stopped: StopReason | None = None
        self.error: ImgctlError | None = None
        self._stopping = asyncio.Event()
        self._to_tell: list[Callable[[], None]] = []
        # The servers with an answer that is not recorded yet.
        self._answered: set[str] = set()
        self._all_recorded = asyncio.Event()
        self._all_recorded.set()

    def claimed(self) -> frozenset[str]:
        """The job and image ids that some record calls its own."""
        recorded = self.writer.recorded
        records = recorded.all_records
        ids = {one for record in records for build in record.builds for one in (build.job_id, build.image_id)}
        ids |= {record.held.image_id for record in records if record.held is not None}
        return frozenset(ids)

    async def claimed_by_now(self) -> frozenset[str]:
        """The same, with what other runs have recorded meanwhile. Stopped where the state cannot be asked."""
        try:
            await self.writer.catch_up()
        except StateError as error:
            self.stop(StopReason.ERROR, error)
            raise Stopped from error
        return self.claimed()

    def report(self, happened: Progress) -> None:
        """Say what happened. That nobody can hear it any more must not keep it from being recorded."""
        with suppress(Exception):
            self._report(happened)

    def now(self) -> datetime:
        """The time by the cloud's clock, as far as it is known."""
        return datetime.now(UTC) + self.cloud.clock_offset

    def answered(self, server_id: str) -> None:
        """A request's answer has come: until `answer_recorded`, no intent may take its place in doubt."""
        self._answered.add(server_id)
        self._all_recorded.clear()

    def answer_recorded(self, server_id: str) -> None:
        """What the answer said is on disk, or never will be."""
        self._answered.discard(server_id)
        if not self._answered:
            self._all_recorded.set()

    async def answers_recorded(self) -> None:
        """Wait until every answer is on disk: a crash leaves no more in doubt than what is being sent."""
        await self._all_recorded.wait()

    @property
    def stopping(self) -> bool:
        """True once nothing new is to be asked of the cloud."""
        return self._stopping.is_set()

    def stop(self, reason: StopReason, error: ImgctlError | None = None) -> None:
        """Submit nothing more, record what is being sent, leave the builds running. The first reason stands."""
        if self.stopped is None:
            self.stopped, self.error = reason, error
        self._stopping.set()
        for tell in self._to_tell:
            tell()

    def when_stopped(self, tell: Callable[[], None]) -> None:
        """Have `tell` called once the run stops; at once where it has."""
        self._to_tell.append(tell)
        if self.stopping:
            tell()

    async def record(self, *happened: Event) -> None:
        """Make events durable. Where the state cannot be written the whole run stops, and Stopped is raised."""
        try:
            await self.writer.commit(*happened)
        except StateError as error:
            self.stop(StopReason.ERROR, error)
            raise Stopped from error

    async def unless_stopped(self, waiting: asyncio.Future[_T], seconds: float) -> _T:
        """What `waiting` gives; Stopped where the run stops first, TimeoutError after so many seconds."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {waiting, stopping}
        try:
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if waiting.done():
            return waiting.result()
        if self.stopping:
            raise Stopped
        raise TimeoutError

    async def interruptible(
        self, work: Coroutine[Any, Any, _T], *, unless: Callable[[], bool] = lambda: False, grace: float = 0.0
    ) -> _T:
        """What `work` gives. Where the run stops first it is called off, with Stopped, unless `unless` forbids that.

        It may go on for `grace` seconds, so that an answer on its way is heard.
        """
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {task, stopping}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if grace and not task.done():
                await asyncio.wait({task}, timeout=grace)
            if not task.done() and not unless():
                task.cancel()
                await asyncio.wait({task})
                raise Stopped
            return await task
        finally:
            stopping.cancel()

    async def pause(self, seconds: float) -> None:
        """Sleep; Stopped at once where the run stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopped

"""Waits for all builds in flight together: one look serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.cloud.client import CloudClient
from reconciler.cloud.jobs import look_up_jobs
from reconciler.errors import AuthenticationFailed, CloudError, PermissionDenied
from reconciler.execution.polling import Polling
from reconciler.model.observed import ObservedJob
from reconciler.model.progress import Progress, Remark

_GOING_ON = frozenset({"RUNNING", "WAITING"})
_MISSES_BEFORE_REMARK = 5


class Watcher:
    """Looks at jobs until each has ended; what it says of one goes to the future that `watch` gave.

    A job's end is its own status, never its sub job's (facts sheet, 2.1). A look that fails is said and made again; one
    that is not allowed ends the waiting with its error, since it would be refused for ever. `clock` gives seconds that
    only grow.
    """

    def __init__(
        self, cloud: CloudClient, polling: Polling, report: Callable[[Progress], None], clock: Callable[[], float]
    ) -> None:
        self._cloud = cloud
        self._polling = polling
        self._report = report
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._changed = asyncio.Event()
        self._remarked = ""

    def watch(self, job_id: str) -> asyncio.Future[ObservedJob]:
        """The end of a job, as a future. Looks begin often and grow rare, counted from now."""
        ended: asyncio.Future[ObservedJob] = asyncio.get_running_loop().create_future()
        self._watched[job_id] = _Watched(ended, self._clock())
        self._changed.set()
        return ended

    @property
    def watching(self) -> int:
        """How many jobs are being looked at."""
        return len(self._watched)

    def forget(self, job_id: str) -> None:
        """Stop looking at a job."""
        self._watched.pop(job_id, None)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._changed.clear()
            if not self._watched:
                await self._changed.wait()
            await self._pause()
            await self._look()

    async def _pause(self) -> None:
        """Wait for the interval; a build that is new meanwhile makes it shorter."""
        begun = self._clock()
        while self._watched:
            self._changed.clear()
            now = self._clock()
            remaining = begun + self._polling.interval(begun - one.since for one in self._watched.values()) - now
            if remaining <= 0:
                return
            try:
                async with asyncio.timeout(remaining):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _look(self) -> None:
        try:
            jobs = await look_up_jobs(self._cloud, tuple(self._watched))
        except (AuthenticationFailed, PermissionDenied) as error:
            for one in self._watched.values():
                if not one.ended.done():
                    one.ended.set_exception(error)
            self._watched.clear()
            return
        except CloudError as error:
            if error.summary != self._remarked:
                self._remarked = error.summary
                self._report(Remark(f"looking at the builds failed, and will be tried again: {error.summary}"))
            return
        self._remarked = ""
        self._remark_missing(jobs)
        self._remark_odd(jobs)
        for job_id, job in jobs.items():
            if job.job_status_known and job.ended and job_id in self._watched:
                ended = self._watched.pop(job_id).ended
                if not ended.done():
                    ended.set_result(job)

    def _remark_missing(self, jobs: Mapping[str, ObservedJob]) -> None:
        """Say once that a job cannot be looked up: it may show itself later, but nobody should wait in silence."""
        for job_id, one in self._watched.items():
            one.missed = 0 if job_id in jobs else one.missed + 1
            if one.missed == _MISSES_BEFORE_REMARK:
                self._report(Remark(f"job {job_id} cannot be looked up; waiting for it to show itself"))

    def _remark_odd(self, jobs: Mapping[str, ObservedJob]) -> None:
        """Say once what is unusual about a job that goes on: its own status decides, its sub job's is a diagnosis."""
        for job_id, job in jobs.items():
            one = self._watched.get(job_id)
            if one is None or job.ended:
                continue
            odd = [f"job {job_id} is {job.status or 'in no known state'}"] if job.status not in _GOING_ON else []
            if job.sub_status not in ("", job.status, *_GOING_ON):
                odd.append(f"the sub job of job {job_id} is {job.sub_status}")
            if odd and (job.error_code or job.error_message):
                odd.append(f"{job.error_code} {job.error_message}".strip())
            said = ": ".join(odd)
            if said and said != one.remarked:
                self._report(Remark(f"{said}; waiting for the job itself to end"))
            one.remarked = said


@dataclass(slots=True)
class _Watched:
    ended: asyncio.Future[ObservedJob]
    since: float
    missed: int = 0
    remarked: str = ""

"""Carries out a plan: the records first, then edits and builds together, each build followed by its prunes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress

from reconciler.errors import AuthenticationFailed, ImgctlError
from reconciler.execution.build import BuildTask
from reconciler.execution.images import prune_image, update_image
from reconciler.execution.places import NoPlace, Places
from reconciler.execution.records import change_records
from reconciler.execution.run import Run, Stopped
from reconciler.model.outcome import Outcome, Result, ResultKind, StopReason
from reconciler.model.plan import Action, Change
from reconciler.model.progress import StillWaiting
from reconciler.planning.places import by_place

_HEARTBEAT_SECONDS = 30.0
_NO_SUCCESSOR = "its build has not succeeded, so nothing is pruned"


async def execute(run: Run) -> Outcome:
    """Carry out the run's plan to its end, or until it is stopped. Raises nothing: what went wrong is in the outcome.

    What cannot start is left alone and listed; gates are the caller's to respect, before there is a run.
    """
    executor = _Executor(run)
    begun = time.monotonic()
    timeout = run.settings.timeout
    timer = asyncio.get_running_loop().call_later(timeout, run.stop, StopReason.TIMEOUT) if timeout else None
    try:
        results = await executor.all_results()
    finally:
        if timer is not None:
            timer.cancel()
    return Outcome(
        results=results,
        seconds=time.monotonic() - begun,
        requests=run.cloud.requests_sent,
        stopped=run.stopped,
        error=run.error,
    )


class _Executor:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._done: dict[tuple[str, Action, str], Result] = {}
        changes = run.plan.changes
        self._resumed = [change for change in changes if change.action is Action.RESUME and change.starts]
        self._going_on = sum(not self._had_ended(change) for change in self._resumed)
        self._updates = [change for change in changes if change.action is Action.UPDATE and change.starts]
        self._builds = [change for change in changes if change.action.builds and change.starts]
        self._prunes: dict[str, list[Change]] = {}
        for change in changes:
            if change.action is Action.PRUNE and change.starts:
                self._prunes.setdefault(change.server_id, []).append(change)

    async def all_results(self) -> tuple[Result, ...]:
        run = self._run
        begun = time.monotonic()
        background = [asyncio.create_task(run.watcher.run()), asyncio.create_task(self._heartbeat(begun))]
        for task in background:
            task.add_done_callback(self._stop_if_failed)
        try:
            self._note(*await change_records(run))
            places = Places(run.settings.max_in_flight or None, await self._free_places(), self._free_places_again)
            run.when_stopped(places.close)
            async with asyncio.TaskGroup() as group:
                for change in self._updates:
                    group.create_task(self._update(change))
                # Builds of earlier runs take their places first: they are in flight already.
                for change in (*self._resumed, *self._startable(places.free)):
                    group.create_task(self._build(change, places))
                for prunes in self._left_over:
                    group.create_task(self._prune(prunes))
        except* Stopped:
            pass
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return tuple(self._result(change) for change in run.plan.changes)

    def _note(self, *results: Result) -> None:
        self._done |= {result.change.key: result for result in results}

    def _result(self, change: Change) -> Result:
        if change.key in self._done:
            return self._done[change.key]
        why = change.gated or change.unavailable or f"the run was stopped ({self._run.stopped})"
        return Result(change, ResultKind.NOT_STARTED, why)

    # Places

    async def _free_places(self) -> int | None:
        """Free places in the quota, less those of the builds in flight; None where the plan did not know it either."""
        quota = self._run.plan.quota
        if quota is None or not self._builds:
            return None
        free = quota.free
        if not self._run.servers.fresh:
            # Somebody has thought about the plan for a while.
            with suppress(NoPlace):
                free = await self._read_quota()
        return max(0, free - self._run.plan.in_flight)

    async def _free_places_again(self) -> int:
        """The same once more, for whatever this run has in flight or will begin.

        Builds that it leaves out may be in flight still, and take a place each.
        """
        return await self._read_quota() - (self._run.plan.in_flight - self._going_on)

    async def _read_quota(self) -> int:
        """Free places by IMS's own count. Raises NoPlace where it cannot be read."""
        try:
            return (await self._run.interruptible(self._run.cloud.image_quota())).free
        except Stopped:
            raise NoPlace("the run was stopped") from None
        except ImgctlError as error:
            if isinstance(error, AuthenticationFailed):
                self._run.stop(StopReason.ERROR, error)
            raise NoPlace(f"the quota of private images could not be read: {error.summary}") from error

    def _startable(self, free: int | None) -> list[Change]:
        """The builds that this run can start: all of them, unless it will not wait until a place is free.

        Scarce places go first to those that give one back.
        """
        run, builds = self._run, self._builds
        if run.plan.queued:
            builds = by_place(builds, Counter({server_id: len(prunes) for server_id, prunes in self._prunes.items()}))
        if run.settings.wait:
            return builds
        bound = run.settings.max_in_flight
        in_flight = max(0, bound - self._going_on) if bound else len(builds)
        room = min(in_flight, len(builds) if free is None else free)
        why = "no place in the quota of private images until a build has ended and its prune has given one back"
        if room == in_flight:
            why = f"as many builds are in flight as --max-in-flight allows ({bound})"
        self._note(*(Result(change, ResultKind.NOT_STARTED, why) for change in builds[room:]))
        return builds[:room]

    def _had_ended(self, change: Change) -> bool:
        """True for a build in flight that had ended when the plan was made: its image is counted as used already."""
        job = self._run.observed.jobs.get(change.job_id)
        return change.action is Action.RESUME and job is not None and job.ended

    # Changes

    async def _update(self, change: Change) -> None:
        self._note(await self._guarded(change, update_image(self._run, change)))

    async def _build(self, change: Change, places: Places) -> None:
        """A build, from its place in line to its end, and what it makes superfluous."""
        try:
            await places.take(reserved=change.action is Action.RESUME)
        except NoPlace as none:
            self._note(Result(change, ResultKind.NOT_STARTED, str(none)))
            return
        prunes = self._prunes.get(change.server_id, [])
        result: Result | None = None
        try:
            if self._run.stopping and change.action.builds:
                return
            task = BuildTask(self._run, change)
            work = task.resume() if change.action is Action.RESUME else task.start()
            result = await self._guarded(change, work, task.unfinished)
            self._note(result)
        finally:
            done = result is not None and result.kind is ResultKind.DONE
            left = result is not None and result.kind in (ResultKind.RUNNING, ResultKind.UNCLEAR)
            # What had ended before has no place that it could give back.
            keeps = done or self._had_ended(change)
            places.leave(image=keeps, left_behind=left, prunes=len(prunes) if done else 0)
        if done:
            await self._prune(prunes, places)
        else:
            why = "its build is in flight: the apply that records its image prunes" if left else _NO_SUCCESSOR
            self._note(*(Result(prune, ResultKind.NOT_STARTED, why) for prune in prunes))

    async def _prune(self, prunes: list[Change], places: Places | None = None) -> None:
        """Oldest first, one after another; without `places` nobody counts on those that they give back."""
        for prune in prunes:
            result = await self._guarded(prune, prune_image(self._run, prune))
            self._note(result)
            if places is not None:
                places.pruned(gone=result.kind is ResultKind.DONE)

    @property
    def _left_over(self) -> list[list[Change]]:
        """The prunes, by server, whose builds an earlier run has seen to."""
        building = {change.server_id for change in self._run.plan.changes if change.action is not Action.PRUNE}
        return [prunes for server_id, prunes in self._prunes.items() if server_id not in building]

    async def _guarded(
        self, change: Change, work: Coroutine[None, None, Result], unfinished: Callable[[], Result] | None = None
    ) -> Result:
        """What becomes of a change; a fault of ours must not take the other builds' records with it."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - likewise
            self._run.stop(StopReason.ERROR, _problem(error))
            return unfinished() if unfinished is not None else Result(change, ResultKind.FAILED, str(error))

    async def _heartbeat(self, begun: float) -> None:
        """Say at intervals that builds are in flight, so that nobody takes the silence for a hang."""
        total = len(self._builds) + len(self._resumed)
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            in_flight = self._run.watcher.watching
            ended = sum(one.change.action.builds or one.change.action is Action.RESUME for one in self._done.values())
            queued = max(0, total - ended - in_flight)
            self._run.report(StillWaiting(in_flight, ended, queued, time.monotonic() - begun))

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        """Without its watcher a run would wait for nothing."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._run.stop(StopReason.ERROR, _problem(error))


def _problem(error: BaseException) -> ImgctlError:
    if isinstance(error, ImgctlError):
        return error
    return ImgctlError(
        f"internal error: {type(error).__name__}: {error}",
        hint="This is a fault of imgctl. What was recorded is safe, and imgctl wait goes on from it.",
    )

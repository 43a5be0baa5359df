"""Carries out a plan: the records first, then edits and builds together, at most so many builds at one time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import nullcontext

from reconciler.errors import CloudError, ImgctlError
from reconciler.execution.build import BuildTask
from reconciler.execution.run import Run, Stopped
from reconciler.model.outcome import Outcome, Result, ResultKind, StopReason
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.progress import RecordChanged, StillWaiting
from reconciler.model.record import Recorded
from reconciler.state import events

_HEARTBEAT_SECONDS = 30.0


async def execute(run: Run) -> Outcome:
    """Carry out the run's plan to its end, or until it is stopped. Raises nothing: what went wrong is in the outcome.

    What cannot start is left alone and listed; gates are the caller's to respect, before there is a run.
    """
    executor = _Executor(run)
    begun = time.monotonic()
    requests = run.cloud.requests_sent
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
        requests=run.cloud.requests_sent - requests,
        stopped=run.stopped,
        error=run.error,
    )


def guards_to_note(
    plan: Plan, recorded: Recorded, *, returning: frozenset[str] = frozenset()
) -> list[events.GuardsNoted]:
    """The plan's limits and protections as an event, where the state has others; `returning` ids will be managed."""
    known = {**recorded.retired, **recorded.servers}
    protect = tuple(
        (server_id, protect)
        for server_id, protect in plan.protect.items()
        if (server_id in recorded.servers or server_id in returning) and known[server_id].protect != protect
    )
    return [events.GuardsNoted(plan.limits, protect)] if protect or plan.limits != recorded.limits else []


class _Executor:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._done: dict[str, Result] = {}
        bound = run.settings.max_in_flight
        self._places = asyncio.Semaphore(bound) if bound else None

    async def all_results(self) -> tuple[Result, ...]:
        run = self._run
        begun = time.monotonic()
        background = [asyncio.create_task(run.watcher.run()), asyncio.create_task(self._heartbeat(begun))]
        for task in background:
            task.add_done_callback(self._stop_if_failed)
        try:
            await self._change_records()
            # Builds of earlier runs take their places first: they are in flight already.
            resumed = [change for change in run.plan.changes if change.action is Action.RESUME]
            started = [change for change in run.plan.changes if change.action.builds and change.starts]
            updated = [change for change in run.plan.changes if change.action is Action.UPDATE and change.starts]
            async with asyncio.TaskGroup() as group:
                for change in (*resumed, *self._startable(started, len(resumed)), *updated):
                    group.create_task(self._carry_out(change))
        except* Stopped:
            pass
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return tuple(self._result(change) for change in run.plan.changes)

    def _result(self, change: Change) -> Result:
        if change.server_id in self._done:
            return self._done[change.server_id]
        why = change.gated or change.unavailable or f"the run was stopped ({self._run.stopped})"
        return Result(change, ResultKind.NOT_STARTED, why)

    def _startable(self, changes: list[Change], in_flight: int) -> Iterator[Change]:
        """The builds that this run can start: all of them, unless it will not wait until a place is free."""
        bound = self._run.settings.max_in_flight
        free = len(changes) if self._run.settings.wait or not bound else max(0, bound - in_flight)
        yield from changes[:free]
        for change in changes[free:]:
            why = f"as many builds are in flight as --max-in-flight allows ({bound})"
            self._done[change.server_id] = Result(change, ResultKind.NOT_STARTED, why)

    async def _change_records(self) -> None:
        """What needs no cloud: where the state belongs, its guards, moves and forgets. Durable together."""
        run = self._run
        recorded = run.writer.recorded
        happened: list[events.Event] = [events.Bound(run.plan.bound_to)] if recorded.bound_to is None else []
        moved = [change for change in run.plan.changes if change.action is Action.MOVE and change.starts]
        forgotten = [change for change in run.plan.changes if change.action is Action.FORGET and change.starts]
        happened += [events.Renamed(change.server_id, change.name) for change in moved]
        happened += [events.Retired(change.server_id, run.now()) for change in forgotten]
        # After the moves: a record that returns from the retired ones gets its protection back with it.
        happened += guards_to_note(run.plan, recorded, returning=frozenset(change.server_id for change in moved))
        if happened:
            await run.record(*happened)
        for change in (*moved, *forgotten):
            self._done[change.server_id] = Result(change, ResultKind.DONE)
            detail = f"was {change.old_name}" if change.old_name else f"image {change.image_id or 'none'} stays"
            run.report(RecordChanged(change.name, change.action, detail))

    async def _carry_out(self, change: Change) -> None:
        if change.action is Action.UPDATE:
            self._done[change.server_id] = await self._update(change)
            return
        async with self._places or nullcontext():
            if self._run.stopping and change.action.builds:
                return
            self._done[change.server_id] = await self._build(change)

    async def _build(self, change: Change) -> Result:
        task = BuildTask(self._run, change)
        try:
            return await (task.resume() if change.action is Action.RESUME else task.start())
        except Exception as error:  # noqa: BLE001 - a fault of ours must not take the other builds' records with it
            self._run.stop(StopReason.ERROR, _problem(error))
            return task.unfinished()

    async def _update(self, change: Change) -> Result:
        """Edit the held image's description in IMS: no build."""
        if change.after is None or change.before is None:
            raise ValueError(f"update of {change.name} without specs")
        run = self._run
        description = change.after.description
        try:
            await run.cloud.update_description(change.image_id, description, has_one=bool(change.before.description))
            await run.record(events.DescriptionEdited(change.server_id, description))
        except CloudError as error:
            return Result(change, ResultKind.FAILED, error.summary)
        except Stopped:
            return Result(change, ResultKind.UNCLEAR, "the description was edited but could not be recorded")
        run.report(RecordChanged(change.name, change.action, "description edited"))
        return Result(change, ResultKind.DONE)

    async def _heartbeat(self, begun: float) -> None:
        """Say at intervals that builds are in flight, so that nobody takes the silence for a hang."""
        total = sum(change.action.builds or change.action is Action.RESUME for change in self._run.plan.changes)
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            in_flight, ended = self._run.watcher.watching, len(self._done)
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

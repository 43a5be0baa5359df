"""The changes of a plan that need no cloud: they only alter the records, and become durable together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from reconciler.execution.run import Run
from reconciler.model.observed import Observation
from reconciler.model.outcome import Result, ResultKind
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.progress import RecordChanged
from reconciler.model.record import Recorded
from reconciler.state import events


async def change_records(run: Run) -> list[Result]:
    """Note where the state belongs and under which guards, what is gone from IMS; move, refresh and forget."""
    recorded = run.writer.recorded
    starting = [change for change in run.plan.changes if change.starts]
    moved = [change for change in starting if change.action is Action.MOVE]
    happened: list[events.Event] = [events.Bound(run.plan.bound_to)] if recorded.bound_to is None else []
    happened += [events.Renamed(change.server_id, change.name) for change in moved]
    happened += [_refreshed(run, change) for change in starting if change.action is Action.REFRESH]
    happened += found_gone(recorded, run.observed, run.now(), run.writer.holds)
    happened += [events.Retired(one.server_id, run.now()) for one in starting if one.action is Action.FORGET]
    # After the moves: a record that returns from the retired ones gets its protection back with it.
    happened += guards_to_note(run.plan, recorded, returning=frozenset(change.server_id for change in moved))
    if happened:
        await run.record(*happened)
    done = [change for change in starting if change.action in (Action.MOVE, Action.REFRESH, Action.FORGET)]
    for change in done:
        run.report(RecordChanged(change.name, change.action, _detail(change)))
    return [Result(change, ResultKind.DONE) for change in done]


def guards_to_note(
    plan: Plan, recorded: Recorded, *, returning: frozenset[str] = frozenset()
) -> list[events.GuardsNoted]:
    """The plan's guards and state.url as an event, where the state has others; `returning` ids will be managed."""
    known = {**recorded.retired, **recorded.servers}
    protect = tuple(
        (server_id, protect)
        for server_id, protect in plan.protect.items()
        if (server_id in recorded.servers or server_id in returning) and known[server_id].protect != protect
    )
    elsewhere = plan.state_url is not None and plan.state_url != recorded.state_url
    if not protect and plan.limits == recorded.limits and not elsewhere:
        return []
    return [events.GuardsNoted(plan.limits, protect, plan.state_url)]


def _refreshed(run: Run, change: Change) -> events.Event:
    if change.after is None:
        return events.ImageGone(change.server_id, change.image_id, run.now())
    return events.HeldEdited(change.server_id, change.image_id, change.after.name, change.after.description)


def servers_to_write(plan: Plan, recorded: Recorded, observed: Observation) -> frozenset[str]:
    """The servers that carrying out a plan may write something of."""
    noted = (server_id for event in guards_to_note(plan, recorded) for server_id, _ in event.protect)
    gone = (event.server_id for event in found_gone(recorded, observed, datetime.now(UTC), lambda server_id: True))
    return frozenset((*(change.server_id for change in plan.changes), *noted, *gone))


def found_gone(
    recorded: Recorded, observed: Observation, now: datetime, ours: Callable[[str], bool]
) -> Iterator[events.ImageGone]:
    """Images of earlier builds that are not there any more: somebody has deleted them, or a run that was cut off.

    A held one stays until its successor takes its place. `ours` tells which servers this run may write.
    """
    for record in filter(lambda record: ours(record.server_id), recorded.servers.values() if observed.gone else ()):
        held = record.held.image_id if record.held is not None else ""
        for build in record.builds:
            if build.image_id in observed.gone and build.image_id != held and build.deleted_at is None:
                yield events.ImageGone(record.server_id, build.image_id, now)


def _detail(change: Change) -> str:
    match change.action:
        case Action.MOVE if change.old_name:
            return f"was {change.old_name}"
        case Action.REFRESH:
            return ", ".join(change.reasons)
        case _:
            return f"image {change.image_id or 'none'} stays"

"""Running a plan: lock, plan, ask, carry out, say what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.cli.console import Console
from reconciler.cli.flags import ApplyFlags, LockFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.locking import open_writer
from reconciler.cli.planning import plan_for, selection
from reconciler.cli.reporting import Report
from reconciler.cli.wiring import build_context, connected, look, on_signals
from reconciler.cloud.client import CloudClient
from reconciler.errors import NotApproved, TimedOut
from reconciler.execution.executor import execute
from reconciler.execution.records import found_gone, guards_to_note, servers_to_write
from reconciler.execution.run import Run, Settings
from reconciler.model.observed import Observation
from reconciler.model.outcome import Outcome, StopReason
from reconciler.model.plan import Action, Plan
from reconciler.planning.subjects import selected_servers
from reconciler.render.terminal import plural
from reconciler.state.writer import Writer

if TYPE_CHECKING:
    from reconciler.cli.approving import Approved


async def apply_plan(
    console: Console,
    report: Report,
    inputs: Inputs,
    flags: PlanFlags,
    how: ApplyFlags,
    lock: LockFlags,
    requests: RequestFlags,
    approved: Approved | None = None,
) -> int:
    """Apply: the plan is made under the lock, so what is shown is what is done. Returns the exit code.

    `approved` is what somebody has looked at already: then nobody is asked, and nothing else is done.
    """
    async with _planned(console, inputs, "apply", flags, how, lock, requests, approved) as planned:
        plan = planned.plan
        if approved is not None:
            how = replace(how, auto_approve=True)
        if approved is not None and not plan.changes:
            report.nothing(approved.settled)
        else:
            report.plan(plan, approved.heading if approved is not None else "")
        if all(change.unavailable for change in plan.changes):
            if planned.writer.recorded.exists:
                # A server that is protected from today on must be protected for the next plan, and what is gone is not
                # to be looked for any more.
                recorded, now = planned.writer.recorded, datetime.now(UTC) + planned.client.clock_offset
                guards = guards_to_note(plan, recorded)
                gone = found_gone(recorded, planned.observed, now, planned.writer.holds)
                await planned.writer.commit(*guards, *gone)
            return 3 if plan.changes else 0
        _approve(console, plan, how)
        settings = Settings(
            max_in_flight=plan.max_in_flight or 0,
            wait=not how.no_wait,
            submit=not plan.refresh_only,
            timeout=how.timeout,
            quiet_time=how.quiet_time,
        )
        return await _carry_out(console, report, planned, settings, how.note)


async def wait_for_builds(
    console: Console,
    report: Report,
    inputs: Inputs,
    flags: PlanFlags,
    how: ApplyFlags,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Wait: only what is in flight, and no request that starts anything. Returns the exit code."""
    async with _planned(console, inputs, "wait", flags, how, lock, requests) as planned:
        plan = replace(
            planned.plan,
            changes=tuple(change for change in planned.plan.changes if change.action is Action.RESUME),
            # Waiting decides nothing about guards.
            limits=planned.writer.recorded.limits,
            protect={},
            state_url=None,
        )
        if not plan.changes:
            report.nothing("No build is in flight.")
            return 0
        # No bound: all of it is in flight already.
        settings = Settings(max_in_flight=0, timeout=how.timeout, quiet_time=how.quiet_time, submit=False)
        return await _carry_out(console, report, replace(planned, plan=plan), settings, "")


def exit_code(outcome: Outcome) -> int:
    """What an outcome means to a script."""
    if outcome.complete:
        return 0
    match outcome.stopped:
        case StopReason.INTERRUPTED:
            return 130
        case StopReason.TIMEOUT:
            return 7
        case StopReason.ERROR:
            return outcome.error.exit_code if outcome.error is not None else 1
        case None:
            return 3


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, with everything that it takes to carry it out."""

    plan: Plan
    writer: Writer
    client: CloudClient
    observed: Observation
    observed_at: float


@asynccontextmanager
async def _planned(
    console: Console,
    inputs: Inputs,
    operation: str,
    flags: PlanFlags,
    how: ApplyFlags,
    lock: LockFlags,
    requests: RequestFlags,
    approved: Approved | None = None,
) -> AsyncIterator[_Planned]:
    """Claim the servers, read the state again, look at the cloud, and plan; all that within the timeout."""
    with open_writer(console, inputs, operation, lock, alone=False) as writer:
        inputs, busy = _claimed(replace(inputs, recorded=writer.recorded), writer, flags, approved)
        if approved is not None:
            approved.before_looking(inputs)
        async with connected(console, inputs, requests) as connection:
            observed_at = time.monotonic()
            try:
                async with asyncio.timeout(how.timeout):
                    observed = await look(connection.client, inputs)
            except TimeoutError:
                raise TimedOut(
                    f"the cloud did not answer within {how.timeout:g} s, so nothing was started",
                    hint="-vv shows every request and what became of it.",
                ) from None
            if approved is not None:
                plan = approved.plan(inputs, observed, connection.binding, busy)
            else:
                plan = plan_for(inputs, observed, connection.binding, flags, busy)
            # What needs nothing is free for others.
            writer.release_all_but(servers_to_write(plan, writer.recorded, observed))
            yield _Planned(plan, writer, connection.client, observed, observed_at)


def _claimed(
    inputs: Inputs, writer: Writer, flags: PlanFlags, approved: Approved | None
) -> tuple[Inputs, Mapping[str, str]]:
    """The inputs once this run has the servers that it is about, and all that other runs have, with who they are."""

    def wanted(inputs: Inputs) -> frozenset[str]:
        if approved is not None:
            return approved.servers(inputs)
        return selected_servers(inputs.manifest, inputs.recorded, selection(flags))

    refused = writer.claim(wanted(inputs))
    busy = {**writer.others, **refused}
    inputs = replace(inputs, recorded=writer.recorded)
    # What another run has recorded up to that moment may be selected too, and is not this run's.
    for server_id in wanted(inputs):
        if not writer.holds(server_id):
            busy.setdefault(server_id, "it has recorded that server just now")
    return inputs, busy


def _approve(console: Console, plan: Plan, how: ApplyFlags) -> None:
    """Raise NotApproved unless nothing holds the plan back and somebody wants it."""
    if plan.gated:
        gated = list(dict.fromkeys(change.name for change in plan.gated))
        names = ", ".join(gated[:5]) + (", …" if len(gated) > 5 else "")
        raise NotApproved(
            f"{plural(len(plan.gated), 'change')} gated, so nothing was started: {names}",
            hint="--allow NAME lets one of them start, after a look at its reason in the plan.",
        )
    if how.strict and plan.unavailable:
        names = ", ".join(change.name for change in plan.unavailable[:5])
        raise NotApproved(
            f"--strict: {plural(len(plan.unavailable), 'change')} unavailable, so nothing was started: {names}",
            hint="Leave --strict away to do the rest, or --exclude them.",
        )
    if how.auto_approve:
        return
    if not console.interactive:
        raise NotApproved(
            "nobody can be asked: standard input is no terminal",
            hint="--auto-approve applies without asking; review the plan first.",
        )
    if not console.confirm("\nApply these changes? Only yes is accepted: "):
        raise NotApproved("not approved, so nothing was started")


async def _carry_out(console: Console, report: Report, planned: _Planned, settings: Settings, note: str) -> int:
    run = Run(
        cloud=planned.client,
        writer=planned.writer,
        plan=planned.plan,
        observed=planned.observed,
        observed_at=planned.observed_at,
        settings=settings,
        context=build_context(console.environ, note),
        report=report.happened,
    )
    report.begins()
    with on_signals(lambda: run.stop(StopReason.INTERRUPTED), console):
        outcome = await execute(run)
    report.ended(outcome, planned.plan)
    if outcome.error is not None:
        console.error(outcome.error)
    return exit_code(outcome)

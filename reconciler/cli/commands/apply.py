"""`imgctl apply`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ApplyFlags, LockFlags, ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.options import (
    apply_options,
    lock_options,
    manifest_options,
    planning_options,
    request_options,
    state_option,
)
from reconciler.cli.reporting import Report, report_as, report_option
from reconciler.cli.running import apply_plan
from reconciler.errors import UsageError


@click.command(name="apply")
@click.argument("plan", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@manifest_options
@state_option
@planning_options
@click.option("--expect", metavar="PLAN_ID", help="Apply this plan without asking; another is exit 4.")
@apply_options
@lock_options
@report_option
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    plan: Path | None,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    expect: str | None,
    how: ApplyFlags,
    lock: LockFlags,
    form: str,
    requests: RequestFlags,
) -> int:
    """Plan, ask, then build: submit, record every job ID at once, wait for all builds together.

    FILE is a plan that was saved with `imgctl plan --out`, and its approval: nobody is asked. Applied again, it
    is continued.

    \b
    Example:
      imgctl apply -l ring=canary --note "patch day November"
      imgctl apply november.plan
    """
    report = report_as(form, console, verbose=requests.verbose > 0)
    if plan is not None:
        return _apply_file(console, report, plan, source, state, flags, expect, how, lock, requests)
    approved = None
    if expect is not None:
        from reconciler.cli.approving import ExpectedId

        approved = ExpectedId(expect, source, flags)
    inputs = load_inputs(console, source, state, announce=False)
    return asyncio.run(apply_plan(console, report, inputs, flags, how, lock, requests, approved))


def _apply_file(
    console: Console,
    report: Report,
    path: Path,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    expect: str | None,
    how: ApplyFlags,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    from reconciler.cli.approving import SavedApproval, check_beside_file, load

    if expect is not None:
        raise UsageError("--expect cannot stand beside a saved plan, which has its own id", hint="Leave one away.")
    check_beside_file(source, flags)
    approval = load(path).approval
    source = replace(source, recorded=approval.plan.overrides)
    inputs = load_inputs(console, source, state, announce=False)
    approved = SavedApproval(approval, flags, str(path))
    if approved.is_done(inputs):
        report.nothing(approved.settled)
        return 0
    return asyncio.run(apply_plan(console, report, inputs, flags, how, lock, requests, approved))

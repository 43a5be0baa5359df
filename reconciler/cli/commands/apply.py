"""`imgctl apply`."""

from __future__ import annotations

import asyncio

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
from reconciler.cli.running import apply_plan


@click.command(name="apply")
@manifest_options
@state_option
@planning_options
@apply_options
@lock_options
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    how: ApplyFlags,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Plan, ask, then build: submit, record every job ID at once, wait for all builds together.

    \b
    Example:
      imgctl apply -l ring=canary --note "patch day November"
    """
    inputs = load_inputs(console, source, state, announce=False)
    return asyncio.run(apply_plan(console, inputs, flags, how, lock, requests))

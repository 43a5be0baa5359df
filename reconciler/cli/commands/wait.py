"""`imgctl wait`."""

from __future__ import annotations

import asyncio

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ApplyFlags, LockFlags, ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.options import (
    lock_options,
    manifest_options,
    request_options,
    selector_options,
    state_option,
    wait_options,
)
from reconciler.cli.reporting import report_as, report_option
from reconciler.cli.running import wait_for_builds


@click.command(name="wait")
@manifest_options
@state_option
@selector_options
@wait_options
@lock_options
@report_option
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
    form: str,
    requests: RequestFlags,
) -> int:
    """Wait for every recorded build in flight and record its image. Never starts a build.

    \b
    Example:
      imgctl wait --timeout 3600
    """
    report = report_as(form, console, verbose=requests.verbose > 0)
    inputs = load_inputs(console, source, state)
    return asyncio.run(wait_for_builds(console, report, inputs, flags, how, lock, requests))

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
from reconciler.cli.running import wait_for_builds


@click.command(name="wait")
@manifest_options
@state_option
@selector_options
@wait_options
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
    """Wait for every recorded build in flight and record its image. Never starts a build.

    \b
    Example:
      imgctl wait --timeout 3600
    """
    inputs = load_inputs(console, source, state)
    return asyncio.run(wait_for_builds(console, inputs, flags, how, lock, requests))

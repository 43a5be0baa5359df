"""`imgctl plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import Inputs, load_inputs
from reconciler.cli.options import manifest_options, planning_options, request_options, state_option
from reconciler.cli.planning import plan_for
from reconciler.cli.publishing import (
    Output,
    check_outputs,
    files_of,
    publish,
    publishing_options,
    review_of,
    typed_state,
)
from reconciler.errors import UsageError
from reconciler.model.plan import Plan
from reconciler.render.terminal import clean


@click.command(name="plan")
@manifest_options
@state_option
@planning_options
@click.option("--refresh/--no-refresh", default=True, help="Ask the cloud first; --no-refresh needs no credentials.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Save the plan, for review and imgctl apply FILE."
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 where there are changes.")
@publishing_options
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    refresh: bool,
    out: Path | None,
    detailed_exitcode: bool,
    outputs: tuple[Output, ...],
    max_chars: int,
    requests: RequestFlags,
) -> int:
    """Show what apply would do, and why. Changes nothing and takes no lock.

    \b
    Example:
      imgctl plan -l ring=canary
      imgctl plan --format markdown=plan.md --format json=plan.json
      imgctl plan --out november.plan
    """
    if flags.refresh_only and not refresh:
        raise UsageError("--refresh-only and --no-refresh contradict each other", hint="Leave one of them away.")
    if out is not None:
        from reconciler.cli.plan_files import check_writable

        # Before anybody waits for the cloud.
        check_writable(out)
    inputs = load_inputs(console, source, state, announce=False)
    check_outputs(outputs, [*files_of(inputs, source), *([out] if out is not None else [])])
    if refresh:
        import asyncio

        plan = asyncio.run(_refreshed(console, inputs, flags, requests))
    else:
        plan = plan_for(inputs, None, inputs.binding, flags)
    review = review_of(source, typed_state(state), flags)
    if out is None:
        publish(console, plan, review, outputs, max_chars=max_chars, verbose=requests.verbose > 0)
    else:
        from reconciler.cli.approving import next_step, save

        save(out, plan, source, flags, inputs)
        step = next_step(out, source, typed_state(state), flags)
        review = replace(review, command=step)
        publish(console, plan, review, outputs, max_chars=max_chars, verbose=requests.verbose > 0)
        said = f"Saved as {clean(str(out))}, plan {plan.plan_id}.\nNext: {clean(step)}"
        if all(output.file is not None or output.form == "text" for output in outputs):
            console.result(f"\n{said}\n")
        else:
            console.say(said)
    return 2 if detailed_exitcode and plan.changes else 0


async def _refreshed(console: Console, inputs: Inputs, flags: PlanFlags, requests: RequestFlags) -> Plan:
    # Imported here: --no-refresh must not pay for a client that it never opens.
    from reconciler.cli.wiring import connected, look

    async with connected(console, inputs, requests) as connection:
        observed = await look(connection.client, inputs)
    return plan_for(inputs, observed, connection.binding, flags)

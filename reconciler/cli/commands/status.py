"""`imgctl status`."""

from __future__ import annotations

from collections.abc import Mapping

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import Inputs, load_inputs
from reconciler.cli.options import format_option, manifest_options, request_options, selector_options, state_option
from reconciler.model.observed import ObservedJob
from reconciler.planning.selection import Selection
from reconciler.planning.subjects import Subject, find_subjects, select_subjects
from reconciler.render.records import StatusRow, render_status, status_document
from reconciler.render.terminal import json_text


@click.command(name="status")
@manifest_options
@state_option
@selector_options
@click.option("--refresh", is_flag=True, help="Ask the cloud how the builds in flight are doing.")
@format_option("text", "json")
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    refresh: bool,
    form: str,
    requests: RequestFlags,
) -> int:
    """Show the fleet: what is declared, which image is held, what is in flight. Reads manifest and state only.

    \b
    Example:
      imgctl status --refresh
    """
    inputs = load_inputs(console, source, state)
    jobs: Mapping[str, ObservedJob] = {}
    if refresh:
        import asyncio

        jobs = asyncio.run(_jobs(console, inputs, requests))
    selection = Selection.parse(flags.targets, flags.excludes, flags.labels)
    subjects = select_subjects(find_subjects(inputs.manifest, inputs.recorded, None), selection)
    rows = [
        StatusRow(one.names[0], one.server_id, one.declared, one.record, _job(one, jobs)) for one in subjects.values()
    ]
    if form == "json":
        console.result(json_text(status_document(rows)))
    else:
        console.result(render_status(rows, console.style))
    return 0


def _job(subject: Subject, jobs: Mapping[str, ObservedJob]) -> ObservedJob | None:
    attempt = subject.record.attempt if subject.record is not None else None
    return jobs.get(attempt.job_id) if attempt is not None else None


async def _jobs(console: Console, inputs: Inputs, requests: RequestFlags) -> Mapping[str, ObservedJob]:
    from reconciler.cli.wiring import connected, jobs_in_flight
    from reconciler.cloud.jobs import look_up_jobs

    async with connected(console, inputs, requests) as connection:
        return await look_up_jobs(connection.client, jobs_in_flight(inputs.recorded))

"""`imgctl status`."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import Inputs, load_inputs
from reconciler.cli.options import format_option, manifest_options, request_options, selector_options, state_option
from reconciler.model.observed import ObservedJob
from reconciler.model.record import Record
from reconciler.planning.selection import Selection, labels_by_name
from reconciler.render.records import StatusRow, render_status, status_document


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
    rows = _rows(inputs, flags, jobs)
    if form == "json":
        console.result(json.dumps(status_document(rows), ensure_ascii=False, indent=2) + "\n")
    else:
        console.result(render_status(rows, console.style))
    return 0


def _rows(inputs: Inputs, flags: PlanFlags, jobs: Mapping[str, ObservedJob]) -> list[StatusRow]:
    manifest, recorded = inputs.manifest, inputs.recorded
    selection = Selection.parse(flags.targets, flags.excludes, flags.labels)
    selected = selection.select(labels_by_name(manifest, recorded))
    rows = []
    for declared in manifest.servers.values():
        record = recorded.servers.get(declared.server_id)
        rows.append(StatusRow(declared.name, declared.server_id, declared, record, _job_of(record, jobs)))
    declared_ids = {declared.server_id for declared in manifest.servers.values()}
    rows += [
        StatusRow(record.name, record.server_id, None, record, _job_of(record, jobs))
        for record in recorded.servers.values()
        if record.server_id not in declared_ids
    ]
    return [row for row in rows if row.name in selected]


def _job_of(record: Record | None, jobs: Mapping[str, ObservedJob]) -> ObservedJob | None:
    attempt = record.attempt if record is not None else None
    return jobs.get(attempt.job_id) if attempt is not None else None


async def _jobs(console: Console, inputs: Inputs, requests: RequestFlags) -> Mapping[str, ObservedJob]:
    from reconciler.cli.wiring import connected, jobs_in_flight
    from reconciler.cloud.jobs import look_up_jobs

    async with connected(console, inputs, requests) as connection:
        return await look_up_jobs(connection.client, jobs_in_flight(inputs.recorded))

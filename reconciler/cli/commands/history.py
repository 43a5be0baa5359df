"""`imgctl history`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.options import format_option, manifest_options, output_options, state_option
from reconciler.errors import UsageError
from reconciler.model.record import Build, Record, Recorded
from reconciler.render.history import HistoryRow, render_history

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.command(name="history")
@click.argument("name", required=False)
@click.option("--image", metavar="ID|NAME", help="Only the builds of this image.")
@click.option("--job", metavar="ID", help="Only the build of this job.")
@click.option("--since", metavar="TIME", help="Only builds asked for since then: 2026-11-01, or 30d, 12h ago.")
@manifest_options
@state_option
@format_option("table", "json", "csv")
@output_options
@click.pass_obj
def command(
    console: Console,
    *,
    name: str | None,
    image: str | None,
    job: str | None,
    since: str | None,
    source: ManifestFlags,
    state: str | None,
    form: str,
) -> int:
    """List every build ever recorded, oldest first: when, which image, which job, asked for by whom.

    \b
    Examples:
      imgctl history office
      imgctl history --image f5d443de-a623-4950-a74d-569fe63c1f7a --format json
    """
    recorded = load_inputs(console, source, state).recorded
    begin = _moment(since) if since is not None else None
    rows = [
        HistoryRow(record, build)
        for record, build in _builds(recorded)
        if (name is None or name in (record.name, record.server_id))
        and (image is None or image in (build.image_id, build.spec.name))
        and (job is None or job == build.job_id)
        and (begin is None or build.requested_at >= begin)
    ]
    if name is not None and not any(name in (record.name, record.server_id) for record in _records(recorded)):
        raise UsageError(f"nothing is recorded of {name}", hint="imgctl state list shows every record.")
    rows.sort(key=lambda row: row.build.requested_at)
    console.result(render_history(rows, form, console.style))
    return 0


def _records(recorded: Recorded) -> Iterable[Record]:
    return recorded.all_records


def _builds(recorded: Recorded) -> Iterable[tuple[Record, Build]]:
    return ((record, build) for record in _records(recorded) for build in record.builds)


def _moment(text: str) -> datetime:
    """A time as typed: a date, a time (UTC where it names no zone), or so long ago."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text} is no time", hint="Write 2026-11-01 or 30d.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

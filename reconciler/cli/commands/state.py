"""`imgctl state …`: the records themselves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import click

from reconciler.cli.commands import whole_state
from reconciler.cli.commands.show import command as show_command
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, ManifestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.locking import claimed_record, open_writer, user_name
from reconciler.cli.options import format_option, lock_options, manifest_options, output_options, state_option
from reconciler.errors import UsageError
from reconciler.model.record import Build, BuildError, BuildStatus, Record
from reconciler.render.records import record_document, render_records
from reconciler.render.terminal import json_text
from reconciler.state import events


@click.group(name="state")
def command() -> None:
    """Look at the records, correct them by hand, and keep them elsewhere. Corrections are journalled like an apply.

    \b
    Example:
      imgctl state list
    """


@command.command(name="list")
@manifest_options
@state_option
@format_option("text", "json")
@output_options
@click.pass_obj
def list_records(console: Console, *, source: ManifestFlags, state: str | None, form: str) -> int:
    """List every record, forgotten ones included.

    \b
    Example:
      imgctl state list --format json
    """
    recorded = load_inputs(console, source, state).recorded
    records = [*recorded.servers.values(), *recorded.retired.values()]
    if form == "json":
        documents = [record_document(record) for record in records]
        console.result(json_text(documents))
    else:
        console.result(render_records(records, console.style))
    return 0


command.add_command(show_command)
for each in (whole_state.pull, whole_state.push, whole_state.migrate, whole_state.force_unlock):
    command.add_command(each)


@command.command(name="rm")
@click.argument("name")
@manifest_options
@state_option
@lock_options
@output_options
@click.pass_obj
def remove(console: Console, *, name: str, source: ManifestFlags, state: str | None, lock: LockFlags) -> int:
    """Forget NAME: its record is retired with its history, its image stays. Refuses what is in flight.

    \b
    Example:
      imgctl state rm office
    """
    inputs = load_inputs(console, source, state)
    with open_writer(console, inputs, "state rm", lock, alone=False) as writer:
        record = claimed_record(writer, name)
        if record.in_flight:
            raise UsageError(
                f"{record.name} has a build in flight, which would be lost",
                hint="Let it end first: imgctl wait. If the cloud knows nothing of it: imgctl state settle.",
            )
        asyncio.run(writer.commit(events.Retired(record.server_id, datetime.now(UTC))))
    console.result(f"{record.name}: forgotten; its history and its image stay.\n")
    return 0


@command.command(name="mv")
@click.argument("name")
@click.argument("new_name")
@manifest_options
@state_option
@lock_options
@output_options
@click.pass_obj
def move(
    console: Console, *, name: str, new_name: str, source: ManifestFlags, state: str | None, lock: LockFlags
) -> int:
    """Rename the record of NAME. A plan does that by itself where the manifest renames a server.

    \b
    Example:
      imgctl state mv office office-emea
    """
    inputs = load_inputs(console, source, state)
    with open_writer(console, inputs, "state mv", lock, alone=False) as writer:
        record = claimed_record(writer, name)
        taken = next((one for one in writer.recorded.servers.values() if one.name == new_name), None)
        if taken is not None and taken.server_id != record.server_id:
            raise UsageError(
                f"{new_name} is the name of another record", hint=f"It is that of server {taken.server_id}."
            )
        asyncio.run(writer.commit(events.Renamed(record.server_id, new_name)))
    console.result(f"{record.name}: now {new_name}.\n")
    return 0


@command.command(name="settle")
@click.argument("name")
@click.option("--not-issued", is_flag=True, help="Your word that the request in doubt started no build.")
@click.option("--failed", is_flag=True, help="Your word that the build in flight has ended without an image.")
@manifest_options
@state_option
@lock_options
@output_options
@click.pass_obj
def settle(
    console: Console,
    *,
    name: str,
    not_issued: bool,
    failed: bool,
    source: ManifestFlags,
    state: str | None,
    lock: LockFlags,
) -> int:
    """Say what became of a build that imgctl cannot find out about, after a look at the server in the console.

    \b
    Examples:
      imgctl state settle office --not-issued
      imgctl state settle cad --failed
      imgctl import office --job-id 697354472828968960
    """
    if not_issued == failed:
        raise UsageError(
            "say what became of the build",
            hint="--not-issued if none was started, --failed if it ended without an image; "
            "imgctl import NAME --job-id or --image-id if there is one.",
        )
    inputs = load_inputs(console, source, state)
    with open_writer(console, inputs, "state settle", lock, alone=False) as writer:
        record = claimed_record(writer, name)
        attempt = _in_flight(record, failed=failed)
        if failed:
            status, error = BuildStatus.FAILED, BuildError("Settled", f"settled by {user_name()}: no image was made")
        else:
            status, error = (
                BuildStatus.REFUSED,
                BuildError("NotIssued", f"settled by {user_name()}: nothing was started"),
            )
        ended = events.BuildEnded(record.server_id, attempt.attempt_id, status, datetime.now(UTC), error=error)
        asyncio.run(writer.commit(ended))
    counts = "has failed" if failed else "was not issued"
    console.result(f"{record.name}: by your word its build {counts}; the next plan builds as declared.\n")
    return 0


def _in_flight(record: Record, *, failed: bool) -> Build:
    attempt = record.attempt
    if attempt is None or not attempt.status.in_flight:
        raise UsageError(f"{record.name} has no build in flight", hint="imgctl status shows what is.")
    if attempt.status is BuildStatus.RUNNING and not failed:
        raise UsageError(
            f"the build of {record.name} was issued: it is job {attempt.job_id}",
            hint="imgctl wait records how it ends; --failed if the cloud does not know that job any more.",
        )
    return attempt

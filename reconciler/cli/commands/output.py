"""`imgctl output`."""

from __future__ import annotations

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags
from reconciler.cli.inputs import find_record, load_inputs
from reconciler.cli.options import format_option, manifest_options, output_options, selector_options, state_option
from reconciler.errors import UsageError
from reconciler.planning.selection import Selection
from reconciler.planning.subjects import find_subjects, select_subjects
from reconciler.render.records import render_outputs


@click.command(name="output")
@click.argument("name", required=False)
@manifest_options
@state_option
@selector_options
@format_option("text", "json", "tfvars", "env")
@click.option("--raw", is_flag=True, help="One image id and nothing else; needs NAME.")
@output_options
@click.pass_obj
def command(
    console: Console,
    *,
    name: str | None,
    source: ManifestFlags,
    state: str | None,
    flags: PlanFlags,
    form: str,
    raw: bool,
) -> int:
    """Print the held image ids, of all servers or of NAME, for Terraform, Ansible or a shell.

    \b
    Examples:
      imgctl output --format tfvars > images.auto.tfvars
      imgctl output office --raw
    """
    if raw and name is None:
        raise UsageError("--raw prints one image id: name the image server", hint="imgctl output NAME --raw")
    inputs = load_inputs(console, source, state)
    recorded = inputs.recorded
    if name is None:
        selection = Selection.parse(flags.targets, flags.excludes, flags.labels)
        subjects = select_subjects(find_subjects(inputs.manifest, recorded, None), selection)
        records = [one.record for one in subjects.values() if one.record is not None]
    else:
        known = name not in inputs.manifest.servers or any(name == one.name for one in recorded.servers.values())
        records = [find_record(recorded, name, managed=True)] if known else []
    images = {record.name: record.held.image_id for record in records if record.held is not None}
    if name is not None and not images:
        raise UsageError(f"{name} holds no image yet", hint="imgctl apply builds it; imgctl status shows what is held.")
    console.result(f"{images[name]}\n" if raw and name is not None else render_outputs(images, form))
    return 0

"""`imgctl show`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags
from reconciler.cli.inputs import find_record, load_inputs
from reconciler.cli.options import format_option, manifest_options, output_options, state_option
from reconciler.render.records import record_document, render_record
from reconciler.render.terminal import json_text


@click.command(name="show")
@click.argument("name", metavar="NAME|FILE")
@manifest_options
@state_option
@format_option("text", "json")
@output_options
@click.pass_obj
def command(console: Console, *, name: str, source: ManifestFlags, state: str | None, form: str) -> int:
    """Show everything recorded of one image server: the held image and every build, forgotten servers included.

    Or show a plan that was saved with `imgctl plan --out`; that needs no manifest and no state. Where a file has the
    name of a server, the server goes by its id.

    \b
    Example:
      imgctl show office
      imgctl show november.plan
    """
    if "/" in name or Path(name).is_file():
        return _show_plan(console, Path(name), form)
    inputs = load_inputs(console, source, state)
    record = find_record(inputs.recorded, name)
    if form == "json":
        console.result(json_text(record_document(record)))
    else:
        console.result(render_record(record, console.style))
    return 0


def _show_plan(console: Console, path: Path, form: str) -> int:
    from reconciler.cli.approving import load
    from reconciler.render.saved_plan import encode, render_saved

    saved = load(path)
    console.result(encode(saved) if form == "json" else render_saved(saved, str(path), console.style))
    return 0

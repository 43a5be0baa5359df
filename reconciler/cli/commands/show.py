"""`imgctl show`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags, PlanFlags
from reconciler.cli.inputs import find_record, load_inputs
from reconciler.cli.options import manifest_options, output_options, state_option
from reconciler.cli.publishing import Output, check_outputs, publish, publishing_options, review_of
from reconciler.errors import UsageError
from reconciler.render.records import record_document, render_record
from reconciler.render.terminal import json_text


@click.command(name="show")
@click.argument("name", metavar="NAME|FILE")
@manifest_options
@state_option
@publishing_options
@output_options
@click.pass_obj
def command(
    console: Console,
    *,
    name: str,
    source: ManifestFlags,
    state: str | None,
    outputs: tuple[Output, ...],
    max_chars: int,
) -> int:
    """Show everything recorded of one image server: the held image and every build, forgotten servers included.

    Or show a plan that was saved with `imgctl plan --out`, in any of its formats; that needs no manifest and no state.
    Where a file has the name of a server, the server goes by its id.

    \b
    Example:
      imgctl show office
      imgctl show november.plan --format markdown=plan.md
    """
    if "/" in name or Path(name).is_file():
        return _show_plan(console, Path(name), outputs, max_chars)
    if any(output.file is not None or output.form not in ("text", "json") for output in outputs):
        raise UsageError("a record is printed as text or json, and not into a file", hint="The others are for plans.")
    check_outputs(outputs, ())
    inputs = load_inputs(console, source, state)
    record = find_record(inputs.recorded, name)
    if outputs[0].form == "json":
        console.result(json_text(record_document(record)))
    else:
        console.result(render_record(record, console.style))
    return 0


def _show_plan(console: Console, path: Path, outputs: tuple[Output, ...], max_chars: int) -> int:
    from reconciler.cli.approving import load
    from reconciler.render.saved_plan import encode, render_saved

    check_outputs(outputs, [path])
    saved = load(path)
    asked = saved.approval.asked
    source = ManifestFlags(Path(asked.manifest))
    flags = PlanFlags(targets=asked.targets, excludes=asked.excludes, labels=asked.labels)
    publish(
        console,
        saved.approval.plan,
        review_of(source, None, flags, ("imgctl", "apply", str(path))),
        outputs,
        max_chars=max_chars,
        verbose=False,
        instead={"json": lambda _: encode(saved), "text": lambda style: render_saved(saved, str(path), style)},
    )
    return 0

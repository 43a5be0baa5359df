"""`imgctl validate`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags
from reconciler.cli.inputs import load_manifest
from reconciler.cli.options import format_option, manifest_options, output_options
from reconciler.errors import ManifestError
from reconciler.model.diagnostics import Diagnostic
from reconciler.render.diagnostics import render_diagnostics
from reconciler.render.plan_json import diagnostic_document
from reconciler.render.terminal import json_text, plural


@click.command(name="validate")
@manifest_options
@format_option("text", "json")
@output_options
@click.pass_obj
def command(console: Console, *, source: ManifestFlags, form: str) -> int:
    """Check a manifest and say every problem at once. Needs no credentials, no state, and runs no code.

    \b
    Example:
      imgctl validate -f images/
    """
    try:
        manifest = load_manifest(console, source)
    except ManifestError as error:
        if form != "json":
            raise
        console.result(_document(valid=False, diagnostics=error.diagnostics))
        return error.exit_code
    if form == "json":
        console.result(_document(valid=True, diagnostics=manifest.diagnostics))
        return 0
    console.result(render_diagnostics(manifest.diagnostics, console.style))
    counts = f"{plural(len(manifest.servers), 'image server')} in {plural(len(manifest.files), 'file')}"
    console.result(f"{source.file}: valid, {counts}.\n")
    return 0


def _document(*, valid: bool, diagnostics: Iterable[Diagnostic]) -> str:
    document = {"valid": valid, "diagnostics": [diagnostic_document(one) for one in diagnostics]}
    return json_text(document)

"""`imgctl doctor`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import ManifestFlags
from reconciler.cli.inputs import Inputs, load_inputs, load_manifest
from reconciler.cli.options import format_option, manifest_options, output_options, state_option
from reconciler.errors import ImgctlError, ManifestError
from reconciler.model.checkup import Checkup, Finding, Health
from reconciler.model.spec import Manifest
from reconciler.render.terminal import json_text


@click.command(name="doctor")
@manifest_options
@state_option
@click.option("--region", help="The region, where neither a manifest nor the environment names it.")
@click.option("--iam-policy", is_flag=True, help="Print the least IAM policy that imgctl needs; asks nobody.")
@format_option("text", "json")
@click.option("-v", "--verbose", count=True, help="-vv shows every request with its request id.")
@output_options
@click.pass_obj
def command(
    console: Console,
    *,
    source: ManifestFlags,
    state: str | None,
    region: str | None,
    iam_policy: bool,
    form: str,
    verbose: int,
) -> int:
    """Look at what imgctl needs: credentials, region, network, permissions, quota; say what is wrong and what to do.

    It changes nothing, shows no secret, and works with a manifest or without one. Exit code 1 where something is wrong.

    \b
    Example:
      imgctl doctor
      imgctl doctor --iam-policy > policy.json
    """
    if iam_policy:
        return _print_policy(console)
    from reconciler.cli.checkup.run import check_up
    from reconciler.render.checkup import checkup_document, render_checkup

    chosen = click.get_current_context().get_parameter_source("file") is not click.core.ParameterSource.DEFAULT
    manifest, inputs, trouble = _load(console, source, state, chosen=chosen)
    found = asyncio.run(check_up(console, manifest, inputs, region, log=verbose >= 2))
    checkup = Checkup((*trouble, *found.findings), found.simulated)
    console.result(json_text(checkup_document(checkup)) if form == "json" else render_checkup(checkup, console.style))
    return 0 if checkup.healthy else 1


def _load(
    console: Console, source: ManifestFlags, state: str | None, *, chosen: bool
) -> tuple[Manifest | None, Inputs | None, list[Finding]]:
    """Manifest and state as far as they can be read, and what is wrong with them."""
    if not chosen and not _exists(source.file):
        note = Finding("Manifest", str(source.file), Health.NOTE, "not there: region and project are the environment's")
        return None, None, [note]
    try:
        manifest = load_manifest(console, source)
    except ImgctlError as error:
        fix = "imgctl validate shows where" if isinstance(error, ManifestError) else error.hint
        return None, None, [Finding("Manifest", str(source.file), Health.PROBLEM, error.summary, fix)]
    good = Finding("Manifest", str(source.file), Health.OK, f"{len(manifest.servers)} declared")
    try:
        inputs = load_inputs(console, source, state, announce=False)
    except ImgctlError as error:
        return manifest, None, [good, Finding("Manifest", "state", Health.PROBLEM, error.summary, error.hint)]
    said = f"{len(inputs.recorded.servers)} recorded" if inputs.recorded.exists else "none yet"
    return manifest, inputs, [good, Finding("Manifest", "state", Health.OK, said)]


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:
        return True


def _print_policy(console: Console) -> int:
    from reconciler.cloud.permissions import least_policy, left_to_add

    console.result(json_text(least_policy()))
    for sentence in left_to_add():
        console.say(sentence)
    return 0

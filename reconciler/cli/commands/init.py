"""`imgctl init`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, RequestFlags
from reconciler.cli.new_file import check_new, write_new
from reconciler.cli.options import lock_options, request_options, state_option
from reconciler.errors import UsageError
from reconciler.render.manifest import starter_manifest


@click.command(name="init")
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    default=Path("imgctl.yaml"),
    show_default=True,
    help="The file to write; it must not exist yet.",
)
@click.option("--from-cloud", is_flag=True, help="Declare the image servers that exist, and record their images.")
@click.option(
    "--from-tfstate",
    "tfstates",
    multiple=True,
    metavar="FILE",
    help="Take over the images of a Terraform state; - reads standard input.",
)
@click.option("--region", help="The region, where nothing else names it.")
@state_option
@lock_options
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    file: Path,
    from_cloud: bool,
    tfstates: tuple[str, ...],
    region: str | None,
    state: str | None,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Write a manifest to start from: an example, or what exists, with the records that go with it.

    Nothing is overwritten: neither the manifest nor, where records are written, the state may exist yet.

    \b
    Examples:
      imgctl init --from-cloud --region ap-southeast-1
      terraform state pull | imgctl init --from-tfstate -
    """
    if from_cloud and tfstates:
        raise UsageError("--from-cloud and --from-tfstate exclude each other", hint="Name one place to start from.")
    if tfstates:
        from reconciler.cli.from_terraform import start_from_terraform

        return asyncio.run(start_from_terraform(console, file, tfstates, state, region, lock, requests))
    if from_cloud:
        from reconciler.cli.from_cloud import start_from_cloud

        return asyncio.run(start_from_cloud(console, file, state, region, lock, requests))
    return _starter(console, file, region)


def _starter(console: Console, file: Path, region: str | None) -> int:
    check_new(file)
    write_new(file, starter_manifest(region))
    option = "" if file == Path("imgctl.yaml") else f" -f {file}"
    console.result(f"{file}: an example. Put your servers into it, then: imgctl plan{option}\n")
    return 0

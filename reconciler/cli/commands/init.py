"""`imgctl init`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import RequestFlags
from reconciler.cli.options import request_options
from reconciler.errors import UsageError
from reconciler.render.manifest import render_manifest, starter_manifest
from reconciler.render.terminal import plural


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
@click.option("--from-cloud", is_flag=True, help="Declare the image servers that exist.")
@click.option("--region", help="The region, where the environment does not name it.")
@request_options
@click.pass_obj
def command(console: Console, *, file: Path, from_cloud: bool, region: str | None, requests: RequestFlags) -> int:
    """Write a manifest to start from: an example, or with --from-cloud the image servers that exist.

    \b
    Example:
      imgctl init --from-cloud --region ap-southeast-1
    """
    if file.exists():
        raise _exists(file)
    if from_cloud:
        text, servers = asyncio.run(_from_cloud(console, region, requests))
        said = f"{file}: {plural(servers, 'image server')} declared. Review the image names, then: imgctl plan"
    else:
        text = starter_manifest(region)
        said = f"{file}: an example. Put your servers into it, then: imgctl plan"
    _write_new(file, text)
    console.result(f"{said}{'' if file.name == 'imgctl.yaml' else f' -f {file}'}\n")
    return 0


async def _from_cloud(console: Console, region: str | None, requests: RequestFlags) -> tuple[str, int]:
    from reconciler.cli.wiring import connected_by_environment

    async with connected_by_environment(console, region, requests) as connection:
        servers = await connection.client.list_servers()
    if not servers:
        raise UsageError(
            f"project {connection.binding.project_id} in {connection.binding.region} has no image server",
            hint="Check region and project; image servers are made in the console, under Application Streaming.",
        )
    return render_manifest(servers, connection.binding), len(servers)


def _write_new(file: Path, text: str) -> None:
    """Write a file that must not exist yet; a half-written one is not left behind."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.unlink()
                raise
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def _exists(file: Path) -> UsageError:
    return UsageError(f"{file} exists already", hint="Nothing was changed. Name another file with -f.")

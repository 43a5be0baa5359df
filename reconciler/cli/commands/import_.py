"""`imgctl import`."""

from __future__ import annotations

import asyncio

import click

from reconciler.cli.adopting import adopt
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, ManifestFlags, RequestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.options import lock_options, manifest_options, request_options, state_option
from reconciler.errors import UsageError


@click.command(name="import")
@click.argument("name")
@click.option("--job-id", metavar="ID", help="The job that builds, or has built, this server's image.")
@click.option("--image-id", metavar="ID", help="The private image that this server holds.")
@manifest_options
@state_option
@lock_options
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    name: str,
    job_id: str | None,
    image_id: str | None,
    source: ManifestFlags,
    state: str | None,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Hand over to imgctl what it did not record: a build in the cloud, or an image, of the declared server NAME.

    The cloud is asked about it first. A request in doubt is settled by it.

    \b
    Examples:
      imgctl import office --job-id 697354472828968960
      imgctl import office --image-id f5d443de-a623-4950-a74d-569fe63c1f7a
    """
    if (job_id is None) == (image_id is None):
        raise UsageError("name one thing to import", hint="--job-id ID or --image-id ID, not both.")
    inputs = load_inputs(console, source, state)
    return asyncio.run(adopt(console, inputs, name, job_id=job_id, image_id=image_id, lock=lock, requests=requests))

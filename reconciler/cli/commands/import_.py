"""`imgctl import`."""

from __future__ import annotations

import asyncio

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.options import lock_options, manifest_options, request_options, selector_options, state_option
from reconciler.errors import UsageError


@click.command(name="import")
@click.argument("name", required=False)
@click.option("--job-id", metavar="ID", help="The job that builds, or has built, this server's image.")
@click.option("--image-id", metavar="ID", help="The private image that this server holds.")
@click.option("--all", "everything", is_flag=True, help="The image that each declared server shows.")
@click.option("--dry-run", is_flag=True, help="With --all: say what would be recorded, and record nothing.")
@selector_options
@manifest_options
@state_option
@lock_options
@request_options
@click.pass_obj
def command(
    console: Console,
    *,
    name: str | None,
    job_id: str | None,
    image_id: str | None,
    everything: bool,
    dry_run: bool,
    flags: PlanFlags,
    source: ManifestFlags,
    state: str | None,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Hand over to imgctl what it did not record: a build in the cloud, or an image, of the declared server NAME.

    The cloud is asked about it first. A request in doubt is settled by it. With --all, every declared server of which
    no image is recorded gets the one that it shows; the others are listed, with the reason.

    \b
    Examples:
      imgctl import office --job-id 697354472828968960
      imgctl import office --image-id f5d443de-a623-4950-a74d-569fe63c1f7a
      imgctl import --all --dry-run
    """
    # Imported here: what a command line means is settled before anything is loaded for it.
    from reconciler.cli.adopting import adopt
    from reconciler.cli.adopting_all import adopt_all

    if everything:
        if name is not None or job_id is not None or image_id is not None:
            raise UsageError("--all takes no NAME and no id", hint="--target NAME chooses among the servers.")
        inputs = load_inputs(console, source, state)
        return asyncio.run(adopt_all(console, inputs, flags, dry_run=dry_run, lock=lock, requests=requests))
    if name is None:
        raise UsageError("name the server to import for", hint="Or --all: every server that shows an image.")
    if dry_run or flags != PlanFlags():
        raise UsageError("--dry-run, --target, --exclude and -l go with --all", hint="NAME is the one server.")
    if (job_id is None) == (image_id is None):
        raise UsageError("name one thing to import", hint="--job-id ID or --image-id ID, not both.")
    inputs = load_inputs(console, source, state)
    return asyncio.run(adopt(console, inputs, name, job_id=job_id, image_id=image_id, lock=lock, requests=requests))

"""Adoption: a job or an image that imgctl did not record, looked up in the cloud and then recorded."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from reconciler.cli.adopted import image_build, job_build, name_holder, why_unusable
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, RequestFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.locking import open_writer
from reconciler.cli.wiring import build_context, connected
from reconciler.cloud.client import CloudClient
from reconciler.cloud.identify import identify
from reconciler.errors import NotFound, UsageError
from reconciler.model.record import Build, BuildStatus, Context, Record, Recorded
from reconciler.model.spec import DeclaredServer
from reconciler.planning.planner import resolve_binding
from reconciler.render.terminal import clean
from reconciler.state import events

_ENDED = ("SUCCESS", "FAILED")
# Clocks differ: what a request has made may seem older than it by this much, as in rule 3a.
_CLOCK_TOLERANCE = timedelta(minutes=5)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


async def adopt(
    console: Console,
    inputs: Inputs,
    name: str,
    *,
    job_id: str | None,
    image_id: str | None,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Record a job or an image of the declared server `name`. Raises UsageError where the cloud does not know it."""
    declared = _declared(inputs, name)
    found = job_id or image_id or ""
    if not _ID.fullmatch(found):
        raise UsageError(f"{found!r} is no id", hint="An id has letters, digits, - and _ only.")
    with open_writer(console, inputs, "import", lock, alone=False) as writer:
        writer.claim([declared.server_id])
        async with connected(console, inputs, requests) as connection:
            binding = resolve_binding(connection.binding, writer.recorded)
            context = build_context(console.environ, "")
            if job_id is not None:
                build = await _job(connection.client, declared, job_id, context)
            else:
                build = await _image(connection.client, declared, found, context)
            record = writer.recorded.servers.get(declared.server_id)
            attempt = record.attempt if record is not None and record.in_flight else None
            if attempt is not None:
                await _check_settles(connection.client, declared, attempt, build)
        owner = _owner(writer.recorded, build, declared)
        if owner is not None:
            raise UsageError(f"{found} is recorded already, as a build of {owner.name}", hint="Nothing was changed.")
        holder = name_holder(writer.recorded, declared)
        if holder is not None:
            raise UsageError(
                f"the records know another server by the name {name}, {holder.server_id}",
                hint="imgctl apply moves that record first; nothing was changed.",
            )
        bound = [events.Bound(binding)] if writer.recorded.bound_to is None else []
        await writer.commit(*bound, *_events(declared, attempt, build))
    console.result(f"{clean(name)}: {_said(build)}\n")
    return 0


def _declared(inputs: Inputs, name: str) -> DeclaredServer:
    servers = inputs.manifest.servers
    if name not in servers:
        near = get_close_matches(name, servers, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Declare it in the manifest first, with its server_id."
        raise UsageError(f"{name} is not declared", hint=hint)
    return servers[name]


async def _job(client: CloudClient, declared: DeclaredServer, job_id: str, context: Context) -> Build:
    """A job as a build: running, or ended as the cloud says."""
    try:
        job = await client.show_job(job_id)
    except NotFound as error:
        raise UsageError(f"the cloud knows no image job {job_id}", hint="An image id goes with --image-id.") from error
    if not job.makes_image:
        raise UsageError(
            f"job {job_id} makes no image: it creates or deletes something else",
            hint="The job of a build is the one that recreate-image has returned. Nothing was changed.",
        )
    return job_build(job, declared.image, context)


async def _image(client: CloudClient, declared: DeclaredServer, image_id: str, context: Context) -> Build:
    """An image as a build that has succeeded; a job's id taken for an image would make every later step wrong."""
    identity = (await identify(client, [image_id]))[image_id]
    job = identity.job
    if job is not None and job.makes_image:
        made = f", or --image-id {job.image_id}, which it has made" if identity.image is not None else ""
        raise UsageError(
            f"{image_id} is no image but an image job, which is {job.status or 'in no known state'}",
            hint=f"Hand it over with --job-id {image_id}{made}.",
        )
    if identity.gone:
        raise UsageError(
            f"IMS knows no image {image_id}, and it is no image job either",
            hint="Look it up in the console: an image's id under IMS, a job's (--job-id) in what started it.",
        )
    if identity.problem:
        raise UsageError(f"image {image_id} could not be looked up: {identity.problem}", hint="Nothing was changed.")
    why = why_unusable(identity)
    if why or identity.image is None:
        raise UsageError(f"{why}: it cannot be held", hint="Nothing was changed.")
    return image_build(identity.image, declared.image, context)


def _owner(recorded: Recorded, build: Build, declared: DeclaredServer) -> Record | None:
    """The record that has the job or the image already."""
    for record in recorded.all_records:
        for one in record.builds:
            same_job = build.job_id and one.job_id == build.job_id
            same_image = build.image_id and one.image_id == build.image_id
            if same_job or same_image:
                return record
    return None


async def _check_settles(client: CloudClient, declared: DeclaredServer, attempt: Build, build: Build) -> None:
    """Raise UsageError where `build` must not settle one in flight: that goes on, or asked for something else."""
    if build.spec.name != attempt.spec.name:
        raise UsageError(
            f"{declared.name} has a build in flight that makes {attempt.spec.name!r}; this is {build.spec.name!r}",
            hint="End the build in flight first: imgctl state settle --not-issued or --failed.",
        )
    if build.requested_at < attempt.requested_at - _CLOCK_TOLERANCE:
        what = f"job {build.job_id} began" if build.job_id else f"image {build.image_id} was made"
        raise UsageError(
            f"{declared.name} has a build in flight, requested on {attempt.requested_at:%Y-%m-%d %H:%M} UTC; "
            f"{what} before that, on {build.requested_at:%Y-%m-%d %H:%M}",
            hint="End the build in flight first: imgctl state settle --not-issued or --failed.",
        )
    if attempt.status is not BuildStatus.RUNNING:
        return
    with suppress(NotFound):
        job = await client.show_job(attempt.job_id)
        if build.job_id or job.status not in _ENDED:
            raise UsageError(
                f"the build of {declared.name} is job {attempt.job_id}, which is {job.status}",
                hint="imgctl wait records how it ends.",
            )
    if build.job_id:
        raise UsageError(
            f"the build of {declared.name} is job {attempt.job_id}, which the cloud does not know any more",
            hint="If it made no image: imgctl state settle --failed, then import the other job.",
        )


def _events(declared: DeclaredServer, attempt: Build | None, build: Build) -> list[events.Event]:
    """What to record: the end of a build in flight, or a build of its own."""
    server_id = declared.server_id
    if attempt is None:
        return [events.BuildAdopted(server_id, declared.name, build)]
    happened: list[events.Event] = []
    if build.job_id:
        happened.append(events.BuildSubmitted(server_id, attempt.attempt_id, build.job_id))
    if build.status is not BuildStatus.RUNNING:
        ended_at = build.finished_at or datetime.now(UTC)
        happened.append(
            events.BuildEnded(
                server_id,
                attempt.attempt_id,
                build.status,
                ended_at,
                build.image_id,
                build.error,
                # That an image came of the request is a person's word alone: it must never be pruned for that.
                adopted=not build.job_id,
            )
        )
    return happened


def _said(build: Build) -> str:
    match build.status:
        case BuildStatus.SUCCEEDED:
            return f"holds image {build.image_id} ({clean(build.spec.name)}) now; imgctl plan compares it."
        case BuildStatus.FAILED:
            return f"job {build.job_id} is recorded as failed."
        case _:
            return f"job {build.job_id} is recorded; imgctl wait waits for its image."

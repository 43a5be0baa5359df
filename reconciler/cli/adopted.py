"""Builds that imgctl did not ask for, as they are recorded; and what keeps one from being recorded unasked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from reconciler.cli.locking import printable
from reconciler.cloud.identify import Identity
from reconciler.model.observed import ObservedImage, ObservedJob, ObservedServer
from reconciler.model.record import Build, BuildError, BuildStatus, Context, Record, Recorded
from reconciler.model.spec import DeclaredServer, ImageSpec

# An image in one of these states cannot be used (facts 1.13).
_UNUSABLE = frozenset({"queued", "saving", "deleted", "killed"})


def image_build(image: ObservedImage, like: ImageSpec, context: Context, job: ObservedJob | None = None) -> Build:
    """An image as a build that has succeeded; `job` has made it, where that is known.

    Sysprep and triggers leave no trace in an image: they are taken from `like`.
    """
    made = image.created_at or datetime.now(UTC)
    return Build(
        attempt_id=uuid4().hex,
        # Half a character, which JSON can bring and no state can hold, becomes a question mark.
        spec=replace(like, name=printable(image.name), description=printable(image.description)),
        status=BuildStatus.SUCCEEDED,
        requested_at=(job.began_at if job is not None else None) or made,
        job_id=job.id if job is not None else "",
        finished_at=(job.ended_at if job is not None else None) or made,
        image_id=image.id,
        context=context,
        adopted=True,
    )


def job_build(job: ObservedJob, like: ImageSpec, context: Context) -> Build:
    """A job as a build: running, or ended as the cloud says.

    The job tells the image's name; whatever else it was asked for is taken from `like`.
    """
    build = Build(
        attempt_id=uuid4().hex,
        spec=replace(like, name=printable(job.image_name)) if job.image_name else like,
        status=BuildStatus.RUNNING,
        requested_at=job.began_at or datetime.now(UTC),
        job_id=job.id,
        context=context,
        adopted=True,
    )
    if job.status == "SUCCESS" and job.image_id:
        return replace(build, status=BuildStatus.SUCCEEDED, image_id=job.image_id, finished_at=job.ended_at)
    if job.status == "FAILED":
        error = BuildError(job.error_code, job.error_message or "the job failed")
        return replace(build, status=BuildStatus.FAILED, finished_at=job.ended_at, error=error)
    return build


def why_unusable(identity: Identity) -> str:
    """Why what an id stands for cannot be held; empty where it is an image that can be used."""
    job, image = identity.job, identity.image
    what = f"job {job.id} has made image {job.image_id}, which" if job is not None else f"image {identity.id}"
    if identity.problem:
        return f"{what} could not be looked up: {identity.problem}"
    if job is not None and not job.makes_image:
        return f"{job.id} is no image but a job that makes none"
    if job is not None and job.status != "SUCCESS":
        return f"{job.id} is no image but an image job, which is {job.status or 'in no known state'}"
    if job is not None and not job.image_id:
        return f"{job.id} is no image but a job that has made none"
    if image is None:
        return f"{what} is gone from IMS"
    if image.kind not in ("", "private"):
        # What recreate-image makes is private. Nobody could edit this one, and it is not the server's.
        return (
            f"{what} is no private image of this project but a {'public' if image.kind == 'gold' else image.kind} one"
        )
    return f"{what} is {image.status}" if image.status in _UNUSABLE else ""


def why_not_recorded(
    server: ObservedServer, identity: Identity, shown_by: Collection[ObservedServer], name: str
) -> str:
    """What keeps the image that a server shows from being recorded unasked: a person must decide; empty where nothing.

    `identity` is what that image's id stands for, `shown_by` all servers that show it, `name` the server's in the
    manifest.
    """
    if server.status == "BUILDING":
        # Nobody documents when the server's image changes: it may be the old one, or the one that is being made.
        return f"it is BUILDING, and that build is not recorded: imgctl import {name} --job-id JOB_ID"
    others = sorted(one.name or one.id for one in shown_by if one.id != server.id)
    if others:
        which = f"{', '.join(others[:3])}{' …' if len(others) > 3 else ''}"
        return f"{which} shows its image too: imgctl import NAME --image-id {server.image_id} for the one that made it"
    why = why_unusable(identity)
    if not why:
        return ""
    job = identity.job
    if job is not None and job.makes_image and job.status not in ("SUCCESS", "FAILED"):
        return f"{why}: imgctl import {name} --job-id {identity.id}"
    return f"{why}: look at it in the console; --allow {name} builds a new one" if identity.gone else why


def name_holder(recorded: Recorded, declared: DeclaredServer) -> Record | None:
    """Another server's record under this server's name: no two records ever have one name."""
    found = (one for one in recorded.servers.values() if one.name == declared.name)
    return next((one for one in found if one.server_id != declared.server_id), None)

"""Rule 3a: what became of a request whose answer never came. The judgement is pure; gathering the evidence is not.

recreate-image has no idempotency key, so a request that may have taken effect is not sent again until it is certain
that it did not. Traces of it, from the facts of the API: the server is BUILDING, its image has changed, there is a job
or a private image of that name which no record claims.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.cloud.client import CloudClient
from reconciler.errors import AuthenticationFailed, BadRequest, CloudError, NotFound, PermissionDenied
from reconciler.model.observed import BUILDABLE, ObservedImage, ObservedJob, ObservedServer
from reconciler.model.record import Build

# Clocks differ, and a job's begin time is not the request's: a trace may seem older than the intent by this much.
_CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What could be found out. `gaps` names the look-ups that failed: absence proves nothing while there is one.
    `blind` names those that are refused for good: without them nobody but a person can tell.

    `server` None, with no gap, means that the server is gone. `jobs` and `images` are unclaimed ones only, begun
    around the intent or later.
    """

    server: ObservedServer | None
    jobs: tuple[ObservedJob, ...] = ()
    images: tuple[ObservedImage, ...] = ()
    gaps: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adopt:
    """The request took effect: this is its job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class NotIssued:
    """The request did not take effect; a new one may follow."""


@dataclass(frozen=True, slots=True)
class LookOn:
    """Not decided yet: look again."""

    why: str


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Nothing here can decide it. `found` says what was found."""

    found: str


Verdict = Adopt | NotIssued | LookOn | AskPerson


def judge(build: Build, evidence: Evidence, now: datetime, quiet_time: float) -> Verdict:
    """What became of `build`'s request. `now` is when the looking began, by the cloud's clock."""
    server = evidence.server
    named = [job for job in evidence.jobs if job.image_name == build.spec.name]
    if len(named) == 1:
        return Adopt(named[0].id)
    if named:
        ids = ", ".join(job.id for job in named)
        return AskPerson(f"{len(named)} jobs build an image named {build.spec.name!r}: {ids}")
    changed = server is not None and server.image_id not in ("", build.server_image_id)
    if server is not None and changed:
        # A job that names another image was somebody else's, on the same server.
        proven = [job for job in evidence.jobs if job.image_id == server.image_id and not job.image_name]
        if len(proven) == 1:
            return Adopt(proven[0].id)
    if evidence.gaps:
        return LookOn(f"some look-ups failed: {', '.join(evidence.gaps)}")
    if server is None:
        return AskPerson("the image server is gone")
    if server.status == "BUILDING":
        return LookOn("the server is BUILDING")
    # A job without a name, whose server is not told either, may be this one until its image is known.
    if any(not job.image_name and not job.ended for job in evidence.jobs):
        return LookOn("a job that no record claims is in progress")
    if changed:
        return AskPerson(f"the server shows a new image, {server.image_id}, and no job tells whose it is")
    if evidence.images:
        return AskPerson(f"a private image of that name exists: {', '.join(image.id for image in evidence.images)}")
    if server.status not in BUILDABLE:
        return AskPerson(f"the server is {server.status}")
    if evidence.blind:
        return AskPerson(f"no trace of it where imgctl may look, but {evidence.blind[0]}")
    if now - build.requested_at <= timedelta(seconds=quiet_time):
        return LookOn("no trace of it so far")
    return NotIssued()


async def gather(
    cloud: CloudClient, build: Build, server_id: str, claimed_ids: Callable[[], Awaitable[Collection[str]]]
) -> Evidence:
    """Look everywhere that a build leaves a trace. `claimed_ids` gives the job and image ids of every record by then.

    Raises AuthenticationFailed: asking again would lock the key.
    """
    gaps: list[str] = []
    blind: list[str] = []
    server, images = await asyncio.gather(_show(cloud, server_id, gaps), _images(cloud, build.spec.name, gaps, blind))
    # Last, so that there is no server or image without the job that changed or made it.
    # One that begins meanwhile moves the pages, and another one comes twice.
    jobs = {job.id: job for job in await _unclaimed_jobs(cloud, gaps, blind)}.values()
    # Only now: what was recorded while the answers were on their way is claimed too.
    claimed = await claimed_ids()
    earliest = build.requested_at - _CLOCK_TOLERANCE
    recent = [job for job in jobs if job.id not in claimed and (job.began_at is None or job.began_at >= earliest)]
    return Evidence(
        server=server,
        jobs=tuple(await asyncio.gather(*(_with_name(cloud, job) for job in recent))),
        images=tuple(
            image
            for image in images
            if image.id not in claimed and (image.created_at is None or image.created_at >= earliest)
        ),
        gaps=tuple(gaps),
        blind=tuple(blind),
    )


async def _show(cloud: CloudClient, server_id: str, gaps: list[str]) -> ObservedServer | None:
    try:
        return await cloud.show_server(server_id)
    except NotFound:
        return None
    except AuthenticationFailed:
        raise
    except CloudError as error:
        gaps.append(f"the server ({error.summary})")
        return None


async def _unclaimed_jobs(cloud: CloudClient, gaps: list[str], blind: list[str]) -> list[ObservedJob]:
    try:
        return await cloud.list_sub_jobs()
    except AuthenticationFailed:
        raise
    except (PermissionDenied, NotFound, BadRequest) as error:
        # Refused for good: the list is not published everywhere, and has a permission of its own (facts 1.0).
        blind.append(error.summary)
        return []
    except CloudError as error:
        gaps.append(f"the jobs ({error.summary})")
        return []


async def _images(cloud: CloudClient, name: str, gaps: list[str], blind: list[str]) -> list[ObservedImage]:
    try:
        return await cloud.list_images(name=name)
    except AuthenticationFailed:
        raise
    except (PermissionDenied, NotFound, BadRequest) as error:
        blind.append(error.summary)
        return []
    except CloudError as error:
        gaps.append(f"the images ({error.summary})")
        return []


async def _with_name(cloud: CloudClient, job: ObservedJob) -> ObservedJob:
    """The job with its image's name, where the job itself does not say it but has an image to ask about."""
    if job.image_name or not job.image_id:
        return job
    try:
        return replace(job, image_name=(await cloud.show_image(job.image_id)).name)
    except CloudError:
        return job

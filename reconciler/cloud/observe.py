"""One refresh for the planner."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from reconciler.cloud.client import CloudClient
from reconciler.cloud.images import FoundImages, look_up_images
from reconciler.cloud.jobs import first_failure, look_up_jobs
from reconciler.errors import AuthenticationFailed, CloudError
from reconciler.model.observed import Observation, ObservedJob, Quota


async def observe(client: CloudClient, jobs_in_flight: Collection[str], image_ids: Collection[str]) -> Observation:
    """Every image server and private image, the quota, and the recorded jobs in flight and images, as far as possible.

    Raises CloudError where the servers cannot be listed: without them there is nothing to plan with. Whatever else
    could not be looked up is left out, and said.
    """
    problems: list[str] = []
    with first_failure():
        async with asyncio.TaskGroup() as group:
            servers = group.create_task(client.list_servers())
            jobs = group.create_task(_jobs(client, jobs_in_flight, problems))
            images = group.create_task(_images(client, image_ids, problems))
            quota = group.create_task(_quota(client, problems))
    return Observation(
        servers={server.id: server for server in servers.result()},
        jobs=jobs.result(),
        images=images.result().images,
        gone=images.result().gone,
        quota=quota.result(),
        # Whichever answer came first: the same refresh says the same.
        problems=tuple(sorted(problems)),
        clock_offset=client.clock_offset,
    )


async def _jobs(client: CloudClient, job_ids: Collection[str], problems: list[str]) -> dict[str, ObservedJob]:
    try:
        return await look_up_jobs(client, job_ids)
    except AuthenticationFailed:
        raise
    except CloudError as error:
        problems.append(f"the builds in flight could not be looked at: {error.summary}")
        return {}


async def _images(client: CloudClient, image_ids: Collection[str], problems: list[str]) -> FoundImages:
    try:
        found = await look_up_images(client, image_ids)
    except AuthenticationFailed:
        raise
    except CloudError as error:
        problems.append(
            f"images could not be looked at: whether one is gone or edited is not known, and none is pruned: "
            f"{error.summary}"
        )
        return FoundImages()
    if found.problem:
        problems.append(f"some images could not be looked at: {found.problem}")
    return found


async def _quota(client: CloudClient, problems: list[str]) -> Quota | None:
    try:
        return await client.image_quota()
    except AuthenticationFailed:
        raise
    except CloudError as error:
        problems.append(f"the quota of private images is not known, so no build waits for a place: {error.summary}")
        return None

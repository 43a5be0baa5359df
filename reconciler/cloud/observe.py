"""One refresh for the planner."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from reconciler.cloud.client import CloudClient
from reconciler.cloud.jobs import first_failure, look_up_jobs
from reconciler.errors import AuthenticationFailed, CloudError
from reconciler.model.observed import Observation, ObservedJob


async def observe(client: CloudClient, jobs_in_flight: Collection[str]) -> Observation:
    """Every image server, and the recorded jobs in flight as far as they can be looked up.

    Raises CloudError where the servers cannot be listed: without them there is nothing to plan with. A job that could
    not be looked up is left out.
    """
    with first_failure():
        async with asyncio.TaskGroup() as group:
            servers = group.create_task(client.list_servers())
            jobs = group.create_task(_jobs(client, jobs_in_flight))
    return Observation({server.id: server for server in servers.result()}, jobs.result(), client.clock_offset)


async def _jobs(client: CloudClient, job_ids: Collection[str]) -> dict[str, ObservedJob]:
    try:
        return await look_up_jobs(client, job_ids)
    except AuthenticationFailed:
        raise
    except CloudError:
        return {}

"""Looking up many jobs with few requests: one tick of watching a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import aclosing, contextmanager

from reconciler.cloud.client import CloudClient
from reconciler.errors import AuthenticationFailed, BadAnswer, BadRequest, CloudError, NotFound, PermissionDenied
from reconciler.model.observed import ObservedJob

_PLAINLY_GOING_ON = ("RUNNING", "WAITING")


async def look_up_jobs(client: CloudClient, job_ids: Collection[str]) -> dict[str, ObservedJob]:
    """The jobs by id, as far as they could be looked up; pass those only that have not been seen to end.

    One page of running sub jobs serves a hundred builds. A sub job that is plainly going on says enough of its job;
    every other job is asked for by itself, since the job decides, not the sub job (facts 2.1). Raises CloudError
    where the list could not be had for another reason than being refused or broken, and AuthenticationFailed.
    """
    wanted = set(job_ids)
    found: dict[str, ObservedJob] = {}
    for status in _PLAINLY_GOING_ON:
        missing = wanted - found.keys()
        # One missing job costs one request either way, and asked for by itself it tells more.
        if client.sub_jobs_refused or not missing or (status == "WAITING" and len(missing) == 1):
            break
        found |= await _going_on(client, missing, status)
    with first_failure():
        async with asyncio.TaskGroup() as group:
            shown = [group.create_task(_show(client, job_id)) for job_id in sorted(wanted - found.keys())]
    return found | {job.id: job for task in shown if (job := task.result()) is not None}


async def _going_on(client: CloudClient, wanted: set[str], status: str) -> dict[str, ObservedJob]:
    found: dict[str, ObservedJob] = {}
    try:
        async with aclosing(client.sub_job_pages(status=status)) as pages:
            async for page in pages:
                found |= {job.id: job for job in page if job.id in wanted and job.status in _PLAINLY_GOING_ON}
                if found.keys() >= wanted:
                    break
    except (PermissionDenied, NotFound, BadRequest) as error:
        # The list is not published everywhere, and has a permission of its own (facts 1.0).
        if error.status not in (403, 404, 405):
            raise
        client.sub_jobs_refused = True
    except BadAnswer:
        # For this look only: what the page would have told of is asked for one by one.
        pass
    return found


async def _show(client: CloudClient, job_id: str) -> ObservedJob | None:
    try:
        return await client.show_job(job_id)
    except (AuthenticationFailed, PermissionDenied):
        # Not a fact about this job: waiting would not help.
        raise
    except CloudError:
        return None


@contextmanager
def first_failure() -> Iterator[None]:
    """Around a task group: raises its first failure as itself, not in a group, for callers that handle CloudError."""
    try:
        yield
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
    else:
        return
    # Outside of the handler, so that its own cause stays.
    raise first

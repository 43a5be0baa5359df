"""What an id stands for: an image, or the job that was to make one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from reconciler.cloud.client import CloudClient
from reconciler.cloud.images import look_up_images, show_or_gone
from reconciler.cloud.jobs import first_failure
from reconciler.model.observed import ObservedImage, ObservedJob


@dataclass(frozen=True, slots=True)
class Identity:
    """What the cloud knows of an id.

    `job` is set where it is a job's; `image` is the image that has the id, or that the job has made. `gone` says that
    neither IMS nor the jobs know the id, or that IMS does not know the image that the job has made. `problem` says why
    nobody knows: a look-up failed.
    """

    id: str
    image: ObservedImage | None = None
    job: ObservedJob | None = None
    gone: bool = False
    problem: str = ""


async def identify(client: CloudClient, ids: Collection[str]) -> dict[str, Identity]:
    """What each id stands for. IMS is asked first, then the jobs for what IMS does not have.

    A job's id is easily taken for an image's: Terraform's provider stores it as one where a create failed or timed out
    (facts 7.2). Raises CloudError where IMS cannot list images.
    """
    found = await look_up_images(client, ids)
    others = sorted(set(ids) - found.images.keys())
    with first_failure():
        async with asyncio.TaskGroup() as group:
            shown = {one: group.create_task(show_or_gone(client.show_job(one))) for one in others}
    jobs = {one: job for one, task in shown.items() if isinstance(job := task.result(), ObservedJob)}
    made = {job.image_id for job in jobs.values() if job.status == "SUCCESS" and job.image_id}
    products = await look_up_images(client, made) if made - found.images.keys() else found
    known = {one: Identity(one, image=found.images[one]) for one in ids if one in found.images}
    for one in others:
        failed = shown[one].result()
        if isinstance(failed, ObservedJob):
            image_id = failed.image_id if failed.status == "SUCCESS" else ""
            image, gone = products.images.get(image_id), image_id in products.gone
            lost = bool(image_id) and image is None and not gone
            known[one] = Identity(one, image, failed, gone, products.problem if lost else "")
        elif failed is None and one in found.gone:
            known[one] = Identity(one, gone=True)
        else:
            known[one] = Identity(one, problem=failed.summary if failed and one in found.gone else found.problem)
    return known

"""Looking up images in IMS: one list for all of them, and by id those that it does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.cloud import problems
from reconciler.cloud.client import CloudClient
from reconciler.cloud.jobs import first_failure
from reconciler.errors import AuthenticationFailed, CloudError, NotFound
from reconciler.model.observed import ObservedImage

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FoundImages:
    """Images by id, and the ids that are certainly gone. An id in neither of them could not be looked up.

    `problem` says why, for the first such id.
    """

    images: dict[str, ObservedImage] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    problem: str = ""


async def look_up_images(client: CloudClient, wanted: Collection[str]) -> FoundImages:
    """Every private image that IMS lists, and the `wanted` ones in any case.

    Gone is what IMS answers 404 for *and* the list does not have: on some sites the list leaves Windows images out
    (facts 1.13), so that missing there alone proves nothing. Raises CloudError where there is no list at all.
    """
    images = {image.id: image for image in await client.list_images()}
    missing = sorted(set(wanted) - images.keys())
    with first_failure():
        async with asyncio.TaskGroup() as group:
            shown = {image_id: group.create_task(show_or_gone(client.show_image(image_id))) for image_id in missing}
    gone, failed = set(), []
    for image_id, task in shown.items():
        match task.result():
            case ObservedImage() as image:
                images[image_id] = image
            case None:
                gone.add(image_id)
            case CloudError() as error:
                failed.append(error.summary)
    return FoundImages(images, frozenset(gone), failed[0] if failed else "")


async def show_or_gone(shown: Awaitable[_T]) -> _T | CloudError | None:
    """What is shown; None where there certainly is nothing, an error where nobody knows.

    Raises AuthenticationFailed.
    """
    try:
        return await shown
    except AuthenticationFailed:
        raise
    except NotFound as error:
        # A gateway without this API says nothing about what was asked for.
        return error if problems.is_no_such_api(error) else None
    except CloudError as error:
        return error

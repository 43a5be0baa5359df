"""IMS: list, show, edit and delete images, and the quota (facts sheet 1.13 to 1.16)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from reconciler.simulator.answers import Answer, BadValue, ims_error, second_time
from reconciler.simulator.calls import Call, Operation
from reconciler.simulator.records import Image

_DEFAULT_LIMIT = 500
_DEFAULT_PROJECT = ("", "0", "all_granted_eps")
_PLATFORM_OWNER = "1bed856811654c1cb661a6ca845ebc77"
_COMPARE: dict[str, Callable[[datetime, datetime], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}
_SORT_KEYS: dict[str, Callable[[Image], str | float]] = {
    "created_at": lambda image: image.created_at.timestamp(),
    "updated_at": lambda image: image.updated_at.timestamp(),
    "name": lambda image: image.name,
    "status": lambda image: image.status,
    "id": lambda image: image.id,
    "size": lambda image: image.size,
    "container_format": lambda _: "bare",
    "disk_format": lambda _: "zvhd2",
}


def image_item(call: Call, image: Image) -> dict[str, object]:
    """An image as IMS shows it. `__description` is missing where the image has none."""
    private = image.kind == "private"
    item: dict[str, object] = {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "__imagetype": image.kind,
        "visibility": "private" if private else "public",
        "protected": image.protected,
        "owner": call.world.project_id if private else _PLATFORM_OWNER,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "max_ram": image.max_ram,
        "disk_format": "zvhd2",
        "container_format": "bare",
        "size": 0,
        "virtual_size": None,
        "__image_size": str(image.size),
        "tags": [],
        "__os_type": "Windows",
        "__os_version": image.os_version,
        "__platform": "Windows",
        "__os_bit": "64",
        "__isregistered": "true",
        "__image_source_type": "uds",
        "__data_origin": f"instance,{image.instance_id}" if image.instance_id else None,
        "virtual_env_type": "FusionCompute",
        "enterprise_project_id": "0",
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
        "created_at": second_time(image.created_at),
        "updated_at": second_time(image.updated_at),
        "active_at": second_time(image.created_at),
    }
    if image.description is not None:
        item["__description"] = image.description
    return item


def _time_filter(text: str, name: str) -> Callable[[datetime], bool]:
    match = re.fullmatch(r"(gt|gte|lt|lte|eq|neq):(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)", text, re.ASCII)
    if match is None:
        raise BadValue(f"{name} must be OPERATOR:TIME")
    try:
        other = datetime.strptime(match[2], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadValue(f"{name} is no time") from None
    compare = _COMPARE[match[1]]
    return lambda moment: compare(moment.replace(microsecond=0), other)


def _filters(call: Call) -> list[Callable[[Image], bool]]:
    """The conditions that the query sets, but for `id` and `name`."""
    found: list[Callable[[Image], bool]] = []
    equal: dict[str, Callable[[Image], str]] = {
        "__imagetype": lambda image: image.kind,
        "status": lambda image: image.status,
        "owner": lambda image: call.world.project_id if image.kind == "private" else _PLATFORM_OWNER,
        "visibility": lambda image: "private" if image.kind == "private" else "public",
        "protected": lambda image: str(image.protected).lower(),
        "__os_type": lambda _: "Windows",
        "__platform": lambda _: "Windows",
        "__os_bit": lambda _: "64",
        "__isregistered": lambda _: "true",
        "disk_format": lambda _: "zvhd2",
        "container_format": lambda _: "bare",
        "virtual_env_type": lambda _: "FusionCompute",
        "min_disk": lambda image: str(image.min_disk),
        "min_ram": lambda image: str(image.min_ram),
    }
    for name, value_of in equal.items():
        wanted = call.query.get(name, "")
        if wanted:
            wanted = wanted.lower() if name == "protected" else wanted
            found.append(lambda image, value_of=value_of, wanted=wanted: value_of(image) == wanted)  # type: ignore[misc]
    for name in ("created_at", "updated_at"):
        if text := call.query.get(name, ""):
            test = _time_filter(text, name)
            found.append(lambda image, name=name, test=test: test(getattr(image, name)))  # type: ignore[misc]
    # No image of this world has a tag.
    if call.query.get("tag"):
        found.append(lambda _: False)
    return found


def _candidates(call: Call) -> Iterable[Image]:
    world = call.world
    image_id, name = call.query.get("id", ""), call.query.get("name", "")
    if image_id:
        image = world.images.get(image_id)
        return [image] if image is not None and name in ("", image.name) else []
    if name:
        return world.images.named(name)
    return world.images


def list_images(call: Call) -> Answer:
    """ListImages. Pages go by marker only, and no count tells how many there are."""
    limit = call.number("limit", _DEFAULT_LIMIT, 1, 1000)
    sort_key = call.query.get("sort_key") or "created_at"
    sort_dir = call.query.get("sort_dir") or "desc"
    if sort_key not in _SORT_KEYS or sort_dir not in ("asc", "desc"):
        raise BadValue("sort_key or sort_dir is invalid")
    tests = _filters(call)
    images = [image for image in _candidates(call) if all(test(image) for test in tests)]
    # The international pages say that Windows images cannot be queried (facts sheet 1.13); of others there are none.
    if call.faults.strike("hide-windows-images", call.operation) is not None:
        images = []
    # Everything belongs to the default enterprise project, which is also the default of the parameter.
    if call.query.get("enterprise_project_id", "") not in _DEFAULT_PROJECT:
        images = []
    # By id first, so that images of the same moment have one order and a marker always finds its place.
    images.sort(key=lambda image: image.id)
    images.sort(key=_SORT_KEYS[sort_key], reverse=sort_dir == "desc")
    marker = call.query.get("marker", "")
    start = 0
    if marker:
        places = [index for index, image in enumerate(images) if image.id == marker]
        if not places:
            raise BadValue("the marker is no image of this list")
        start = places[0] + 1
    return Answer(200, {"images": [image_item(call, image) for image in islice(images, start, start + limit)]})


def _find(call: Call) -> Image:
    image = call.world.images.get(call.path["image_id"])
    if image is None:
        raise ims_error(404, "IMG.0027", "The image does not exist.")
    return image


def show_image(call: Call) -> Answer:
    """ShowImage."""
    return Answer(200, image_item(call, _find(call)))


def _valid_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(?!\s)[^\r\n<>]{1,128}(?<!\s)", value):
        raise ims_error(400, "IMG.0002", "The image name is invalid.")
    return value


def _valid_description(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[^\r\n<>]{0,1024}", value):
        raise ims_error(400, "IMG.0004", "The image description is invalid.")
    return value


def _change(name: str, description: str | None, change: object) -> tuple[str, str | None]:
    """An image's name and description after one change of the JSON array."""
    if not isinstance(change, dict):
        raise BadValue("a change is an object with op, path and value")
    match change.get("op"), change.get("path"):
        case (("add" | "replace"), "/name"):
            return _valid_name(change.get("value")), description
        case "replace", "/__description" if description is None:
            raise ims_error(400, "IMG.0035", "The attribute __description does not exist and cannot be replaced.")
        case (("add" | "replace"), "/__description"):
            return name, _valid_description(change.get("value"))
        case "remove", "/__description" if description is not None:
            return name, None
        case (("add" | "replace" | "remove"), str() as path):
            raise ims_error(400, "IMG.0035", f"The attribute {path} cannot be changed.")
        case _:
            raise BadValue("op must be add, replace or remove, and path the name of an attribute")


def update_image(call: Call) -> Answer:
    """UpdateImage: all changes of the array or none. Only private images that are active."""
    changes = call.json()
    if not isinstance(changes, list) or not changes:
        raise BadValue("the request body is no JSON array of changes")
    image = _find(call)
    if image.kind != "private":
        raise ims_error(403, "IMG.0047", "Only the owner of an image can change it.")
    if image.status != "active":
        raise ims_error(400, "IMG.0046", "The image is not active.")
    name, description = image.name, image.description
    for change in changes:
        name, description = _change(name, description, change)
    call.world.images.rename(image, name)
    image.description = description
    image.updated_at = call.now
    call.world.touch()
    return Answer(200, image_item(call, image))


def delete_image(call: Call) -> Answer:
    """DeleteImage: 204 also where there is no such image, so the answer proves nothing (facts sheet 1.15).

    An image that is deleted late is shown as it was until then, and counts: no source says what status it has.
    """
    if call.body:
        call.json_object()
    image = call.world.images.get(call.path["image_id"])
    if image is not None:
        if image.kind != "private":
            raise ims_error(403, "IMG.0094", "A public image cannot be deleted.")
        if image.protected:
            raise ims_error(403, "IMG.0028", "The image is protected and cannot be deleted.")
        if image.status in ("queued", "saving"):
            raise ims_error(400, "IMG.0090", "The image is being created and cannot be deleted.")
        lag = call.faults.seconds("delete-lag", call.operation, 1.0)
        if lag:
            call.world.delete_image_late(image, call.now + timedelta(seconds=lag))
        else:
            call.world.images.delete(image)
        call.world.touch()
    return Answer(204)


def show_quota(call: Call) -> Answer:
    """ListImageQuota."""
    used = {"image": call.world.images.private, "image_shared": 0, "image_member": 0}
    limits = {"image": call.world.quota, "image_shared": 20, "image_member": 128}
    resources = [
        {"type": kind, "used": used[kind], "quota": limits[kind], "min": 1, "max": max(1000, limits[kind])}
        for kind in used
    ]
    return Answer(200, {"quotas": {"resources": resources}})


OPERATIONS = (
    Operation("GET", "/v2/cloudimages", "ims", list_images),
    Operation("PATCH", "/v2/cloudimages/{image_id}", "ims", update_image),
    Operation("GET", "/v2/images/{image_id}", "ims", show_image),
    Operation("DELETE", "/v2/images/{image_id}", "ims", delete_image),
    Operation("GET", "/v1/cloudimages/quota", "ims", show_quota),
    Operation("GET", "/v1/{project_id}/cloudimages/quota", "ims", show_quota),
)

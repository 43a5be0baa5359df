"""The official IMS SDK, unchanged: list, show, edit, delete, quota."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from huaweicloudsdkims.v2 import (
    GlanceDeleteImageRequest,
    GlanceShowImageRequest,
    ImsClient,
    ListImagesRequest,
    ShowImageQuotaRequest,
    UpdateImageRequest,
    UpdateImageRequestBody,
)

from reconciler.simulator.records import Image
from tests.simulator.sdk import QUIET, Sdk, refused

# Where images are shown one by one the SDK advises its own list instead; the API page does not.
pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Method .glance_show_image.:DeprecationWarning")]

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def image_in(sdk: Sdk, number: int, **fields: Any) -> str:
    """A private image, so many minutes after noon; its id."""
    at = NOON + timedelta(minutes=number)
    image = Image(
        **{
            "id": f"0000000{number}-471c-4b3a-9a01-33ad552d1149",
            "name": f"image {number}",
            "description": None,
            "status": "active",
            "kind": "private",
            "protected": False,
            "created_at": at,
            "updated_at": at,
            **fields,
        }
    )
    sdk.world.images.add(image)
    return image.id


@pytest.fixture
def ims(sdk: Sdk) -> Any:
    return sdk.make(ImsClient)


def listed(ims: Any, **query: Any) -> list[str]:
    return [image.id for image in ims.list_images(ListImagesRequest(**query)).images]


def test_lists_with_filters_and_markers(sdk: Sdk, ims: Any) -> None:
    ids = [image_in(sdk, number) for number in range(5)]
    assert listed(ims, imagetype="private") == ids[::-1]
    assert listed(ims, imagetype="private", sort_key="created_at", sort_dir="asc") == ids
    first = listed(ims, imagetype="private", limit=2)
    second = listed(ims, imagetype="private", limit=2, marker=first[-1])
    assert [*first, *second, *listed(ims, imagetype="private", limit=2, marker=second[-1])] == ids[::-1]
    assert listed(ims, imagetype="private", marker=ids[0]) == []
    assert listed(ims, id=ids[3], enterprise_project_id="all_granted_eps") == [ids[3]]
    assert listed(ims, name="image 1") == [ids[1]]
    assert listed(ims, name="image", imagetype="private") == []
    assert listed(ims, id="702364883651395584") == []
    assert listed(ims, imagetype="private", created_at="gt:2026-11-02T12:03:00Z") == [ids[4]]
    assert len(listed(ims, imagetype="gold", protected=True, visibility="public")) == 2
    assert refused(lambda: listed(ims, sort_key="color"))[0] == 400


def test_an_image_as_it_is_shown(sdk: Sdk, ims: Any) -> None:
    image_id = image_in(sdk, 1, name="镜像 1", description="制作", instance_id="989e6391-43b5-49a7-a684-6c36e7ad714a")
    (in_list,) = ims.list_images(ListImagesRequest(id=image_id)).images
    shown = ims.glance_show_image(GlanceShowImageRequest(image_id=image_id))
    for image in (in_list, shown):
        assert (image.name, image.description, image.status, image.imagetype) == ("镜像 1", "制作", "active", "private")
        assert (image.os_type, image.protected, image.owner) == ("Windows", False, sdk.world.project_id)
        assert image.data_origin == "instance,989e6391-43b5-49a7-a684-6c36e7ad714a"
        assert image.created_at == "2026-11-02T12:01:00Z"
    missing = GlanceShowImageRequest(image_id="33ad552d-1149-471c-8190-ff6776174a00")
    assert refused(lambda: ims.glance_show_image(missing)) == (404, "IMG.0027")


def test_edits(sdk: Sdk, ims: Any) -> None:
    image_id = image_in(sdk, 1)

    def edit(op: str, path: str, value: str | None = None) -> Any:
        change = UpdateImageRequestBody(op=op, path=path, value=value)
        return ims.update_image(UpdateImageRequest(image_id=image_id, body=[change]))

    assert refused(lambda: edit("replace", "/__description", "new")) == (400, "IMG.0035")
    assert refused(lambda: edit("remove", "/__description")) == (400, "IMG.0035")
    assert edit("add", "/__description", "first").description == "first"
    assert edit("replace", "/__description", "second").description == "second"
    assert edit("replace", "/name", "ims_test").name == "ims_test"
    assert edit("remove", "/__description").description is None
    assert listed(ims, name="ims_test") == [image_id]
    assert refused(lambda: edit("replace", "/name", "")) == (400, "IMG.0002")
    sdk.world.images.get(image_id).status = "queued"  # type: ignore[union-attr]
    assert refused(lambda: edit("replace", "/name", "later")) == (400, "IMG.0046")


def test_deletes_and_quota(sdk: Sdk, ims: Any) -> None:
    def used() -> tuple[int, int]:
        (quota,) = (
            each for each in ims.show_image_quota(ShowImageQuotaRequest()).quotas.resources if each.type == "image"
        )
        return quota.used, quota.quota

    def delete(image_id: str) -> Any:
        return ims.glance_delete_image(GlanceDeleteImageRequest(image_id=image_id))

    image_id, protected = image_in(sdk, 1), image_in(sdk, 2, protected=True)
    assert used() == (2, 120)
    assert delete(image_id).status_code == 204
    assert used() == (1, 120)
    # Neither for what is gone nor for what never was an image does the answer say so.
    assert delete(image_id).status_code == delete("702364883651395584").status_code == 204
    assert refused(lambda: delete(protected)) == (403, "IMG.0028")
    assert refused(lambda: ims.glance_show_image(GlanceShowImageRequest(image_id=image_id))) == (404, "IMG.0027")


def test_its_exceptions(sdk: Sdk, ims: Any) -> None:
    sdk.faults.replace(["ims-flow-control=1"])
    image_id = image_in(sdk, 1)
    change = [UpdateImageRequestBody(op="replace", path="/name", value="x")]
    assert refused(lambda: ims.update_image(UpdateImageRequest(image_id=image_id, body=change))) == (400, "IMG.0060")
    sdk.faults.replace(["forbidden=1"])
    assert refused(lambda: ims.show_image_quota(ShowImageQuotaRequest())) == (403, "IMG.0026")
    sdk.faults.replace([])
    stranger = sdk.make(ImsClient, sdk.keys(project="b" * 32))
    assert refused(lambda: listed(stranger)) == (403, "APIGW.0310")

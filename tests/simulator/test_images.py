"""IMS, through HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def built(cloud: Cloud, name: str = "office-1") -> str:
    """An image that was built; the clock moves on by the length of a build."""
    cloud.build(name=name)
    cloud.clock.advance(cloud.world.build_time)
    return str(cloud.server()["image_id"])


def names(cloud: Cloud, query: str) -> list[str]:
    answer = cloud.get(f"/v2/cloudimages?{query}")
    assert answer.status_code == 200, answer.text
    return [image["name"] for image in answer.json()["images"]]


def test_images_are_filtered(cloud: Cloud) -> None:
    first, second = built(cloud, "镜像 1"), built(cloud, "镜像 2")
    assert names(cloud, "__imagetype=private") == ["镜像 2", "镜像 1"]
    assert len(names(cloud, "__imagetype=gold")) == 2
    assert names(cloud, f"id={first}") == ["镜像 1"]
    assert names(cloud, f"id={first}&name=x") == names(cloud, "id=702354472828968960") == []
    assert names(cloud, "name=%E9%95%9C%E5%83%8F%202") == ["镜像 2"]
    assert names(cloud, "name=%E9%95%9C%E5%83%8F") == []
    assert names(cloud, f"owner={cloud.world.project_id}&status=active&visibility=private&protected=FALSE") == [
        "镜像 2",
        "镜像 1",
    ]
    assert names(cloud, "status=saving") == names(cloud, "tag=a") == []
    assert names(cloud, "enterprise_project_id=b2e0a9c3-6a3f-4f0b-9f6a-0d3f2f0a7b11") == []
    assert names(cloud, "__imagetype=private&enterprise_project_id=all_granted_eps&sort_key=name&sort_dir=asc") == [
        "镜像 1",
        "镜像 2",
    ]
    created = cloud.get(f"/v2/images/{second}").json()["created_at"]
    wanted = {
        "gt": [],
        "gte": ["镜像 2"],
        "eq": ["镜像 2"],
        "lt": ["镜像 1"],
        "lte": ["镜像 2", "镜像 1"],
        "neq": ["镜像 1"],
    }
    assert {each: names(cloud, f"__imagetype=private&created_at={each}:{created}") for each in wanted} == wanted


@pytest.mark.parametrize(
    "query",
    ["limit=x", "sort_key=color", "sort_dir=up", "created_at=gt:now", "created_at=gt:2026-13-01T00:00:00Z", "marker=1"],
)
def test_queries_that_ims_refuses(cloud: Cloud, query: str) -> None:
    answer = cloud.get(f"/v2/cloudimages?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"].startswith("IMG.")


def test_pages_go_by_marker_and_tell_no_count(cloud: Cloud) -> None:
    for number in range(5):
        built(cloud, f"image-{number}")
    found: list[str] = []
    query = "__imagetype=private&limit=2"
    while True:
        page = cloud.get(f"/v2/cloudimages?{query}").json()
        assert set(page) == {"images"}
        if not page["images"]:
            break
        found += [image["name"] for image in page["images"]]
        query = f"__imagetype=private&limit=2&marker={page['images'][-1]['id']}"
    assert found == [f"image-{number}" for number in (4, 3, 2, 1, 0)]


def test_times_have_no_fraction_and_an_absent_description_is_missing(cloud: Cloud) -> None:
    image = cloud.get(f"/v2/images/{built(cloud)}").json()
    assert image["created_at"] == "2026-11-02T12:01:40Z"
    assert "__description" not in image
    assert image["__isregistered"] == "true"


def test_a_description_is_added_replaced_and_removed(cloud: Cloud) -> None:
    image_id = built(cloud)
    path = f"/v2/cloudimages/{image_id}"

    def patch(op: str, **value: object) -> tuple[int, object]:
        answer = cloud.send("PATCH", path, json=[{"op": op, "path": "/__description", **value}])
        return answer.status_code, answer.json().get("error", answer.json()).get(
            "code", answer.json().get("__description")
        )

    assert patch("replace", value="x") == (400, "IMG.0035")
    assert patch("remove") == (400, "IMG.0035")
    assert patch("add", value="一") == (200, "一")
    assert patch("replace", value="二") == (200, "二")
    assert patch("replace", value="<b>") == (400, "IMG.0004")
    assert patch("remove") == (200, None)


def test_a_rename_reaches_the_list_and_all_changes_or_none_are_made(cloud: Cloud) -> None:
    image_id = built(cloud)
    path = f"/v2/cloudimages/{image_id}"
    rename = {"op": "replace", "path": "/name", "value": "renamed"}
    bad = {"op": "replace", "path": "/status", "value": "active"}
    assert cloud.send("PATCH", path, json=[rename, bad]).status_code == 400
    assert names(cloud, "name=renamed") == []
    answer = cloud.send("PATCH", path, json=[rename])
    assert (answer.status_code, answer.json()["name"]) == (200, "renamed")
    assert (names(cloud, "name=renamed"), names(cloud, "name=office-1")) == (["renamed"], [])


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        [7],
        [{"op": "move", "path": "/name"}],
        [{"op": "replace"}],
        [{"op": "replace", "path": "/name", "value": " a"}],
    ],
)
def test_changes_that_ims_refuses(cloud: Cloud, body: object) -> None:
    answer = cloud.send("PATCH", f"/v2/cloudimages/{built(cloud)}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"].startswith("IMG.")


def test_only_active_private_images_can_be_changed(cloud: Cloud) -> None:
    image_id = built(cloud)
    change = [{"op": "replace", "path": "/name", "value": "a"}]
    cloud.send("PATCH", f"/_simulator/images/{image_id}", json={"status": "saving"})
    assert cloud.send("PATCH", f"/v2/cloudimages/{image_id}", json=change).json()["error"]["code"] == "IMG.0046"
    gold = cloud.get("/v2/cloudimages?__imagetype=gold").json()["images"][0]["id"]
    assert cloud.send("PATCH", f"/v2/cloudimages/{gold}", json=change).status_code == 403
    assert cloud.send("PATCH", "/v2/cloudimages/1", json=change).status_code == 404
    assert cloud.send("DELETE", f"/v2/images/{gold}").status_code == 403
    assert cloud.send("DELETE", f"/v2/images/{image_id}").status_code == 400


def test_a_deletion_says_204_whether_there_was_an_image_or_not(cloud: Cloud) -> None:
    image_id = built(cloud)
    for each in (image_id, image_id, "702354472828968960"):
        answer = cloud.send("DELETE", f"/v2/images/{each}")
        assert (answer.status_code, answer.content) == (204, b"")
    assert names(cloud, f"id={image_id}") == []
    gone = cloud.get(f"/v2/images/{image_id}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "IMG.0027")
    assert cloud.server()["image_id"] == image_id


def test_a_protected_image_is_not_deleted(cloud: Cloud) -> None:
    image_id = built(cloud)
    cloud.send("PATCH", f"/_simulator/images/{image_id}", json={"protected": True})
    answer = cloud.send("DELETE", f"/v2/images/{image_id}", json={"delete_backup": False})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "IMG.0028")


def test_the_quota_counts_private_images(cloud: Cloud, make_cloud: Callable[..., Cloud]) -> None:
    def quota(path: str) -> tuple[int, int]:
        resources = cloud.get(path).json()["quotas"]["resources"]
        (image,) = [each for each in resources if each["type"] == "image"]
        return image["used"], image["quota"]

    assert quota("/v1/cloudimages/quota") == (0, 50)
    image_id = built(cloud)
    assert quota(f"/v1/{cloud.world.project_id}/cloudimages/quota") == (1, 50)
    cloud.send("DELETE", f"/v2/images/{image_id}")
    cloud.send("PATCH", "/_simulator/world", json={"quota": 7})
    assert quota("/v1/cloudimages/quota") == (0, 7)
    cloud = make_cloud(200)
    assert quota("/v1/cloudimages/quota") == (0, 2000)

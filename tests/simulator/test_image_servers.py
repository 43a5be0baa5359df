"""Image servers and recreate-image, through HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def test_the_first_three_ids_are_fixed_and_a_seed_gives_the_same_world_again(make_cloud: Callable[..., Cloud]) -> None:
    first, again, other = make_cloud(9, seed=4), make_cloud(9, seed=4), make_cloud(9, seed=5)
    listed = first.get("image-servers").json()
    ids = [item["id"] for item in listed["items"]]
    assert ids[:3] == ["25b1dd14-0c84-4558-aa57-03a6c54b8e75", "697612196993040384", "627989489700044800"]
    assert [item["name"] for item in listed["items"]][:3] == ["office-template", "cad-template", "web-template"]
    assert any(not item["name"].isascii() for item in listed["items"])
    assert all(each.isdigit() and len(each) == 18 for each in ids[3:])
    assert listed == again.get("image-servers").json()
    assert ids[3:] != [item["id"] for item in other.get("image-servers").json()["items"]][3:]


def test_an_item_has_the_documented_fields_and_traps(cloud: Cloud) -> None:
    server = cloud.server()
    assert set(server) == {
        "id", "name", "description", "image_ref", "server_group_id", "app_group_id", "server_id", "instance_id",
        "image_id", "status", "authorize_accounts", "enterprise_project_id", "create_time", "update_time",
    }  # fmt: skip
    assert set(server["image_ref"]) == {"id", "image_type", "product_id", "spce_code"}
    assert str(server["server_id"]).startswith("wksapp-")
    assert server["server_id"] != server["id"] != server["instance_id"]
    assert (server["image_id"], server["app_group_id"]) == ("", "")
    assert cloud.get(f"image-servers/{server['server_id']}").status_code == 404


def test_the_list_is_paged_by_ten_and_filtered(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(25)
    assert [len(cloud.get(f"image-servers{query}").json()["items"]) for query in ("", "?limit=100", "?offset=20")] == [
        10,
        25,
        5,
    ]
    assert cloud.get("image-servers?offset=99").json() == {"count": 25, "items": []}
    found = cloud.get(f"image-servers?server_id={cloud.cad}").json()
    assert (found["count"], found["items"][0]["name"]) == (1, "cad-template")
    assert cloud.get("image-servers?server_name=-template&limit=100").json()["count"] > 3
    assert cloud.get("image-servers?server_name=cad").json()["count"] == 1
    assert cloud.get("image-servers?enterprise_project_id=0").json()["count"] == 25
    assert cloud.get("image-servers?enterprise_project_id=other").json()["count"] == 0


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=2147483648"])
def test_limits_of_paging_are_enforced(cloud: Cloud, query: str) -> None:
    answer = cloud.get(f"image-servers?{query}")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "WKS.00211807")


def test_a_build_goes_from_active_over_building_to_built(cloud: Cloud) -> None:
    job_id = cloud.build(description="for November", execute_sysprep=True)
    assert len(job_id) == 18
    assert (cloud.server()["status"], cloud.server()["image_id"]) == ("BUILDING", "")
    cloud.clock.advance(99.9)
    assert cloud.server()["status"] == "BUILDING"
    cloud.clock.advance(0.1)
    image_id = str(cloud.server()["image_id"])
    assert cloud.server()["status"] == "BUILT"
    image = cloud.get(f"/v2/images/{image_id}").json()
    assert (image["name"], image["__description"]) == ("office-1", "for November")
    assert image["__data_origin"] == f"instance,{cloud.server()['instance_id']}"
    cloud.build(name="office-2")
    cloud.clock.advance(1000)
    assert cloud.server()["image_id"] != image_id
    assert cloud.get(f"/v2/images/{image_id}").status_code == 200


def test_a_busy_server_is_a_conflict(cloud: Cloud) -> None:
    cloud.build()
    answer = cloud.recreate()
    assert (answer.status_code, answer.json()["error_code"]) == (409, "WKS.00211103")
    for status in ("CREATING", "ERROR", "DELETING", "null", "SOMETHING_NEW"):
        cloud.send("PATCH", f"/_simulator/servers/{cloud.cad}", json={"status": status})
        assert cloud.server(cloud.cad)["status"] == status
        assert cloud.recreate(cloud.cad).status_code == 409
    ledger = cloud.ledger()
    assert (ledger["received"], len(ledger["builds"])) == (7, 1)


def test_an_unknown_server_is_not_found(cloud: Cloud) -> None:
    for answer in (cloud.recreate("123"), cloud.get("image-servers/123")):
        assert (answer.status_code, answer.json()["error_code"]) == (404, "WKS.00211902")


@pytest.mark.parametrize("name", ["a b", "镜像 1", "龥", "_", ".", "-", "a" * 128])
def test_names_that_the_api_takes(cloud: Cloud, name: str) -> None:
    assert cloud.recreate(name=name).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["", " a", "a ", "a\n", "a\tb", "naïve", "имя", "٣", "１２", "㐀", "〇", "龦", "a" * 129, "a/b", "a:b", 7, None],
)
def test_names_that_the_api_refuses(cloud: Cloud, name: object) -> None:
    answer = cloud.send("POST", f"image-servers/{cloud.office}/actions/recreate-image", json={"name": name})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "WKS.00211807")
    assert cloud.server()["status"] == "ACTIVE"


@pytest.mark.parametrize("text", ["", "a ", "\ta", "\u3000", "\u2028", "😀", '& "', "x" * 1024])
def test_descriptions_that_the_api_takes(cloud: Cloud, text: str) -> None:
    assert cloud.recreate(description=text).status_code == 200


@pytest.mark.parametrize("text", [" ", " a", "a\r", "a\n", "<", ">", "x" * 1025, 7])
def test_descriptions_that_the_api_refuses(cloud: Cloud, text: object) -> None:
    assert cloud.recreate(description=text).status_code == 400


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"description": ""}', b'{"name": "\\ud800"}', b"\xff", b"[" * 99_999]
)
def test_bodies_that_are_no_request(cloud: Cloud, content: bytes) -> None:
    path = f"image-servers/{cloud.office}/actions/recreate-image"
    answer = cloud.send("POST", path, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "WKS.00211807")


def test_other_fields_are_checked_and_the_reserved_one_is_ignored(cloud: Cloud) -> None:
    assert cloud.recreate(execute_sysprep="true").status_code == 400
    assert cloud.recreate(enterprise_project_id="x" * 65).status_code == 400
    cloud.build(enterprise_project_id="b2e0a9c3-6a3f-4f0b-9f6a-0d3f2f0a7b11", unknown_field=[])
    cloud.clock.advance(100)
    assert cloud.get(f"/v2/images/{cloud.server()['image_id']}").json()["enterprise_project_id"] == "0"


def test_a_body_of_another_media_type_is_refused(cloud: Cloud) -> None:
    path = f"image-servers/{cloud.office}/actions/recreate-image"
    answer = cloud.send("POST", path, content=b'{"name": "a"}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["error_code"]) == (415, "WKS.00000415")


def test_a_server_is_renamed_by_patch(cloud: Cloud) -> None:
    path = f"image-servers/{cloud.office}"
    answer = cloud.send("PATCH", path, json={"name": "办公-1", "description": "new"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (cloud.server()["name"], cloud.server()["description"]) == ("办公-1", "new")
    for body in ({"name": "a b"}, {"name": ""}, {"name": "a" * 65}, {"description": "x" * 256}, {"name": 7}):
        assert cloud.send("PATCH", path, json=body).status_code == 400
    assert cloud.send("PATCH", "image-servers/1", json={"name": "a"}).status_code == 404


def test_a_full_quota_lets_the_job_fail_soon(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(quota=1)
    good, bad = cloud.build(), cloud.build(cloud.cad, "cad-1")
    cloud.clock.advance(10)
    assert (cloud.job(good)["status"], cloud.job(bad)["status"]) == ("RUNNING", "FAILED")
    (sub_job,) = cloud.sub_jobs("&status=FAILED")
    assert sub_job["job_execute_info"]["error_code"] == "IMG.0015"
    assert sub_job["job_resource_info"] == {"resource_id": "", "resource_name": "cad-1"}
    assert (cloud.server(cloud.cad)["status"], cloud.server(cloud.cad)["image_id"]) == ("BUILT", "")

"""What tests ask of the simulator itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud

RECREATE = "POST /v1/{project_id}/image-servers/{server_id}/actions/recreate-image"


def test_the_ledger_tells_what_came_in(cloud: Cloud) -> None:
    job_id = cloud.build()
    cloud.recreate(), cloud.recreate(name=""), cloud.recreate("1"), cloud.get("/nothing")
    cloud.send("POST", f"image-servers/{cloud.cad}/actions/recreate-image", json={"name": "a"}, token="wrong")
    assert cloud.ledger() == {
        "received": 5,
        "builds": [
            {"server_id": cloud.office, "name": "office-1", "job_id": job_id, "at": "2026-11-02T12:00:00.120000Z"}
        ],
        "requests": {"POST /v3/auth/tokens": 1, RECREATE: 5, "(no such API)": 1},
    }


def test_servers_change_behind_our_back(cloud: Cloud) -> None:
    path = f"/_simulator/servers/{cloud.office}"
    assert cloud.send("PATCH", path, json={"status": "BUILT", "image_id": "some-image", "name": "x"}).status_code == 204
    server = cloud.server()
    assert (server["status"], server["image_id"], server["name"]) == ("BUILT", "some-image", "x")
    assert cloud.send("DELETE", path).status_code == 204
    assert cloud.get(f"image-servers/{cloud.office}").status_code == 404
    assert cloud.get("image-servers").json()["count"] == 2
    assert cloud.send("DELETE", path).status_code == cloud.send("PATCH", path, json={}).status_code == 404


def test_a_server_that_is_taken_away_leaves_its_build_going(cloud: Cloud) -> None:
    job_id = cloud.build()
    cloud.send("DELETE", f"/_simulator/servers/{cloud.office}")
    cloud.clock.advance(100)
    assert cloud.job(job_id)["status"] == "SUCCESS"
    assert len(cloud.get("/v2/cloudimages?name=office-1").json()["images"]) == 1


def test_images_change_and_go_behind_our_back(cloud: Cloud) -> None:
    cloud.build()
    cloud.clock.advance(100)
    image_id = cloud.server()["image_id"]
    path = f"/_simulator/images/{image_id}"
    change = {"name": "other", "description": "new", "protected": True, "status": "queued"}
    assert cloud.send("PATCH", path, json=change).status_code == 204
    image = cloud.get(f"/v2/images/{image_id}").json()
    assert (image["name"], image["__description"], image["protected"], image["status"]) == (
        "other",
        "new",
        True,
        "queued",
    )
    assert cloud.send("DELETE", path).status_code == 204
    assert cloud.get(f"/v2/images/{image_id}").status_code == 404
    assert cloud.send("DELETE", path).status_code == cloud.send("PATCH", path, json={}).status_code == 404


def test_an_image_is_made_behind_our_back(cloud: Cloud) -> None:
    made = cloud.send("POST", "/_simulator/images", json={"name": "by hand"})
    assert made.status_code == 201
    image = cloud.get(f"/v2/images/{made.json()['id']}").json()
    assert (image["name"], image["__imagetype"], image["status"], image["protected"]) == (
        "by hand",
        "private",
        "active",
        False,
    )
    assert "__description" not in image
    assert image["created_at"] == "2026-11-02T12:00:00Z"
    body = {"name": "old", "description": "of last year", "protected": True, "created_at": "2025-11-02T14:00:00+02:00"}
    old = cloud.send("POST", "/_simulator/images", json=body).json()["id"]
    image = cloud.get(f"/v2/images/{old}").json()
    assert (image["__description"], image["protected"], image["created_at"]) == (
        "of last year",
        True,
        "2025-11-02T12:00:00Z",
    )
    listed = cloud.get("/v2/cloudimages?__imagetype=private").json()["images"]
    assert [each["id"] for each in listed] == [made.json()["id"], old]
    assert cloud.get("/v1/cloudimages/quota").json()["quotas"]["resources"][0]["used"] == 2
    assert cloud.ledger()["builds"] == []


def test_the_world_changes(cloud: Cloud) -> None:
    assert cloud.send("PATCH", "/_simulator/world", json={"build_time": 5, "quota": 2}).status_code == 204
    job_id = cloud.build()
    cloud.clock.advance(5)
    assert cloud.job(job_id)["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "servers/25b1dd14-0c84-4558-aa57-03a6c54b8e75", {"status": 7}),
        ("PATCH", "servers/25b1dd14-0c84-4558-aa57-03a6c54b8e75", {"other": "x"}),
        ("PATCH", "servers/25b1dd14-0c84-4558-aa57-03a6c54b8e75", []),
        ("POST", "images", {}),
        ("POST", "images", {"name": ""}),
        ("POST", "images", {"name": "a", "kind": "gold"}),
        ("POST", "images", {"name": "a", "created_at": "yesterday"}),
        ("POST", "images", {"name": "a", "created_at": "2026-11-02T12:00:00"}),
        ("POST", "images", {"name": "a", "created_at": "9999-12-31T23:59:59-12:00"}),
        ("PATCH", "world", {"build_time": True}),
        ("PATCH", "world", {"build_time": -1}),
        ("PATCH", "world", {"quota": 1.5}),
        ("POST", "faults", {"faults": ["nonsense"]}),
        ("POST", "faults", {"faults": [7]}),
        ("POST", "hold", {"when": "sometimes"}),
    ],
)
def test_requests_that_make_no_sense_say_why(cloud: Cloud, method: str, path: str, body: object) -> None:
    answer = cloud.send(method, f"/_simulator/{path}", json=body)
    assert (answer.status_code, set(answer.json())) == (400, {"error"})


def test_faults_are_replaced_as_a_whole_or_not_at_all(cloud: Cloud) -> None:
    cloud.faults("lag=1:3", "throttle=0.5")
    assert cloud.send("POST", "/_simulator/faults", json={"faults": ["lag=1", "nonsense"]}).status_code == 400
    assert cloud.get("/_simulator/faults").json() == {"faults": ["lag=1:3", "throttle=0.5"]}
    assert cloud.send("POST", "/_simulator/faults", json={"seed": 5}).json() == {"faults": []}


def test_only_this_machine_may_ask(cloud: Cloud) -> None:
    for client in (("192.0.2.7", 1), ("testclient", 1)):
        answer = cloud.send("GET", "/_simulator/ledger", client=client)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
    assert cloud.send("GET", "/_simulator/ledger", client=("::1", 1)).status_code == 200
    assert cloud.send("GET", "image-servers", client=("192.0.2.7", 1)).status_code == 200


@pytest.mark.parametrize(("when", "builds"), [("after", 2), ("before", 0)])
def test_requests_are_held_until_they_are_released(cloud: Cloud, when: str, builds: int) -> None:
    async def scenario() -> list[int]:
        await cloud.asend("POST", "/_simulator/hold", json={"only": "recreate-image", "when": when})
        recreate = [
            asyncio.create_task(
                cloud.asend("POST", f"image-servers/{each}/actions/recreate-image", json={"name": f"i-{each}"})
            )
            for each in (cloud.office, cloud.cad)
        ]
        while (await cloud.asend("GET", "/_simulator/hold")).json() != {"held": 2}:  # noqa: ASYNC110 - asked from outside
            await asyncio.sleep(0)
        assert (await cloud.asend("GET", "image-servers")).status_code == 200
        assert len((await cloud.asend("GET", "/_simulator/ledger")).json()["builds"]) == builds
        assert not any(task.done() for task in recreate)
        await cloud.asend("POST", "/_simulator/release")
        return [(await task).status_code for task in recreate]

    assert asyncio.run(scenario()) == [200, 200]
    assert cloud.get("/_simulator/hold").json() == {"held": 0}
    assert len(cloud.ledger()["builds"]) == 2

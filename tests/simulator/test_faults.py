"""Every fault, through HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from reconciler.simulator import FAULT_KINDS, Faults, SimulatorError

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud

RECREATE = "POST /v1/{project_id}/image-servers/{server_id}/actions/recreate-image"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("throttle=0.25", "throttle=0.25"),
        ("throttle=1:60", "throttle=1:60"),
        (" late-effect=1:0.3@recreate-image*2 ", "late-effect=1:0.3@recreate-image*2"),
        ("drop-after=1@POST /v1", "drop-after=1@POST /v1"),
        ("latency=2.5", "latency=2.5"),
    ],
)
def test_a_fault_is_read_and_shown(text: str, shown: str) -> None:
    assert list(Faults([text])) == [shown]


@pytest.mark.parametrize(
    "text",
    ["", "throttle", "throttle=", "throttle=x", "throttle=1.1", "throttle=-1", "throttle=nan", "throttle=1:",
     "throttle=1.2.3", "no-such=1", "job-failed=1:3", "latency=1:2", "latency=1e9", "lag=1:9999999", "lag=1*x"],
)  # fmt: skip
def test_a_fault_that_cannot_be_says_what_is_allowed(text: str) -> None:
    with pytest.raises(
        SimulatorError, match=r"KIND=RATE|there are throttle|(is|are) 0 to|no number|latency=SECONDS|takes no"
    ):
        Faults([text])


def test_the_same_seed_gives_the_same_faults_whatever_else_is_asked() -> None:
    first, second = Faults(["throttle=0.5", "lag=0.5"], seed=3), Faults(["throttle=0.5"], seed=3)
    rolls = []
    for _ in range(50):
        first.strike("lag", "GET /")
        rolls.append((first.strike("throttle", "GET /") is None, second.strike("throttle", "GET /") is None))
    assert all(one is other for one, other in rolls)
    assert {one for one, _ in rolls} == {True, False}
    other = Faults(["throttle=0.5"], seed=4)
    assert [other.strike("throttle", "GET /") is None for _ in range(50)] != [one for one, _ in rolls]


def test_a_rate_of_0_never_strikes_and_times_end_a_fault(cloud: Cloud) -> None:
    cloud.faults(*(f"{kind}=0" for kind in FAULT_KINDS))
    cloud.build()
    cloud.faults("throttle=1*2")
    assert [cloud.get("image-servers").status_code for _ in range(4)] == [429, 429, 200, 200]


def test_a_fault_can_be_narrowed_to_an_operation(cloud: Cloud) -> None:
    cloud.faults("throttle=1@recreate-image")
    assert cloud.get("image-servers").status_code == 200
    assert cloud.recreate().status_code == 429


def test_throttle_names_the_policy_and_the_window(cloud: Cloud) -> None:
    cloud.faults("throttle=1:60")
    answer = cloud.recreate()
    assert (answer.status_code, answer.json()["error_code"]) == (429, "APIGW.0308")
    assert "policy user over ratelimit,limit:200,time:60 second" in answer.json()["error_msg"]
    assert "Retry-After" not in answer.headers
    cloud.faults()
    assert cloud.server()["status"] == "ACTIVE"


def test_error_5xx_has_the_statuses_and_the_bodies_of_a_gateway(cloud: Cloud) -> None:
    cloud.faults("error-5xx=1")
    answers = [cloud.recreate() for _ in range(40)]
    assert {answer.status_code for answer in answers} == {500, 502, 503, 504}
    for answer in answers:
        if answer.status_code == 502:
            assert answer.text.startswith("<html>")
        else:
            assert answer.json()["error_code"].startswith("APIGW.")
    cloud.faults()
    assert cloud.server()["status"] == "ACTIVE"
    assert cloud.ledger()["builds"] == []
    assert cloud.ledger()["received"] == 40


def test_latency_delays_every_request(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    slept = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await slept(0)

    cloud.faults("latency=1.5", "latency=0.5@image-servers")
    monkeypatch.setattr("reconciler.simulator.app.asyncio.sleep", sleep)
    cloud.get("image-servers")
    cloud.get("/v2/cloudimages")
    cloud.get("/_simulator/ledger")
    assert waited == [2.0, 1.5]


@pytest.mark.parametrize(("kind", "status"), [("drop-before", "ACTIVE"), ("drop-after", "BUILDING")])
def test_a_lost_connection(cloud: Cloud, kind: str, status: str) -> None:
    cloud.faults(f"{kind}=1@recreate-image")
    with pytest.raises(ConnectionResetError):
        cloud.recreate()
    assert cloud.server()["status"] == status
    assert cloud.ledger()["received"] == 1


def test_late_effect_says_504_and_builds_later(cloud: Cloud) -> None:
    cloud.faults("late-effect=1:30*1")
    answer = cloud.recreate()
    assert (answer.status_code, answer.json()["error_code"]) == (504, "APIGW.0201")
    cloud.clock.advance(29)
    assert (cloud.server()["status"], cloud.sub_jobs()) == ("ACTIVE", [])
    cloud.clock.advance(1)
    assert cloud.server()["status"] == "BUILDING"
    (sub_job,) = cloud.sub_jobs()
    assert sub_job["begin_time"] == "2026-11-02T12:00:30.2Z"
    cloud.clock.advance(100)
    assert cloud.server()["status"] == "BUILT"


def test_a_late_effect_on_a_busy_server_is_lost(cloud: Cloud) -> None:
    cloud.faults("late-effect=1:30*2")
    assert [cloud.recreate(name=f"image-{number}").status_code for number in range(3)] == [504, 504, 200]
    assert cloud.recreate(name="").status_code == 400
    cloud.clock.advance(1000)
    assert [build["name"] for build in cloud.ledger()["builds"]] == ["image-2"]


def test_lag_hides_a_build_for_a_while(cloud: Cloud) -> None:
    before = cloud.server()
    cloud.faults("lag=1:30")
    job_id = cloud.build()
    assert cloud.server() == before
    assert cloud.sub_jobs() == cloud.sub_jobs("&status=RUNNING") == cloud.sub_jobs(f"&job_id={job_id}") == []
    assert cloud.get(f"image-server-jobs/{job_id}").status_code == 404
    assert cloud.get("image-server-jobs?job_type=CREATE_SERVER_IMAGE").json() == {"count": 0, "items": []}
    assert cloud.get("image-server-sub-jobs/actions/count").json() == {"count": 0}
    assert cloud.recreate().status_code == 409
    cloud.clock.advance(30)
    assert cloud.server()["status"] == "BUILDING"
    assert cloud.job(job_id)["status"] == "RUNNING"


def test_a_lag_longer_than_the_build_hides_its_end_too(cloud: Cloud) -> None:
    cloud.faults("lag=1:500*1")
    job_id = cloud.build()
    other = cloud.build(cloud.cad, "cad-1")
    cloud.clock.advance(499)
    assert [item["job_id"] for item in cloud.sub_jobs()] == [other]
    assert (cloud.server()["status"], cloud.server()["image_id"]) == ("ACTIVE", "")
    cloud.clock.advance(1)
    assert cloud.job(job_id)["status"] == "SUCCESS"
    assert cloud.server()["status"] == "BUILT"


def test_accept_while_building_lets_two_builds_run(cloud: Cloud) -> None:
    first = cloud.build(name="one")
    cloud.faults("accept-while-building=1")
    cloud.clock.advance(50)
    second = cloud.build(name="two")
    cloud.clock.advance(50)
    assert (cloud.job(first)["status"], cloud.job(second)["status"]) == ("SUCCESS", "RUNNING")
    assert cloud.server()["status"] == "BUILDING"
    cloud.clock.advance(50)
    assert cloud.server()["status"] == "BUILT"
    assert cloud.get(f"/v2/images/{cloud.server()['image_id']}").json()["name"] == "two"
    cloud.send("PATCH", f"/_simulator/servers/{cloud.office}", json={"status": "ERROR"})
    assert cloud.recreate().status_code == 409


def test_blank_resource_name_hides_the_name_until_the_end(cloud: Cloud) -> None:
    cloud.faults("blank-resource-name=1")
    cloud.build()
    assert cloud.sub_jobs()[0]["job_resource_info"] == {"resource_id": "", "resource_name": ""}
    cloud.clock.advance(100)
    assert cloud.sub_jobs()[0]["job_resource_info"]["resource_name"] == "office-1"


def test_refuse_job_list_leaves_only_single_jobs(cloud: Cloud) -> None:
    cloud.faults("refuse-job-list=1")
    job_id = cloud.build()
    for path in ("image-server-jobs", "image-server-sub-jobs"):
        answer = cloud.get(f"{path}?job_type=CREATE_SERVER_IMAGE")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")
    assert cloud.job(job_id)["status"] == "RUNNING"


def test_job_failed_says_why_at_its_end(cloud: Cloud) -> None:
    cloud.faults("job-failed=1")
    job_id = cloud.build()
    assert cloud.job(job_id)["sub_jobs"][0]["job_execute_info"]["error_code"] == ""
    cloud.clock.advance(100)
    job = cloud.job(job_id)
    assert job["status"] == "FAILED"
    assert job["sub_jobs"][0]["job_execute_info"]["error_code"].startswith("WKS.")
    assert (cloud.server()["status"], cloud.server()["image_id"]) == ("BUILT", "")
    assert len(cloud.get("/v2/cloudimages?__imagetype=private").json()["images"]) == 0


def test_job_stuck_never_ends(cloud: Cloud) -> None:
    cloud.faults("job-stuck=1")
    job_id = cloud.build()
    cloud.clock.advance(1e7)
    cloud.login()
    assert cloud.job(job_id)["status"] == "RUNNING"
    assert cloud.server()["status"] == "BUILDING"


@pytest.mark.parametrize(("text", "ends"), [("job-abnormal=1", False), ("job-abnormal=1:40", True)])
def test_job_abnormal_concerns_the_sub_job_and_may_pass(cloud: Cloud, text: str, ends: bool) -> None:
    cloud.faults(text)
    job_id = cloud.build()
    cloud.clock.advance(49)
    assert cloud.sub_jobs()[0]["status"] == "RUNNING"
    cloud.clock.advance(1)
    assert [item["job_id"] for item in cloud.sub_jobs("&status=ABNORMAL")] == [job_id]
    assert cloud.sub_jobs("&status=RUNNING") == []
    assert cloud.job(job_id)["status"] == "RUNNING"
    cloud.clock.advance(90)
    assert (cloud.job(job_id)["status"] == "SUCCESS") is ends


@pytest.mark.parametrize(("text", "seconds"), [("job-waiting=1", 100), ("job-waiting=1:20", 20)])
def test_job_waiting_waits_and_then_runs_its_whole_time(cloud: Cloud, text: str, seconds: float) -> None:
    cloud.faults(text)
    job_id = cloud.build()
    assert [item["job_id"] for item in cloud.sub_jobs("&status=WAITING")] == [job_id]
    assert (cloud.job(job_id)["status"], cloud.server()["status"]) == ("WAITING", "BUILDING")
    cloud.clock.advance(seconds)
    assert cloud.job(job_id)["status"] == "RUNNING"
    cloud.clock.advance(100)
    assert cloud.job(job_id)["status"] == "SUCCESS"


def test_faults_of_the_start_are_in_force(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    faults = Faults(["throttle=1"])
    again = type(cloud)(cloud.world, cloud.clock, faults)
    again.token = cloud.token
    assert again.get("image-servers").status_code == 429
    faults.replace([])
    assert again.get("image-servers").status_code == 200

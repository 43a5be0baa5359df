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
        ("rate-limit=3", "rate-limit=3"),
        ("rate-limit=10:0.5@image-servers", "rate-limit=10:0.5@image-servers"),
        ("garbage=1", "garbage=1"),
        ("garbage=0.5:gzip-bomb@GET*2", "garbage=0.5:gzip-bomb@GET*2"),
    ],
)
def test_a_fault_is_read_and_shown(text: str, shown: str) -> None:
    assert list(Faults([text])) == [shown]


@pytest.mark.parametrize(
    "text",
    ["", "throttle", "throttle=", "throttle=x", "throttle=1.1", "throttle=-1", "throttle=nan", "throttle=1:",
     "throttle=1.2.3", "no-such=1", "job-failed=1:3", "latency=1:2", "latency=1e9", "lag=1:9999999", "lag=1*x",
     "lag=1:soon", "lag=1:inf", "lag=1:-1", "rate-limit=0", "rate-limit=1.5", "rate-limit=3:x", "garbage=1:3",
     "garbage=1:none", "garbage=2:html"],
)  # fmt: skip
def test_a_fault_that_cannot_be_says_what_is_allowed(text: str) -> None:
    with pytest.raises(
        SimulatorError,
        match=r"KIND=RATE|there are:|(is|are) 0 to|no number|latency=SECONDS|takes (no|a whole)",
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
    # A limit of no requests is not a rate.
    cloud.faults(*(f"{kind}=0" for kind in FAULT_KINDS if kind != "rate-limit"))
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


@pytest.mark.parametrize(
    ("fault", "header"),
    [
        ("throttle-retry-after=1", "1"),
        ("throttle-retry-after=1:90", "90"),
        ("throttle-retry-date=1:90", "Mon, 02 Nov 2026 12:01:30 GMT"),
        ("throttle-bare=1", None),
    ],
)
def test_other_ways_to_say_how_long_to_wait(cloud: Cloud, fault: str, header: str | None) -> None:
    cloud.faults(fault)
    answer = cloud.recreate()
    assert (answer.status_code, answer.json()["error_code"]) == (429, "APIGW.0308")
    assert answer.headers.get("Retry-After") == header
    assert "time:" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert cloud.ledger()["builds"] == []


def test_a_rate_limit_counts_and_begins_again(cloud: Cloud) -> None:
    cloud.faults("rate-limit=3:60")
    assert [cloud.get("image-servers").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert "policy user over ratelimit,limit:3,time:60 second" in cloud.recreate().json()["error_msg"]
    # Nobody is a user who has yet to sign in, and the simulator's own operations are not the cloud's.
    assert cloud.login().status_code == 201
    assert cloud.ledger()["builds"] == []
    cloud.clock.advance(59.9)
    assert cloud.get("/v2/cloudimages").status_code == 429
    cloud.clock.advance(0.1)
    assert [cloud.get("image-servers").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_a_rate_limit_of_one_operation(cloud: Cloud) -> None:
    cloud.faults("rate-limit=1:60@recreate-image")
    assert [cloud.recreate().status_code, cloud.recreate(cloud.cad).status_code] == [200, 429]
    assert [cloud.get("image-servers").status_code for _ in range(3)] == [200, 200, 200]


def test_ims_has_a_flow_control_of_its_own(cloud: Cloud) -> None:
    cloud.faults("ims-flow-control=1*1")
    assert cloud.get("image-servers").status_code == 200
    answer = cloud.get("/v2/cloudimages")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "IMG.0060")
    assert cloud.get("/v2/cloudimages").status_code == 200


def test_forbidden_has_the_shape_of_the_service(cloud: Cloud) -> None:
    cloud.faults("forbidden=1")
    assert cloud.recreate().json()["error_code"] == "WKS.00081102"
    assert cloud.get("/v1/cloudimages/quota").json()["error"]["code"] == "IMG.0026"
    assert cloud.get("/v3/projects").json()["error"]["code"] == 403
    assert cloud.ledger()["builds"] == []


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


@pytest.mark.parametrize(("status", "told"), [("ROLLBACK", "rolled back"), ("ABORTING", "cancelled")])
@pytest.mark.parametrize(("seconds", "ends_after"), [("", 100), (":300", 350)])
def test_a_sub_job_in_trouble_ends_in_failure(
    cloud: Cloud, status: str, told: str, seconds: str, ends_after: float
) -> None:
    cloud.faults(f"job-{status.lower()}=1{seconds}")
    job_id = cloud.build()
    cloud.clock.advance(50)
    job = cloud.job(job_id)
    assert (job["status"], job["sub_jobs"][0]["status"]) == ("RUNNING", status)
    assert [item["job_id"] for item in cloud.sub_jobs(f"&status={status}")] == [job_id]
    cloud.clock.advance(ends_after - 50.1)
    assert cloud.job(job_id)["status"] == "RUNNING"
    cloud.clock.advance(0.1)
    job = cloud.job(job_id)
    assert (job["status"], job["sub_jobs"][0]["status"]) == ("FAILED", "FAILED")
    assert told in job["sub_jobs"][0]["job_execute_info"]["error_message"]
    assert (cloud.server()["status"], cloud.server()["image_id"]) == ("BUILT", "")


def test_job_unknown_status_is_found_by_no_filter(cloud: Cloud) -> None:
    cloud.faults("job-unknown-status=1:20")
    job_id = cloud.build()
    assert cloud.job(job_id)["status"] == cloud.sub_jobs()[0]["status"] == "PREPARING"
    assert cloud.sub_jobs("&status=RUNNING") == cloud.sub_jobs("&status=WAITING") == []
    assert cloud.get("image-server-sub-jobs?job_type=&status=PREPARING").status_code == 400
    cloud.clock.advance(20)
    assert cloud.job(job_id)["status"] == "RUNNING"
    cloud.clock.advance(100)
    assert cloud.job(job_id)["status"] == "SUCCESS"


def image_of(cloud: Cloud) -> str:
    cloud.build()
    cloud.clock.advance(cloud.world.build_time)
    return str(cloud.server()["image_id"])


def test_hide_windows_images_leaves_only_the_single_look(cloud: Cloud) -> None:
    image_id = image_of(cloud)
    cloud.faults("hide-windows-images=1")
    for query in ("", f"?id={image_id}", "?name=office-1", "?__imagetype=private"):
        assert cloud.get(f"/v2/cloudimages{query}").json() == {"images": []}
    assert cloud.get(f"/v2/images/{image_id}").json()["name"] == "office-1"
    assert cloud.get("/v1/cloudimages/quota").json()["quotas"]["resources"][0]["used"] == 1


def test_delete_lag_shows_an_image_that_is_gone(cloud: Cloud) -> None:
    image_id = image_of(cloud)
    cloud.faults("delete-lag=1:30")
    path = f"/v2/images/{image_id}"
    assert cloud.send("DELETE", path).status_code == 204
    cloud.clock.advance(20)
    # Asked once more, it does not begin again.
    assert cloud.send("DELETE", path).status_code == 204
    assert cloud.get(path).json()["status"] == "active"
    assert [image["id"] for image in cloud.get(f"/v2/cloudimages?id={image_id}").json()["images"]] == [image_id]
    assert cloud.get("/v1/cloudimages/quota").json()["quotas"]["resources"][0]["used"] == 1
    cloud.clock.advance(10)
    assert cloud.get(path).status_code == 404
    assert cloud.get(f"/v2/cloudimages?id={image_id}").json() == {"images": []}
    assert cloud.get("/v1/cloudimages/quota").json()["quotas"]["resources"][0]["used"] == 0


def test_a_late_deletion_may_be_overtaken(cloud: Cloud) -> None:
    image_id = image_of(cloud)
    cloud.faults("delete-lag=1:30*1")
    assert cloud.send("DELETE", f"/v2/images/{image_id}").status_code == 204
    assert cloud.send("DELETE", f"/v2/images/{image_id}").status_code == 204
    assert cloud.get(f"/v2/images/{image_id}").status_code == 404
    cloud.clock.advance(30)
    assert cloud.get("image-servers").status_code == 200


def test_faults_of_the_start_are_in_force(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    faults = Faults(["throttle=1"])
    again = type(cloud)(cloud.world, cloud.clock, faults)
    again.token = cloud.token
    assert again.get("image-servers").status_code == 429
    faults.replace([])
    assert again.get("image-servers").status_code == 200

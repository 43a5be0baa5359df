"""Jobs and sub jobs, through HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def test_a_job_and_its_sub_job_over_their_life(cloud: Cloud) -> None:
    job_id = cloud.build(name="镜像 1")
    job = cloud.job(job_id)
    assert (job["id"], job["status"], job["sub_jobs_total"], job["end_time"]) == (job_id, "RUNNING", 1, "")
    (sub_job,) = job["sub_jobs"]
    assert sub_job["job_resource_info"] == {"resource_id": "", "resource_name": "镜像 1"}
    assert sub_job["job_execute_info"] == {"error_code": "", "error_message": ""}
    assert (sub_job["job_id"], sub_job["project_id"]) == (job_id, cloud.world.project_id)
    assert len(sub_job["id"]) == 18
    cloud.clock.advance(100)
    job = cloud.job(job_id)
    (sub_job,) = job["sub_jobs"]
    assert (job["status"], sub_job["status"]) == ("SUCCESS", "SUCCESS")
    assert sub_job["job_resource_info"]["resource_id"] == cloud.server()["image_id"]
    assert cloud.sub_jobs() == [sub_job]
    times = [job["begin_time"], sub_job["begin_time"], sub_job["end_time"], job["end_time"]]
    assert sorted(datetime.fromisoformat(str(each)) for each in times) == [
        datetime.fromisoformat(str(each)) for each in times
    ]


def test_times_have_a_variable_number_of_fraction_digits(cloud: Cloud) -> None:
    found = set()
    for server_id, step in ((cloud.office, 0.88), (cloud.cad, 0.003), ("627989489700044800", 0)):
        found.add(re.sub(r"[0-9]", "0", str(cloud.job(cloud.build(server_id))["begin_time"])))
        cloud.clock.advance(step)
    assert found == {"0000-00-00T00:00:00.00Z", "0000-00-00T00:00:00Z", "0000-00-00T00:00:00.000Z"}


def test_lists_are_paged_by_ten_latest_first_and_filtered(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud(30)
    servers = list(cloud.world.servers)
    ids = [cloud.build(each, f"image-{number}") for number, each in enumerate(servers[:12])]
    cloud.clock.advance(100)
    ids += [cloud.build(each, f"image-{number}") for number, each in enumerate(servers[12:15], start=12)]
    for path in ("image-server-jobs", "image-server-sub-jobs"):
        key = "id" if path == "image-server-jobs" else "job_id"

        def listed(query: str, path: str = path, key: str = key) -> tuple[int, list[str]]:
            page = cloud.get(f"{path}?job_type=CREATE_SERVER_IMAGE{query}").json()
            return page["count"], [item[key] for item in page["items"]]

        assert listed("") == (15, ids[::-1][:10])
        assert listed("&offset=10") == (15, ids[::-1][10:])
        assert listed("&limit=100") == (15, ids[::-1])
        assert listed("&limit=100&status=RUNNING") == (3, ids[:11:-1])
        assert listed("&limit=2&offset=1&status=SUCCESS") == (12, ids[9:11][::-1])
        assert listed("&status=FAILED") == (0, [])
        assert cloud.get(f"{path}?job_type=").json()["count"] == 15
        assert cloud.get(f"{path}?job_type=CREATE_SERVER").json() == {"count": 0, "items": []}
        for query in ("", "?job_type=BUILD_IMAGE", "?job_type=CREATE_SERVER_IMAGE&status=DONE",
                      "?job_type=CREATE_SERVER_IMAGE&limit=101"):  # fmt: skip
            answer = cloud.get(path + query)
            assert (answer.status_code, answer.json()["error_code"]) == (400, "WKS.00211807")
    assert [item["job_id"] for item in cloud.sub_jobs(f"&job_id={ids[0]}")] == [ids[0]]
    assert cloud.sub_jobs(f"&job_id={ids[0]}&status=RUNNING") == []
    assert cloud.sub_jobs("&job_id=1") == []


def test_a_job_list_carries_no_image_and_no_server(cloud: Cloud) -> None:
    cloud.build()
    (item,) = cloud.get("image-server-jobs?job_type=CREATE_SERVER_IMAGE").json()["items"]
    assert set(item) == {"id", "job_type", "begin_time", "end_time", "status", "sub_jobs_total"}


def test_sub_jobs_are_counted(cloud: Cloud) -> None:
    job_id = cloud.build()
    path = "image-server-sub-jobs/actions/count"
    counts = {
        "": 1, "?status=RUNNING": 1, "?status=SUCCESS": 0, "?job_type=CREATE_SERVER,CREATE_SERVER_IMAGE": 1,
        "?job_type=DELETE_SERVER": 0, f"?job_id={job_id}": 1, "?job_id=1": 0, f"?job_id={job_id}&status=FAILED": 0,
    }  # fmt: skip
    assert {query: cloud.get(path + query).json()["count"] for query in counts} == counts


def test_an_unknown_job_is_not_found(cloud: Cloud) -> None:
    answer = cloud.get("image-server-jobs/702354472828968960")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "WKS.00211902")


def test_sub_jobs_are_deleted_once_they_ended(cloud: Cloud) -> None:
    job_id = cloud.build()
    path, ids = "image-server-sub-jobs/actions/batch-delete", [cloud.sub_jobs()[0]["id"], "1"]
    assert cloud.send("PATCH", path, json={"items": ids}).status_code == 409
    cloud.clock.advance(100)
    answer = cloud.send("PATCH", path, json={"items": ids})
    assert (answer.status_code, answer.content) == (200, b"")
    assert cloud.sub_jobs() == cloud.sub_jobs("&status=SUCCESS") == []
    assert cloud.get(f"image-server-jobs/{job_id}").status_code == 404
    assert cloud.get(f"/v2/images/{cloud.server()['image_id']}").status_code == 200
    assert len(cloud.ledger()["builds"]) == 1


@pytest.mark.parametrize("items", [[], ["1"] * 2, [str(each) for each in range(21)], [1], "1", None])
def test_a_deletion_takes_1_to_20_unique_ids(cloud: Cloud, items: object) -> None:
    assert cloud.send("PATCH", "image-server-sub-jobs/actions/batch-delete", json={"items": items}).status_code == 400

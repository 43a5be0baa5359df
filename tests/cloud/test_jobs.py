"""One tick: how many requests, and whom it believes."""

from collections.abc import Callable, Collection
from urllib.parse import parse_qs

import httpx
import pytest

from reconciler.cloud.jobs import look_up_jobs
from reconciler.cloud.observe import observe
from reconciler.errors import AuthenticationFailed, PermissionDenied, ServiceFailed
from reconciler.model.observed import Quota
from tests.cloud.conftest import Cloud, job, ok, refused, server, sub_job

pytestmark = pytest.mark.anyio


class Images:
    """IMS with images by id, of which `hidden` ones are shown by id only."""

    def __init__(self, names: dict[str, str], hidden: Collection[str] = ()) -> None:
        self.names = names
        self.hidden = hidden

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/cloudimages/quota":
            return ok({"quotas": {"resources": [{"type": "image", "used": 2, "quota": 50}]}})
        images = {image_id: {"id": image_id, "name": name, "status": "active"} for image_id, name in self.names.items()}
        if request.url.path == "/v2/cloudimages":
            return ok({"images": [image for image_id, image in images.items() if image_id not in self.hidden]})
        image = images.get(request.url.path.rpartition("/")[2])
        return ok(image) if image is not None else ok({"error": {"code": "IMG.0027", "message": "none"}}, 404)


class Jobs:
    """Jobs by id: the job's status and its sub job's. `refuses_list`: the status of the sub jobs' list."""

    def __init__(self, statuses: dict[str, tuple[str, str]], *, others: int = 0, refuses_list: int = 0) -> None:
        self.statuses = statuses
        self.others = others
        self.refuses_list = refuses_list
        self.ims: Callable[[httpx.Request], httpx.Response] = Images({})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host.startswith("ims."):
            return self.ims(request)
        query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        path = request.url.path
        if path.endswith("/image-servers"):
            return ok({"items": [server(1), server(2)]})
        if path.endswith("/image-server-sub-jobs"):
            return refused(self.refuses_list) if self.refuses_list else self._page(query)
        job_id = path.rpartition("/")[2]
        if job_id not in self.statuses:
            return refused(404, "WKS.00211902")
        status, sub_status = self.statuses[job_id]
        return ok({**job(job_id), "status": status, "sub_jobs": [sub_job(job_id, sub_status)]})

    def _page(self, query: dict[str, str]) -> httpx.Response:
        items = [sub_job(f"other{number}") for number in range(self.others)]
        items += [sub_job(job_id, sub) for job_id, (_, sub) in self.statuses.items()]
        items = [item for item in items if item["status"] == query["status"]]
        offset, limit = int(query["offset"]), int(query["limit"])
        return ok({"count": len(items), "items": items[offset : offset + limit]})


def fleet(number: int, status: str = "RUNNING", sub_status: str | None = None) -> dict[str, tuple[str, str]]:
    return {f"{status.lower()}{index}": (status, sub_status or status) for index in range(number)}


async def test_a_hundred_running_builds_cost_one_request() -> None:
    cloud = Cloud(Jobs(fleet(100)))
    found = await look_up_jobs(cloud.client, list(fleet(100)))
    assert found.keys() == fleet(100).keys()
    assert cloud.client.requests_by_operation == {"ListImageSubJobs": 1}


async def test_no_jobs_cost_nothing() -> None:
    cloud = Cloud(Jobs({}))
    assert await look_up_jobs(cloud.client, []) == {}
    assert cloud.requests == []


async def test_further_pages_only_while_something_is_missing() -> None:
    cloud = Cloud(Jobs(fleet(50), others=150))
    assert len(await look_up_jobs(cloud.client, list(fleet(50)))) == 50
    assert cloud.client.requests_by_operation == {"ListImageSubJobs": 2}


async def test_waiting_ones_cost_one_request_more() -> None:
    jobs = fleet(60) | fleet(40, "WAITING")
    cloud = Cloud(Jobs(jobs))
    found = await look_up_jobs(cloud.client, list(jobs))
    assert {found[job_id].status for job_id in fleet(40, "WAITING")} == {"WAITING"}
    assert cloud.client.requests_by_operation == {"ListImageSubJobs": 2}


async def test_one_that_has_ended_is_asked_for_by_itself() -> None:
    jobs = fleet(99) | fleet(1, "SUCCESS")
    cloud = Cloud(Jobs(jobs))
    found = await look_up_jobs(cloud.client, list(jobs))
    assert (found["success0"].status, found["success0"].job_status_known) == ("SUCCESS", True)
    assert cloud.client.requests_by_operation == {"ListImageSubJobs": 1, "ShowImageJob": 1}


@pytest.mark.parametrize("sub_status", ["ABNORMAL", "ROLLBACK", "ABORTING", "SUCCESS", "FAILED", "DREAMING"])
async def test_the_job_decides_not_the_sub_job(sub_status: str) -> None:
    cloud = Cloud(Jobs({"a": ("RUNNING", sub_status), "b": ("RUNNING", sub_status)}))
    found = await look_up_jobs(cloud.client, ["a", "b"])
    assert {(item.status, item.sub_status, item.job_status_known) for item in found.values()} == {
        ("RUNNING", sub_status, True)
    }


async def test_a_list_that_ignores_its_filter_is_not_believed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("sub-jobs"):
            return ok({"items": [sub_job("a", "FAILED"), sub_job("b", "RUNNING")]})
        return ok(job("a", "RUNNING"))

    cloud = Cloud(handler)
    found = await look_up_jobs(cloud.client, ["a", "b"])
    assert {job_id: item.status for job_id, item in found.items()} == {"a": "RUNNING", "b": "RUNNING"}
    assert found["a"].job_status_known


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_where_the_list_is_refused_each_is_asked_for(status: int) -> None:
    cloud = Cloud(Jobs(fleet(20), refuses_list=status))
    for _ in range(2):
        assert len(await look_up_jobs(cloud.client, list(fleet(20)))) == 20
    # The list is not asked for again.
    assert cloud.client.requests_by_operation == {"ListImageSubJobs": 1, "ShowImageJob": 40}


async def test_a_job_that_cannot_be_looked_up_is_left_out() -> None:
    cloud = Cloud(Jobs(fleet(2)))
    found = await look_up_jobs(cloud.client, [*fleet(2), "lost"])
    assert found.keys() == fleet(2).keys()


async def test_a_list_that_fails_otherwise_is_an_error() -> None:
    cloud = Cloud(Jobs(fleet(2), refuses_list=503))
    with pytest.raises(ServiceFailed):
        await look_up_jobs(cloud.client, list(fleet(2)))
    assert not cloud.client.sub_jobs_refused


async def test_refused_credentials_are_not_met_once_per_job() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return refused(405 if request.url.path.endswith("sub-jobs") else 401)

    cloud = Cloud(handler, max_requests=1)
    with pytest.raises(AuthenticationFailed):
        await look_up_jobs(cloud.client, list(fleet(50)))
    assert len(cloud.requests) <= 4


async def test_observe() -> None:
    jobs = Jobs(fleet(3) | fleet(1, "FAILED"))
    cloud = Cloud(jobs)
    seen = await observe(cloud.client, [*jobs.statuses, "lost"], [])
    assert [item.name for item in seen.servers.values()] == ["server-1", "server-2"]
    assert all(item.id == server_id for server_id, item in seen.servers.items())
    assert seen.jobs.keys() == jobs.statuses.keys()


async def test_observe_without_jobs_is_a_request_for_each_of_servers_images_and_quota() -> None:
    cloud = Cloud(Jobs({}))
    seen = await observe(cloud.client, [], [])
    assert (seen.jobs, seen.images, seen.gone, seen.problems) == ({}, {}, frozenset(), ())
    assert seen.quota == Quota(2, 50)
    assert sorted(cloud.client.requests_by_operation) == ["ListImageServers", "ListImages", "ShowImageQuota"]
    assert len(cloud.requests) == 3


async def test_an_image_is_gone_only_where_neither_the_list_nor_the_image_itself_is_there() -> None:
    jobs = Jobs({})
    jobs.ims = Images({"listed": "a", "hidden": "b"}, hidden=["hidden"])
    cloud = Cloud(jobs)
    seen = await observe(cloud.client, [], ["listed", "hidden", "gone"])
    assert {image_id: image.name for image_id, image in seen.images.items()} == {"listed": "a", "hidden": "b"}
    assert seen.gone == {"gone"}
    assert cloud.client.requests_by_operation["GlanceShowImage"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        refused(403, "IMG.0026", "no permission"),
        refused(404, "APIGW.0101", "the API does not exist"),
        refused(400, "IMG.0061"),
        httpx.Response(200, content=b"<html>"),
    ],
)
async def test_what_cannot_be_looked_up_is_neither_there_nor_gone(answer: httpx.Response) -> None:
    jobs = Jobs({})
    listed = Images({})
    jobs.ims = lambda request: answer if request.url.path.startswith("/v2/images/") else listed(request)
    seen = await observe(Cloud(jobs).client, [], ["i1"])
    assert (seen.images, seen.gone) == ({}, frozenset())
    assert [problem.startswith("some images could not be looked at: ") for problem in seen.problems] == [True]


async def test_without_the_list_nothing_is_gone_and_without_the_quota_it_is_unknown() -> None:
    jobs = Jobs({})
    jobs.ims = lambda _: refused(403, "IMG.0026")
    seen = await observe(Cloud(jobs).client, [], ["i1"])
    assert (seen.images, seen.gone, seen.quota, len(seen.problems)) == ({}, frozenset(), None, 2)
    assert len(seen.servers) == 2


async def test_refused_credentials_end_a_refresh_wherever_they_are_refused() -> None:
    jobs = Jobs({})
    jobs.ims = lambda _: refused(401, "APIGW.0301")
    with pytest.raises(AuthenticationFailed):
        await observe(Cloud(jobs).client, [], ["i1"])


async def test_observe_leaves_jobs_out_where_their_list_fails() -> None:
    cloud = Cloud(Jobs(fleet(3), refuses_list=503))
    seen = await observe(cloud.client, list(fleet(3)), [])
    assert len(seen.servers) == 2
    assert seen.jobs == {}


async def test_observe_needs_the_servers() -> None:
    jobs = Jobs(fleet(3))
    cloud = Cloud(lambda request: refused(403) if request.url.path.endswith("servers") else jobs(request))
    with pytest.raises(PermissionDenied):
        await observe(cloud.client, list(fleet(3)), [])

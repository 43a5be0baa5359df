"""The official SDK, unchanged, over TCP with AK/SK: the independent witness that the simulator speaks the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkworkspaceapp.v1 import (
    BatchDeleteImageSubJobsRequest,
    BatchDeleteSubJobsReq,
    CountImageSubJobsRequest,
    CreateServerImageReq,
    ListImageJobsRequest,
    ListImageServersRequest,
    ListImageSubJobsRequest,
    RecreateServerImageRequest,
    ShowImageJobRequest,
    ShowImageServerRequest,
    UpdateImageServerReq,
    UpdateImageServerRequest,
    WorkspaceAppClient,
)
from huaweicloudsdkworkspaceapp.v1.region.workspaceapp_region import WorkspaceAppRegion

from reconciler.simulator import Faults, World, serving

# The SDK says so about a package that it can do without: it then leaves times as texts.
pytestmark = pytest.mark.filterwarnings("ignore:Unable to convert string to datetime:ImportWarning")

OFFICE = "25b1dd14-0c84-4558-aa57-03a6c54b8e75"
CREATE_IMAGE = "CREATE_SERVER_IMAGE"


class Sdk:
    """A served world, its faults, and clients for it."""

    def __init__(self, world: World, faults: Faults, url: str) -> None:
        self.world, self.faults, self.url = world, faults, url
        self.clients: list[Any] = []
        self.client = self.make()

    def make(self, *, access: str = "", secret: str = "", project: str = "") -> Any:
        keys = BasicCredentials(
            access or self.world.access_key, secret or self.world.secret_key, project or self.world.project_id
        )
        client = WorkspaceAppClient.new_builder().with_credentials(keys).with_endpoint(self.url).build()
        self.clients.append(client)
        return client

    def recreate(self, name: str = "office-1", server_id: str = OFFICE, **body: object) -> str:
        request = RecreateServerImageRequest(server_id=server_id, body=CreateServerImageReq(name=name, **body))
        return str(self.client.recreate_server_image(request).job_id)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sdk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    world, faults = World.create(12, 0.2), Faults()
    with serving(world, faults=faults) as url:
        sdk = Sdk(world, faults, url)
        yield sdk
        for client in sdk.clients:
            client.get_http_client().close()
            client.get_http_client().executor.shutdown()


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """The status and the code of the SDK's exception."""
    with pytest.raises(exceptions.ClientRequestException) as error:
        call()
    assert len(error.value.request_id) == 32
    return error.value.status_code, error.value.error_code


def test_from_the_list_to_the_image(sdk: Sdk) -> None:
    client = sdk.client
    listed = client.list_image_servers(ListImageServersRequest(limit=5, offset=1))
    assert (listed.count, len(listed.items)) == (12, 5)
    server = client.show_image_server(ShowImageServerRequest(server_id=OFFICE))
    assert (server.id, server.name, server.status, server.image_id) == (OFFICE, "office-template", "ACTIVE", "")
    assert server.image_ref.spce_code
    job_id = sdk.recreate("镜像 1", description="制作", execute_sysprep=True)
    assert client.show_image_server(ShowImageServerRequest(server_id=OFFICE)).status == "BUILDING"
    (sub_job,) = client.list_image_sub_jobs(ListImageSubJobsRequest(job_type=CREATE_IMAGE, job_id=job_id)).items
    assert (sub_job.job_id, sub_job.job_resource_info.resource_name) == (job_id, "镜像 1")
    while (job := client.show_image_job(ShowImageJobRequest(job_id=job_id))).status != "SUCCESS":
        assert job.status == "RUNNING"
    server = client.show_image_server(ShowImageServerRequest(server_id=OFFICE))
    assert (server.status, server.image_id) == ("BUILT", job.sub_jobs[0].job_resource_info.resource_id)
    (listed_job,) = client.list_image_jobs(ListImageJobsRequest(job_type=CREATE_IMAGE, status="SUCCESS")).items
    assert (listed_job.id, listed_job.sub_jobs_total) == (job_id, 1)
    assert client.count_image_sub_jobs(CountImageSubJobsRequest(status="SUCCESS")).count == 1
    body = BatchDeleteSubJobsReq(items=[job.sub_jobs[0].id])
    client.batch_delete_image_sub_jobs(BatchDeleteImageSubJobsRequest(body=body))
    assert client.list_image_sub_jobs(ListImageSubJobsRequest(job_type=CREATE_IMAGE)).items == []


def test_a_server_is_renamed(sdk: Sdk) -> None:
    sdk.client.update_image_server(UpdateImageServerRequest(server_id=OFFICE, body=UpdateImageServerReq(name="办公")))
    found = sdk.client.list_image_servers(ListImageServersRequest(server_name="办公"))
    assert [each.id for each in found.items] == [OFFICE]


def test_a_failed_job_says_why(sdk: Sdk) -> None:
    sdk.faults.replace(["job-failed=1"])
    job_id = sdk.recreate()
    while (job := sdk.client.show_image_job(ShowImageJobRequest(job_id=job_id))).status == "RUNNING":
        pass
    assert (job.status, job.sub_jobs[0].job_execute_info.error_code) == ("FAILED", "WKS.00211401")


def test_its_exceptions(sdk: Sdk) -> None:
    assert refused(lambda: sdk.recreate(" bad")) == (400, "WKS.00211807")
    assert refused(lambda: sdk.recreate(server_id="1")) == (404, "WKS.00211902")
    sdk.recreate()
    assert refused(sdk.recreate) == (409, "WKS.00211103")
    servers = ListImageServersRequest()
    assert refused(lambda: sdk.make(secret="wrong").list_image_servers(servers)) == (401, "APIGW.0301")
    assert refused(lambda: sdk.make(access="UNKNOWN").list_image_servers(servers)) == (401, "APIGW.0301")
    assert refused(lambda: sdk.make(project="b" * 32).list_image_servers(servers)) == (403, "APIGW.0310")
    sdk.faults.replace(["throttle=1"])
    assert refused(sdk.recreate) == (429, "APIGW.0308")
    # For a GET the SDK's own retries, none by default, swallow the answer's code and its request id.
    with pytest.raises(exceptions.ClientRequestException) as throttled:
        sdk.client.list_image_servers(servers)
    assert throttled.value.status_code == 429
    sdk.faults.replace(["error-5xx=1"])
    with pytest.raises(exceptions.ServerResponseException):
        sdk.client.list_image_servers(servers)
    sdk.faults.replace(["drop-after=1"])
    with pytest.raises(exceptions.ConnectionException):
        sdk.client.list_image_servers(servers)


def test_it_finds_the_project_by_the_region(sdk: Sdk) -> None:
    keys = BasicCredentials(sdk.world.access_key, sdk.world.secret_key).with_iam_endpoint(sdk.url)
    region = WorkspaceAppRegion.value_of("ap-southeast-1")
    builder = WorkspaceAppClient.new_builder().with_credentials(keys).with_region(region)
    client = builder.build()
    sdk.clients.append(client)
    assert keys.project_id == sdk.world.project_id


def test_a_temporary_key(sdk: Sdk) -> None:
    from reconciler.simulator.records import Key

    sdk.world.keys["TEMPORARY"] = Key("TEMPORARY", "temporary-secret", "temporary-token")
    client = sdk.make(access="TEMPORARY", secret="temporary-secret")
    assert refused(lambda: client.list_image_servers(ListImageServersRequest())) == (401, "APIGW.0301")
    client.get_credentials().security_token = "temporary-token"
    assert client.list_image_servers(ListImageServersRequest()).count == 12

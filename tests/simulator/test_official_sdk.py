"""The official SDK, unchanged, over TCP with AK/SK: the independent witness that the simulator speaks the API."""

from __future__ import annotations

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

from tests.simulator.sdk import QUIET, Sdk, refused

pytestmark = QUIET

OFFICE = "25b1dd14-0c84-4558-aa57-03a6c54b8e75"
CREATE_IMAGE = "CREATE_SERVER_IMAGE"


def client_of(sdk: Sdk, **keys: str) -> Any:
    return sdk.make(WorkspaceAppClient, sdk.keys(**keys))


def recreate(sdk: Sdk, name: str = "office-1", server_id: str = OFFICE, **body: object) -> str:
    request = RecreateServerImageRequest(server_id=server_id, body=CreateServerImageReq(name=name, **body))
    return str(client_of(sdk).recreate_server_image(request).job_id)


def test_from_the_list_to_the_image(sdk: Sdk) -> None:
    client = client_of(sdk)
    listed = client.list_image_servers(ListImageServersRequest(limit=5, offset=1))
    assert (listed.count, len(listed.items)) == (12, 5)
    server = client.show_image_server(ShowImageServerRequest(server_id=OFFICE))
    assert (server.id, server.name, server.status, server.image_id) == (OFFICE, "office-template", "ACTIVE", "")
    assert server.image_ref.spce_code
    job_id = recreate(sdk, "镜像 1", description="制作", execute_sysprep=True)
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
    client = client_of(sdk)
    client.update_image_server(UpdateImageServerRequest(server_id=OFFICE, body=UpdateImageServerReq(name="办公")))
    found = client.list_image_servers(ListImageServersRequest(server_name="办公"))
    assert [each.id for each in found.items] == [OFFICE]


def test_a_failed_job_says_why(sdk: Sdk) -> None:
    sdk.faults.replace(["job-failed=1"])
    job_id, client = recreate(sdk), client_of(sdk)
    while (job := client.show_image_job(ShowImageJobRequest(job_id=job_id))).status == "RUNNING":
        pass
    assert (job.status, job.sub_jobs[0].job_execute_info.error_code) == ("FAILED", "WKS.00211401")


def test_its_exceptions(sdk: Sdk) -> None:
    assert refused(lambda: recreate(sdk, " bad")) == (400, "WKS.00211807")
    assert refused(lambda: recreate(sdk, server_id="1")) == (404, "WKS.00211902")
    recreate(sdk)
    assert refused(lambda: recreate(sdk)) == (409, "WKS.00211103")
    client, servers = client_of(sdk), ListImageServersRequest()
    assert refused(lambda: client_of(sdk, secret="wrong").list_image_servers(servers)) == (401, "APIGW.0301")
    assert refused(lambda: client_of(sdk, access="UNKNOWN").list_image_servers(servers)) == (401, "APIGW.0301")
    assert refused(lambda: client_of(sdk, project="b" * 32).list_image_servers(servers)) == (403, "APIGW.0310")
    sdk.faults.replace(["throttle=1"])
    assert refused(lambda: recreate(sdk)) == (429, "APIGW.0308")
    # For a GET the SDK's own retries, none by default, swallow the answer's code and its request id.
    with pytest.raises(exceptions.ClientRequestException) as throttled:
        client.list_image_servers(servers)
    assert throttled.value.status_code == 429
    sdk.faults.replace(["error-5xx=1"])
    with pytest.raises(exceptions.ServerResponseException):
        client.list_image_servers(servers)
    sdk.faults.replace(["drop-after=1"])
    with pytest.raises(exceptions.ConnectionException):
        client.list_image_servers(servers)


def test_it_finds_the_project_by_the_region(sdk: Sdk) -> None:
    keys = BasicCredentials(sdk.world.access_key, sdk.world.secret_key).with_iam_endpoint(sdk.url)
    region = WorkspaceAppRegion.value_of("ap-southeast-1")
    builder = WorkspaceAppClient.new_builder().with_credentials(keys).with_region(region)
    client = builder.build()
    sdk.adopt(client)
    assert keys.project_id == sdk.world.project_id


def test_a_temporary_key(sdk: Sdk) -> None:
    from reconciler.simulator.records import Key

    sdk.world.keys["TEMPORARY"] = Key("TEMPORARY", "temporary-secret", "temporary-token")
    client = client_of(sdk, access="TEMPORARY", secret="temporary-secret")
    assert refused(lambda: client.list_image_servers(ListImageServersRequest())) == (401, "APIGW.0301")
    client.get_credentials().security_token = "temporary-token"
    assert client.list_image_servers(ListImageServersRequest()).count == 12

"""Operations: what is asked, and what is made of good, odd and bad answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from reconciler.cloud.client import MOST_PAGES, CloudClient
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    BadRequest,
    CloudError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RequestNotSent,
    Throttled,
)
from reconciler.model.observed import ObservedImage, ObservedServer, Quota
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import PROJECT, Cloud, job, nothing, ok, refused, script, server, sub_job

pytestmark = pytest.mark.anyio

SPEC = ImageSpec("image-1")
SERVERS = f"/v1/{PROJECT}/image-servers"


def image(number: int, **fields: object) -> dict[str, object]:
    return {"id": f"image-{number:05}", "name": f"name-{number}", "status": "active", **fields}


def offset_of(request: httpx.Request) -> int:
    return int(parse_qs(request.url.query.decode())["offset"][0])


# --- lists ---------------------------------------------------------------------------------------------------------


async def test_the_documented_server_example() -> None:
    example = {
        "id": "627989489700044800",
        "name": "test_instance_2",
        "description": "",
        "image_ref": {"id": "da02e5ca", "image_type": "gold", "product_id": "", "spce_code": "90a6e84b"},
        "server_group_id": "898dda82-4d61-4c3d-bff2-679e61cd34f3",
        "app_group_id": "627991243116249088",
        "server_id": "wksapp-08722b58-6900-4c03-bfc0-99e1a056b8ad",
        "instance_id": "989e6391-43b5-49a7-a684-6c36e7ad714a",
        "image_id": "",
        "status": "ACTIVE",
        "authorize_accounts": [{"account": "user001", "account_type": "USER"}],
        "enterprise_project_id": "0",
        "create_time": "2023-10-28T04:58:34.058Z",
        "update_time": "2023-10-28T05:05:33.82Z",
    }
    cloud = Cloud(script(ok({"count": 1, "items": [example]})))
    assert await cloud.client.list_servers() == [
        ObservedServer(
            id="627989489700044800",
            name="test_instance_2",
            status="ACTIVE",
            aps_server_id="wksapp-08722b58-6900-4c03-bfc0-99e1a056b8ad",
            instance_id="989e6391-43b5-49a7-a684-6c36e7ad714a",
            updated_at=datetime(2023, 10, 28, 5, 5, 33, 820000, tzinfo=UTC),
        )
    ]
    assert cloud.paths == [f"{SERVERS}?limit=100&offset=0"]


@pytest.mark.parametrize("count", [0, 250, 7, None, "250"], ids=str)
async def test_all_pages_whatever_count_says(count: object) -> None:
    fleet = [server(number) for number in range(250)]

    def handler(request: httpx.Request) -> httpx.Response:
        offset = offset_of(request)
        return ok({"count": count, "items": fleet[offset : offset + 100]})

    cloud = Cloud(handler)
    found = await cloud.client.list_servers()
    assert [item.name for item in found] == [f"server-{number}" for number in range(250)]
    assert len(cloud.requests) == 3


async def test_a_full_last_page_is_followed_by_an_empty_one() -> None:
    cloud = Cloud(script(ok({"items": [server(number) for number in range(100)]}), ok({"items": []})))
    assert len(await cloud.client.list_servers()) == 100


async def test_short_pages_are_not_the_end_where_count_says_so() -> None:
    """A gateway that serves ten at a time, whatever limit asks for."""
    fleet = [server(number) for number in range(25)]

    def handler(request: httpx.Request) -> httpx.Response:
        offset = offset_of(request)
        return ok({"count": 25, "items": fleet[offset : offset + 10]})

    cloud = Cloud(handler)
    assert len(await cloud.client.list_servers()) == 25


async def test_what_moved_between_pages_is_there_once() -> None:
    first = [server(number) for number in range(100)]
    cloud = Cloud(script(ok({"items": first}), ok({"items": [server(99), server(100)]})))
    assert len(await cloud.client.list_servers()) == 101


async def test_a_list_that_ignores_the_offset_does_not_go_on_for_ever() -> None:
    page = [server(number) for number in range(100)]
    cloud = Cloud(lambda _: ok({"items": page}))
    with pytest.raises(BadAnswer, match="repeats itself"):
        await cloud.client.list_servers()
    assert len(cloud.requests) == 2


async def test_a_list_without_end_is_given_up() -> None:
    cloud = Cloud(lambda request: ok({"count": 10**9, "items": [server(offset_of(request))]}))
    with pytest.raises(BadAnswer, match="no end"):
        await cloud.client.list_servers()
    assert len(cloud.requests) == MOST_PAGES


@pytest.mark.parametrize(
    "fields",
    [
        {"status": None},
        {"status": "null"},
        {"status": "DREAMING"},
        {"image_id": None, "server_id": None, "instance_id": None, "description": None},
        {"update_time": None},
        {"update_time": 5},
        {"update_time": "yesterday"},
        {"update_time": "9999-12-31T23:59:59-23:59"},
        {"surprise": {"a": 1}},
    ],
)
async def test_odd_servers_are_taken_as_they_are(fields: dict[str, object]) -> None:
    cloud = Cloud(script(ok({"items": [server(1, **fields)]})))
    (found,) = await cloud.client.list_servers()
    assert found.status == (fields["status"] or "" if "status" in fields else "ACTIVE")
    assert found.image_id == ""
    assert found.updated_at is None


# --- bad answers ---------------------------------------------------------------------------------------------------

BAD_BODIES: list[tuple[bytes, str]] = [
    (b"", "the body is empty"),
    (b"  \n", "the body is empty"),
    (b"<html><body>Welcome</body></html>", "the body is HTML"),
    (b"ok", "the body is no JSON"),
    (b'{"items": [', "the body is no JSON"),
    (b"\xff\xfe\xff", "the body is no JSON"),
    (b"[" * 100_000, "the body is no JSON"),
    (b"1" * 5000, "the body is no JSON"),
    (b"[]", "the body is a list, not an object"),
    (b"null", "the body is null, not an object"),
    (b'"text"', "the body is a string, not an object"),
    (b"{}", "is missing"),
]
OPERATIONS: dict[str, Callable[[CloudClient], Awaitable[object]]] = {
    "ListImageServers": lambda client: client.list_servers(),
    "ShowImageServer": lambda client: client.show_server("s1"),
    "ListImageSubJobs": lambda client: client.list_sub_jobs(),
    "ListImageJobs": lambda client: client.list_jobs(),
    "ShowImageJob": lambda client: client.show_job("7"),
    "ListImages": lambda client: client.list_images(),
    "GlanceShowImage": lambda client: client.show_image("i1"),
    "ShowImageQuota": lambda client: client.image_quota(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("body", "words"), BAD_BODIES, ids=[words + str(n) for n, (_, words) in enumerate(BAD_BODIES)])
async def test_unusable_bodies(operation: str, body: bytes, words: str) -> None:
    cloud = Cloud(lambda _: httpx.Response(200, content=body, headers={"X-Request-Id": "r1"}))
    with pytest.raises(BadAnswer) as caught:
        await OPERATIONS[operation](cloud.client)
    assert caught.value.summary.startswith(operation)
    assert words in caught.value.summary
    assert (caught.value.operation, caught.value.request_id) == (operation, "r1")
    assert len(cloud.requests) == 1


@pytest.mark.parametrize(
    ("operation", "body", "words"),
    [
        ("ListImageServers", {"items": {}}, "items is an object, not a list"),
        ("ListImageServers", {"items": None}, "items is missing"),
        ("ListImageServers", {"items": [server(1), 5]}, "items[1] is a number, not an object"),
        ("ListImageServers", {"items": [server(1), {"name": "x"}]}, "items[1].id is missing"),
        ("ListImageServers", {"items": [server(1, id=697612196993040384)]}, "items[0].id is a number, not a string"),
        ("ListImageServers", {"items": [server(1, id="../../v1")]}, "items[0].id is not an id"),
        ("ListImageServers", {"items": [server(1, id="")]}, "items[0].id is missing"),
        ("ListImageServers", {"items": [server(1, status=3)]}, "items[0].status is a number"),
        ("ListImageServers", {"items": [{"id": "1", "name": "x"}]}, "items[0].status is missing"),
        ("ListImageServers", {"items": [{"id": "1", "status": "ACTIVE"}]}, "items[0].name is missing"),
        ("ListImageServers", {"items": [server(1, image_id="a/b")]}, "items[0].image_id is not an id"),
        ("ListImageServers", {"items": [server(1, image_id=["x"])]}, "items[0].image_id is a list"),
        ("ShowImageServer", {"image_server": server(1)}, "id is missing"),
        ("ShowImageServer", server(1), "it is about 697612196993000001"),
        ("ShowImageJob", job("8"), "it is about 8"),
        ("ShowImageJob", {"id": "7"}, "status is missing"),
        ("ShowImageJob", {**job("7"), "sub_jobs": {}}, "sub_jobs is an object"),
        (
            "ShowImageJob",
            job("7", job_resource_info={"resource_id": "a/b"}),
            "sub_jobs[0].job_resource_info.resource_id is not an id",
        ),
        ("ShowImageJob", job("7", job_execute_info=[]), "sub_jobs[0].job_execute_info is a list"),
        ("ListImageSubJobs", {"items": [{"id": "1", "status": "RUNNING"}]}, "items[0].job_id is missing"),
        ("ListImages", {"images": [image(1, protected="perhaps")]}, "images[0].protected is a string"),
        ("GlanceShowImage", image(2), "it is about image-00002"),
        ("ShowImageQuota", {"quotas": {"resources": []}}, "quotas.resources has no entry of type image"),
        (
            "ShowImageQuota",
            {"quotas": {"resources": [{"type": "image", "used": "1", "quota": 2}]}},
            "quotas.resources[0].used is a string, not a whole number",
        ),
        (
            "ShowImageQuota",
            {"quotas": {"resources": [{"type": "image", "used": 1, "quota": True}]}},
            "quotas.resources[0].quota is true or false, not a whole number",
        ),
        (
            "ShowImageQuota",
            {"quotas": {"resources": [{"type": "image", "used": 1, "quota": -1}]}},
            "quotas.resources[0].quota is 1 used of -1",
        ),
    ],
)
async def test_bad_fields_are_named(operation: str, body: object, words: str) -> None:
    cloud = Cloud(script(ok(body)))
    with pytest.raises(BadAnswer) as caught:
        await OPERATIONS[operation](cloud.client)
    assert words in caught.value.summary


@pytest.mark.parametrize("status", [201, 204, 206])
async def test_undocumented_good_statuses(status: int) -> None:
    cloud = Cloud(script(ok({"items": []}, status)))
    with pytest.raises(BadAnswer, match="not documented"):
        await cloud.client.list_servers()


# --- one server ----------------------------------------------------------------------------------------------------


async def test_show_server() -> None:
    cloud = Cloud(script(ok(server(1, id="s1", status="BUILT", image_id="i1"))))
    found = await cloud.client.show_server("s1")
    assert (found.id, found.status, found.image_id) == ("s1", "BUILT", "i1")
    assert cloud.paths == [f"{SERVERS}/s1"]


@pytest.mark.parametrize("missing", [refused(405), refused(404, "APIGW.0101"), refused(404, "APIG.0103")])
async def test_show_server_where_the_api_is_not_published(missing: httpx.Response) -> None:
    cloud = Cloud(script(missing, ok({"count": 1, "items": [server(1, id="s1")]})))
    assert (await cloud.client.show_server("s1")).id == "s1"
    assert cloud.paths[1] == f"{SERVERS}?limit=100&offset=0&server_id=s1"


async def test_show_server_where_the_filter_is_ignored_too() -> None:
    fleet = [server(number) for number in range(150)]
    cloud = Cloud(
        lambda request: (
            refused(405)
            if request.url.path.endswith("s1")
            else ok({"items": [*fleet, server(1, id="s1")][offset_of(request) : offset_of(request) + 100]})
        )
    )
    assert (await cloud.client.show_server("s1")).id == "s1"


async def test_show_server_that_the_list_does_not_have() -> None:
    cloud = Cloud(script(refused(405), ok({"items": [server(2)]})))
    with pytest.raises(NotFound, match="does not have it"):
        await cloud.client.show_server("s1")


async def test_a_missing_server_is_not_looked_for_twice() -> None:
    cloud = Cloud(script(refused(404, "WKS.00211902", "not found")))
    with pytest.raises(NotFound):
        await cloud.client.show_server("s1")


class NotGzip(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"not gzip"


# --- recreate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "body"),
    [
        (SPEC, {"name": "image-1"}),
        (ImageSpec("a", "b"), {"name": "a", "description": "b"}),
        (ImageSpec("a", execute_sysprep=True), {"name": "a", "execute_sysprep": True}),
        (ImageSpec("a", "b", execute_sysprep=False), {"name": "a", "description": "b", "execute_sysprep": False}),
        (ImageSpec("a", triggers={"x": "1"}), {"name": "a"}),
    ],
)
async def test_only_what_was_said_is_sent(spec: ImageSpec, body: dict[str, object]) -> None:
    cloud = Cloud(script(ok({"job_id": "697354472828968960"})))
    assert await cloud.client.recreate_image("s1", spec, before_send=nothing) == "697354472828968960"
    (request,) = cloud.requests
    assert (request.method, request.url.path) == ("POST", f"{SERVERS}/s1/actions/recreate-image")
    assert json.loads(request.content) == body
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_good_statuses_of_recreate(status: int) -> None:
    cloud = Cloud(script(ok({"job_id": "1"}, status)))
    assert await cloud.client.recreate_image("s1", SPEC, before_send=nothing) == "1"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        # Definite: nothing was started.
        (refused(400, "WKS.00129901"), BadRequest),
        (refused(401), AuthenticationFailed),
        (refused(403), PermissionDenied),
        (refused(404), NotFound),
        (refused(405), BadRequest),
        (refused(409, "WKS.00211103"), Conflict),
        (refused(413), BadRequest),
        (refused(415), BadRequest),
        (refused(429, "APIGW.0308"), Throttled),
        (httpx.ConnectError("refused"), RequestNotSent),
        (httpx.ConnectTimeout("slow"), RequestNotSent),
        (httpx.ProxyError("407"), RequestNotSent),
        (httpx.PoolTimeout("full"), RequestNotSent),
        # It may have been.
        (refused(500), OutcomeUnknown),
        (refused(502), OutcomeUnknown),
        (refused(503), OutcomeUnknown),
        (refused(504), OutcomeUnknown),
        (httpx.ReadTimeout("slow"), OutcomeUnknown),
        (httpx.WriteTimeout("slow"), OutcomeUnknown),
        (httpx.ReadError("reset"), OutcomeUnknown),
        (httpx.WriteError("reset"), OutcomeUnknown),
        (httpx.RemoteProtocolError("gone"), OutcomeUnknown),
        (httpx.LocalProtocolError("odd"), OutcomeUnknown),
        (httpx.DecodingError("gzip"), OutcomeUnknown),
        (ConnectionResetError("reset"), OutcomeUnknown),
        (httpx.Response(302, headers={"Location": "/"}), OutcomeUnknown),
        (ok({}), OutcomeUnknown),
        (ok({"job_id": None}), OutcomeUnknown),
        (ok({"job_id": ""}), OutcomeUnknown),
        (ok({"job_id": 697354472828968960}), OutcomeUnknown),
        (ok({"job_id": "a/b"}), OutcomeUnknown),
        (ok({"job_id": ["1"]}), OutcomeUnknown),
        (ok([]), OutcomeUnknown),
        (httpx.Response(200), OutcomeUnknown),
        (httpx.Response(204), OutcomeUnknown),
        (httpx.Response(200, content=b"<html>"), OutcomeUnknown),
        (httpx.Response(200, content=b'{"job_id": "697'), OutcomeUnknown),
        (httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=NotGzip()), OutcomeUnknown),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_what_a_failure_says_about_the_build(answer: httpx.Response | Exception, kind: type[CloudError]) -> None:
    cloud = Cloud(script(answer))
    intents: list[int] = []

    async def before_send() -> None:
        intents.append(len(cloud.requests))

    with pytest.raises(CloudError) as caught:
        await cloud.client.recreate_image("s1", SPEC, before_send=before_send)
    assert type(caught.value) is kind
    assert caught.value.operation == "RecreateServerImage"
    assert caught.value.summary.startswith("RecreateServerImage for server s1: ")
    # One request, after one intent.
    assert len(cloud.requests) == 1
    assert intents == [0]
    assert cloud.time.slept == []


async def test_an_unknown_outcome_keeps_what_the_cloud_said() -> None:
    cloud = Cloud(script(refused(504, "APIGW.0201", "Backend timeout", {"X-Request-Id": "r1"})))
    with pytest.raises(OutcomeUnknown) as caught:
        await cloud.client.recreate_image("s1", SPEC, before_send=nothing)
    error = caught.value
    assert (error.status, error.code, error.message, error.request_id) == (504, "APIGW.0201", "Backend timeout", "r1")


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_the_documented_job_example() -> None:
    example = {
        "id": "702364883651395584",
        "job_type": "CREATE_SERVER_IMAGE",
        "status": "SUCCESS",
        "begin_time": "2024-05-20T10:39:49.61Z",
        "end_time": "2024-05-20T11:03:24.206Z",
        "sub_jobs_total": 1,
        "sub_jobs": [
            {
                "id": "702364884037271552",
                "job_id": "702364883651395584",
                "job_type": "CREATE_SERVER_IMAGE",
                "status": "SUCCESS",
                "job_resource_info": {
                    "resource_id": "f5d443de-a623-4950-a74d-569fe63c1f7a",
                    "resource_name": "123",
                },
                "job_execute_info": {"error_code": "", "error_message": ""},
                "project_id": PROJECT,
                "begin_time": "2024-05-20T10:39:50.723Z",
                "end_time": "2024-05-20T11:03:24.194Z",
            }
        ],
    }
    cloud = Cloud(script(ok(example)))
    found = await cloud.client.show_job("702364883651395584")
    assert (found.id, found.status, found.sub_status) == ("702364883651395584", "SUCCESS", "SUCCESS")
    assert found.job_status_known
    assert (found.image_id, found.image_name) == ("f5d443de-a623-4950-a74d-569fe63c1f7a", "123")
    assert found.began_at == datetime(2024, 5, 20, 10, 39, 49, 610000, tzinfo=UTC)
    assert found.ended_at == datetime(2024, 5, 20, 11, 3, 24, 206000, tzinfo=UTC)


async def test_a_failed_job_says_why() -> None:
    told = {"error_code": "WKS.00129901", "error_message": "bad\x1b[31m\nthing"}
    body = job("7", "FAILED", job_execute_info=told, job_resource_info=None)
    found = await Cloud(script(ok(body))).client.show_job("7")
    assert (found.error_code, found.error_message) == ("WKS.00129901", "bad thing")
    assert found.image_id == ""


@pytest.mark.parametrize(
    "fields", [{"sub_jobs": []}, {"sub_jobs": None}, {"sub_jobs": [{}]}, {"sub_jobs": [{"status": None}]}]
)
async def test_a_job_with_next_to_no_sub_job(fields: dict[str, object]) -> None:
    found = await Cloud(script(ok({"id": "7", "status": "RUNNING", **fields}))).client.show_job("7")
    assert (found.status, found.sub_status, found.image_id, found.error_code) == ("RUNNING", "", "", "")


async def test_the_resource_of_another_kind_of_job_is_no_image() -> None:
    body = job("7", "SUCCESS", job_resource_info={"resource_id": "697612196993040384"})
    found = await Cloud(script(ok({**body, "job_type": "CREATE_SERVER"}))).client.show_job("7")
    assert found.image_id == ""


async def test_sub_jobs_speak_for_their_jobs() -> None:
    item = sub_job("7", "SUCCESS", job_resource_info={"resource_id": "i1", "resource_name": "镜像"})
    cloud = Cloud(script(ok({"count": 0, "items": [item]})))
    (found,) = await cloud.client.list_sub_jobs(status="SUCCESS", job_id="7")
    assert (found.id, found.status, found.sub_status, found.job_status_known) == ("7", "SUCCESS", "SUCCESS", False)
    assert (found.image_id, found.image_name) == ("i1", "镜像")
    assert cloud.paths == [
        f"/v1/{PROJECT}/image-server-sub-jobs?job_id=7&job_type=CREATE_SERVER_IMAGE&limit=100&offset=0&status=SUCCESS"
    ]


async def test_list_jobs() -> None:
    cloud = Cloud(script(ok({"count": 0, "items": [{"id": "7", "status": "RUNNING", "job_type": "createServer"}]})))
    (found,) = await cloud.client.list_jobs()
    assert (found.id, found.status, found.job_status_known) == ("7", "RUNNING", True)


# --- images --------------------------------------------------------------------------------------------------------


async def test_images_are_paged_by_marker() -> None:
    all_images = [image(number) for number in range(1200)]

    def handler(request: httpx.Request) -> httpx.Response:
        marker = parse_qs(request.url.query.decode()).get("marker", [""])[0]
        return ok({"images": [item for item in all_images if str(item["id"]) > marker][:500]})

    cloud = Cloud(handler)
    assert len(await cloud.client.list_images()) == 1200
    assert cloud.paths[1].endswith("&limit=500&marker=image-00499")
    assert len(cloud.requests) == 3


async def test_a_list_that_ignores_the_marker_does_not_go_on_for_ever() -> None:
    page = [image(number) for number in range(500)]
    cloud = Cloud(lambda _: ok({"images": page}))
    with pytest.raises(BadAnswer, match="repeats itself"):
        await cloud.client.list_images()


async def test_names_are_compared_again() -> None:
    cloud = Cloud(script(ok({"images": [image(1, name="office"), image(2, name="office-2")]})))
    assert [found.name for found in await cloud.client.list_images(name="office")] == ["office"]


async def test_image_fields() -> None:
    body = image(1, __description="d", protected="true", created_at="2018-09-06T14:03:27Z")
    cloud = Cloud(script(ok(body)))
    assert await cloud.client.show_image("image-00001") == ObservedImage(
        "image-00001", "name-1", "active", "d", protected=True, created_at=datetime(2018, 9, 6, 14, 3, 27, tzinfo=UTC)
    )
    assert cloud.paths == ["/v2/images/image-00001"]


async def test_half_a_character_is_a_question_mark_from_the_first_look_on() -> None:
    # A state records it so: a look that shows anything else would be drift for ever.
    cloud = Cloud(script(ok(image(1, name="镜像", __description="half \ud83d, whole \ud83d\ude00"))))
    shown = await cloud.client.show_image("image-00001")
    assert (shown.name, shown.description) == ("镜像", "half ?, whole \U0001f600")


async def test_list_images_by_id_without_a_match() -> None:
    cloud = Cloud(script(ok({"images": []})))
    assert await cloud.client.list_images(image_id="i1") == []
    assert "&id=i1&" in cloud.paths[0]


IMAGE = ObservedImage("image-00001", "name-1", "active", "d")


@pytest.mark.parametrize(("before", "ops"), [("alt", ["replace", "add"]), ("", ["add", "replace"])])
async def test_a_description_is_added_or_replaced(before: str, ops: list[str]) -> None:
    conflict = ok({"error": {"code": "IMG.0035", "message": "attribute conflict"}}, 400)
    cloud = Cloud(script(conflict, ok(image(1, __description="neu"))))
    edited = await cloud.client.edit_image(replace(IMAGE, description=before), name="name-1", description="neu")
    assert edited.description == "neu"
    patches = [json.loads(request.content) for request in cloud.requests]
    assert patches == [[{"op": op, "path": "/__description", "value": "neu"}] for op in ops]
    assert {(request.method, request.url.path) for request in cloud.requests} == {
        ("PATCH", "/v2/cloudimages/image-00001")
    }


async def test_a_description_is_tried_both_ways_once() -> None:
    conflict = ok({"error": {"code": "IMG.0035", "message": "attribute conflict"}}, 400)
    cloud = Cloud(script(conflict, conflict))
    with pytest.raises(BadRequest):
        await cloud.client.edit_image(IMAGE, name="name-1", description="x")


async def test_a_name_is_replaced_and_only_what_differs_is_sent() -> None:
    cloud = Cloud(script(ok(image(1, name="new"))))
    assert (await cloud.client.edit_image(IMAGE, name="new", description="d")).name == "new"
    assert json.loads(cloud.requests[0].content) == [{"op": "replace", "path": "/name", "value": "new"}]
    assert await cloud.client.edit_image(IMAGE, name="name-1", description="d") == IMAGE
    assert len(cloud.requests) == 1
    both = Cloud(script(ok(image(1))))
    await both.client.edit_image(IMAGE, name="new", description="x")
    assert [step["path"] for step in json.loads(both.requests[0].content)] == ["/name", "/__description"]


@pytest.mark.parametrize("answer", [ok(image(2)), ok([]), httpx.Response(200, content=b"<html>")])
async def test_an_edit_that_another_one_answers_is_no_success(answer: httpx.Response) -> None:
    with pytest.raises(BadAnswer):
        await Cloud(script(answer)).client.edit_image(IMAGE, name="new", description="d")


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_an_image_is_deleted_once(status: int) -> None:
    cloud = Cloud(script(httpx.Response(status)))
    await cloud.client.delete_image("image-00001")
    assert [(request.method, request.url.path) for request in cloud.requests] == [("DELETE", "/v2/images/image-00001")]


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), refused(503)])
async def test_a_deletion_that_may_have_happened_is_not_repeated(failure: httpx.Response | Exception) -> None:
    cloud = Cloud(script(failure))
    with pytest.raises(CloudError):
        await cloud.client.delete_image("i1")


@pytest.mark.parametrize("status", [400, 403])
async def test_flow_control_of_ims_is_a_throttle_whatever_its_status(status: int) -> None:
    limited = ok({"error": {"code": "IMG.0060", "message": "flow control"}}, status)
    cloud = Cloud(script(limited, ok(image(1, name="new"))))
    assert (await cloud.client.edit_image(IMAGE, name="new", description="d")).name == "new"
    assert cloud.time.slept


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), refused(503)])
async def test_an_update_that_may_have_happened_is_not_repeated(failure: httpx.Response | Exception) -> None:
    cloud = Cloud(script(failure))
    with pytest.raises(CloudError):
        await cloud.client.edit_image(IMAGE, name="name-1", description="x")


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), refused(429)])
async def test_an_update_that_did_not_happen_is_repeated(failure: httpx.Response | Exception) -> None:
    cloud = Cloud(script(failure, ok(image(1))))
    await cloud.client.edit_image(IMAGE, name="name-1", description="x")


async def test_quota() -> None:
    resources = [
        {"type": "image_shared", "used": 1, "quota": 2},
        {"type": "image", "used": 20, "quota": 50, "min": 1, "max": 1000},
    ]
    cloud = Cloud(script(ok({"quotas": {"resources": resources}})))
    assert await cloud.client.image_quota() == Quota(used=20, limit=50)
    assert cloud.paths == ["/v1/cloudimages/quota"]

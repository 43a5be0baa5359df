"""Whatever stands in an answer, the client gives what it asked for or one of its own errors, fit for a terminal."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cloud.client import CloudClient
from reconciler.cloud.jobs import look_up_jobs
from reconciler.errors import CloudError
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import Cloud, job, nothing, ok, server, sub_job
from tests.support import examples

RESOURCE = {"resource_id": "f5d443de-a623-4950-a74d-569fe63c1f7a", "resource_name": "镜像"}
OUTCOME = {"error_code": "WKS.00211401", "error_message": "it broke"}
IMAGE = {
    "id": "i1",
    "name": "镜像",
    "status": "active",
    "__description": "d",
    "protected": False,
    "created_at": "2026-01-01T00:00:00Z",
}
DETAILS: dict[str, Any] = {
    "job_resource_info": RESOURCE,
    "job_execute_info": OUTCOME,
    "begin_time": "2026-01-01T00:00:00.61Z",
}
# A good answer to each call.
CALLS: dict[str, tuple[Callable[[CloudClient], Awaitable[object]], Any]] = {
    "servers": (lambda client: client.list_servers(), {"count": 2, "items": [server(1, image_id="i1"), server(2)]}),
    "server": (lambda client: client.show_server("s1"), server(1, id="s1", update_time="2026-01-01T00:00:00Z")),
    "sub jobs": (lambda client: client.list_sub_jobs(), {"count": 1, "items": [sub_job("7", **DETAILS)]}),
    "jobs": (lambda client: client.list_jobs(), {"count": 1, "items": [job("7")]}),
    "job": (lambda client: client.show_job("7"), job("7", "FAILED", **DETAILS)),
    "look-up": (lambda client: look_up_jobs(client, ["7"]), {"items": [sub_job("7")], **job("7")}),
    "images": (lambda client: client.list_images(name="镜像"), {"images": [IMAGE]}),
    "image": (lambda client: client.show_image("i1"), IMAGE),
    "quota": (
        lambda client: client.image_quota(),
        {"quotas": {"resources": [{"type": "image", "used": 1, "quota": 2}]}},
    ),
    "recreate": (
        lambda client: client.recreate_image("s1", ImageSpec("a"), before_send=nothing),
        {"job_id": "702364883651395584"},
    ),
}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "\x1b[31mred", "\u202eevil", "a" * 5000, "9999-12-31T23:59:59-12:00", "0001-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of everything inside of a JSON value, and of itself."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


def changed(value: Any, path: tuple[str | int, ...], new: object, *, gone: bool) -> Any:
    """The value with another in one place, or with nothing there."""
    if not path:
        return new
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if gone:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return whole


def asked(call: Callable[[CloudClient], Awaitable[object]], answer: httpx.Response) -> tuple[CloudError | None, int]:
    """The error, if there was one, and how many requests were sent. Every other exception fails the test."""
    cloud = Cloud(lambda _: httpx.Response(answer.status_code, content=answer.content))

    async def run() -> CloudError | None:
        try:
            await call(cloud.client)
        except CloudError as error:
            return error
        return None

    return asyncio.run(run()), len(cloud.requests)


def assert_printable(error: CloudError | None) -> None:
    for text in (error.summary, error.hint, error.message) if error else ():
        assert len(text) < 1200
        assert all(char.isprintable() for char in text), text


@pytest.mark.parametrize("name", CALLS)
def test_the_good_answer_is_good(name: str) -> None:
    call, answer = CALLS[name]
    assert asked(call, ok(answer))[0] is None


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_an_answer_with_anything_anywhere(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CALLS)))
    call, answer = CALLS[name]
    path = data.draw(st.sampled_from(places(answer)))
    body = changed(answer, path, data.draw(ANYTHING), gone=data.draw(st.booleans()))
    error, requests = asked(call, httpx.Response(200, content=json.dumps(body).encode()))
    assert_printable(error)
    assert requests <= 6
    if name == "recreate":
        assert requests == 1


@settings(max_examples=examples(150), deadline=None)
@given(
    name=st.sampled_from(sorted(CALLS)),
    status=st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 405, 409, 418, 499]),
    body=st.binary(max_size=40) | ANYTHING.map(lambda value: json.dumps(value).encode()),
)
def test_any_bytes_with_any_status(name: str, status: int, body: bytes) -> None:
    error, requests = asked(CALLS[name][0], httpx.Response(status, content=body))
    assert_printable(error)
    # What cannot be looked up is left out of the look-up.
    assert error is not None or status in (200, 201) or name == "look-up"
    assert requests <= 6


def test_a_broken_list_of_jobs_is_done_without_for_one_look() -> None:
    asked_for: list[str] = []
    lists = [b"<html>", b"<html>", json.dumps({"items": [sub_job("7"), sub_job("8")]}).encode()]

    def answer(request: httpx.Request) -> httpx.Response:
        asked_for.append(request.url.path.rpartition("/")[2])
        if asked_for[-1] == "image-server-sub-jobs":
            return httpx.Response(200, content=lists.pop(0))
        return ok(job(asked_for[-1], "SUCCESS"))

    async def run() -> None:
        client = Cloud(answer).client
        first = await look_up_jobs(client, ["7", "8"])
        assert {found.status for found in first.values()} == {"SUCCESS"}
        second = await look_up_jobs(client, ["7", "8"])
        assert {found.status for found in second.values()} == {"RUNNING"}

    asyncio.run(run())
    assert asked_for == ["image-server-sub-jobs"] * 2 + ["7", "8"] + ["image-server-sub-jobs"]

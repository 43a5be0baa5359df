"""What the gateway does to every request."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Cloud


def test_every_answer_has_its_own_request_id_and_the_worlds_date(cloud: Cloud) -> None:
    answers = [
        cloud.get("image-servers"),
        cloud.get("/nothing"),
        cloud.send("DELETE", "/v2/images/x"),
        cloud.recreate(name=""),
        cloud.send("GET", "image-servers", token="x"),
        cloud.get("/_simulator/ledger"),
    ]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert {answer.headers["Date"] for answer in answers} == {"Mon, 02 Nov 2026 12:00:00 GMT"}
    assert answers[1].json()["request_id"] == ids[1]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/images", "image-servers/a/b", "/v1//image-servers", "image-servers/", "/_simulator/other"]
)
def test_an_unknown_path_is_no_published_api(cloud: Cloud, path: str) -> None:
    answer = cloud.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIGW.0101")


def test_another_method_is_not_allowed(cloud: Cloud) -> None:
    answer = cloud.send("DELETE", "image-servers")
    assert (answer.status_code, answer.json()["error_code"]) == (405, "WKS.00000405")
    assert cloud.send("PUT", "/v2/cloudimages").json()["error"]["code"].startswith("IMG.")
    assert cloud.send("GET", "/v3/auth/tokens").json()["error"]["code"] == 405
    assert cloud.send("HEAD", "image-servers").status_code == 405
    assert cloud.send("DELETE", "/_simulator/ledger").status_code == 404


def test_other_projects_are_forbidden(cloud: Cloud) -> None:
    other = "b" * 32
    for path, code in (
        (f"/v1/{other}/image-servers", "WKS.00081102"),
        (f"/v1/{other}/image-server-jobs/1", "WKS.00081102"),
    ):
        answer = cloud.get(path)
        assert (answer.status_code, answer.json()["error_code"]) == (403, code)
    answer = cloud.get(f"/v1/{other}/cloudimages/quota")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "IMG.0026")
    answer = cloud.send("GET", "/v2/cloudimages", headers={"X-Project-Id": other})
    assert (answer.status_code, answer.json()["error_code"]) == (403, "APIGW.0310")
    assert cloud.send("GET", "image-servers", headers={"X-Project-Id": cloud.world.project_id}).status_code == 200


def test_a_body_of_more_than_12_mb_is_too_large(cloud: Cloud) -> None:
    path = f"image-servers/{cloud.office}/actions/recreate-image"
    most = 12 * 1024 * 1024
    json_type = {"Content-Type": "application/json"}
    assert cloud.send("POST", path, content=b" " * most, headers=json_type).status_code == 400
    answer = cloud.send("POST", path, content=b" " * (most + 1), headers=json_type)
    assert (answer.status_code, answer.json()["error_code"]) == (413, "APIGW.0201")
    assert cloud.send("POST", path, headers={"Content-Length": "9" * 50}).status_code == 413


def test_a_client_that_leaves_in_the_middle_of_its_request_changes_nothing(cloud: Cloud) -> None:
    path = f"/v1/{cloud.world.project_id}/image-servers/{cloud.office}/actions/recreate-image"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"x-auth-token", cloud.token.encode())], "client": ("127.0.0.1", 1), "root_path": "",
        "extensions": {"imgctl.hang_up": lambda: None},
    }  # fmt: skip
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(cloud.app(scope, receive, send))  # type: ignore[arg-type]
    assert sent == []
    assert cloud.server()["status"] == "ACTIVE"


def test_a_lifespan_is_answered_though_not_needed(cloud: Cloud) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(cloud.app({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_strange_bytes_are_answered_too(cloud: Cloud) -> None:
    for path in ("/v2/cloudimages?name=%FF%00&id=%", "image-servers?server_name=%ED%A0%80", "image-servers/%00%2F%0A"):
        assert cloud.get(path).status_code in (200, 404)
    auth = "SDK-HMAC-SHA256 Access=SIMULATEDACCESSKEY01, SignedHeaders=x-note;x-sdk-date, Signature=" + "0" * 64
    headers = [(b"x-sdk-date", b"20261102T120000Z"), (b"x-note", b"\xff\xfe"), (b"authorization", auth.encode())]
    assert raw(cloud, "/v2/cloudimages", headers) == [401]
    assert raw(cloud, "/v2/cloudimages", [*headers, (b"content-length", "٣".encode())]) == [401]


def raw(cloud: Cloud, path: str, headers: list[tuple[bytes, bytes]]) -> list[int]:
    """The statuses that a request gets whose headers no client would send."""
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers, "root_path": ""}
    statuses: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(cloud.app(scope, receive, send))  # type: ignore[arg-type]
    return statuses

"""Error answers of every shape, and what is made of them."""

import json
from datetime import timedelta

import httpx
import pytest

from reconciler.cloud import failures, operations, problems
from reconciler.cloud.answers import Answer
from reconciler.cloud.operations import Call, Operation
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    BadRequest,
    CloudError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    RequestNotSent,
    ServiceFailed,
    Throttled,
)

SERVER = "25b1dd14-0c84-4558-aa57-03a6c54b8e75"


def answer(
    status: int, body: object = b"", headers: dict[str, str] | None = None, operation: Operation = operations.RECREATE
) -> Answer:
    call = Call(operation, {"server_id": SERVER} if "{server_id}" in operation.path else {})
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Answer(operation, call.title, status, headers or {}, data)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error_code": "WKS.00081102", "error_msg": "forbidden"}, "WKS.00081102", "forbidden"),
        ({"error_code": "APIGW.0101", "error_msg": "no", "request_id": "r"}, "APIGW.0101", "no"),
        ({"error": {"code": "IMG.0015", "message": "quota"}}, "IMG.0015", "quota"),
        ({"error": {"code": 401, "message": "wrong", "title": "Unauthorized"}}, "401", "wrong"),
        ({"errorCode": "X.1", "errorMsg": "m"}, "X.1", "m"),
        ({"code": "X.2", "message": "m"}, "X.2", "m"),
        ({"error_msg": "only a message"}, "", "only a message"),
        ({"error_code": "X.3"}, "X.3", ""),
        ({"odd": 1}, "", "Forbidden"),
        ([], "", "Forbidden"),
        ("a text", "", "Forbidden"),
        ({"error_code": None, "error_msg": ["x"], "error": "x"}, "", "Forbidden"),
        (b"", "", "Forbidden"),
        (b"<html><body>403</body></html>", "", "Forbidden"),
        (b"go away", "", "go away"),
        (b"\xff\xfe", "", "��"),
        (b"[" * 100_000, "", "[" * 499 + "…"),
        (b'{"error_code": "X", "error_msg": ', "", '{"error_code": "X", "error_msg":'),
    ],
)
def test_shapes(body: object, code: str, message: str) -> None:
    assert problems.code_and_message(answer(403, body)) == (code, message)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthenticationFailed),
        (403, PermissionDenied),
        (404, NotFound),
        (405, BadRequest),
        (409, Conflict),
        (413, BadRequest),
        (415, BadRequest),
        (429, Throttled),
        (494, BadRequest),
        (500, ServiceFailed),
        (502, ServiceFailed),
        (503, ServiceFailed),
        (504, ServiceFailed),
        (599, ServiceFailed),
    ],
)
def test_class_by_status(status: int, kind: type[Refused]) -> None:
    error = problems.refusal(answer(status))
    assert type(error) is kind
    assert (error.status, error.operation) == (status, "RecreateServerImage")


def test_refusal_says_what_where_and_which_request() -> None:
    body = {"error_code": "WKS.00081102", "error_msg": "forbidden"}
    error = problems.refusal(answer(403, body, {"x-request-id": "req-1"}))
    assert error.summary == (f"RecreateServerImage for server {SERVER}: 403 WKS.00081102 forbidden (request id req-1)")
    assert (error.code, error.message, error.request_id) == ("WKS.00081102", "forbidden", "req-1")


def test_the_gateway_may_name_the_request_in_the_body() -> None:
    assert problems.refusal(answer(404, {"error_code": "APIGW.0101", "request_id": "b\x1b[m"})).request_id == "b"
    assert problems.refusal(answer(404, {"error_code": "APIGW.0101", "request_id": 5})).request_id == ""


def test_iam_names_the_request_otherwise() -> None:
    assert problems.refusal(answer(500, b"", {"x-iam-trace-id": "t"})).request_id == "t"


def test_forbidden_recreate_names_the_action_and_its_dependencies() -> None:
    hint = problems.refusal(answer(403)).hint
    for action in (
        "workspace:imageServer:recreate",
        "vpc:ports:get",
        "vpc:subnets:get",
        "ims:quotas:get",
        "ims:images:get",
        "ims:images:list",
        "ims:images:setTags",
        "ims:images:setOrDeleteTags",
        "ims:images:updateMemberStatus",
        "ims:images:copyInRegion",
        "ims:serverImages:create",
    ):
        assert action in hint


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        (operations.LIST_SERVERS, "workspace:imageServer:list"),
        (operations.SHOW_SERVER, "workspace:imageServer:get"),
        (operations.LIST_JOBS, "workspace:images:listImageJobs"),
        (operations.SHOW_JOB, "workspace:images:getImageJob"),
        (operations.LIST_SUB_JOBS, "workspace:imageServer:listImageSubJobs"),
        (operations.LIST_IMAGES, "ims:images:list"),
        (operations.SHOW_IMAGE, "ims:images:get"),
        (operations.SHOW_QUOTA, "ims:quotas:get"),
    ],
)
def test_forbidden_names_the_action(operation: Operation, action: str) -> None:
    assert action in problems.refusal(answer(403, operation=operation)).hint


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "APIGW.0101", "IMGCTL_ENDPOINT_WORKSPACEAPP"),
        (404, "APIG.0101", "appstream.REGION.myhuaweicloud.com"),
        (404, "WKS.00211902", "check the server_id"),
        (409, "WKS.00211103", "busy"),
        (429, "APIGW.0308", "--max-requests"),
        (400, "IMG.0015", "quota of private images"),
        (405, "APIGW.0502", "frozen"),
        (403, "APIGW.0802", "not available in this region"),
        (401, "APIGW.0307", "newer token"),
        (401, "APIGW.0301", "check HW_ACCESS_KEY"),
    ],
)
def test_hints(status: int, code: str, words: str) -> None:
    error = problems.refusal(answer(status, {"error_code": code}), advice="check HW_ACCESS_KEY")
    assert words in error.hint


def test_a_wrong_clock_is_said_only_where_it_matters() -> None:
    def hint(minutes: float) -> str:
        return problems.refusal(answer(401), advice="check x", offset=timedelta(minutes=minutes)).hint

    assert hint(14) == "check x"
    assert "20 minutes behind the cloud's" in hint(20)
    assert "20 minutes ahead of the cloud's" in hint(-20)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "7"}, "policy user over ratelimit,limit:1,time:9 second", 7),
        ({}, "The throttling threshold has been reached: policy user over ratelimit,limit:100,time:1 minute", 60),
        ({}, "policy api over ratelimit,limit:200,time:1 second", 1),
        ({}, "policy ip over ratelimit,limit:200,time:3 hour", 10_800),
        ({}, "limit:10, time: 5", 5),
        ({"retry-after": "Sun, 25 Oct 2026 12:00:30 GMT", "date": "Sun, 25 Oct 2026 12:00:00 GMT"}, "", 30),
        ({"retry-after": "Sun, 25 Oct 2026 11:00:00 GMT", "date": "Sun, 25 Oct 2026 12:00:00 GMT"}, "", 0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "٣"}, "", None),
        ({}, "slow down", None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], message: str, seconds: float | None) -> None:
    error = problems.refusal(answer(429, {"error_code": "APIGW.0308", "error_msg": message}, headers))
    assert isinstance(error, Throttled)
    assert error.retry_after == seconds


def test_an_unavailable_service_may_say_when_to_come_back() -> None:
    error = problems.refusal(answer(503, b"", {"retry-after": "7"}))
    assert isinstance(error, ServiceFailed)
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\nb\tc\r\nd", "a b c d"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00\x07\x08b\x7f\x9b31m", "ab31m"),
        ("user\u202egnp.exe\u2066\u200f\u200b", "usergnp.exe"),
        ("镜像 naïve", "镜像 naïve"),
        ("x" * 501, "x" * 499 + "…"),
    ],
)
def test_foreign_text_is_made_harmless(text: str, cleaned: str) -> None:
    assert problems.clean(text) == cleaned
    error = problems.refusal(answer(400, {"error_code": "X", "error_msg": text}, {"x-request-id": text}))
    assert error.message == cleaned
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)


def _subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))}


HTTPX = sorted(
    {
        kind
        for root in (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
        for kind in _subclasses(root)
        if kind.__module__.startswith("httpx")
    },
    key=lambda kind: kind.__name__,
)
# What they have in common only: nobody raises them.
ABSTRACT = {httpx.RequestError, httpx.TransportError, httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError}


def test_every_public_exception_of_httpx_is_among_them() -> None:
    public = {getattr(httpx, name) for name in httpx.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)} <= set(HTTPX)
    assert all(issubclass(kind, failures.FOREIGN) for kind in HTTPX)


@pytest.mark.parametrize("kind", [kind for kind in HTTPX if kind not in ABSTRACT], ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_has_a_meaning_of_its_own(kind: type[BaseException]) -> None:
    assert kind in failures._MEANING


@pytest.mark.parametrize("kind", HTTPX, ids=lambda kind: kind.__name__)
def test_only_what_never_left_is_called_not_sent(kind: type[Exception]) -> None:
    never_left = {
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
    }
    error = kind.__new__(kind)
    Exception.__init__(error, "why \x1b[31m")
    found = failures.translate(error, operations.RECREATE, "RecreateServerImage for server x")
    assert isinstance(found, RequestNotSent) == (kind in never_left)
    assert isinstance(found, CloudError)
    assert isinstance(found, RequestNotSent | OutcomeUnknown | BadAnswer)
    assert found.operation == "RecreateServerImage"
    assert found.summary.startswith("RecreateServerImage for server x: ")
    assert "\x1b" not in found.summary


def test_failures_below_httpx_are_known() -> None:
    assert isinstance(failures.translate(TimeoutError(), operations.RECREATE, "x"), OutcomeUnknown)
    assert isinstance(failures.translate(ConnectionResetError("r"), operations.RECREATE, "x"), OutcomeUnknown)

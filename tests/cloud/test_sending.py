"""Slots, the brake, retries, the log, and everything that must not be sent."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import nullcontext

import httpx
import pytest

from reconciler.cloud import operations, sending
from reconciler.cloud.endpoints import Service
from reconciler.cloud.operations import Call
from reconciler.cloud.retry import RetryPolicy
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    CloudError,
    OutcomeUnknown,
    RequestNotSent,
    ServiceFailed,
    Throttled,
    UsageError,
)
from reconciler.model.observed import ObservedImage
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import (
    KEYS,
    PASSWORD,
    PROJECT,
    SECRETS,
    TOKEN,
    Cloud,
    nothing,
    ok,
    refused,
    script,
    server,
    token_answer,
)

pytestmark = pytest.mark.anyio

LIST = Call(operations.LIST_SERVERS, project_id=PROJECT)
NO_SERVERS = {"count": 0, "items": []}
SPEC = ImageSpec("image-1")


@pytest.mark.parametrize(
    "failure",
    [
        refused(429, "APIGW.0308"),
        refused(500),
        refused(502),
        refused(503),
        refused(504),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("gone"),
    ],
)
async def test_a_read_is_repeated(failure: httpx.Response | Exception) -> None:
    cloud = Cloud(script(failure, failure, ok(NO_SERVERS)))
    await cloud.sender.send(LIST)
    assert [exchange.attempt for exchange in cloud.exchanges] == [1, 2, 3]
    assert cloud.sender.sent.total() == 3
    assert len(cloud.time.slept) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 501])
async def test_a_definite_refusal_is_not_repeated(status: int) -> None:
    cloud = Cloud(script(refused(status)))
    with pytest.raises(CloudError) as caught:
        await cloud.sender.send(LIST)
    assert caught.value.status == status
    assert cloud.time.slept == []


async def test_repetitions_end() -> None:
    cloud = Cloud(lambda _: refused(503))
    with pytest.raises(ServiceFailed):
        await cloud.sender.send(LIST)
    assert len(cloud.requests) == 6


async def test_every_attempt_is_signed_anew() -> None:
    cloud = Cloud(script(refused(503), ok(NO_SERVERS)))
    cloud.time.passed = 10.0

    async def wait(seconds: float) -> None:
        del seconds
        cloud.time.passed += 30

    cloud.clock.sleep = wait
    await cloud.sender.send(LIST)
    assert [request.headers["X-Sdk-Date"] for request in cloud.requests] == ["20261025T120010Z", "20261025T120040Z"]
    assert len({request.headers["Authorization"] for request in cloud.requests}) == 2


async def test_the_clouds_clock_is_used_once_it_is_known() -> None:
    cloud = Cloud(script(ok(NO_SERVERS, headers={"Date": "Sun, 25 Oct 2026 13:00:00 GMT"}), ok(NO_SERVERS)))
    await cloud.sender.send(LIST)
    await cloud.sender.send(LIST)
    assert cloud.client.clock_offset.total_seconds() == 3600
    assert [request.headers["X-Sdk-Date"] for request in cloud.requests] == ["20261025T120000Z", "20261025T130000Z"]


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Oct 2026 13:00:00 GMT", "0"])
async def test_a_bad_date_changes_nothing(date: str) -> None:
    cloud = Cloud(script(ok(NO_SERVERS, headers={"Date": date})))
    await cloud.sender.send(LIST)
    assert cloud.client.clock_offset.total_seconds() == 0


async def test_one_throttled_request_brakes_all() -> None:
    started = asyncio.Event()
    message = "policy user over ratelimit,limit:100,time:1 minute"
    times: list[float] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        times.append(cloud.time.passed)
        if len(times) == 1:
            started.set()
            return refused(429, "APIGW.0308", message)
        return ok(NO_SERVERS)

    cloud = Cloud(handler, max_requests=1)
    first = asyncio.create_task(cloud.sender.send(LIST))
    await started.wait()
    await asyncio.gather(first, *(cloud.sender.send(LIST) for _ in range(20)))
    assert times[0] == 0
    assert all(time > 60 for time in times[1:])
    assert len(times) == 22


async def test_a_throttled_build_brakes_too_but_is_not_repeated() -> None:
    cloud = Cloud(script(refused(429, "APIGW.0308", "limit:1,time:9 second"), ok(NO_SERVERS)))
    with pytest.raises(Throttled) as caught:
        await cloud.client.recreate_image("s1", SPEC, before_send=nothing)
    assert caught.value.retry_after == 9
    assert cloud.time.slept == []
    await cloud.sender.send(LIST)
    assert cloud.time.slept[0] >= 9


async def test_a_request_that_queued_for_long_is_signed_again() -> None:
    cloud = Cloud(script(ok(NO_SERVERS)))
    cloud.sender._braked_until = 1200.0
    await cloud.sender.send(LIST)
    (request,) = cloud.requests
    assert request.headers["X-Sdk-Date"] == "20261025T122000Z"
    assert cloud.exchanges[0].attempt == 1


async def test_a_token_request_that_queued_for_long_is_made_again() -> None:
    cloud = Cloud(script(token_answer(), ok(NO_SERVERS)), credentials=PASSWORD)
    cloud.sender._braked_until = 1200.0
    await cloud.sender.send(LIST)
    assert len(cloud.requests) == 2


async def test_requests_on_the_wire_are_bounded() -> None:
    now, most = 0, 0

    async def handler(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now -= 1
        return ok(NO_SERVERS)

    cloud = Cloud(handler, max_requests=5)
    await cloud.sender.send(LIST)
    await asyncio.gather(*(cloud.sender.send(LIST) for _ in range(60)))
    assert most == 5


async def test_waiting_holds_no_slot() -> None:
    """With one slot, a request that waits to be repeated must let another one pass."""
    asleep = asyncio.Event()
    awake = asyncio.Event()
    order: list[str] = []

    async def sleep(seconds: float) -> None:
        del seconds
        asleep.set()
        await awake.wait()

    def handler(request: httpx.Request) -> httpx.Response:
        order.append(request.url.query.decode())
        return refused(503) if order == ["a=1"] else ok(NO_SERVERS)

    cloud = Cloud(handler, max_requests=1)
    cloud.clock.sleep = sleep
    waiting = asyncio.create_task(cloud.sender.send(Call(operations.LIST_SERVERS, {}, {"a": "1"}, None, PROJECT)))
    await asleep.wait()
    await cloud.sender.send(Call(operations.LIST_SERVERS, {}, {"b": "1"}, None, PROJECT))
    awake.set()
    await waiting
    assert order == ["a=1", "b=1", "a=1"]


async def test_a_cancelled_request_gives_its_slot_back() -> None:
    started = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if len(cloud.requests) == 1:
            started.set()
            await asyncio.Event().wait()
        return ok(NO_SERVERS)

    cloud = Cloud(handler, max_requests=1)
    hanging = asyncio.create_task(cloud.sender.send(LIST))
    await started.wait()
    hanging.cancel()
    await cloud.sender.send(LIST)
    assert [(exchange.status, exchange.problem) for exchange in cloud.exchanges] == [(0, "cancelled"), (200, "")]


async def test_before_send_comes_last() -> None:
    """Slot won, brake released, token obtained: only then, and once."""
    events: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        events.append(f"{request.method} {request.url.host.split('.')[0]} at {cloud.time.passed:.0f}")
        return token_answer() if request.url.host.startswith("iam") else ok({"job_id": "1"})

    async def before_send() -> None:
        events.append(f"intent at {cloud.time.passed:.0f}, free slot: {not cloud.sender._slots.locked()}")

    cloud = Cloud(handler, credentials=PASSWORD, max_requests=1)
    cloud.sender._braked_until = 30.0
    assert await cloud.client.recreate_image("s1", SPEC, before_send=before_send) == "1"
    assert events == ["POST iam at 30", "intent at 30, free slot: False", "POST appstream at 30"]


async def test_before_send_waits_for_a_brake_that_came_while_it_queued() -> None:
    entered = asyncio.Event()
    times: list[float] = []

    async def handler(request: httpx.Request) -> httpx.Response:
        if len(cloud.requests) == 1:
            entered.set()
            await asyncio.sleep(0)
            return refused(429, "APIGW.0308", "limit:1,time:9 second")
        return ok({"job_id": "1", **NO_SERVERS})

    async def before_send() -> None:
        times.append(cloud.time.passed)

    cloud = Cloud(handler, max_requests=1)
    first = asyncio.create_task(cloud.client.recreate_image("s1", SPEC, before_send=nothing))
    await entered.wait()
    await cloud.client.recreate_image("s2", SPEC, before_send=before_send)
    with pytest.raises(Throttled):
        await first
    assert len(times) == 1
    assert times[0] >= 9


async def test_what_before_send_raises_prevents_sending() -> None:
    async def before_send() -> None:
        raise OSError("disk full")

    cloud = Cloud(script(), max_requests=1)
    with pytest.raises(OSError, match="disk full"):
        await cloud.client.recreate_image("s1", SPEC, before_send=before_send)
    assert cloud.requests == []
    assert cloud.client.requests_sent == 0
    # And the slot is free again.
    assert not cloud.sender._slots.locked()


@pytest.mark.parametrize("bad_id", ["", "a/b", "..", ".", "a.b", "a b", "a?b", "a#b", "%2e%2e", "x" * 129, "a\n", "é"])
async def test_what_is_no_id_reaches_no_path(bad_id: str) -> None:
    cloud = Cloud(script())
    for call in (
        cloud.client.show_server(bad_id),
        cloud.client.recreate_image(bad_id, SPEC, before_send=nothing),
        cloud.client.show_job(bad_id),
        cloud.client.show_image(bad_id),
        cloud.client.edit_image(ObservedImage(bad_id, "a"), name="b", description=""),
        cloud.client.delete_image(bad_id),
    ):
        with pytest.raises(UsageError, match="is not a"):
            await call
    cloud.client.project_id = bad_id
    with pytest.raises(UsageError):
        await cloud.client.list_servers()
    assert cloud.requests == []


async def test_a_request_for_another_host_is_not_sent() -> None:
    cloud = Cloud(script())
    cloud.sender._http = httpx.AsyncClient(transport=httpx.MockTransport(cloud._answer))
    moved = operations.Operation("X", Service.IMS, "GET", "@evil.example.com/")
    with pytest.raises(CloudError, match="would have gone to"):
        await cloud.sender.send(Call(moved))
    assert cloud.requests == []


async def test_the_query_is_encoded_as_it_is_signed() -> None:
    cloud = Cloud(script(ok({"images": []})))
    await cloud.client.list_images(name="Office 镜像+1~a&b=c")
    (path,) = cloud.paths
    assert path == (
        "/v2/cloudimages?__imagetype=private&enterprise_project_id=all_granted_eps&limit=500"
        "&name=Office%20%E9%95%9C%E5%83%8F%2B1~a%26b%3Dc"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 300])
async def test_redirects_are_not_followed(status: int) -> None:
    cloud = Cloud(script(httpx.Response(status, headers={"Location": "https://evil.example.com/"})))
    with pytest.raises(BadAnswer, match="redirect"):
        await cloud.sender.send(LIST)
    assert len(cloud.requests) == 1


async def test_a_huge_body_is_not_read_to_its_end() -> None:
    read = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 1
                yield b"x" * 1024 * 1024

    cloud = Cloud(lambda _: httpx.Response(200, stream=Endless()))
    with pytest.raises(BadAnswer, match="larger than 16 MiB"):
        await cloud.sender.send(LIST)
    assert read == 17


async def test_an_exchange_is_bounded_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "LONGEST_EXCHANGE", 0.01)

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    cloud = Cloud(handler)
    with pytest.raises(OutcomeUnknown, match="no complete answer in time"):
        await cloud.client.recreate_image("s1", SPEC, before_send=nothing)


async def test_cookies_are_not_kept_and_no_default_header_is_signed() -> None:
    cloud = Cloud(script(ok(NO_SERVERS)))
    await cloud.sender.send(LIST)
    (request,) = cloud.requests
    assert "SignedHeaders=content-type;host;x-project-id;x-sdk-date," in request.headers["Authorization"]
    assert request.headers["X-Project-Id"] == PROJECT


async def test_no_request_after_some_refused_ones_in_a_row() -> None:
    """Six in a row would lock the key."""
    cloud = Cloud(lambda _: refused(401, "APIGW.0301", "Incorrect IAM authentication information"))
    for _ in range(10):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
    assert len(cloud.requests) == 3
    with pytest.raises(AuthenticationFailed) as caught:
        await cloud.client.list_servers()
    assert "not sent after 3 refused ones" in caught.value.summary
    assert "HW_ACCESS_KEY" in caught.value.hint
    with pytest.raises(AuthenticationFailed):
        await cloud.client.recreate_image("s1", SPEC, before_send=nothing)
    assert len(cloud.requests) == 3


async def test_a_taken_request_forgets_the_refused_ones() -> None:
    cloud = Cloud(lambda _: refused(401) if len(cloud.requests) % 3 else ok(NO_SERVERS))
    for number in range(12):
        with pytest.raises(AuthenticationFailed) if (number + 1) % 3 else nullcontext():
            await cloud.client.list_servers()
    assert len(cloud.requests) == 12


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_an_error_in_between_proves_nothing(status: int) -> None:
    """A gateway may refuse for other reasons before it looks at the credentials."""
    policy = RetryPolicy(attempts=1, throttled_attempts=1)
    cloud = Cloud(lambda _: refused(status) if len(cloud.requests) % 2 else refused(401), policy=policy)
    for _ in range(20):
        with pytest.raises(CloudError):
            await cloud.client.list_servers()
    assert [len(cloud.requests), sum(one.status == 401 for one in cloud.exchanges)] == [6, 3]


async def test_wrong_keys_are_not_sent_by_all_requests_at_once() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)
        return refused(401, "APIGW.0301")

    cloud = Cloud(handler)
    failures = await asyncio.gather(*(cloud.client.list_servers() for _ in range(100)), return_exceptions=True)
    assert all(isinstance(failure, AuthenticationFailed) for failure in failures)
    assert len(cloud.requests) == 3


async def test_keys_that_are_refused_later_are_sent_by_those_on_the_wire_and_then_no_more() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)
        return ok(NO_SERVERS) if len(cloud.requests) == 1 else refused(401, "APIGW.0301")

    cloud = Cloud(handler, max_requests=4)
    await cloud.client.list_servers()
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(100)), return_exceptions=True)
    assert len(cloud.requests) == 1 + 4


async def test_the_log_has_what_support_asks_for() -> None:
    cloud = Cloud(script(refused(404, headers={"X-Request-Id": "req-1\x1b[31m"})))
    with pytest.raises(CloudError):
        await cloud.client.show_job("7")
    (exchange,) = cloud.exchanges
    assert exchange.operation == "ShowImageJob"
    assert (exchange.method, exchange.path) == ("GET", f"/v1/{PROJECT}/image-server-jobs/7")
    assert (exchange.status, exchange.request_id, exchange.attempt) == (404, "req-1", 1)


@pytest.mark.parametrize("credentials", [KEYS, TOKEN, PASSWORD], ids=["keys", "token", "password"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
async def test_no_secret_shows(
    credentials: type, status: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host.startswith("iam"):
            return token_answer()
        return ok({"items": [server(1)]}) if status == 200 else refused(status, "APIGW.0301")

    cloud = Cloud(handler, credentials=credentials)  # type: ignore[arg-type]
    shown: list[object] = [credentials, cloud.auth, cloud.sender, cloud.client, vars(cloud.auth)]
    try:
        await cloud.client.list_servers()
    except CloudError as error:
        current: BaseException | None = error
        while current is not None:
            shown += [current, current.args, vars(current)]
            current = current.__cause__ or current.__context__
    shown += [cloud.exchanges, cloud.requests, caplog.text, *capsys.readouterr()]
    text = " ".join(f"{item!s} {item!r}" for item in shown)
    assert not [secret for secret in SECRETS if secret in text]


async def test_connection_failures_name_what_to_check() -> None:
    cloud = Cloud(lambda _: httpx.Response(200), policy=None)
    cloud.handler = script(*[httpx.ConnectError("[Errno -2] Name or service not known")] * 6)
    with pytest.raises(RequestNotSent) as caught:
        await cloud.client.list_servers()
    assert "IMGCTL_ENDPOINT" in caught.value.hint
    assert "HTTPS_PROXY" in caught.value.hint


async def test_the_body_is_compact_utf8() -> None:
    cloud = Cloud(script(ok({"job_id": "1"})))
    spec = ImageSpec("镜像 2026", "制作", execute_sysprep=False, triggers={"gpu": "1"})
    await cloud.client.recreate_image("s1", spec, before_send=nothing)
    assert cloud.requests[0].content == '{"name":"镜像 2026","description":"制作","execute_sysprep":false}'.encode()
    assert json.loads(cloud.requests[0].content)["name"] == "镜像 2026"


async def test_who_waits_is_told_why_a_request_is_sent_again() -> None:
    told: list[tuple[str, float, float]] = []
    cloud = Cloud(script(httpx.ReadTimeout("slow"), refused(503), ok({"items": []})))
    cloud.sender._on_repeat = lambda error, took, delay: told.append((error.summary, took, delay))
    await cloud.client.list_servers()
    assert [summary.partition(":")[0] for summary, _, _ in told] == ["ListImageServers"] * 2
    assert "no answer in time" in told[0][0]
    assert [delay for _, _, delay in told] == cloud.time.slept

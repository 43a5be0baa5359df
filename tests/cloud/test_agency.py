"""Keys that end: those of an ECS instance's agency, and those of a file that somebody renews."""

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

import httpx
import pytest

from reconciler.cloud.connect import _http_client, open_client
from reconciler.cloud.credentials import AgencyCredentials, KeyCredentials, Secret
from reconciler.cloud.endpoints import Endpoints
from reconciler.cloud.settings import resolve_settings
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    NotFound,
    OutcomeUnknown,
    RequestNotSent,
    ServiceFailed,
    UsageError,
)
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import REGION, SECRETS, START, Cloud, nothing, ok, refused, script, server

pytestmark = pytest.mark.anyio

AGENCY = AgencyCredentials()
SERVERS = {"items": [server(1)]}
EXPIRED = ("APIGW.0301", "Incorrect IAM authentication information: the security token has expired")
NO_AGENCY = httpx.Response(401, text="Please configure Cloud Service Agency first")


def text(status: int, body: str = "") -> httpx.Response:
    return httpx.Response(status, text=body)


def keys_answer(number: int, expires_at: datetime | None) -> httpx.Response:
    credential = {"access": f"AK{number}", "secret": "sk-very-secret", "securitytoken": f"sts-very-secret-{number}"}
    ends = expires_at.isoformat().replace("+00:00", "Z") if expires_at else "never"
    return ok({"credential": {**credential, "expires_at": ends}})


def access_key(request: httpx.Request) -> str:
    return request.headers["Authorization"].partition("Access=")[2].partition(",")[0]


class Instance:
    """The metadata service and the gateway. Every answer has the next keys, good for `life` from the time of asking."""

    def __init__(self, life: float = 3600.0) -> None:
        self.life = life
        self.tokens = 0
        self.issued = 0
        self.failure: Callable[[], httpx.Response | Exception] | None = None
        self.refused: set[str] = set()
        self.cloud: Cloud | None = None
        self.used: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert self.cloud is not None
        if request.url.host == "169.254.169.254":
            assert "Authorization" not in request.headers
            if self.failure is not None:
                failure = self.failure()
                if isinstance(failure, Exception):
                    raise failure
                return failure
            if request.method == "PUT":
                assert request.headers["X-Metadata-Token-Ttl-Seconds"] == "21600"
                self.tokens += 1
                return text(200, f"metadata-token-{self.tokens}")
            assert request.headers["X-Metadata-Token"] == f"metadata-token-{self.tokens}"
            self.issued += 1
            return keys_answer(self.issued, self.cloud.clock.now() + timedelta(seconds=self.life))
        self.used.append(access_key(request))
        assert request.headers["X-Security-Token"] == f"sts-very-secret-{self.used[-1][2:]}"
        return refused(401, *EXPIRED) if self.used[-1] in self.refused else ok({**SERVERS, "job_id": "1"})


def instance_cloud(life: float = 3600.0) -> tuple[Instance, Cloud]:
    instance = Instance(life)
    cloud = Cloud(instance, credentials=AGENCY)
    instance.cloud = cloud
    return instance, cloud


async def test_keys_are_obtained_with_a_token_and_used() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    await cloud.client.list_servers()
    assert [str(request.url) for request in cloud.requests[:2]] == [
        "http://169.254.169.254/meta-data/latest/api/token",
        "http://169.254.169.254/openstack/latest/securitykey",
    ]
    assert (instance.tokens, instance.issued, instance.used) == (1, 1, ["AK1", "AK1"])
    assert cloud.requests[0].extensions["timeout"]["connect"] == 3


@pytest.mark.parametrize("status", [404, 405, 503])
async def test_a_service_without_tokens_is_asked_without(status: int) -> None:
    cloud = Cloud(script(text(status), keys_answer(1, None), ok(SERVERS)), credentials=AGENCY)
    await cloud.client.list_servers()
    assert "X-Metadata-Token" not in cloud.requests[1].headers


async def test_a_token_that_is_over_is_replaced_once() -> None:
    soon = START + timedelta(seconds=100)
    answers = (text(200, "t1"), keys_answer(1, soon), ok(SERVERS), text(401), text(200, "t2"), keys_answer(2, None))
    cloud = Cloud(script(*answers, ok(SERVERS)), credentials=AGENCY)
    await cloud.client.list_servers()
    cloud.time.passed = 90
    await cloud.client.list_servers()
    assert [request.headers.get("X-Metadata-Token") for request in cloud.requests[3:6]] == ["t1", None, "t2"]
    assert access_key(cloud.requests[-1]) == "AK2"


async def test_fifty_requests_one_renewal() -> None:
    instance, _ = instance_cloud()

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return instance(request)

    cloud = Cloud(handler, credentials=AGENCY)
    instance.cloud = cloud
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert instance.issued == 1
    cloud.time.passed = 3600 - 601
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert instance.issued == 1
    cloud.time.passed = 3600 - 600
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert instance.issued == 2
    assert instance.used.count("AK2") == 50


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("slow"),
        text(500),
        text(404),
        NO_AGENCY,
        text(200, "<html>"),
        ok({"credential": {}}),
    ],
)
async def test_a_failed_renewal_does_not_throw_away_good_keys(failure: httpx.Response | Exception) -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.failure = lambda: failure
    cloud.time.passed = 3600 - 599
    await cloud.client.list_servers()
    await cloud.client.list_servers()
    asked = sum(request.url.host == "169.254.169.254" for request in cloud.requests)
    # Not for every request: later, and more often towards the end.
    cloud.time.passed = 3600 - 500
    await cloud.client.list_servers()
    assert sum(request.url.host == "169.254.169.254" for request in cloud.requests) == asked
    cloud.time.passed = 3600 - 140
    await cloud.client.list_servers()
    assert sum(request.url.host == "169.254.169.254" for request in cloud.requests) > asked
    assert set(instance.used) == {"AK1"}
    # Back again, before their end: the new ones are used.
    instance.failure = None
    cloud.time.passed = 3600 - 30
    await cloud.client.list_servers()
    assert instance.used[-1] == "AK2"


async def test_keys_that_are_over_cannot_be_used() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.failure = lambda: httpx.ConnectError("no")
    cloud.time.passed = 3601
    intents: list[str] = []

    async def before_send() -> None:
        intents.append("written")

    with pytest.raises(RequestNotSent, match="MetadataSecurityKey"):
        await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=before_send)
    assert intents == []


async def test_a_life_shorter_than_the_margin_is_used_up_to_its_last_quarter() -> None:
    instance, cloud = instance_cloud(life=100)
    for passed, issued in ((0, 1), (50, 1), (74, 1), (75, 2), (149, 2), (150, 3)):
        cloud.time.passed = passed
        await cloud.client.list_servers()
        assert instance.issued == issued


async def test_refused_keys_are_replaced_once_and_never_in_a_loop() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    await cloud.client.list_servers()
    assert instance.used == ["AK1", "AK1", "AK2"]
    instance.refused = {"AK1", "AK2", "AK3", "AK4", "AK5", "AK6"}
    for _ in range(6):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
    # AK2 was good and is replaced; AK3 never was, so there is nothing to hope for.
    assert instance.issued == 3
    assert len(instance.used) <= 3 + 2 + 3


async def test_keys_that_end_under_a_hundred_requests_are_replaced_for_all_of_them() -> None:
    """Those that wait do not fail for the refusals of the others: new keys are on their way."""
    instance, _ = instance_cloud()

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)
        return instance(request)

    cloud = Cloud(handler, credentials=AGENCY)
    instance.cloud = cloud
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(100)))
    assert instance.issued == 2
    assert instance.used.count("AK1") == 1 + 16
    assert instance.used.count("AK2") == 100


async def test_the_same_keys_again_are_no_new_ones() -> None:
    """Whatever the metadata service answers, refused keys are not sent for ever."""
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    instance.issued = 0
    for _ in range(10):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
        instance.issued = 0
    assert instance.used == ["AK1"] * (1 + 3)


async def test_a_new_token_without_new_keys_changes_nothing() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    instance.failure = lambda: text(401 if cloud.requests[-1].method == "GET" else 200, "a-token")
    for _ in range(10):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
    assert instance.used == ["AK1"] * (1 + 3)


async def test_a_build_refused_for_old_keys_is_not_repeated_but_said_to_be_repeatable() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    with pytest.raises(AuthenticationFailed) as caught:
        await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=nothing)
    assert caught.value.renewed
    assert instance.used == ["AK1", "AK1"]
    assert await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=nothing) == "1"
    assert instance.used[-1] == "AK2"


async def test_a_refusal_without_new_keys_is_not_repeatable() -> None:
    instance, cloud = instance_cloud()
    await cloud.client.list_servers()
    instance.refused = {"AK1"}
    instance.failure = lambda: NO_AGENCY
    with pytest.raises(AuthenticationFailed) as caught:
        await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=nothing)
    assert not caught.value.renewed
    assert "RecreateServerImage" in caught.value.summary


@pytest.mark.parametrize(
    ("answers", "kind", "words"),
    [
        ((text(404), NO_AGENCY), AuthenticationFailed, "has no agency"),
        ((text(404), text(404)), NotFound, "no ECS instance of Huawei Cloud"),
        ((text(200, "t"), text(401, "who are you")), AuthenticationFailed, "agency and its permissions"),
        ((text(400),), Exception, "agency and its permissions"),
        ((text(200, ""),), BadAnswer, ""),
        ((text(200, "a b"),), BadAnswer, ""),
        ((text(200, "x" * 10_000),), BadAnswer, ""),
        ((text(404), text(200, "<html>")), BadAnswer, ""),
        ((text(404), ok({"credential": {"access": "A"}})), BadAnswer, ""),
        ((text(404), ok({"credential": {"access": 1, "secret": "s", "securitytoken": "t"}})), BadAnswer, ""),
        ((text(404), *[text(500)] * 3), ServiceFailed, ""),
        ((httpx.ConnectError("no"),), RequestNotSent, ""),
        ((httpx.ReadTimeout("slow"),) * 3, OutcomeUnknown, ""),
    ],
)
async def test_what_the_metadata_service_may_say(
    answers: tuple[httpx.Response | Exception, ...], kind: type[Exception], words: str
) -> None:
    cloud = Cloud(script(*answers), credentials=AGENCY)
    with pytest.raises(kind) as caught:
        await cloud.client.list_servers()
    assert words in getattr(caught.value, "hint", "")
    assert len(cloud.requests) == len(answers)


async def test_nobody_there_is_found_out_with_one_request() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ConnectTimeout("timed out")

    settings = resolve_settings({"HW_REGION_NAME": REGION})
    with pytest.raises(UsageError) as caught:
        await open_client(settings, transport=httpx.MockTransport(handler))
    assert len(requests) == 1
    assert caught.value.summary == "no credentials found"
    for tried in ("IMGCTL_*", "HW_*", "HUAWEICLOUD_SDK_*", "ECS metadata service", "no connection in time"):
        assert tried in caught.value.hint
    for way in ("HW_ACCESS_KEY", "HUAWEICLOUD_SDK_AK", "HW_AUTH_TOKEN", "HW_USER_PASSWORD", "agency"):
        assert way in caught.value.hint


async def test_an_instance_without_an_agency_is_told_so() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return text(404) if request.method == "PUT" else NO_AGENCY

    with pytest.raises(UsageError) as caught:
        await open_client(resolve_settings({"HW_REGION_NAME": REGION}), transport=httpx.MockTransport(handler))
    assert "this ECS instance has no agency" in caught.value.hint
    named = dataclasses.replace(
        resolve_settings({"HW_REGION_NAME": REGION}), credentials=AgencyCredentials("the metadata service, as x asks")
    )
    with pytest.raises(UsageError, match="as x asks, has no keys") as caught:
        await open_client(named, transport=httpx.MockTransport(handler))
    assert "this ECS instance has no agency" in caught.value.hint


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
async def test_no_proxy_is_between_us_and_the_metadata_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    endpoints = Endpoints.for_region(REGION, {})
    async with _http_client(endpoints, None, 16) as http:
        direct = http._transport_for_url(httpx.URL("http://169.254.169.254/openstack/latest/securitykey"))
        assert direct is http._transport
        assert http._transport_for_url(httpx.URL("http://169.254.169.253/")) is not http._transport


async def test_the_metadata_services_clock_is_not_the_gateways() -> None:
    date = {"Date": "Sun, 25 Oct 2026 20:00:00 GMT"}
    keys = keys_answer(1, None)
    keys.headers.update(date)
    cloud = Cloud(script(text(404), keys, ok(SERVERS)), credentials=AGENCY)
    await cloud.client.list_servers()
    assert cloud.client.clock_offset == timedelta(0)


async def test_a_flow_cannot_be_led_to_another_host() -> None:
    cloud = Cloud(script(), credentials=AGENCY)
    cloud.auth._url = "http://evil.example.com"  # type: ignore[union-attr]
    with pytest.raises(Exception, match="would have gone to evil"):
        await cloud.client.list_servers()
    assert cloud.requests == []


async def test_no_secret_shows(capsys: pytest.CaptureFixture[str]) -> None:
    _, cloud = instance_cloud()
    await cloud.client.list_servers()
    shown = [cloud.auth, vars(cloud.auth), cloud.exchanges, cloud.requests, AGENCY, *capsys.readouterr()]
    joined = " ".join(f"{item!s} {item!r}" for item in shown)
    assert not [secret for secret in (*SECRETS, "sts-very-secret-1") if secret in joined]


# --- Keys of a file


class File:
    """A file of temporary keys, and how often it was read."""

    def __init__(self) -> None:
        self.number = 1
        self.reads = 0
        self.unreadable = False
        self.expires_at: datetime | None = None

    def read(self) -> KeyCredentials:
        self.reads += 1
        if self.unreadable:
            raise UsageError("half written")
        token = Secret(f"sts-very-secret-{self.number}")
        return KeyCredentials(f"AK{self.number}", Secret("s"), "file", token, self.expires_at, self.read)


def file_cloud(file: File) -> tuple[Instance, Cloud]:
    gateway = Instance()
    cloud = Cloud(gateway, credentials=file.read())
    gateway.cloud = cloud
    file.reads = 0
    return gateway, cloud


async def test_a_refused_key_is_read_again_and_used_where_it_is_another() -> None:
    file = File()
    gateway, cloud = file_cloud(file)
    await cloud.client.list_servers()
    assert file.reads == 0
    gateway.refused = {"AK1"}
    file.number = 2
    await cloud.client.list_servers()
    assert (gateway.used, file.reads) == (["AK1", "AK1", "AK2"], 1)
    gateway.refused = {"AK1", "AK2"}
    with pytest.raises(AuthenticationFailed):
        await cloud.client.list_servers()
    assert (gateway.used[3:], file.reads) == (["AK2"], 2)


async def test_many_requests_with_an_old_key_do_not_block_the_new_one() -> None:
    """Sixteen refusals at once are more than what counts as one too many, but of a key that is gone."""
    file = File()
    gateway, _ = file_cloud(file)

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return gateway(request)

    cloud = Cloud(handler, credentials=file.read())
    gateway.cloud = cloud
    gateway.refused, file.number = {"AK1"}, 2
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(40)))
    assert gateway.used.count("AK2") == 40


async def test_a_file_that_cannot_be_read_changes_nothing() -> None:
    file = File()
    gateway, cloud = file_cloud(file)
    gateway.refused, file.unreadable = {"AK1"}, True
    for _ in range(5):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
    assert gateway.used == ["AK1"] * 3


async def test_keys_about_to_end_are_read_again() -> None:
    file = File()
    file.expires_at = START + timedelta(hours=1)
    gateway, cloud = file_cloud(file)
    await cloud.client.list_servers()
    cloud.time.passed = 3600 - 601
    await cloud.client.list_servers()
    assert file.reads == 0
    # Nothing new yet: looked at from time to time, and the old ones are used.
    cloud.time.passed = 3600 - 590
    await cloud.client.list_servers()
    await cloud.client.list_servers()
    assert (file.reads, gateway.used[-1]) == (1, "AK1")
    file.number, file.expires_at = 2, START + timedelta(hours=2)
    cloud.time.passed = 3600 - 500
    await cloud.client.list_servers()
    assert (file.reads, gateway.used[-1]) == (2, "AK2")


async def test_a_permanent_key_takes_the_temporary_ones_place() -> None:
    permanent = KeyCredentials("AK9", Secret("s"), "file")
    temporary = KeyCredentials("AK1", Secret("s"), "file", Secret("sts"), read_again=lambda: permanent)
    cloud = Cloud(script(refused(401, *EXPIRED), ok(SERVERS)), credentials=temporary)
    await cloud.client.list_servers()
    assert access_key(cloud.requests[0]) == "AK9"
    assert "X-Security-Token" not in cloud.requests[1].headers
    assert "x-security-token" not in cloud.requests[1].headers["Authorization"]


def test_advice_says_who_can_renew() -> None:
    temporary = KeyCredentials("AK", Secret("s"), "HW_ACCESS_KEY", Secret("t"))
    assert "cannot be renewed" in temporary.advice
    assert "reads it again" in dataclasses.replace(temporary, read_again=lambda: temporary).advice
    assert "expired" not in KeyCredentials("AK", Secret("s"), "HW_ACCESS_KEY").advice

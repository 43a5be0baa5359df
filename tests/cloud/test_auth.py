"""The flows, driven by hand and by the sender."""

import asyncio
import json

import httpx
import pytest

from reconciler.cloud.credentials import AgencyCredentials, Credentials, KeyCredentials, PasswordCredentials, Secret
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    CloudError,
    PermissionDenied,
    RequestNotSent,
    ServiceFailed,
    Throttled,
)
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import PASSWORD, PROJECT, TOKEN, Cloud, nothing, ok, refused, script, server, token_answer

pytestmark = pytest.mark.anyio

SERVERS = {"items": [server(1)]}
OUTDATED = ("APIGW.0307", "The token must be updated.")


class Gateway:
    """Takes one token at a time; every token request makes the next one valid."""

    def __init__(self) -> None:
        self.issued = 0
        self.valid: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host.startswith("iam"):
            self.issued += 1
            self.valid = f"token-{self.issued}"
            return token_answer(self.valid)
        return ok(SERVERS) if request.headers["X-Auth-Token"] == self.valid else refused(401, *OUTDATED)


async def test_a_given_token_is_sent() -> None:
    cloud = Cloud(script(ok(SERVERS)), credentials=TOKEN)
    await cloud.client.list_servers()
    assert cloud.requests[0].headers["X-Auth-Token"] == "token-very-secret"
    assert "Authorization" not in cloud.requests[0].headers


async def test_a_temporary_key_sends_and_signs_its_token() -> None:
    keys = KeyCredentials("AK", Secret("SK"), "x", Secret("sts"))
    cloud = Cloud(script(ok(SERVERS)), credentials=keys)
    await cloud.client.list_servers()
    headers = cloud.requests[0].headers
    assert headers["X-Security-Token"] == "sts"
    assert "SignedHeaders=content-type;host;x-project-id;x-sdk-date;x-security-token," in headers["Authorization"]


@pytest.mark.parametrize(
    ("given", "user"),
    [
        (
            PASSWORD,
            {"password": "password-very-secret", "name": "robot", "domain": {"name": "company"}},
        ),
        (
            PasswordCredentials(Secret("p"), "x", user_name="u", domain_id="d1"),
            {"password": "p", "name": "u", "domain": {"id": "d1"}},
        ),
        (PasswordCredentials(Secret("p"), "x", user_id="u1"), {"password": "p", "id": "u1"}),
    ],
)
async def test_the_token_request(given: PasswordCredentials, user: dict[str, object]) -> None:
    cloud = Cloud(script(token_answer(), ok(SERVERS)), credentials=given)
    await cloud.client.list_servers()
    request = cloud.requests[0]
    assert str(request.url) == "https://iam.cn-north-4.myhuaweicloud.com/v3/auth/tokens?nocatalog=true"
    assert json.loads(request.content) == {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"id": PROJECT}},
        }
    }
    assert "X-Auth-Token" not in request.headers
    assert cloud.requests[1].headers["X-Auth-Token"] == "fetched-very-secret"
    # The password goes to IAM only.
    assert b"very-secret" not in cloud.requests[1].content


async def test_one_token_request_for_fifty_requests() -> None:
    gateway = Gateway()

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return gateway(request)

    cloud = Cloud(handler, credentials=PASSWORD)
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert gateway.issued == 1
    assert len(cloud.requests) == 51


async def test_one_renewal_for_fifty_requests() -> None:
    gateway = Gateway()

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return gateway(request)

    cloud = Cloud(handler, credentials=PASSWORD)
    await cloud.client.list_servers()
    gateway.valid = "another"
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert gateway.issued == 2


async def test_renewed_ahead_of_its_end() -> None:
    gateway = Gateway()
    cloud = Cloud(gateway, credentials=PASSWORD)
    await cloud.client.list_servers()
    cloud.time.passed = 24 * 3600 - 601
    await cloud.client.list_servers()
    assert gateway.issued == 1
    cloud.time.passed = 24 * 3600 - 600
    await cloud.client.list_servers()
    assert gateway.issued == 2


async def test_a_token_that_is_never_taken_is_not_replaced_for_ever() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return token_answer() if request.url.host.startswith("iam") else refused(401, *OUTDATED)

    cloud = Cloud(handler, credentials=PASSWORD)
    for _ in range(5):
        with pytest.raises(AuthenticationFailed):
            await cloud.client.list_servers()
    assert cloud.client.requests_by_operation["KeystoneCreateUserTokenByPassword"] == 1


async def test_another_401_does_not_renew() -> None:
    cloud = Cloud(script(token_answer(), ok(SERVERS), refused(401, "APIGW.0301")), credentials=PASSWORD)
    await cloud.client.list_servers()
    with pytest.raises(AuthenticationFailed):
        await cloud.client.list_servers()


async def test_a_refused_password_is_sent_once() -> None:
    """Repeated ones lock the account."""
    body = {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}}
    cloud = Cloud(script(ok(body, 401)), credentials=PASSWORD)
    failures = await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)), return_exceptions=True)
    assert all(isinstance(failure, AuthenticationFailed) for failure in failures)
    assert len(cloud.requests) == 1
    (failure,) = failures[:1]
    assert isinstance(failure, AuthenticationFailed)
    assert "The username or password is wrong." in failure.summary
    assert "HW_USER_NAME" in failure.hint


async def test_the_token_request_is_repeated_where_that_is_harmless() -> None:
    answers = (refused(503), httpx.ReadTimeout("slow"), httpx.ConnectError("no"), refused(429, "APIGW.0308"))
    cloud = Cloud(script(*answers, token_answer(), ok(SERVERS)), credentials=PASSWORD)
    await cloud.client.list_servers()
    assert [exchange.attempt for exchange in cloud.exchanges] == [1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (refused(503), RequestNotSent),
        (httpx.ReadTimeout("slow"), RequestNotSent),
        (ok({}, 201), RequestNotSent),
        (ok({"token": {}}, 201, {"X-Subject-Token": "t"}), RequestNotSent),
        (httpx.Response(302), RequestNotSent),
        (refused(429), Throttled),
        (refused(401), AuthenticationFailed),
        (refused(403), PermissionDenied),
    ],
)
async def test_without_a_token_a_build_is_certainly_not_started(
    failure: httpx.Response | Exception, kind: type[CloudError]
) -> None:
    intents: list[str] = []

    async def before_send() -> None:
        intents.append("written")

    cloud = Cloud(script(*[failure] * 20), credentials=PASSWORD)
    with pytest.raises(kind):
        await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=before_send)
    assert intents == []
    assert "RecreateServerImage" not in cloud.client.requests_by_operation


async def test_a_build_is_not_repeated_with_a_new_token_but_the_next_one_has_it() -> None:
    gateway = Gateway()
    cloud = Cloud(gateway, credentials=PASSWORD)
    await cloud.client.list_servers()
    gateway.valid = "another"
    with pytest.raises(AuthenticationFailed, match=r"APIGW\.0307"):
        await cloud.client.recreate_image("s1", ImageSpec("image"), before_send=nothing)
    assert cloud.client.requests_by_operation["RecreateServerImage"] == 1
    await cloud.client.list_servers()
    assert gateway.issued == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok({"token": {"project": {"id": PROJECT}}}, 201),
        ok({}, 201, {"X-Subject-Token": "t"}),
        ok({"token": {"project": {}}}, 201, {"X-Subject-Token": "t"}),
        ok({"token": {"project": {"id": "../x"}}}, 201, {"X-Subject-Token": "t"}),
        httpx.Response(201, headers={"X-Subject-Token": "t"}, content=b"<html>"),
    ],
)
async def test_unusable_token_answers(answer: httpx.Response) -> None:
    cloud = Cloud(script(answer), credentials=PASSWORD)
    with pytest.raises(BadAnswer, match="KeystoneCreateUserTokenByPassword"):
        await cloud.client.list_servers()


async def test_a_token_without_a_readable_end_is_used_until_it_is_refused() -> None:
    cloud = Cloud(script(token_answer(expires_at="soon"), ok(SERVERS), ok(SERVERS)), credentials=PASSWORD)
    await cloud.client.list_servers()
    cloud.time.passed = 1e6
    await cloud.client.list_servers()


async def test_a_cancelled_token_request_leaves_the_way_free() -> None:
    started = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        if len(cloud.requests) == 1:
            started.set()
            await asyncio.Event().wait()
        return token_answer() if request.url.host.startswith("iam") else ok(SERVERS)

    cloud = Cloud(handler, credentials=PASSWORD)
    first = asyncio.create_task(cloud.client.list_servers())
    await started.wait()
    second = asyncio.create_task(cloud.client.list_servers())
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == 1


async def test_a_token_that_is_still_good_is_used_while_iam_is_down() -> None:
    down = False

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host.startswith("iam"):
            return refused(503) if down else token_answer(f"token-{len(cloud.requests)}")
        return ok(SERVERS)

    cloud = Cloud(handler, credentials=PASSWORD)
    await cloud.client.list_servers()
    down = True
    cloud.time.passed = 24 * 3600 - 590
    await asyncio.gather(*(cloud.client.list_servers() for _ in range(50)))
    assert {request.headers.get("X-Auth-Token") for request in cloud.requests} == {None, "token-1"}
    # One try with its repetitions; the next one later, and more often towards the end.
    assert cloud.client.requests_by_operation["KeystoneCreateUserTokenByPassword"] == 1 + 6
    down = False
    cloud.time.passed = 24 * 3600 - 60
    await cloud.client.list_servers()
    assert cloud.requests[-1].headers["X-Auth-Token"] != "token-1"


async def test_a_password_that_changed_is_sent_once_and_the_token_is_used_to_its_end() -> None:
    answers = (token_answer(), ok(SERVERS), refused(401), ok(SERVERS), ok(SERVERS))
    cloud = Cloud(script(*answers), credentials=PASSWORD)
    for passed in (0, 24 * 3600 - 590, 24 * 3600 - 1):
        cloud.time.passed = passed
        await cloud.client.list_servers()
    cloud.time.passed = 24 * 3600
    with pytest.raises(AuthenticationFailed, match="KeystoneCreateUserTokenByPassword"):
        await cloud.client.list_servers()
    assert len(cloud.requests) == 5


@pytest.mark.parametrize("credentials", [PASSWORD, AgencyCredentials()], ids=["password", "agency"])
async def test_who_waited_for_a_renewal_that_failed_does_not_try_it_again(credentials: Credentials) -> None:
    """Hundreds of requests that each tried in their turn would hang for hours."""
    cloud = Cloud(lambda _: refused(503), credentials=credentials)
    failures = await asyncio.gather(*(cloud.client.list_servers() for _ in range(200)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {ServiceFailed}
    tries = len(cloud.requests)
    assert tries <= 6
    # Who comes later does.
    with pytest.raises(ServiceFailed):
        await cloud.client.list_servers()
    assert len(cloud.requests) == 2 * tries

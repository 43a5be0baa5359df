"""Opening a client, and peers on real sockets that behave badly."""

import asyncio
import gzip
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from reconciler.cloud.bodies import LARGEST_BODY
from reconciler.cloud.client import CloudClient
from reconciler.cloud.connect import open_client
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.sending import Exchange
from reconciler.cloud.settings import resolve_settings
from reconciler.errors import BadAnswer, CloudError, ImgctlError, OutcomeUnknown, RequestNotSent, UsageError
from reconciler.model.spec import ImageSpec
from tests.cloud.conftest import PROJECT, SECRETS, Time, nothing, ok, server, token_answer

pytestmark = pytest.mark.anyio

KEYS = {"HW_ACCESS_KEY": "AKEXAMPLE", "HW_SECRET_KEY": "sk-very-secret", "HW_REGION_NAME": "cn-north-4"}
USER = {
    "HW_USER_NAME": "robot",
    "HW_USER_PASSWORD": "password-very-secret",
    "HW_DOMAIN_NAME": "company",
    "HW_REGION_NAME": "cn-north-4",
}
SPEC = ImageSpec("image-1")


def projects(*ids: str, name: str = "cn-north-4") -> httpx.Response:
    return ok({"projects": [{"id": project_id, "name": name} for project_id in ids]})


async def open_with(environ: dict[str, str], handler: Callable[[httpx.Request], httpx.Response]) -> CloudClient:
    return await open_client(resolve_settings(environ), transport=httpx.MockTransport(handler), clock=Time().clock())


async def test_a_known_project_is_not_asked_for() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request)

    async with await open_with({**KEYS, "HW_PROJECT_ID": PROJECT}, handler) as client:
        assert client.project_id == PROJECT
        assert client.requests_sent == 0


async def test_the_project_is_found_by_the_regions_name() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return projects(PROJECT)

    async with await open_with(KEYS, handler) as client:
        assert client.project_id == PROJECT
    (request,) = requests
    assert str(request.url) == "https://iam.cn-north-4.myhuaweicloud.com/v3/projects?name=cn-north-4"
    assert "SignedHeaders=host;x-sdk-date," in request.headers["Authorization"]
    assert request.headers["User-Agent"].startswith("imgctl/")
    assert "X-Project-Id" not in request.headers


async def test_the_project_comes_with_the_token() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return token_answer() if request.url.host.startswith("iam") else ok({"items": []})

    async with await open_with(USER, handler) as client:
        assert client.project_id == PROJECT
        assert len(requests) == 1
        assert json.loads(requests[0].content)["auth"]["scope"] == {"project": {"name": "cn-north-4"}}
        await client.list_servers()
    assert len(requests) == 2
    assert requests[1].url.path == f"/v1/{PROJECT}/image-servers"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (projects(), "no project"),
        (projects(PROJECT, name="cn-north-4_sub"), "no project"),
        (projects("a" * 32, "b" * 32), f"2 projects cn-north-4: {'a' * 32}, {'b' * 32}"),
    ],
)
async def test_the_project_must_be_plain(answer: httpx.Response, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        await open_with(KEYS, lambda _: answer)


@pytest.mark.parametrize("credentials", [KEYS, USER], ids=["keys", "password"])
async def test_a_project_of_another_name_than_the_regions_is_the_one_that_is_used(credentials: dict[str, str]) -> None:
    """Terraform's provider takes HW_PROJECT_NAME; the region's own project would be the wrong place to build in."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            scope = json.loads(request.content)["auth"]["scope"]
            assert scope == {"project": {"name": "cn-north-4_team"}}
            return token_answer()
        assert request.url.query == b"name=cn-north-4_team"
        return ok({"projects": [{"id": "b" * 32, "name": "cn-north-4"}, {"id": PROJECT, "name": "cn-north-4_team"}]})

    async with await open_with({**credentials, "HW_PROJECT_NAME": "cn-north-4_team"}, handler) as client:
        assert client.project_id == PROJECT


async def test_cookies_are_not_kept() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return ok({"items": []}, headers={"Set-Cookie": "session=1; Path=/"})

    async with await open_with({**KEYS, "HW_PROJECT_ID": PROJECT}, handler) as client:
        await client.list_servers()
        await client.list_servers()
    assert not any("Cookie" in request.headers for request in requests)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SSL_CERT_FILE", "/nowhere/cert.pem"), ("HTTPS_PROXY", "socks5://127.0.0.1:1"), ("HTTPS_PROXY", "odd://x")],
)
async def test_unusable_network_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="proxy or certificate"):
        await open_client(resolve_settings({**KEYS, "HW_PROJECT_ID": PROJECT}))


@pytest.mark.parametrize("password", ["hunter2/x", "hunter2#x", "hunter2?x", "[hunter2", "hunter2", "hunter 2"])
@pytest.mark.parametrize("scheme", ["http", "ftp", "socks5"])
async def test_no_part_of_a_proxys_password_shows(monkeypatch: pytest.MonkeyPatch, scheme: str, password: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:{password}@127.0.0.1:9")
    monkeypatch.setattr(RetryPolicy, "repeats", lambda *_: False)
    with pytest.raises(ImgctlError) as caught:
        async with await open_client(resolve_settings({**KEYS, "HW_PROJECT_ID": PROJECT})) as client:
            await client.list_servers()
    assert "hunter" not in f"{caught.value.summary} {caught.value.hint}"
    assert "PROXY" in caught.value.hint


# --- real sockets --------------------------------------------------------------------------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(serve: Serve) -> AsyncIterator[str]:
    """The URL of a server on this machine that does what `serve` does with every connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return head + await reader.readexactly(int(length.partition(b":")[2]))


def once(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return serve


@asynccontextmanager
async def client_of(url: str, environ: dict[str, str] | None = None) -> AsyncIterator[CloudClient]:
    settings = resolve_settings({**(environ or KEYS), "HW_PROJECT_ID": PROJECT, "IMGCTL_ENDPOINT": url})
    async with await open_client(settings, policy=RetryPolicy(attempts=1)) as client:
        yield client


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 OK 200\r\n\r\n",
        HEAD + b'Content-Length: 99\r\n\r\n{"job_id": "1"}',
        HEAD + b"Content-Length: x\r\n\r\n{}",
        HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"job',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}",
        HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
    ],
)
async def test_malformed_answers_leave_the_outcome_unknown(answer: bytes) -> None:
    async with peer(once(answer)) as url, client_of(url) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.recreate_image("s1", SPEC, before_send=nothing)
        assert caught.value.operation == "RecreateServerImage"
        assert client.requests_sent == 1
        # A read of the same is an error of ours too, never a foreign one.
        with pytest.raises(CloudError):
            await client.list_servers()


async def test_a_reset_after_the_request_leaves_the_outcome_unknown() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with peer(serve) as url, client_of(url) as client:
        with pytest.raises(OutcomeUnknown):
            await client.recreate_image("s1", SPEC, before_send=nothing)


async def test_nobody_listens() -> None:
    async with peer(once(b"")) as url:
        pass
    async with client_of(url) as client:
        with pytest.raises(RequestNotSent):
            await client.recreate_image("s1", SPEC, before_send=nothing)


async def test_no_tls_where_tls_is_due() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with peer(serve) as url, client_of(url.replace("http", "https")) as client:
        with pytest.raises(RequestNotSent) as caught:
            await client.recreate_image("s1", SPEC, before_send=nothing)
        assert "SSL_CERT_FILE" in caught.value.hint


async def test_a_connection_that_the_peer_closed_meanwhile_is_not_used_again() -> None:
    """Otherwise a build's outcome would be unknown for nothing."""
    body = json.dumps({"items": [server(1)], "job_id": "1"}).encode()
    async with (
        peer(once(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))) as url,
        client_of(url) as client,
    ):
        for _ in range(5):
            await client.list_servers()
            await asyncio.sleep(0.005)
            assert await client.recreate_image("s1", SPEC, before_send=nothing) == "1"
            await asyncio.sleep(0.005)


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 200 * 1024 * 1024, compresslevel=1)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with peer(once(head + bomb)) as url, client_of(url) as client:
        with pytest.raises(BadAnswer, match="larger than 16 MiB"):
            await client.list_servers()


async def test_an_answer_without_an_end_is_read_no_further_than_the_limit() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(HEAD + b"\r\n")
        while not writer.is_closing():
            writer.write(b" " * 65536)
            sent += 65536
            await writer.drain()

    async with peer(serve) as url, client_of(url) as client:
        with pytest.raises(BadAnswer, match="larger than 16 MiB"):
            await client.list_servers()
        with pytest.raises(OutcomeUnknown, match="larger than 16 MiB"):
            await client.recreate_image("s1", SPEC, before_send=nothing)
    # Twice the limit, and what the sockets hold.
    assert sent < 2 * LARGEST_BODY + 32 * 1024**2


@pytest.mark.parametrize("size", [LARGEST_BODY, LARGEST_BODY + 1])
@pytest.mark.parametrize("encoding", ["gzip", ""])
async def test_the_limit_is_exact(encoding: str, size: int) -> None:
    body = b'{"items": []}'.ljust(size)
    packed = gzip.compress(body, compresslevel=1) if encoding else body
    head = b"Content-Length: %d\r\nContent-Encoding: %s\r\n\r\n" % (len(packed), encoding.encode())
    async with peer(once(HEAD + head + packed)) as url, client_of(url) as client:
        if size == LARGEST_BODY:
            assert await client.list_servers() == []
        else:
            with pytest.raises(BadAnswer, match="larger than 16 MiB"):
                await client.list_servers()


async def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 100 * 1024 * 1024, compresslevel=9)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with peer(once(head + bomb)) as url, client_of(url) as client:
        tracemalloc.start()
        try:
            with pytest.raises(BadAnswer):
                await client.list_servers()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # The body, the piece that was unpacked last, and a copy.
    assert peak < 4 * LARGEST_BODY


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd", "nonsense"])
async def test_an_encoding_that_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    # Packed twice, a few kilobytes would be a terabyte.
    body = gzip.compress(gzip.compress(b'{"items": []}'))
    head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(body))
    async with peer(once(head + body)) as url, client_of(url) as client:
        with pytest.raises(BadAnswer, match="was not asked for"):
            await client.list_servers()


@pytest.mark.parametrize("cut", [1, 8, 20])
async def test_a_packed_answer_without_its_end_is_not_used(cut: int) -> None:
    body = gzip.compress(b'{"items": []}' + b" " * 100)[:-cut]
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with peer(once(head + body)) as url, client_of(url) as client:
        with pytest.raises(BadAnswer):
            await client.list_servers()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
async def test_loopback_bypasses_proxies(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))

    monkeypatch.setenv("NO_PROXY", "")
    async with peer(proxy) as proxy_url, peer(once(HEAD + b'Content-Length: 12\r\n\r\n{"items":[]}')) as url:
        monkeypatch.setenv(name, proxy_url)
        async with client_of(url) as client:
            assert await client.list_servers() == []
    assert asked == []


async def test_other_hosts_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    monkeypatch.setenv("NO_PROXY", "")
    async with peer(proxy) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        settings = resolve_settings({**KEYS, "HW_PROJECT_ID": PROJECT})
        async with await open_client(settings, policy=RetryPolicy(attempts=1)) as client:
            with pytest.raises(RequestNotSent) as caught:
                await client.recreate_image("s1", SPEC, before_send=nothing)
    assert asked[0].startswith(b"CONNECT appstream.cn-north-4.myhuaweicloud.com:443")
    assert "HTTPS_PROXY" in caught.value.hint


async def test_no_secret_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    exchanges: list[Exchange] = []
    token = json.dumps({"token": {"project": {"id": PROJECT}, "expires_at": "2099-01-01T00:00:00Z"}}).encode()
    issued = b"HTTP/1.1 201 Created\r\nX-Subject-Token: fetched-very-secret\r\nContent-Length: %d\r\n\r\n%s" % (
        len(token),
        token,
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        writer.write(issued if b"auth/tokens" in request else refused)
        await writer.drain()

    async with peer(serve) as url:
        settings = resolve_settings({**USER, "IMGCTL_ENDPOINT": url})
        async with await open_client(settings, on_exchange=exchanges.append) as client:
            with pytest.raises(CloudError):
                await client.list_servers()
    assert [exchange.status for exchange in exchanges] == [201, 403]
    text = f"{caplog.text} {exchanges}"
    assert not [secret for secret in SECRETS if secret in text]

"""A proxy on the way to the cloud: it can refuse, and can neither read nor answer in the cloud's place."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.cloud.connect import open_client
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.settings import resolve_settings
from reconciler.errors import CloudError, RequestNotSent
from reconciler.model.spec import ImageSpec
from tests.support import Imgctl

ENVIRONMENT = {
    "HW_ACCESS_KEY": "AKEXAMPLE",
    "HW_SECRET_KEY": "sk-very-secret",
    "HW_PROJECT_ID": "a" * 32,
    "HW_REGION_NAME": "ap-southeast-1",
}
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{"count": 0, "items": []}\n\n'


@contextmanager
def proxy(context: ssl.SSLContext | None) -> Iterator[tuple[str, list[bytes]]]:
    """Says that the way is open, then answers itself: in plain text, or under TLS with a certificate of its own."""
    seen: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(5)
            try:
                seen.append(connection.recv(65_536))
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                    seen.append(connection.recv(65_536))
                else:
                    seen.append(connection.recv(65_536))
                connection.sendall(ANSWER)
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", seen
    finally:
        # Closing alone would leave accept() waiting.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def own_certificate(folder: Path, name: str) -> ssl.SSLContext:
    """For the cloud's very host, but signed by nobody whom anybody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so a proxy with a certificate of its own is left out")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*made, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def ask(environ: dict[str, str]) -> None:
    async def nothing() -> None:
        """Nothing has to be recorded before this request."""

    settings = resolve_settings(environ)
    async with await open_client(settings, policy=RetryPolicy(attempts=1)) as client:
        await client.recreate_image("s1", ImageSpec("image-1"), before_send=nothing)


@pytest.mark.parametrize("kind", ["plain", pytest.param("certificate", marks=pytest.mark.extra)])
def test_it_sees_no_request_and_gives_no_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    host = "workspace.ap-southeast-1.myhuaweicloud.com"
    context = own_certificate(tmp_path, host) if kind == "certificate" else None
    monkeypatch.setenv("NO_PROXY", "")
    with proxy(context) as (url, seen):
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(CloudError) as caught:
            asyncio.run(ask(ENVIRONMENT))
    # So the build is certainly not begun, and may be asked for again.
    assert isinstance(caught.value, RequestNotSent)
    assert "HTTPS_PROXY" in caught.value.hint
    asked = b"".join(seen)
    assert asked.startswith(f"CONNECT {host}:443".encode())
    for secret in (b"Authorization", b"AKEXAMPLE", b"very-secret", b"image-servers"):
        assert secret not in asked
    assert "very-secret" not in str(caught.value)


@pytest.mark.extra
def test_a_certificate_that_is_not_trusted_ends_it_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, imgctl: Imgctl
) -> None:
    context = own_certificate(tmp_path, "*.ap-southeast-1.myhuaweicloud.com")
    declared = "version: 1\nregion: ap-southeast-1\nimage_servers: {office: {server_id: s1, image: {name: office-1}}}\n"
    (folder / "imgctl.yaml").write_text(declared, encoding="utf-8")
    monkeypatch.setenv("NO_PROXY", "")
    with proxy(context) as (url, seen):
        monkeypatch.setenv("HTTPS_PROXY", url)
        ran = imgctl("apply", "--auto-approve", env={**ENVIRONMENT, "HTTPS_PROXY": url, "NO_PROXY": ""})
        connections = sum(one.startswith(b"CONNECT") for one in seen)
    assert ran.code == 1
    assert "certificate is not trusted" in ran.err
    assert "SSL_CERT_FILE" in ran.err
    # Each read of the refresh once, and none of them again.
    assert connections <= 4

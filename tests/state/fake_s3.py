"""A small S3 that misbehaves on request, in this process: what no well-kept server would do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "fake-bucket"


class FakeS3:
    """One bucket, in memory. Signatures are not checked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.guard = threading.Lock()
        self.requests: list[str] = []
        # Whether If-None-Match on a write counts, and If-Match; and whether it is looked at together with the write.
        self.create_only = self.match = self.atomic = True
        # Asked about every request before it takes effect, and after: a status answers in its place, 0 hangs up.
        self.before: Callable[[str, str], int | None] = lambda method, key: None
        self.after: Callable[[str, str], int | None] = lambda method, key: None
        self.error_code = "InternalError"
        self.error_body = ""
        self.url = ""
        self.racing = threading.Barrier(4)

    def write(self, key: str, content: bytes, none_match: str | None, match: str | None) -> int:
        """Put an object; 200 or 412."""
        refused = False
        if not self.atomic:
            refused = self._refused(key, none_match, match)
            if not refused and ".probe-" in key:
                # All have looked before any of them writes.
                self.racing.wait(10)
        with self.guard:
            refused = self._refused(key, none_match, match) if self.atomic else refused
            if not refused:
                self.objects[key] = content
        return 412 if refused else 200

    def _refused(self, key: str, none_match: str | None, match: str | None) -> bool:
        there = self.objects.get(key)
        if none_match == "*" and self.create_only and there is not None:
            return True
        return match is not None and self.match and (there is None or tag(there) != match)

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_ENDPOINT_URL": self.url}


def tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    fake: FakeS3
    protocol_version = "HTTP/1.1"
    # An answer leaves in one piece.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fake.requests.append(f"{self.command} {key}")
        if (status := self.fake.before(self.command, key)) is not None:
            self._fail(status)
            return
        if self.command == "PUT":
            status = self.fake.write(key, content, self.headers.get("If-None-Match"), self.headers.get("If-Match"))
            body, headers = b"", {"ETag": tag(content)} if status == 200 else {}
        elif self.command == "DELETE":
            self.fake.objects.pop(key, None)
            status, body, headers = 204, b"", {}
        elif not key:
            status, body, headers = 200, self._listing(url.query), {}
        else:
            there = self.fake.objects.get(key)
            if there is None:
                status, body, headers = 404, _error("NoSuchKey"), {}
            elif self.headers.get("If-None-Match") == tag(there):
                status, body, headers = 304, b"", {"ETag": tag(there)}
            else:
                status, body = 200, there
                headers = {"ETag": tag(there), "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
        if (failing := self.fake.after(self.command, key)) is not None:
            self._fail(failing)
            return
        self._send(status, body if status != 412 else _error("PreconditionFailed"), headers)

    def _listing(self, query: str) -> bytes:
        asked = parse_qs(query)
        prefix, after = asked.get("prefix", [""])[0], asked.get("start-after", [""])[0]
        keys = sorted(key for key in self.fake.objects if key.startswith(prefix) and key > after)
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
            f"<Size>{len(self.fake.objects[key])}</Size></Contents>"
            for key in keys
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def _fail(self, status: int) -> None:
        if status == 0:
            self.close_connection = True
            self.connection.close()
            return
        self._send(status, (self.fake.error_body or _error(self.fake.error_code).decode()).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[FakeS3]:
    """It listens on loopback until the block ends."""
    fake = FakeS3()

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>It is so.</Message></Error>'.encode()

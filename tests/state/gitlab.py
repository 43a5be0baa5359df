"""A server that keeps states as GitLab does, with its answers, its versions and its locks; and as others do.

`/api/v4/projects/42/terraform/state/NAME` follows lib/api/terraform/state.rb of GitLab: basic authentication, POST and
DELETE of `NAME/lock`, one version for each serial, a plain 500 for a write under another lock. `/states/NAME` follows
the other servers that Terraform's page describes: LOCK and UNLOCK, 423, no versions, and a write that a lock refuses.

Run as `python -m tests.state.gitlab FOLDER PORT` it is a process that can be killed; what it has answered is on disk.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from reconciler.simulator.app import HANG_UP
from reconciler.simulator.server import _listen, _Server

USERNAME, PASSWORD = "gitlab-ci-token", "job-token-of-the-day"
_PROJECT = "/api/v4/projects/42/terraform/state/"
_PLAIN = "/states/"
_NEEDED = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")
_PROJECT_NOT_FOUND = {"message": "404 Project Not Found"}


@dataclass
class Stored:
    """One state: its versions by serial, and the lock."""

    versions: dict[int, bytes] = field(default_factory=dict)
    lock: dict[str, Any] = field(default_factory=dict)

    @property
    def latest(self) -> bytes | None:
        return self.versions[max(self.versions)] if self.versions else None


@dataclass(frozen=True)
class Request:
    """One request as it came: the name of a state, what was done, and how many bytes it carried and got."""

    method: str
    name: str
    sent: int
    status: int
    received: int = 0

    @property
    def writes(self) -> bool:
        return self.method == "POST" and not self.name.endswith("/lock")


@dataclass
class Fault:
    """Something that goes wrong with the next `times` requests that `matches` picks.

    `before` and `after` lose the answer, before or after the request took effect; a number answers so, without any
    effect; `late` answers 504, and the effect comes with the next request.
    """

    matches: Callable[[str, str, bytes], bool]
    kind: str | int
    times: int = 1


class GitLab:
    """The states of one project, and everything that was asked of them."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.states: dict[str, Stored] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        # Refuses every connection's requests while it is True: the network is gone.
        self.cut = False
        # How many requests are being answered.
        self.busy = 0
        # Called before and after each request that is let in, with "before" or "after", method, name and body.
        self.watch: Callable[[str, str, str, bytes], None] = lambda *_: None
        # What other servers leave out: comparing the lock's ID on a write, and letting things be removed.
        self.compares = self.deletes = True
        self.url = ""
        self._late: list[Callable[[], Any]] = []
        self._guard = threading.Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.json"):
                kept = json.loads(path.read_text())
                versions = {int(serial): text.encode() for serial, text in kept["versions"].items()}
                self.states[path.stem] = Stored(versions, kept["lock"])

    def address(self, name: str = "images", *, plain: bool = False) -> str:
        return f"{self.url}{_PLAIN if plain else _PROJECT}{name}"

    def fault(self, method: str, name: str, kind: str | int, times: int = 1, containing: str = "") -> None:
        """Let the next requests of that method for a state whose name ends so go wrong."""

        def matches(asked: str, of: str, body: bytes) -> bool:
            return asked == method and of.endswith(name) and containing.encode() in body

        self.faults.append(Fault(matches, kind, times))

    @property
    def written(self) -> list[Request]:
        return [one for one in self.requests if one.writes]

    def document(self, name: str = "images") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.states[name].latest or b"null")
        return found

    # The protocol

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, user: str) -> tuple[int, Any]:
        """The status and the body, of bytes or for JSON."""
        gitlab = path.startswith(_PROJECT)
        if user != f"{USERNAME}:{PASSWORD}":
            return 401, {"message": "401 Unauthorized"}
        if not gitlab and not path.startswith(_PLAIN):
            return 404, _PROJECT_NOT_FOUND
        name = path.removeprefix(_PROJECT if gitlab else _PLAIN)
        if gitlab and name.endswith("/lock"):
            method = {"POST": "LOCK", "DELETE": "UNLOCK"}[method]
            name = name.removesuffix("/lock")
        elif gitlab and method in ("LOCK", "UNLOCK"):
            return 405, {"error": "405 Not Allowed"}
        if not name or "/" in name or len(name) > 255:
            return 404, {"error": "404 Not Found"}
        with self._guard:
            status, content = self._do(method, name, query.get("ID"), body, gitlab=gitlab)
            if method != "GET" and status < 300:
                self._keep(name)
        return status, content

    def _do(self, method: str, name: str, lock_id: str | None, body: bytes, *, gitlab: bool) -> tuple[int, Any]:
        state = self.states.get(name)
        if method == "GET":
            if state is None:
                return 404, {"message": "404 Not found"}
            return (204, b"") if state.latest is None else (200, state.latest)
        if method == "DELETE":
            if not self.deletes:
                return 403, {"message": "403 Forbidden"}
            if state is None:
                return 404, {"message": "404 Not found"}
            if not state.lock:
                del self.states[name]
            return 200, {}
        state = self.states.setdefault(name, Stored())
        match method:
            case "LOCK":
                return self._lock(state, json.loads(body), gitlab=gitlab)
            case "UNLOCK":
                told = json.loads(body).get("ID") if body else lock_id
                if told is not None and told != state.lock.get("ID"):
                    return 409, b""
                state.lock = {}
                return 200, b""
            case "POST":
                return self._store(state, lock_id, body, gitlab=gitlab)
            case _:
                return 405, {"error": "405 Not Allowed"}

    def _lock(self, state: Stored, record: dict[str, Any], *, gitlab: bool) -> tuple[int, Any]:
        if any(not isinstance(record.get(key), str) for key in _NEEDED) or len(record["ID"]) > 255:
            return 400, {"error": "a field is missing"}
        refused = bool(state.lock)
        if not refused:
            now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
            # The user's name is the token's, and the time the server's.
            state.lock = {**record, "Who": USERNAME, "Created": now} if gitlab else dict(record)
        if not gitlab:
            return (423, state.lock) if refused else (200, b"")
        kept = {key: state.lock[key] for key in ("ID", "Who", "Created")}
        return 409 if refused else 200, {**record, **kept}

    def _store(self, state: Stored, lock_id: str | None, body: bytes, *, gitlab: bool) -> tuple[int, Any]:
        if not body:
            return 204, b""
        held = state.lock.get("ID")
        if not gitlab:
            if self.compares and held is not None and held != lock_id:
                return 423, state.lock
            state.versions = {1: body}
            return 200, b""
        try:
            serial = json.loads(body).get("serial")
        except ValueError:
            return 422, {"message": "422 Unprocessable Entity - invalid JSON"}
        if not isinstance(serial, int):
            return 422, {"message": "422 Unprocessable Entity - No serial in payload"}
        if self.compares and held != lock_id:
            return 500, {"message": "500 Internal Server Error"}
        if serial in state.versions:
            return 422, {"message": "PG::UniqueViolation: duplicate key value violates unique constraint"}
        state.versions[serial] = body
        return 200, {}

    def _keep(self, name: str) -> None:
        if self.folder is None:
            return
        path = self.folder / f"{name}.json"
        state = self.states.get(name)
        if state is None:
            path.unlink(missing_ok=True)
            return
        kept = {"versions": {serial: text.decode() for serial, text in state.versions.items()}, "lock": state.lock}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(kept))
        temporary.rename(path)

    # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.busy += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self.busy -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        method, path = scope["method"], scope["raw_path"].decode().partition("?")[0]
        name = path.rpartition("/state/" if "/state/" in path else "/states/")[2]
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
        user = _user(dict(scope["headers"]).get(b"authorization", b"").decode())
        fault = None if self.cut else next((one for one in self.faults if one.matches(method, name, body)), None)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        kind = "before" if self.cut else fault.kind if fault is not None else ""
        if not self.cut:
            self.watch("before", method, name, body)
        for late in self._late:
            late()
        self._late.clear()
        if kind == "before" or self.cut:
            scope["extensions"][HANG_UP]()
            return
        content: Any
        if isinstance(kind, int):
            status, content = kind, {"message": f"{kind}"}
        elif kind == "late":
            self._late.append(lambda: self.answer(method, path, query, body, user))
            status, content = 504, {"message": "504 Gateway Timeout"}
        else:
            status, content = self.answer(method, path, query, body, user)
        answer = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.requests.append(Request(method, name, len(body), status, len(answer)))
        if not isinstance(kind, int):
            self.watch("after", method, name, body)
        if kind == "after" or self.cut:
            scope["extensions"][HANG_UP]()
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [] if status == 204 else headers})
        await send({"type": "http.response.body", "body": b"" if status == 204 else answer})


def _user(authorization: str) -> str:
    kind, _, packed = authorization.partition(" ")
    return base64.b64decode(packed).decode() if kind == "Basic" else ""


@contextmanager
def serving_states(gitlab: GitLab | None = None) -> Iterator[GitLab]:
    """A server in a thread of its own while the block runs."""
    gitlab = gitlab or GitLab()
    listener, gitlab.url = _listen(0)
    with listener:
        ready = threading.Event()
        server = _Server(gitlab, gitlab.url, lambda _: ready.set())
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),), daemon=True)
        thread.start()
        if not ready.wait(30):
            raise RuntimeError("the server does not listen")
        try:
            yield gitlab
        finally:
            server.stop()
            thread.join()


def main() -> None:
    """Serve the states of a folder until killed."""
    gitlab = GitLab(Path(sys.argv[1]))
    listener, gitlab.url = _listen(int(sys.argv[2]))
    with listener:
        server = _Server(gitlab, gitlab.url, lambda url: print(url, flush=True))
        asyncio.run(server.serve([listener]))


if __name__ == "__main__":
    main()

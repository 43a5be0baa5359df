"""A small GitHub on this machine: the part of its REST API that the examples' script asks, with pages and authors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "example/images"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
PERSON = {"login": "mallory", "type": "User"}
TOKEN = "ghs_of-this-job"


@dataclass
class GitHub:
    """Comments of pull request 7, issues, and what is known of pull requests, runs and artifacts."""

    comments: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    pulls: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    # Asked about every request before it takes effect: a status, or headers with it, answers in its place.
    before: Callable[[str, str], int | tuple[int, dict[str, str]] | None] = lambda method, path: None
    url: str = ""

    def add_comment(self, body: str, user: dict[str, str] = BOT) -> dict[str, Any]:
        comment = {"id": 1000 + len(self.comments), "body": body, "user": user}
        self.comments.append(comment)
        return comment

    def add_issue(self, body: str, user: dict[str, str] = BOT, **more: Any) -> dict[str, Any]:
        number = 20 + len(self.issues)
        issue = {"id": 9000 + number, "number": number, "title": "", "state": "open", "said": [], **more}
        issue |= {"body": body, "user": user}
        self.issues.append(issue)
        return issue

    @property
    def written(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.requests if method != "GET"]

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """The status, and an object; a list is cut into pages by the handler."""
        match method, path.split("/"):
            case "GET", ["issues", "7", "comments"]:
                return 200, self.comments
            case "POST", ["issues", "7", "comments"]:
                return (422, {}) if len(body["body"]) > 65_536 else (201, self.add_comment(body["body"]))
            case "PATCH", ["issues", "comments", number]:
                comment = next(one for one in self.comments if one["id"] == int(number))
                comment["body"] = body["body"]
                return 200, comment
            case "GET", ["issues"]:
                found = [one for one in self.issues if one["state"] == query["state"]]
                return 200, [one for one in found if one["user"]["login"] == query["creator"]]
            case "POST", ["issues"]:
                return 201, self.add_issue(body["body"], title=body["title"])
            case "PATCH", ["issues", number]:
                issue = next(one for one in self.issues if one["number"] == int(number))
                issue.update(body)
                return 200, issue
            case "POST", ["issues", number, "comments"]:
                next(one for one in self.issues if one["number"] == int(number))["said"].append(body["body"])
                return 201, {}
            case "GET", ["commits", commit, "pulls"]:
                return 200, [one for one in self.pulls if commit in (one["merge_commit_sha"], one["head"]["sha"])]
            case "GET", ["pulls", number]:
                found = [one for one in self.pulls if one["number"] == int(number)]
                return (200, found[0]) if found else (404, {"message": "Not Found"})
            case "GET", ["actions", "workflows", _, "runs"]:
                return 200, {"workflow_runs": [one for one in self.runs if one["head_sha"] == query["head_sha"]]}
            case "GET", ["actions", "runs", number, "artifacts"]:
                return 200, {"artifacts": self.artifacts.get(int(number), [])}
            case _:
                return 404, {"message": "Not Found"}


@contextmanager
def serving_github() -> Iterator[GitHub]:
    """It listens until the end of the block."""
    github = GitHub()
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            url = urlsplit(self.path)
            path = url.path.removeprefix(f"/repos/{REPOSITORY}/")
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            with guard:
                github.requests.append((self.command, path))
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self._send(401, {"message": "Bad credentials"}, {})
                    return
                instead = github.before(self.command, path)
                if instead is not None:
                    status, headers = instead if isinstance(instead, tuple) else (instead, {})
                    self._send(status, {"message": "not this time"}, headers)
                    return
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                status, found = github.answer(self.command, path, query, body)
                found, headers = self._page(found, query)
                self._send(status, found, headers)

        def _page(self, found: Any, query: dict[str, str]) -> tuple[Any, dict[str, str]]:
            if "page" not in query:
                return found, {}
            within = "" if isinstance(found, list) else next(iter(found))
            rows = found[within] if within else found
            page, size = int(query["page"]), int(query["per_page"])
            part = rows[(page - 1) * size : page * size]
            # The address is a trap: nothing that GitHub says leads a token anywhere.
            more = {"Link": '<http://127.0.0.1:1/elsewhere>; rel="next"'} if page * size < len(rows) else {}
            return ({within: part} if within else part), more

        def _send(self, status: int, found: Any, headers: dict[str, str]) -> None:
            content = json.dumps(found).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _do  # noqa: N815 - the names that the server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    github.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield github
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

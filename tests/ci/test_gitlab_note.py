"""The script of the GitLab example against the notes of a merge request on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.ci.scripts import HEAD, load, posted, rendered

script = load("ci/gitlab/gitlab_note.py")
TOKEN = "glpat-of-the-project"
BOT, PERSON = {"id": 55}, {"id": 3}
NOTES = "/api/v4/projects/42/merge_requests/7/notes"


@dataclass
class Notes:
    """The notes of one merge request."""

    notes: list[dict[str, Any]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    status: int = 0
    url: str = ""

    def add(self, body: str, author: dict[str, int] = BOT, *, system: bool = False) -> None:
        self.notes.append({"id": 100 + len(self.notes), "body": body, "author": author, "system": system})

    @property
    def bodies(self) -> list[str]:
        return [note["body"] for note in self.notes]


@pytest.fixture
def gitlab() -> Iterator[Notes]:
    gitlab = Notes()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            url = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            if self.headers.get("PRIVATE-TOKEN") != TOKEN:
                self._send(401, {})
            elif self.command == "GET" and url.path == "/api/v4/user":
                self._send(200, BOT)
            elif self.command == "GET" and url.path == NOTES:
                page = int(parse_qs(url.query)["page"][0])
                more = {"X-Next-Page": str(page + 1)} if page * 100 < len(gitlab.notes) else {"X-Next-Page": ""}
                self._send(200, gitlab.notes[(page - 1) * 100 : page * 100], **more)
            elif gitlab.status:
                self._send(gitlab.status, {}, Location="http://127.0.0.1:1/")
            elif self.command == "POST" and url.path == NOTES:
                gitlab.add(body["body"])
                self._send(201, {})
            elif self.command == "PUT" and url.path.startswith(f"{NOTES}/"):
                gitlab.written.append(url.path)
                note = next(one for one in gitlab.notes if one["id"] == int(url.path.rpartition("/")[2]))
                note["body"] = body["body"]
                self._send(200, {})
            else:
                self._send(404, {})

        def _send(self, status: int, found: Any, **headers: str) -> None:
            content = json.dumps(found).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _do  # noqa: N815 - the names that the server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    gitlab.url = f"http://127.0.0.1:{server.server_address[1]}/api/v4"
    yield gitlab
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def ask(gitlab: Notes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(text: str | None, **env: str) -> tuple[int, str]:
        body = tmp_path / "plan.md"
        body.unlink(missing_ok=True)
        if text is not None:
            body.write_text(text, encoding="utf-8")
        environ = {
            "CI_API_V4_URL": gitlab.url,
            "IMGCTL_NOTE_TOKEN": TOKEN,
            "CI_MERGE_REQUEST_PROJECT_ID": "42",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_COMMIT_SHA": HEAD,
            "CI_PIPELINE_ID": "42",
            "CI_PIPELINE_URL": "https://gitlab.example.com/images/-/pipelines/42",
            **env,
        }
        code = script.main(["--body", str(body)], environ)
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        return code, said.out + said.err

    return call


def test_one_note_is_written_and_edited(gitlab: Notes, ask: Any) -> None:
    assert ask(rendered()) == (0, "note written\n")
    assert ask(rendered(changes=1), CI_PIPELINE_ID="43") == (0, "note edited\n")
    (body,) = gitlab.bodies
    assert body.split("\n")[1:3] == [
        f'<!-- imgctl:run {{"head":"{HEAD}","run":43}} -->',
        "### imgctl `images`: 1 rebuilds",
    ]


def test_a_note_of_somebody_else_is_never_edited(gitlab: Notes, ask: Any) -> None:
    gitlab.add(posted(rendered()), PERSON)
    gitlab.add(posted(rendered()), system=True)
    assert ask(rendered()) == (0, "note written\n")
    assert ask(None)[0] == 0
    assert gitlab.written == []


def test_a_note_on_the_third_page_is_found(gitlab: Notes, ask: Any) -> None:
    for _ in range(250):
        gitlab.add("looks good", PERSON)
    gitlab.add(posted(rendered()))
    assert ask(rendered()) == (0, "note edited\n")


def test_a_failed_plan_marks_what_is_outdated(gitlab: Notes, ask: Any) -> None:
    gitlab.add(posted(rendered("1" * 16)))
    gitlab.add(posted(rendered("2" * 16), head=HEAD))
    current = gitlab.bodies[1]
    assert ask(None) == (0, "no plan: 1 outdated notes marked\n")
    assert "no longer holds" in gitlab.bodies[0]
    assert gitlab.bodies[1] == current
    assert ask(rendered("1" * 16), CI_PIPELINE_ID="43") == (0, "note edited\n")


def test_an_older_pipeline_does_not_overwrite_a_newer_one(gitlab: Notes, ask: Any) -> None:
    gitlab.add(posted(rendered(), run=43))
    assert ask(rendered()) == (0, "a later pipeline has written already\n")
    assert gitlab.written == []


@pytest.mark.parametrize("status", [302, 403, 500])
def test_what_gitlab_refuses_is_said(gitlab: Notes, ask: Any, status: int) -> None:
    gitlab.status = status
    assert ask(rendered()) == (1, f"gitlab_note.py: POST projects/42/merge_requests/7/notes: {status}\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CI_API_V4_URL", "http://gitlab.example.com/api/v4"),
        ("IMGCTL_NOTE_TOKEN", ""),
        ("CI_MERGE_REQUEST_IID", "7/../8"),
        ("CI_COMMIT_SHA", "--> @all"),
    ],
)
def test_an_environment_that_is_none(gitlab: Notes, ask: Any, name: str, value: str) -> None:
    assert ask(rendered(), **{name: value})[0] == 1
    assert gitlab.notes == []


def test_what_is_no_plan_is_not_written(gitlab: Notes, ask: Any) -> None:
    assert ask("### imgctl: no changes\n")[0] == 1
    assert gitlab.notes == []

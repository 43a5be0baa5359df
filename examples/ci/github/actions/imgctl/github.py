#!/usr/bin/env python3
"""What the workflows of imgctl ask of GitHub: a comment edited in place, one issue for drift, the plan of a merge.

Standard library alone. The token comes from GITHUB_TOKEN, goes to GITHUB_API_URL and nowhere else, and no redirect or
link in an answer is followed. Everything else that a workflow knows comes from the environment or from arguments.

    github.py outputs --plan plan.json --body plan.md
    github.py comment --pull-request 7 --head SHA --file images [--body plan.md]
    github.py drift --body plan.md
    github.py merged-plan --workflow imgctl-plan.yml --artifact imgctl-plan (--commit SHA | --pull-request 7)
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

BOT = "github-actions[bot]"
# A comment has at most 65,536 characters, those beyond U+FFFF counting as two; a step's summary so many bytes.
LONGEST_COMMENT = 65_536
LONGEST_SUMMARY = 1_048_576
_LARGEST_ANSWER = 32 * 1024 * 1024
_PER_PAGE = 100
_MOST_PAGES = 100
_ATTEMPTS = 3
_LONGEST_PAUSE = 60.0

_MARKER = re.compile(r"<!-- imgctl:plan (\{.*\}) -->")
_RUN = re.compile(r"<!-- imgctl:run (\{.*\}) -->")
_KEY = re.compile(r"[0-9a-f]{16}")
_PLAN_ID = re.compile(r"[0-9a-f]{64}")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_PLAIN = re.compile(r"[A-Za-z0-9_./ -]{1,80}")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class GitHubError(Exception):
    """What went wrong, in words; `status` is GitHub's answer, 0 where none came."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the token is for one host."""


class Api:
    """GitHub's REST API for one repository."""

    def __init__(self, environ: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
        self._base = environ.get("GITHUB_API_URL") or "https://api.github.com"
        url = urlsplit(self._base)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise GitHubError(f"GITHUB_API_URL is no https address: {self._base!r}")
        self._token = environ.get("GITHUB_TOKEN", "")
        if not self._token:
            raise GitHubError("GITHUB_TOKEN is not set: give it to this step in env")
        self._repository = _matching(_REPOSITORY, environ.get("GITHUB_REPOSITORY", ""), "GITHUB_REPOSITORY")
        self._pause = pause
        self._opener = build_opener(_NoRedirects)

    def get(self, path: str, **query: Any) -> Any:
        """One object."""
        return self._call("GET", path, query=query)[0]

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Create with POST, change with PATCH."""
        return self._call(method, path, body=body)[0]

    def pages(self, path: str, within: str = "", **query: Any) -> Iterator[dict[str, Any]]:
        """Every object of a list, `within` a field of the answer where it is no list itself."""
        for page in range(1, _MOST_PAGES + 1):
            answer, more = self._call("GET", path, query={**query, "per_page": _PER_PAGE, "page": page})
            found = answer.get(within) if within and isinstance(answer, dict) else answer
            if not isinstance(found, list):
                raise GitHubError(f"{path} answered something else than a list")
            yield from (one for one in found if isinstance(one, dict))
            if not more:
                return
        raise GitHubError(f"{path} has more than {_MOST_PAGES} pages")

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> tuple[Any, bool]:
        url = f"{self._base}/repos/{self._repository}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": "imgctl-ci",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        data = json.dumps(body).encode() if body is not None else None
        if data is not None:
            headers["Content-Type"] = "application/json"
        # A repeated POST could write a second comment.
        attempts = 1 if method == "POST" else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                with self._opener.open(Request(url, data, headers, method=method), timeout=30) as answer:
                    return json.loads(answer.read(_LARGEST_ANSWER)), 'rel="next"' in answer.headers.get("Link", "")
            except HTTPError as error:
                failed = GitHubError(f"{method} {path}: {error.code} {_said(error)}", error.code)
                wait = error.headers.get("Retry-After", "")
                if attempt == attempts or not (error.code == 429 or error.code >= 500 or wait):
                    raise failed from None
                self._pause(min(float(wait), _LONGEST_PAUSE) if wait.isdecimal() else 2.0**attempt)
            except (URLError, OSError, ValueError) as error:
                if attempt == attempts:
                    raise GitHubError(f"{method} {path}: {error}") from None
                self._pause(2.0**attempt)
        raise AssertionError("the last attempt returns or raises")


def _said(error: HTTPError) -> str:
    try:
        said = json.loads(error.read(65_536)).get("message")
    except (OSError, ValueError, AttributeError):
        said = ""
    return ascii(said)[:300] if said else ""


@dataclass(frozen=True)
class Run:
    """The run of the workflow that speaks, and the commit that it is of."""

    head: str
    number: int
    attempt: int
    url: str

    @classmethod
    def here(cls, environ: Mapping[str, str], head: str) -> Run:
        """This run."""
        number = int(_matching(_NUMBER, environ.get("GITHUB_RUN_ID", ""), "GITHUB_RUN_ID"))
        attempt = int(_matching(_NUMBER, environ.get("GITHUB_RUN_ATTEMPT", "1"), "GITHUB_RUN_ATTEMPT"))
        server = environ.get("GITHUB_SERVER_URL") or "https://github.com"
        repository = environ.get("GITHUB_REPOSITORY", "")
        return cls(head, number, attempt, f"{server}/{repository}/actions/runs/{number}")

    @property
    def line(self) -> str:
        """What is found again in the comment that this run writes."""
        return f"<!-- imgctl:run {_json({'head': self.head, 'run': self.number, 'attempt': self.attempt})} -->"


@dataclass(frozen=True)
class Written:
    """What the first lines of a comment or an issue say of the plan in it. Anybody can write them: see `is_by`."""

    key: str
    root: str
    plan: str
    changes: int
    head: str = ""
    run: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, body: object) -> Written | None:
        """None where they are not those of a plan."""
        lines = body.replace("\r", "").split("\n", 2) if isinstance(body, str) else []
        marker = _facts(_MARKER, lines[0]) if lines else None
        if marker is None or not _KEY.fullmatch(str(marker.get("key", ""))):
            return None
        run = (_facts(_RUN, lines[1]) if len(lines) > 1 else None) or {}
        return cls(
            key=marker["key"],
            root=str(marker.get("root", "")),
            plan=str(marker.get("plan", "")),
            changes=_whole(marker.get("changes")),
            head=str(run.get("head", "")),
            run=(_whole(run.get("run")), _whole(run.get("attempt"))),
        )


def _facts(pattern: re.Pattern[str], line: str) -> dict[str, Any] | None:
    found = pattern.fullmatch(line)
    try:
        facts = json.loads(found[1]) if found else None
    except ValueError:
        return None
    return facts if isinstance(facts, dict) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _json(facts: Mapping[str, Any]) -> str:
    """JSON that ends no comment of HTML."""
    return json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e")


def _matching(pattern: re.Pattern[str], value: str, what: str) -> str:
    if not pattern.fullmatch(value):
        raise GitHubError(f"{what} is not what it should be: {value[:100]!r}")
    return value


def is_by(author: str, post: Mapping[str, Any]) -> bool:
    """True if `author` wrote it. No person can have a login with brackets, but one may have any other."""
    user = post.get("user")
    if not isinstance(user, dict) or user.get("login") != author:
        return False
    return user.get("type") == "Bot" if author.endswith("[bot]") else True


def root_of(file: str) -> str:
    """The manifest as the marker names it: its folder, from the top of the repository."""
    path = posixpath.normpath(file)
    folder = posixpath.dirname(path) if posixpath.basename(path) == "imgctl.yaml" else path
    return "" if folder == "." else folder


def body_of(text: str, run: Run) -> str:
    """A rendered plan with the run that made it."""
    marker, _, rest = text.partition("\n")
    body = f"{marker}\n{run.line}\n{rest.rstrip()}\n\nOf commit `{run.head[:12]}`; [log and plan file]({run.url}).\n"
    if _size(body) > LONGEST_COMMENT:
        raise GitHubError(f"the plan has more characters than GitHub takes ({LONGEST_COMMENT}): lower --max-chars")
    return body


def outdated(written: Written, run: Run, reason: str) -> str:
    """What takes the place of a plan that no longer holds. The next plan of the same key finds it."""
    root = f" `{written.root}`" if _PLAIN.fullmatch(written.root) else ""
    marker = _json({"v": 1, "key": written.key, "root": written.root})
    return (
        f"<!-- imgctl:plan {marker} -->\n{run.line}\n### imgctl{root}: no plan\n\n"
        f"{reason} The plan that was here no longer holds. [Log]({run.url})\n"
    )


def _size(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def comment(api: Api, run: Run, pull_request: str, author: str, file: str, text: str | None) -> str:
    """Write the plan into the pull request's one comment for it, or mark the outdated ones. Returns what was done."""
    posts = [post for post in api.pages(f"issues/{pull_request}/comments") if is_by(author, post)]
    ours = [(post, written) for post in posts if (written := Written.of(post.get("body"))) is not None]
    if text is None:
        root = root_of(file)[:80]
        reason = f"Commit `{run.head[:12]}` could not be planned."
        old = [(post, one) for post, one in ours if one.root == root and one.head != run.head]
        old = [(post, one) for post, one in old if one.run < (run.number, run.attempt)]
        for post, one in old:
            _edit(api, post, outdated(one, run, reason))
        return f"no plan: {len(old)} outdated comments marked"
    written = Written.of(text)
    if written is None:
        raise GitHubError("the first line of the body is no marker of imgctl: was it written by --format markdown?")
    same = [(post, one) for post, one in ours if one.key == written.key]
    if any(one.run > (run.number, run.attempt) for _, one in same):
        return "a later run has commented already"
    if not same:
        try:
            api.send("POST", f"issues/{pull_request}/comments", {"body": body_of(text, run)})
        except GitHubError as failed:
            # Nothing outdated shows, and the plan itself is good: a missing comment does not fail it.
            return f"warning: the plan could not be posted: {failed}"
        return "comment posted"
    (post, _), *others = same
    try:
        _edit(api, post, body_of(text, run))
    except GitHubError as failed:
        others = same
        said = f"warning: the plan could not be posted, and its comment says so: {failed}"
    else:
        said = "comment edited"
    for post, one in others:
        _edit(api, post, outdated(one, run, "See the other comment, or the log."))
    return said


def _edit(api: Api, post: Mapping[str, Any], body: str) -> None:
    if post.get("body") != body:
        api.send("PATCH", f"issues/comments/{_id(post)}", {"body": body})


def _id(post: Mapping[str, Any], field: str = "id") -> str:
    return _matching(_NUMBER, str(post.get(field, "")), f"GitHub's {field}")


def drift(api: Api, run: Run, author: str, text: str) -> str:
    """Keep one issue open for as long as there is something to apply. Returns what was done."""
    written = Written.of(text)
    if written is None:
        raise GitHubError("the first line of the body is no marker of imgctl: was it written by --format markdown?")
    posts = [post for post in api.pages("issues", state="open", creator=author) if is_by(author, post)]
    issues = [post for post in posts if "pull_request" not in post]
    same = [(post, one) for post in issues if (one := Written.of(post.get("body"))) and one.key == written.key]
    if not written.changes:
        for post, _ in same:
            _close(api, post, f"Nothing differs any more: [log]({run.url}).")
        return f"no drift: {len(same)} issues closed"
    if not same:
        root = f" of {written.root}" if _PLAIN.fullmatch(written.root) else ""
        api.send("POST", "issues", {"title": f"imgctl: drift{root}", "body": body_of(text, run)})
        return "issue opened"
    (post, one), *others = same
    for other, _ in others:
        _close(api, other, f"The same as #{_id(post, 'number')}.")
    if one.plan == written.plan:
        return "the issue says it already"
    api.send("PATCH", f"issues/{_id(post, 'number')}", {"body": body_of(text, run)})
    return "issue edited"


def _close(api: Api, post: Mapping[str, Any], why: str) -> None:
    number = _id(post, "number")
    api.send("POST", f"issues/{number}/comments", {"body": why})
    api.send("PATCH", f"issues/{number}", {"state": "closed"})


def merged_plan(
    api: Api, repository: str, workflow: str, artifact: str, commit: str = "", pull_request: str = ""
) -> dict[str, str]:
    """Which artifact has the plan that was reviewed: of the merged pull request's last commit, of this repository."""
    pull = _merged(api, commit, pull_request)
    number, head = _id(pull, "number"), pull.get("head")
    head = head if isinstance(head, dict) else {}
    sha = _matching(_SHA, str(head.get("sha", "")), "the commit of the pull request")
    if _name(head.get("repo")) != repository:
        raise GitHubError(f"#{number} comes from a fork, for which no plan is saved: open it again from a branch here")
    runs = [
        one
        for one in api.pages(
            f"actions/workflows/{quote(workflow, safe='')}/runs", "workflow_runs", head_sha=sha, event="pull_request"
        )
        if one.get("head_sha") == sha
        and one.get("event") == "pull_request"
        and one.get("conclusion") == "success"
        and one.get("path") == f".github/workflows/{workflow}"
        # A fork can have a commit of the same name, and its runs are listed here, too.
        and _name(one.get("head_repository")) == repository
    ]
    for run in sorted(runs, key=lambda one: _whole(one.get("id")), reverse=True):
        for found in api.pages(f"actions/runs/{_id(run)}/artifacts", "artifacts", name=artifact):
            if found.get("name") == artifact and found.get("expired") is False:
                return {"pull-request": number, "head": sha, "run-id": _id(run), "artifact-id": _id(found)}
    raise GitHubError(
        f"#{number} has no plan of {sha[:12]} that succeeded and is still kept: plan anew in a pull request"
    )


def _merged(api: Api, commit: str, pull_request: str) -> dict[str, Any]:
    if pull_request:
        pull = api.get(f"pulls/{pull_request}")
        if not isinstance(pull, dict) or not pull.get("merged_at"):
            raise GitHubError(f"#{pull_request} is not merged")
        return pull
    for pull in api.pages(f"commits/{commit}/pulls"):
        if pull.get("merged_at") and pull.get("merge_commit_sha") == commit:
            return pull
    raise GitHubError(f"no merged pull request has made {commit[:12]}: what nobody reviewed is not applied")


def _name(repository: object) -> str:
    return str(repository.get("full_name", "")) if isinstance(repository, dict) else ""


def outputs(plan: Path, text: str) -> tuple[dict[str, str], str]:
    """The outputs of a step for a plan, and its summary."""
    document = json.loads(plan.read_text(encoding="utf-8"))
    plan_id = _matching(_PLAN_ID, str(document["plan_id"]), "plan_id")
    if len(text.encode("utf-8", "replace")) > LONGEST_SUMMARY - 1024:
        text = "The plan is longer than a summary may be: see the log.\n"
    return {"plan-id": plan_id, "changes": str(len(document["changes"]))}, text


def _append(environ: Mapping[str, str], name: str, text: str) -> None:
    path = environ.get(name)
    if not path:
        raise GitHubError(f"{name} is not set: this runs in a step of GitHub Actions")
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="github.py")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("outputs")
    one.add_argument("--plan", type=Path, required=True)
    one.add_argument("--body", type=Path, required=True)
    one = commands.add_parser("comment")
    one.add_argument("--pull-request", required=True)
    one.add_argument("--head", required=True)
    one.add_argument("--file", required=True)
    one.add_argument("--body", type=Path)
    one.add_argument("--author", default=BOT)
    one = commands.add_parser("drift")
    one.add_argument("--body", type=Path, required=True)
    one.add_argument("--author", default=BOT)
    one = commands.add_parser("merged-plan")
    one.add_argument("--workflow", required=True)
    one.add_argument("--artifact", required=True)
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--commit")
    which.add_argument("--pull-request")
    return parser


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    body: Path | None = getattr(arguments, "body", None)
    text = body.read_text(encoding="utf-8") if body is not None else None
    match arguments.command:
        case "outputs":
            values, summary = outputs(arguments.plan, text or "")
            _append(environ, "GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in values.items()))
            _append(environ, "GITHUB_STEP_SUMMARY", summary + "\n")
            return f"plan {values['plan-id']}"
        case "comment":
            number = _matching(_NUMBER, arguments.pull_request, "--pull-request")
            run = Run.here(environ, _matching(_SHA, arguments.head, "--head"))
            return comment(Api(environ), run, number, arguments.author, arguments.file, text)
        case "drift":
            run = Run.here(environ, _matching(_SHA, environ.get("GITHUB_SHA", ""), "GITHUB_SHA"))
            return drift(Api(environ), run, arguments.author, text or "")
        case _:
            commit = _matching(_SHA, arguments.commit, "--commit") if arguments.commit else ""
            number = _matching(_NUMBER, arguments.pull_request, "--pull-request") if not commit else ""
            repository = environ.get("GITHUB_REPOSITORY", "")
            found = merged_plan(Api(environ), repository, arguments.workflow, arguments.artifact, commit, number)
            _append(environ, "GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in found.items()))
            return f"the plan of #{found['pull-request']}, made in run {found['run-id']}"


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Do one of the commands; 1 where it failed, in words that GitHub shows beside the run."""
    try:
        said = _run(_parser().parse_args(arguments), environ)
    except (GitHubError, OSError, ValueError, KeyError) as error:
        print(f"::error title=imgctl::{_escaped(str(error))}")
        return 1
    kind, _, rest = said.partition(": ")
    print(f"::warning title=imgctl::{_escaped(rest)}" if kind == "warning" else said)
    return 0


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

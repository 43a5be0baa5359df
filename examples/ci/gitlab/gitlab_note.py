#!/usr/bin/env python3
"""Keeps one note with imgctl's plan on a merge request, for .gitlab-ci.yml. Standard library alone.

    gitlab_note.py --body plan.md

The token comes from IMGCTL_NOTE_TOKEN, goes to CI_API_V4_URL and nowhere else, and no redirect is followed. Only notes
that the token's own user wrote are edited, whatever other notes say. Without the file of a plan, notes of older commits
are marked as outdated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

_LARGEST_ANSWER = 32 * 1024 * 1024
_MOST_PAGES = 100
_MARKER = re.compile(r"<!-- imgctl:plan (\{.*\}) -->")
_RUN = re.compile(r"<!-- imgctl:run (\{.*\}) -->")
_KEY = re.compile(r"[0-9a-f]{16}")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class GitLabError(Exception):
    """What went wrong, in words."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the token is for one host."""


class Api:
    """GitLab's REST API, for the notes of one merge request."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = environ.get("CI_API_V4_URL", "")
        url = urlsplit(self._base)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise GitLabError(f"CI_API_V4_URL is no https address: {self._base!r}")
        self._token = environ.get("IMGCTL_NOTE_TOKEN", "")
        if not self._token:
            raise GitLabError("IMGCTL_NOTE_TOKEN is not set: a job token cannot write notes")
        project, request = (_number(environ, name) for name in ("CI_MERGE_REQUEST_PROJECT_ID", "CI_MERGE_REQUEST_IID"))
        self.notes = f"projects/{project}/merge_requests/{request}/notes"
        self._opener = build_opener(_NoRedirects)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[Any, bool]:
        """The answer, and whether there is another page."""
        headers = {"PRIVATE-TOKEN": self._token, "Content-Type": "application/json", "User-Agent": "imgctl-ci"}
        data = json.dumps(body).encode() if body is not None else None
        try:
            with self._opener.open(Request(f"{self._base}/{path}", data, headers, method=method), timeout=30) as answer:
                return json.loads(answer.read(_LARGEST_ANSWER)), bool(answer.headers.get("X-Next-Page"))
        except HTTPError as error:
            raise GitLabError(f"{method} {path.partition('?')[0]}: {error.code}") from None

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Every object of a list."""
        for page in range(1, _MOST_PAGES + 1):
            query = urlencode({"per_page": 100, "page": page, "sort": "asc", "order_by": "created_at"})
            answer, more = self.call("GET", f"{path}?{query}")
            if not isinstance(answer, list):
                raise GitLabError(f"{path} answered something else than a list")
            yield from (one for one in answer if isinstance(one, dict))
            if not more:
                return
        raise GitLabError(f"{path} has more than {_MOST_PAGES} pages")


def _number(environ: Mapping[str, str], name: str) -> int:
    value = environ.get(name, "")
    if not value.isascii() or not value.isdecimal():
        raise GitLabError(f"{name} is not a number: {value[:100]!r}")
    return int(value)


def _facts(pattern: re.Pattern[str], line: str) -> dict[str, Any]:
    found = pattern.fullmatch(line)
    try:
        facts = json.loads(found[1]) if found else {}
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def written(body: object) -> tuple[str, str, int]:
    """Key of the plan in a note, its commit and its pipeline; an empty key where there is none."""
    lines = body.replace("\r", "").split("\n", 2) if isinstance(body, str) else []
    marker = _facts(_MARKER, lines[0]) if lines else {}
    run = _facts(_RUN, lines[1]) if len(lines) > 1 else {}
    key, pipeline = str(marker.get("key", "")), run.get("run")
    return (
        key if _KEY.fullmatch(key) else "",
        str(run.get("head", "")),
        pipeline if isinstance(pipeline, int) else 0,
    )


def note(environ: Mapping[str, str], text: str | None) -> str:
    """Write the plan into the merge request's one note for it, or mark those that are outdated."""
    api = Api(environ)
    head, pipeline = environ.get("CI_COMMIT_SHA", ""), _number(environ, "CI_PIPELINE_ID")
    if not _SHA.fullmatch(head):
        raise GitLabError(f"CI_COMMIT_SHA is no commit: {head[:100]!r}")
    run = f'<!-- imgctl:run {{"head":"{head}","run":{pipeline}}} -->'
    log = f"[Pipeline]({environ.get('CI_PIPELINE_URL', '')})"
    user, _ = api.call("GET", "user")
    own = [post for post in api.pages(api.notes) if (post.get("author") or {}).get("id") == user.get("id")]
    ours = [(post, *written(post.get("body"))) for post in own if not post.get("system")]
    if text is None:
        old = [(post, key) for post, key, commit, number in ours if key and commit != head and number < pipeline]
        for post, key in old:
            marker = f'<!-- imgctl:plan {{"v":1,"key":"{key}"}} -->'
            said = f"Commit `{head[:12]}` could not be planned. The plan that was here no longer holds. {log}"
            api.call(
                "PUT", f"{api.notes}/{int(post['id'])}", {"body": f"{marker}\n{run}\n### imgctl: no plan\n\n{said}\n"}
            )
        return f"no plan: {len(old)} outdated notes marked"
    key, _, _ = written(text)
    if not key:
        raise GitLabError("the first line of the body is no marker of imgctl: was it written by --format markdown?")
    first, _, rest = text.partition("\n")
    body = f"{first}\n{run}\n{rest.rstrip()}\n\nOf commit `{head[:12]}`. {log}\n"
    same = [(post, number) for post, found, _, number in ours if found == key]
    if any(number > pipeline for _, number in same):
        return "a later pipeline has written already"
    if not same:
        api.call("POST", api.notes, {"body": body})
        return "note written"
    api.call("PUT", f"{api.notes}/{int(same[0][0]['id'])}", {"body": body})
    return "note edited"


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """1 where it failed, in words."""
    parser = argparse.ArgumentParser(prog="gitlab_note.py")
    parser.add_argument("--body", type=Path, required=True)
    path: Path = parser.parse_args(arguments).body
    try:
        print(note(environ, path.read_text(encoding="utf-8") if path.exists() else None))
    except (GitLabError, OSError, ValueError, KeyError, AttributeError) as error:
        print(f"gitlab_note.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

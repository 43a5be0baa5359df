"""Annotations, read as the runner of GitHub Actions reads them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.review import Review
from reconciler.model.spec import Limits
from reconciler.render.plan_annotations import LONGEST_MESSAGE, PER_KIND, render_plan_github
from reconciler.render.plan_gitlab import render_plan_gitlab
from reconciler.render.terminal import clean
from tests.planning.figures import declared, plan_of
from tests.render.fleets import REVIEW, fleet
from tests.render.hostile import plans_of, texts


class Command(NamedTuple):
    kind: str
    properties: dict[str, str]
    message: str


def unescaped(text: str, signs: str) -> str:
    for sign in signs:
        text = text.replace(f"%{ord(sign):02X}", sign)
    return text


def read(line: str) -> Command:
    """A line as the runner takes it (actions/runner, ActionCommand.TryParseV2)."""
    line = line.lstrip()
    assert line.startswith("::")
    end = line.index("::", 2)
    kind, _, said = line[2:end].partition(" ")
    properties = {}
    for pair in filter(None, said.strip().split(",")):
        name, _, value = pair.partition("=")
        properties[name] = unescaped(value, "\r\n:,%")
    return Command(kind, properties, unescaped(line[end + 2 :], "\r\n%"))


def commands(plan: Plan, review: Review = REVIEW) -> list[Command]:
    text = render_plan_github(plan, review)
    assert text.endswith("\n")
    return [read(line) for line in text.removesuffix("\n").split("\n")]


@given(plans_of(st.integers(0, 40)))
def test_the_runner_reads_what_was_meant(plan: Plan) -> None:
    found = commands(plan, Review())
    for one in found:
        assert one.kind in ("error", "warning", "notice")
        assert one.properties.keys() <= {"file", "line", "col", "title"}
        assert one.properties["title"].startswith("imgctl")
        assert len(one.message) <= LONGEST_MESSAGE
        assert all(char.isprintable() or char in "\n\u3000" for char in one.message)
    for kind in ("error", "warning", "notice"):
        assert sum(one.kind == kind for one in found) <= PER_KIND


@given(texts, texts, texts)
def test_what_a_caution_says_arrives(summary: str, name: str, file: str) -> None:
    caution = Diagnostic(Severity.CAUTION, summary, origin=Origin(f"a/{file}b", 7, 3), name=f"n{name}")
    (one,) = [
        found for found in commands(replace(plan_of(), diagnostics=(caution,)), Review()) if found.kind == "warning"
    ]
    lines = [clean(line) for line in summary.split("\n")]
    assert one.message == "\n".join(lines)
    assert (one.properties["line"], one.properties["col"]) == ("7", "3")
    assert one.properties["title"] == clean(f"imgctl: n{name}").strip()
    assert one.properties["file"] == clean(Review().file(Origin(f"a/{file}b", 7, 3)))


def test_every_line_is_seen_from_the_top_of_the_repository() -> None:
    change = Change("office", "s1", Action.PRUNE, ("keep_images: 2",), image_id="i", origin=Origin("../b.yaml", 4, 3))
    found = commands(replace(plan_of(), changes=(change,)), Review(folder="images/prod"))
    assert found[0] == Command(
        "warning",
        {"file": "images/b.yaml", "line": "4", "col": "3", "title": "imgctl: office: prune"},
        "prune: keep_images: 2\nimage i is deleted after the new build has succeeded",
    )


def test_the_tenth_says_how_many_more_there_are() -> None:
    servers = [declared(f"n{i}", server_id=f"s{i}", line=i + 1) for i in range(40)]
    found = [one for one in commands(plan_of(servers, limits=Limits(max_changes=5))) if one.kind == "error"]
    assert [one.properties["line"] for one in found[:9]] == [str(i + 1) for i in range(9)]
    assert len(found) == 10
    assert found[9].message.startswith("31 annotations more:\nimgctl: n9: build, gated: build: first build\n")


def test_the_guard_that_was_loosened_is_not_lost_among_the_forgotten() -> None:
    warnings = [one.message for one in commands(fleet(1000)) if one.kind == "warning"]
    assert warnings[0] == "limits.max_changes is loosened: 300 at the last apply, now none"
    assert warnings[1].startswith("no longer managed, their images stay: desk-002, ")


def test_gitlab_reads_three_numbers() -> None:
    report = json.loads(render_plan_gitlab(fleet(250)))
    assert report == {"create": 230, "update": 10, "delete": 0}
    change = Change("n", "s", Action.PRUNE)
    many = replace(plan_of(), changes=(change,) * 1_000_001)
    assert re.fullmatch(r"\d{1,6}", str(json.loads(render_plan_gitlab(many))["delete"]))

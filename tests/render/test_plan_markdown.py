"""The comment for a review, against two parsers and goldens; `UPDATE_GOLDENS=1 pytest tests/render` writes these."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.diagnostics import Origin
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding
from reconciler.model.review import Review
from reconciler.model.spec import ImageSpec, Limits
from reconciler.render.markdown import size
from reconciler.render.plan_annotations import render_plan_github
from reconciler.render.plan_gitlab import render_plan_gitlab
from reconciler.render.plan_json import render_plan_json
from reconciler.render.plan_markdown import LEAST_CHARACTERS, render_plan_markdown, review_key
from reconciler.render.terminal import clean
from tests.planning.figures import declared, plan_of, record
from tests.render.fleets import REVIEW, fleet, three_changes
from tests.render.hostile import PARSERS, harmless, plans_of, texts
from tests.render.test_plan_text import SIMULATOR, chinese_plan, gated_plan, long_plan, mixed_plan, refresh_plan
from tests.support import examples

PUBLISHED = Path(__file__).parent / "published"
DOCS = Path(__file__).parents[2] / "docs"
UNCHANGED = replace(plan_of([declared()], [record(held=declared().image)]), refreshed=True)

FORMATS: dict[str, Callable[[Plan], str]] = {
    "md": lambda plan: render_plan_markdown(plan, REVIEW),
    "json": render_plan_json,
    "gitlab": render_plan_gitlab,
    "github": lambda plan: render_plan_github(plan, REVIEW),
}
EVERY = tuple(FORMATS)
PLANS: dict[str, tuple[Callable[[], Plan], tuple[str, ...]]] = {
    "three": (three_changes, EVERY),
    "fleet": (lambda: fleet(250), ("gitlab", "github")),
    "mixed": (mixed_plan, ("md", "github")),
    "refresh": (refresh_plan, ("md", "github")),
    "long": (long_plan, ("md",)),
    "empty-manifest": (gated_plan, ("md", "github")),
    "simulated": (lambda: replace(chinese_plan(), bound_to=SIMULATOR, refreshed=True), ("md", "github")),
    "no-changes": (lambda: UNCHANGED, EVERY),
}


def check(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "form"), [(name, form) for name, (_, forms) in PLANS.items() for form in forms])
def test_golden(name: str, form: str) -> None:
    check(PUBLISHED / f"{name}.{form}", FORMATS[form](PLANS[name][0]()))


def test_every_golden_is_used() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == {
        f"{name}.{form}" for name, (_, forms) in PLANS.items() for form in forms
    }


def test_the_page_on_reviews_shows_what_is_rendered() -> None:
    path = DOCS / "plan-review.md"
    page = path.read_text(encoding="utf-8")
    begin, end = "<!-- three changes, as rendered -->\n", "<!-- the end of what is rendered -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    check(path, before + begin + render_plan_markdown(three_changes(), REVIEW) + end + after)


def test_the_example_of_250_changes_is_what_is_rendered() -> None:
    check(DOCS / "examples/plan-250.md", render_plan_markdown(fleet(250), REVIEW))


def marker(text: str) -> dict[str, Any]:
    found = re.match(r"<!-- imgctl:plan (\{.*\}) -->\n", text)
    assert found is not None
    facts: dict[str, Any] = json.loads(found[1])
    return facts


def test_the_first_lines_say_what_happens_what_goes_and_what_to_do() -> None:
    plan = three_changes()
    hidden, title, empty, counts, step, _, caution, *rest = render_plan_markdown(plan, REVIEW).splitlines()
    assert title == "### imgctl `images/prod`: 1 prune, 1 forget, 1 rebuild"
    assert counts.startswith("Plan: 1 to add, 0 to change, 1 to destroy. 1 rebuild, 1 forget, 1 prune, 1 unchanged")
    assert "; about 24 min." in counts
    assert step == "**Next:** review, merge, then `imgctl apply -f images/prod`."
    assert (empty, caution) == ("", "> [!CAUTION]")
    assert rest[0].startswith("> - **1 image deleted** in IMS")
    assert rest[1] == "> - **1 image server no longer managed** (its image stays): `kiosk`"
    assert marker(hidden + "\n") == {
        "v": 1,
        "key": review_key(plan, REVIEW),
        "root": "images/prod",
        "plan": plan.plan_id,
        "lineage": plan.lineage,
        "serial": 3,
        "changes": 3,
        "shown": 3,
    }


def gated(count: int) -> Plan:
    servers = [declared(f"n {i}", ImageSpec(f"image-{i}"), server_id=f"s{i}") for i in range(count)]
    return plan_of(servers, limits=Limits(max_changes=1))


@pytest.mark.parametrize(
    ("plan", "step"),
    [
        (
            gated(2),
            "Where that is right, merge, then `imgctl apply -f images/prod --allow 'n 0' --allow 'n 1'`.",
        ),
        (
            gated(4),
            "Where all of them are right, merge, then `imgctl apply -f images/prod` with `--allow NAME` for each.",
        ),
        (
            replace(gated(2), changes=tuple(replace(one, gated="", unavailable="x") for one in gated(2).changes)),
            "What is unavailable is listed below; plan again once that is settled.",
        ),
    ],
)
def test_the_next_step(plan: Plan, step: str) -> None:
    text = render_plan_markdown(plan, REVIEW)
    why = (
        f"nothing starts while {len(plan.gated)} changes are gated, see below"
        if plan.gated
        else "nothing can start now"
    )
    assert f"**Next:** {why}. {step}\n" in text


@pytest.mark.parametrize("command", ["", "imgctl apply --target " + "n" * 500, "imgctl apply --target 'a\x1b'"])
def test_a_command_that_nobody_could_copy_is_not_shown(command: str) -> None:
    text = render_plan_markdown(three_changes(), replace(REVIEW, command=command))
    assert "**Next:** review, merge, then `imgctl apply` with the flags of this plan.\n" in text


def test_nothing_to_do_is_short() -> None:
    text = render_plan_markdown(UNCHANGED, Review())
    assert len(text.splitlines()) == 6
    assert "### imgctl: no changes\n\nNo changes. Your infrastructure matches the configuration. 1 image server" in text
    assert "[!" not in text


def test_the_key_is_that_of_the_place_and_of_nothing_that_is_planned() -> None:
    plan = three_changes()
    key = review_key(plan, REVIEW)
    assert re.fullmatch("[0-9a-f]{16}", key)
    same = replace(plan, plan_id="1" * 64, serial=9, changes=(), lineage="")
    assert review_key(same, replace(REVIEW, command="imgctl apply plan.json", folder="x")) == key
    others = [
        review_key(plan, replace(REVIEW, root="images/test")),
        review_key(plan, replace(REVIEW, selectors=("-l", "ring=canary"))),
        review_key(replace(plan, bound_to=Binding("huaweicloud", "ap-southeast-2", "p")), REVIEW),
    ]
    assert len({key, *others}) == 4


def rows(text: str) -> int:
    """How many rows the index has: all tables but that of the counts by file."""
    tables = re.findall(r"^\|(.*)\|\n\|(?:-\|)+\n((?:\|.*\n)*)", text, re.MULTILINE)
    return sum(body.count("\n") for head, body in tables if " image server | image " in head)


@pytest.mark.parametrize(("count", "room"), [(3, 60_000), (25, 60_000), (26, 60_000), (250, 60_000), (900, 60_000)])
def test_every_change_has_a_row(count: int, room: int) -> None:
    text = render_plan_markdown(fleet(count), REVIEW, max_characters=room)
    assert rows(text) == count
    assert "are not in this comment" not in text


def test_the_fields_are_left_out_first_and_the_top_says_so() -> None:
    plan = fleet(250)
    text = render_plan_markdown(plan, REVIEW)
    shown = marker(text)["shown"]
    assert 100 < shown < 250
    assert text.count("```diff\n") == shown
    said = f"**All 250 changes are listed; the fields of {shown} of 250 are shown,** the riskiest first."
    assert text.index(said) < text.index("| image server |")
    # Less room than the fields take, and more than the index does.
    assert size(text) > 59_000


def test_where_not_even_the_index_fits_the_top_says_how_many_rows_are_left_out() -> None:
    text = render_plan_markdown(fleet(2000), REVIEW, max_characters=10_000)
    left = 2000 - rows(text)
    assert 0 < left < 2000
    assert f"**{left} of the 2000 changes are not in this comment,** nor are the fields of 2000 changes." in text
    assert "```" not in text
    # The riskiest are those that are there.
    assert text.count(" stays | removed |") == 80 < rows(text)
    assert "builds in" not in text.replace("rebuilds in", "")


@settings(max_examples=examples(80))
@given(plans_of(st.integers(0, 60)), st.integers(LEAST_CHARACTERS, 12_000), st.integers(1, 60))
def test_no_plan_exceeds_its_room(plan: Plan, room: int, times: int) -> None:
    def longer(text: str) -> str:
        return text * times

    plan = replace(
        plan,
        lineage=longer(plan.lineage),
        overrides=plan.overrides * times,
        diagnostics=tuple(replace(one, hint=longer(one.hint)) for one in plan.diagnostics) * times,
        changes=tuple(
            replace(
                one, name=longer(one.name), reasons=one.reasons * times, gated=longer(one.gated), diff=one.diff * times
            )
            for one in plan.changes
        ),
    )
    review = Review(longer("π/"), "x", ("-l", longer("é")), longer("\U0001f600"))
    text = render_plan_markdown(plan, review, max_characters=room)
    assert size(text) <= room
    facts = marker(text)
    assert facts["changes"] == len(plan.changes)
    assert text.count("```diff\n") <= facts["shown"]
    left = re.search(r"\*\*(\d+) of the \d+ changes are not in this comment", text)
    assert rows(text) == len(plan.changes) - (int(left[1]) if left else 0)


@settings(max_examples=examples(150))
@given(plans_of(st.integers(0, 3) | st.integers(26, 30)), texts, texts)
def test_no_value_makes_structure(plan: Plan, root: str, selector: str) -> None:
    review = Review(root, "", ("-l", selector))
    text = render_plan_markdown(plan, review, max_characters=1_000_000)
    plain = render_plan_markdown(harmless(plan), harmless(review), max_characters=1_000_000)
    for parse in PARSERS:
        page = parse(text)
        assert page.tags == parse(plain).tags
        assert not {tag for tag, _ in page.tags} & {"a", "img", "h1", "h2", "del", "em", "input", "script", "hr"}
        # What GitHub and GitLab would make of mere words: mentions, references, addresses, commits.
        loose = re.sub(r"\[![A-Z]+\]", "", page.loose)
        assert not re.search(r"[@#!~%]|://|www\.|\b[0-9a-f]{7,}\b|[A-Z]+-\d|:\w+:", loose)
        for change in plan.changes:
            assert (clean(change.name) or "(none)").replace("\\|", "\\\\x7c") in page.text
    # Nothing but our own words begins a line: no quick action, no workflow command, no list.
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
    assert not re.search(r"^(/|::)", text, re.MULTILINE)


def test_values_that_shine_through_a_fence() -> None:
    spec = ImageSpec("a", "```\n## No changes\n````")
    change = Change("n", "s1", Action.BUILD, after=spec, origin=Origin("a.yaml", 3, 1))
    plan = replace(
        plan_of([declared("n", spec)]), changes=(replace(change, diff=plan_of([declared("n", spec)]).changes[0].diff),)
    )
    text = render_plan_markdown(plan, Review())
    assert '`````diff\n+ image.name = "a"\n+ image.description = "```\\x0a## No changes\\x0a````"\n`````\n' in text
    assert [page for parse in PARSERS if "h2" in dict((page := parse(text)).tags)] == []

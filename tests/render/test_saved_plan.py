"""Saved plans: what stands in the file, and that nothing else is ever taken for one."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import PlanFileError
from reconciler.model.diagnostics import Diagnostic, Origin
from reconciler.model.plan import Action, Plan
from reconciler.model.spec import Limits, Override
from reconciler.planning.approval import Approval, Asked, Basis
from reconciler.planning.identity import plan_id
from reconciler.render.plan_json import plan_document
from reconciler.render.plan_text import render_plan
from reconciler.render.saved_plan import SavedPlan, _checksum, decode, encode, render_saved
from reconciler.render.terminal import Style, json_text
from tests.render.test_plan_json import CONFORMS, SCHEMA
from tests.render.test_plan_text import chinese_plan, gated_plan, long_plan, mixed_plan, plans, refresh_plan
from tests.support import examples

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def saved(plan: Plan, asked: Asked | None = None) -> SavedPlan:
    """The plan as the planner would have named it, saved."""
    plan = replace(plan, plan_id=plan_id(plan.bound_to, plan.lineage, plan.changes, plan.protect))
    basis = {change.server_id: Basis("a" * 64, "", "a1") for change in plan.changes}
    return SavedPlan(Approval(plan, asked or Asked("imgctl.yaml"), basis), NOON, "0.1.0")


ASKED = Asked("images/", ("web-*", "办公"), ("lab",), ("ring=canary",), ("cad",), 9, 0, 40)
EXAMPLE = saved(replace(mixed_plan(), overrides=(Override("release", "2", "--var"),)), ASKED)
TEXT = encode(EXAMPLE).encode()


def refused(content: bytes) -> str:
    with pytest.raises(PlanFileError) as error:
        decode(content, "november.plan")
    assert error.value.exit_code == 1
    assert "november.plan" in error.value.summary
    assert error.value.hint
    return error.value.summary


def sealed(document: Any) -> bytes:
    """The document with the checksum that fits it, as somebody writes who knows how."""
    return json_text({**document, "checksum": _checksum(document)}).encode()


def test_the_file_as_it_was() -> None:
    """Written by an earlier imgctl, it must be read by every later one: `UPDATE_GOLDENS=1` writes it anew."""
    golden = Path(__file__).with_name("saved.plan.json")
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_bytes(TEXT)
    assert golden.read_bytes() == TEXT


@pytest.mark.parametrize("make", [mixed_plan, refresh_plan, chinese_plan, long_plan, gated_plan])
def test_what_is_saved_is_read_as_it_was(make: Any) -> None:
    one = saved(make(), ASKED)
    text = encode(one)
    CONFORMS.validate(json.loads(text))
    read = decode(text.encode(), "november.plan")
    assert encode(read) == text
    assert (read.approval.asked, read.approval.basis, read.created_at) == (ASKED, one.approval.basis, NOON)
    assert read.approval.plan.changes == one.approval.plan.changes
    # It is shown as it was when it was made, but for the manifest's own lines, which are not in it.
    without = tuple(replace(each, excerpt=None) for each in one.approval.plan.diagnostics)
    shown = render_saved(read, "november.plan", Style())
    assert shown.endswith("\n\n" + render_plan(replace(one.approval.plan, diagnostics=without), Style()))
    assert "--target web-* --target 办公 --exclude lab -l ring=canary --replace cad --max-changes 9" in shown


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(plans, st.text(max_size=9), st.lists(st.text(max_size=9), max_size=2).map(tuple), st.none() | st.integers(0, 9))
def test_whatever_stands_in_it_a_saved_plan_is_read_again(
    plan: Plan, text: str, texts: tuple[str, ...], number: int | None
) -> None:
    one = saved(identified(plan), Asked(text, texts, texts, texts, texts, number, number, number))
    written = encode(one)
    CONFORMS.validate(json.loads(written))
    assert all(char.isprintable() or char in "\n\u3000" for char in written)
    assert encode(decode(written.encode(), "november.plan")) == written


def identified(plan: Plan) -> Plan:
    """The plan with ids that can be ids: the planner is given no others."""
    changes = tuple(
        replace(
            change,
            server_id=f"s{number}",
            job_id="j1" if change.job_id else "",
            image_id="i1" if change.image_id else "",
            origin=change.origin and replace(change.origin, line=7, column=7),
        )
        for number, change in enumerate(plan.changes)
    )
    return replace(plan, changes=changes)


def test_the_schema_knows_every_field_of_a_saved_plan() -> None:
    document, known = json.loads(TEXT), SCHEMA["properties"]
    assert document.keys() == known.keys()
    assert document["saved"].keys() == known["saved"]["properties"].keys()
    for part in ("asked", "guards"):
        fields = known["saved"]["properties"][part]
        assert document["saved"][part].keys() == fields["properties"].keys() == set(fields["required"])
    basis = known["saved"]["properties"]["basis"]["additionalProperties"]
    assert all(one.keys() == basis["properties"].keys() for one in document["saved"]["basis"].values())


def test_only_the_time_differs() -> None:
    later = encode(replace(EXAMPLE, created_at=NOON + timedelta(days=2))).encode()
    different = [(one, other) for one, other in zip(TEXT.splitlines(), later.splitlines(), strict=True) if one != other]
    assert len(different) == 1
    assert b'"created_at": "2026-11-25T12:00:00Z"' in different[0][1]
    assert decode(later, "november.plan").approval == decode(TEXT, "november.plan").approval
    elsewhere = encode(replace(EXAMPLE, created_at=NOON.astimezone(timezone(timedelta(hours=8)))))
    assert elsewhere.encode() == TEXT


# Files that are none


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is damaged or cut short"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"[]", "is no imgctl plan"),
        (b"null", "is no imgctl plan"),
        (b"{}", "is no imgctl plan"),
        (b'{"version": 1}', "is no imgctl plan"),
        (b'{"format_version": 1, "plan_id": ""}', "its format_version is no version"),
        (b'{"format_version": "1.1", "plan_id": ""}', "is a plan of format 1.1; this imgctl reads 1.0"),
        (b'{"format_version": "2.0", "plan_id": ""}', "is a plan of format 2.0; this imgctl reads 1.0"),
        (b'{"format_version": "1.00", "plan_id": ""}', "is a plan of format 1.00"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"format_version": "1.0", "plan_id": ' + b"9" * 5000 + b"}", "a number in it is too long"),
        (b'{"format_version": "1.0", "plan_id": NaN}', "a number in it is too long, or is none"),
        (json_text(plan_document(EXAMPLE.approval.plan)).encode(), "lacks what it takes to apply it"),
        (b"version: 1\n", "is damaged or cut short"),
    ],
)
def test_what_is_no_saved_plan(content: bytes, why: str) -> None:
    assert why in refused(content)


@settings(max_examples=examples(80))
@given(st.integers(0, len(TEXT) - 1))
def test_half_a_plan_is_none(length: int) -> None:
    refused(TEXT[:length])


@settings(max_examples=examples(150))
@given(st.integers(0, len(TEXT) - 1), st.binary(min_size=1, max_size=3))
def test_an_edited_plan_is_none(place: int, other: bytes) -> None:
    edited = TEXT[:place] + other + TEXT[place + len(other) :]
    if edited == TEXT:
        return
    try:
        read = decode(edited, "november.plan")
    except PlanFileError:
        return
    # The time alone may be another one, since two plans of the same inputs differ in it.
    assert read.approval == decode(TEXT, "november.plan").approval
    assert read.created_at != NOON


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(each for key, value in inner for each in paths(value, (*path, key)))]


DOCUMENT = json.loads(TEXT)
PATHS = [path for path in paths(DOCUMENT) if path and path != ("checksum",)]
# One path for each field, wherever in a list it stands.
FIELDS = list({tuple(0 if isinstance(key, int) else key for key in path): path for path in PATHS}.values())
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=examples(400))
@given(st.sampled_from(PATHS), junk)
def test_another_value_under_a_checksum_that_fits(path: tuple[Any, ...], value: Any) -> None:
    """The checksum is no signature: whoever knows how can write one. What cannot be is refused all the same."""
    document = deepcopy(DOCUMENT)
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    content = sealed(document)
    try:
        read = decode(content, "november.plan")
    except PlanFileError:
        return
    # What is read is a plan like any other, and this is how it is written.
    assert encode(read).encode() == content
    CONFORMS.validate(document)


@pytest.mark.parametrize("some", [FIELDS, pytest.param(PATHS, marks=pytest.mark.sweep)], ids=["fields", "paths"])
def test_a_field_that_is_missing_or_one_too_many(some: list[tuple[Any, ...]]) -> None:
    for path in some:
        document = deepcopy(DOCUMENT)
        node = document
        for key in path[:-1]:
            node = node[key]
        # A protected server more or less is another plan, and compared with what is declared when it is applied.
        if not isinstance(node, dict) or path[-2:-1] == ("protect",):
            continue
        node["extra"] = node[path[-1]]
        refused(sealed(document))
        del node["extra"], node[path[-1]]
        refused(sealed(document))


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda text: text.replace(b'"action": "move"', b'"action": "burn"'), "must be one of"),
        (lambda text: text.replace(b'"name": "web"', b'"name": "wed"'), "its plan_id is that of other changes"),
        (lambda text: text.replace(b'"execute_sysprep": true', b'"execute_sysprep": "yes"'), "must be true or false"),
        (lambda text: text.replace(b'"serial": ', b'"serial": -'), "must be a whole number"),
        (lambda text: text.replace(b'"declared": "aa', b'"declared": "zz'), "must be 64 hexadecimal digits"),
        (lambda text: text.replace(b'"image_id": "25b1', b'"image_id": "../1'), "is no id"),
        (lambda text: text.replace(b'"value": "2"', b'"value": ["2"]'), "must be text"),
        (lambda text: text.replace(b'"targets": [', b'"targets": [7,'), "must be a list of texts"),
        (lambda text: text.replace(b'"unchanged": 1', b'"unchanged": true'), "must be a whole number"),
        (lambda text: text.replace(b'"gated": 3', b'"gated": 2'), "this is not how imgctl writes a plan"),
    ],
)
def test_what_a_field_cannot_be(edit: Any, why: str) -> None:
    edited = edit(TEXT)
    assert edited != TEXT
    assert "its checksum does not fit" in refused(edited)
    assert why in refused(sealed(json.loads(edited)))


def test_a_field_that_comes_twice() -> None:
    twice = TEXT.replace(b'"queued": 0,', b'"queued": 7,\n  "queued": 0,')
    assert twice != TEXT
    assert "this is not how imgctl writes a plan" in refused(twice)
    assert "this is not how imgctl writes a plan" in refused(TEXT + b" ")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "2026-11-23", "yesterday", "2026-11-23T12:00:00+00:00"])
def test_a_time_that_is_none(time: str) -> None:
    refused(TEXT.replace(b"2026-11-23T12:00:00Z", time.encode()))


def test_basis_and_changes_are_of_the_same_servers() -> None:
    document = json.loads(TEXT)
    document["saved"]["basis"].popitem()
    assert "its basis is that of other servers" in refused(sealed(document))


def test_it_shows_nothing_that_could_steer_a_terminal() -> None:
    evil = "\x1b[2J\u202e\u2028"
    plan = replace(
        EXAMPLE.approval.plan,
        overrides=(Override("release", evil, evil),),
        diagnostics=(Diagnostic(EXAMPLE.approval.plan.diagnostics[0].severity, evil, evil, Origin(evil, 1, 1)),),
        limits=Limits(1, 2, 3),
    )
    one = saved(plan, Asked(evil, (evil,), (evil,), (evil,), (evil,)))
    read = decode(encode(one).encode(), "november.plan")
    shown = render_saved(replace(read, tool_version=evil), evil, Style())
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert all(char.isprintable() or char in "\n\u3000" for char in encode(read))
    assert {change.action for change in read.approval.plan.changes} >= {Action.MOVE, Action.PRUNE}

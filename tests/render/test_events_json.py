"""The lines of `--format ndjson`, against the published schema."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from reconciler.errors import StateError
from reconciler.model.outcome import Outcome, Result, ResultKind, StopReason
from reconciler.model.plan import Action
from reconciler.model.progress import BuildFailed, Progress
from reconciler.model.record import BuildError
from reconciler.render.events_json import nothing_event, outcome_event, plan_event, progress_event
from tests.render.test_plan_text import mixed_plan
from tests.support import examples

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_NOW = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)


def _schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((_SCHEMAS / name).read_text(encoding="utf-8"))
    return document


SCHEMA = _schema("events.schema.json")
_PLAN = _schema("plan.schema.json")
CONFORMS = Draft202012Validator(
    SCHEMA, registry=Registry().with_resources([(_PLAN["$id"], Resource.from_contents(_PLAN))])
)
KINDS = {kind["properties"]["type"]["const"]: kind for kind in SCHEMA["oneOf"]}


def parsed(line: str) -> dict[str, Any]:
    """One line, which conforms."""
    assert len(line.splitlines()) == 1
    assert line.isascii()
    document: dict[str, Any] = json.loads(line)
    CONFORMS.validate(document)
    return document


@pytest.mark.parametrize("kind", get_args(Progress))
def test_the_schema_has_every_step_with_its_fields(kind: type) -> None:
    word = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).removeprefix("_")
    fields = {field.name for field in dataclasses.fields(kind)}
    assert KINDS[word]["properties"].keys() == fields | {"type"}
    assert set(KINDS[word]["required"]) == fields


_steps = st.one_of([st.builds(kind) for kind in get_args(Progress)])


@settings(max_examples=examples(200), deadline=None)
@given(_steps)
def test_any_step_is_one_line_that_conforms(happened: Any) -> None:
    happened = _finite(happened)
    document = parsed(progress_event(happened, _NOW))
    said = {key: value for key, value in document.items() if key not in ("type", "at")}
    assert said == json.loads(json.dumps(dataclasses.asdict(happened)))
    assert document["at"] == "2026-11-24T10:00:00.123Z"


def _finite(happened: Any) -> Any:
    """Numbers as execution counts them."""
    numbers = {
        field.name: type(value)(abs(value) if abs(value) < 1e9 else 1)
        for field in dataclasses.fields(happened)
        if isinstance(value := getattr(happened, field.name), (int, float)) and not isinstance(value, bool)
    }
    return dataclasses.replace(happened, **numbers)


def test_hostile_words_stay_in_their_line() -> None:
    error = BuildError("X\u2028", "a\nb\r\x1b[31m\u202e", "id")
    document = parsed(progress_event(BuildFailed("\u202eoffice", "s1", "", error), _NOW))
    assert document["error"]["message"] == "a\nb\r\x1b[31m\u202e"


def test_a_plan_and_what_became_of_it() -> None:
    plan = mixed_plan()
    assert parsed(plan_event(plan, _NOW))["plan"]["plan_id"] == plan.plan_id
    assert parsed(nothing_event("No build is in flight.", _NOW))["why"] == "No build is in flight."
    results = tuple(Result(change, kind, "why") for change, kind in zip(plan.changes, ResultKind, strict=False))
    outcome = Outcome(results, 1.23456, 7, StopReason.ERROR, StateError("the disk is full", hint="Make room."))
    document = parsed(outcome_event(outcome, plan, _NOW))
    assert [one["result"] for one in document["results"]] == ["done", "running", "failed", "not_started", "unclear"][
        : len(results)
    ]
    assert document["error"] == {"summary": "the disk is full", "hint": "Make room."}
    assert not document["complete"]
    named = KINDS["record_changed"]["properties"]["action"]["enum"]
    assert set(named) == {action.value for action in Action}

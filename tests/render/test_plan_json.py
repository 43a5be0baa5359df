"""The plan as JSON, against the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from reconciler.model.plan import Action, Plan
from reconciler.render.plan_json import plan_document, render_plan_json
from tests.planning.figures import plan_of
from tests.render.test_plan_text import chinese_plan, gated_plan, long_plan, mixed_plan, plans, refresh_plan
from tests.support import examples

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/plan.schema.json").read_text(encoding="utf-8"))
CONFORMS = Draft202012Validator(SCHEMA)


def walk(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema that describes a named field, and where it stands."""
    if isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield f"{path}.{name}", field
        for key, value in schema.items():
            yield from walk(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from walk(value, path)


def test_the_schema_describes_every_field() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    fields = dict(walk(SCHEMA))
    assert len(fields) > 40
    for path, field in fields.items():
        assert field.get("title"), path
        assert field.get("description"), path


@pytest.mark.parametrize("make", [mixed_plan, refresh_plan, chinese_plan, long_plan, gated_plan, plan_of])
def test_plans_conform(make: Any) -> None:
    plan = make()
    text = render_plan_json(plan)
    document = json.loads(text)
    CONFORMS.validate(document)
    assert document == plan_document(plan)
    assert text.endswith("}\n")


def test_the_schema_knows_every_field_that_is_written() -> None:
    document = plan_document(mixed_plan())
    change, diagnostic = document["changes"][0], document["diagnostics"][0]
    definitions = SCHEMA["$defs"]
    # What a saved plan has besides is looked at in test_saved_plan.py.
    assert document.keys() == SCHEMA["properties"].keys() - {"saved", "checksum"} == set(SCHEMA["required"])
    assert document["summary"].keys() == SCHEMA["properties"]["summary"]["properties"].keys()
    assert change.keys() == definitions["change"]["properties"].keys() == set(definitions["change"]["required"])
    assert diagnostic.keys() == definitions["diagnostic"]["properties"].keys()
    assert definitions["change"]["properties"]["action"]["enum"] == [action.value for action in Action]


def test_what_a_reader_finds() -> None:
    document = plan_document(mixed_plan())
    assert document["format_version"] == "1.0"
    assert document["summary"] == {
        "resume": 2,
        "move": 1,
        "forget": 1,
        "rebuild": 2,
        "build": 2,
        "update": 1,
        "prune": 1,
        "refresh": 0,
        "unavailable": 2,
        "gated": 3,
        "unchanged": 1,
    }
    cad = next(change for change in document["changes"] if change["name"] == "cad")
    assert (cad["action"], cad["gated"], cad["unavailable"]) == ("rebuild", "protected (protect: true)", None)
    assert cad["diff"][-1] == {"path": "triggers.gpu_driver", "before": "537.13", "after": "551.86"}
    assert cad["origin"] == {"file": "imgctl.yaml", "line": 10, "column": 3}
    assert (cad["before"]["name"], cad["after"]["triggers"]) == ("cad-2026.10", {"gpu_driver": "551.86"})
    moved = next(change for change in document["changes"] if change["action"] == "move")
    assert (moved["name"], moved["old_name"], moved["diff"]) == ("writing", "letters", [])


@settings(max_examples=examples(60), deadline=None)
@given(plans)
def test_whatever_stands_in_it_a_plan_is_plain_json(plan: Plan) -> None:
    text = render_plan_json(plan)
    assert all(char.isprintable() or char in "\n\u3000" for char in text)
    assert json.loads(text) == json.loads(json.dumps(plan_document(plan)))
    CONFORMS.validate(json.loads(text))

"""The published schema: a valid one, found in a checkout, and of one mind with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.manifest import rules
from reconciler.manifest.conformance import compile_schema
from reconciler.manifest.schema import manifest_schema
from reconciler.model.regions import WORKSPACEAPP_REGIONS
from tests.support import examples

SCHEMA = manifest_schema()
CONFORMS = compile_schema(SCHEMA)
VALIDATOR = Draft202012Validator(SCHEMA)


def subschemas(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in subschemas(item)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for key, item in schema.items() if key != "examples" for found in subschemas(item))]


def test_the_schema_is_a_valid_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads((Path(__file__).parents[2] / "schemas" / "manifest.schema.json").read_text("utf-8")) == SCHEMA


def test_every_field_tells_an_editor_what_it_is() -> None:
    for schema in subschemas(SCHEMA):
        for name, field in schema.get("properties", {}).items():
            if isinstance(field, dict) and "$ref" not in field and "type" in field:
                assert field.get("title"), name
                assert field.get("description"), name
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            assert schema["additionalProperties"] is False


def test_examples_and_defaults_satisfy_their_own_schema() -> None:
    for schema in subschemas(SCHEMA):
        for example in [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]:
            whole = {"$defs": SCHEMA["$defs"], **schema}
            assert Draft202012Validator(whole).is_valid(example), (schema.get("title"), example)


def test_the_regions_are_those_of_the_built_in_table() -> None:
    assert set(SCHEMA["properties"]["region"]["enum"]) == WORKSPACEAPP_REGIONS
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", region) for region in WORKSPACEAPP_REGIONS)


def test_no_pattern_lets_a_final_line_break_through() -> None:
    for schema in subschemas(SCHEMA):
        if "pattern" in schema:
            for example in [*schema.get("examples", []), "a", "a" * 32, "https://a/b"]:
                if "${" not in example and "up to 1024" not in schema["description"]:
                    assert not re.search(schema["pattern"], f"{example}\n"), schema["pattern"]


def test_a_keyword_that_the_quick_check_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        compile_schema({"type": "object", "properties": {"a": {"uniqueItems": True}}})


@pytest.mark.parametrize("path", ["quickstart/imgctl.yaml", "patch-day/imgctl.yaml", "patch-day/ring-broad.yaml"])
def test_an_editor_accepts_the_examples(path: str) -> None:
    text = (Path(__file__).parents[2] / "examples" / path).read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=../../schemas/manifest.schema.json\n")
    assert VALIDATOR.is_valid(yaml.safe_load(text))


TEXTS = st.sampled_from(
    ["a", "", "a b", " a", "镜像", "a\n", "${var.x}", "a,b", "x" * 65, "1", "a" * 32, "https://h/p", "é"]
)
SCALARS = st.one_of(
    TEXTS, st.text(max_size=8), st.none(), st.booleans(), st.integers(-2, 20000), st.sampled_from([0.5, 3.0, -1.0, 1e9])
)
KEYS = st.one_of(
    st.sampled_from(sorted({name for schema in subschemas(SCHEMA) for name in schema.get("properties", {})})), TEXTS
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.one_of(st.dictionaries(KEYS, inner, max_size=6), st.lists(inner, max_size=2))
)


def like(schema: Any) -> st.SearchStrategy[Any]:
    """Data that is mostly what a schema asks for, with something else now and then."""
    if schema is True or schema is False:
        return ANYTHING
    if "$ref" in schema:
        return like(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    right: list[st.SearchStrategy[Any]] = [st.just(example) for example in schema.get("examples", [])]
    if "const" in schema:
        right.append(st.just(schema["const"]))
    if "enum" in schema:
        right.append(st.sampled_from(schema["enum"]))
    if schema.get("type") == "object":
        fields = {name: like(field) for name, field in schema.get("properties", {}).items()}
        needed = {name: fields.pop(name) for name in schema.get("required", [])}
        others = schema.get("additionalProperties")
        if fields or needed:
            right.append(st.fixed_dictionaries(needed, optional=fields))
        if isinstance(others, dict):
            right.append(st.dictionaries(st.sampled_from(["a", "b_1", "cad"]), like(others), max_size=3))
            right.append(st.dictionaries(TEXTS, like(others), max_size=2))
    plain: dict[str, st.SearchStrategy[Any]] = {
        "string": TEXTS,
        "boolean": st.booleans(),
        "integer": st.integers(0, 50),
        "number": st.floats(0, 10),
    }
    if schema.get("type") in plain and not right:
        right.append(plain[schema["type"]])
    mostly = st.one_of(right)
    return st.integers(0, 40).flatmap(lambda dice: ANYTHING if dice == 40 else mostly)


@settings(max_examples=examples(300), deadline=None)
@given(st.one_of(ANYTHING, like(SCHEMA), like(SCHEMA)))
def test_the_quick_check_and_jsonschema_are_of_one_mind(data: Any) -> None:
    event("right" if VALIDATOR.is_valid(data) else "wrong")
    assert CONFORMS(data) == VALIDATOR.is_valid(data)


NAMES = st.text(alphabet=st.sampled_from("ab1_.- \n\t镜一龥龦㐀é１/@$\u00a0"), max_size=6) | st.text(max_size=3)


@settings(max_examples=examples(300), deadline=None)
@given(NAMES | st.sampled_from(["a" * 128, "a" * 129, "a" * 127 + " ", " " * 128]))
def test_schema_and_rules_agree_about_names_and_descriptions(text: str) -> None:
    image = SCHEMA["$defs"]["image"]["properties"]
    if "${" not in text:
        assert Draft202012Validator(image["name"]).is_valid(text) == (rules.image_name(text) is None)
    assert Draft202012Validator(image["description"]).is_valid(text) == (rules.description(text) is None)
    label = SCHEMA["$defs"]["labels"]["additionalProperties"]
    assert Draft202012Validator(label).is_valid(text) == (rules.label(text) is None)


@pytest.mark.parametrize("text", ["a b", "镜像 1", "龥", "_", ".", "-", "a" * 128, "2026.11"])
def test_names_that_the_api_takes(text: str) -> None:
    assert rules.image_name(text) is None


@pytest.mark.parametrize("text", ["", "a ", "\ta", "\u3000", "\u2028", "\x0b", "😀" * 512, '& "', "a" * 1024])
def test_descriptions_that_the_api_takes(text: str) -> None:
    assert rules.description(text) is None


@pytest.mark.parametrize("text", [" ", " a", "a\r", "a\n", "<", ">", "a" * 1025, "😀" * 513])
def test_descriptions_that_the_api_refuses(text: str) -> None:
    assert rules.description(text) is not None

"""The state's format: what is written is what is read, and what the published schema says."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reconciler.errors import StateError
from reconciler.model.record import Recorded
from reconciler.state.codec import Stored, decode, encode
from tests.state.strategies import states
from tests.support import examples

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/state.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@given(states())
def test_what_is_written_is_read_back_and_fits_the_schema(recorded: Recorded) -> None:
    content = encode(recorded, 7)
    assert decode(content, "state") == Stored(recorded, 7)
    VALIDATOR.validate(json.loads(content))


@given(states(), st.data())
@settings(max_examples=examples(50))
def test_a_damaged_state_is_refused_or_read_but_never_crashes(recorded: Recorded, data: st.DataObject) -> None:
    content = bytearray(encode(recorded, 0))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with suppress(StateError):
            decode(damaged, "state")


@given(states(), st.integers(0, 100))
def test_a_truncated_state_is_never_taken_for_a_shorter_one(recorded: Recorded, percent: int) -> None:
    content = encode(recorded, 0)
    # The last newline alone says nothing.
    cut = content[: (len(content) - 2) * percent // 100]
    with pytest.raises(StateError):
        decode(cut, "state")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += _places(child, (*path, key))
    return found


@given(states(), st.data())
@settings(max_examples=examples(50))
def test_what_the_schema_refuses_is_refused_with_its_path(recorded: Recorded, data: st.DataObject) -> None:
    document = json.loads(encode(recorded, 0))
    *parents, last = data.draw(st.sampled_from(_places(document)))
    holder = document
    for key in parents:
        holder = holder[key]
    holder[last] = data.draw(JSON)
    refusal: StateError | None = None
    try:
        decode(json.dumps(document).encode(), "state")
    except StateError as error:
        refusal = error
    if refusal is not None:
        assert refusal.summary.startswith("state")
        return
    # Fields of a later version are passed over; everything else that is read is what the schema allows.
    problems = [one for one in VALIDATOR.iter_errors(document) if not _lenient(one.validator, one.instance)]
    assert not problems, problems[0].message


def _lenient(rule: object, instance: object) -> bool:
    """Where reading is deliberately more lenient than the schema: null or "" for absent, other fields, any provider."""
    return instance in (None, "") or rule in ("additionalProperties", "enum", "format", "minLength")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"{", "damaged or cut short"),
        (b"\xff\xfe", "damaged or cut short"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"version": 2}', "version 2; this imgctl reads up to version 1"),
        (b'{"version": true}', "no imgctl state"),
        (b'{"version": "1"}', "no imgctl state"),
        (b'{"resources": []}', "no imgctl state"),
        (b"[]", "must be an object"),
        (b'{"version": 1, "lineage": "a"}', "serial"),
        (b'{"version": 1, "lineage": "a", "serial": ' + b"9" * 5000 + b"}", "state"),
        (b'{"version": 1, "lineage": "a", "serial": 1, "servers": {"a/b": {"name": "x"}}}', "no server id"),
    ],
)
def test_what_is_no_state_is_explained(content: bytes, said: str) -> None:
    with pytest.raises(StateError, match=said):
        decode(content, "state")

"""Recorded servers: status, show, output."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import UsageError
from reconciler.model.observed import ObservedJob
from reconciler.model.record import BuildError, BuildStatus, Context
from reconciler.model.spec import ImageSpec
from reconciler.render.records import (
    StatusRow,
    moment,
    record_document,
    render_outputs,
    render_record,
    render_status,
    status_document,
)
from reconciler.render.terminal import Style
from tests.planning.figures import NOON, A, B, build, declared, record
from tests.support import examples

FAILED = build(BuildStatus.FAILED, B, error=BuildError("IMG.0042", "the disk is full", "r-1"))
ROWS = [
    StatusRow("office", "s1", declared(), record(held=A)),
    StatusRow("财务", "s2", declared("财务"), record("财务", A, attempt=FAILED)),
    StatusRow(
        "cad",
        "s3",
        declared("cad"),
        record("cad", attempt=build(BuildStatus.RUNNING, job_id="697354")),
        ObservedJob("697354", "WAITING"),
    ),
    StatusRow("held", "s4", declared("held"), record("held", A, attempt=build(BuildStatus.UNKNOWN))),
    StatusRow("new", "s5", declared("new"), None),
    StatusRow("gone", "s6", None, record("gone", A)),
]


def test_status() -> None:
    assert render_status(ROWS, Style()).splitlines() == [
        "NAME    STATUS       IMAGE     IMAGE ID  BUILT",
        "office  held         office-1  i1        2026-11-03 12:00 UTC",
        "财务    failed       office-1  i1        2026-11-03 12:00 UTC  IMG.0042 the disk is full",
        "cad     building     -         -         -                     job 697354 is WAITING",
        "held    in doubt     office-1  i1        2026-11-03 12:00 UTC",
        "new     never built  -         -         -",
        "gone    held         office-1  i1        2026-11-03 12:00 UTC  no longer declared",
    ]
    coloured = render_status(ROWS, Style(colour=True))
    assert re.sub(r"\x1b\[[0-9;]+m", "", coloured) == render_status(ROWS, Style())
    # Not the name, where that says the same.
    assert "held    \x1b[33min doubt\x1b[0m" in coloured
    assert render_status([], Style()) == "No image server is declared or recorded.\n"


def test_status_as_data() -> None:
    document = status_document(ROWS)
    assert [(row["name"], row["status"], row["declared"], row["job_status"]) for row in document] == [
        ("office", "held", True, None),
        ("财务", "failed", True, None),
        ("cad", "building", True, "WAITING"),
        ("held", "in doubt", True, None),
        ("new", "never built", True, None),
        ("gone", "held", False, None),
    ]
    assert document[0]["held"]["built_at"] == "2026-11-03T12:00:00.000Z"
    assert document[1]["attempt"]["error"] == {"code": "IMG.0042", "message": "the disk is full", "request_id": "r-1"}


def test_one_record_in_full() -> None:
    spec = ImageSpec("office-2", "for the office", False, {"gpu": "1"})
    shown = render_record(
        record(held=spec, attempt=FAILED, history=[build(spec=spec, image_id="i1")], protect=True, retired=True),
        Style(),
    )
    assert shown == (
        "office\n"
        "  server id        s1\n"
        "  protect          true\n"
        "  forgotten        2026-11-03 12:00 UTC\n"
        "  image            office-2\n"
        "  image id         i1\n"
        "  built            2026-11-03 12:00 UTC\n"
        "  description      for the office\n"
        "  execute sysprep  false\n"
        "  trigger gpu      1\n"
        "\n"
        "builds, latest first\n"
        "  2026-11-03 12:00 UTC  failed     office-2  job j1  IMG.0042 the disk is full\n"
        "  2026-11-03 12:00 UTC  succeeded  office-2  job j1  image i1\n"
    )
    assert render_record(record(), Style()) == "office\n  server id  s1\n  image      none held\n"


def test_one_record_as_data() -> None:
    attempt = replace(FAILED, plan_id="p1", context=Context(actor="li", note="patch day"))
    document = record_document(record(held=A, attempt=attempt, history=[build()]))
    assert [one["status"] for one in document["builds"]] == ["succeeded", "failed"]
    assert document["builds"][1]["context"] == {"actor": "li", "note": "patch day"}
    assert (document["builds"][1]["plan_id"], document["retired_at"]) == ("p1", None)
    json.dumps(document)


def test_moments() -> None:
    assert moment(None) == "-"
    assert moment(NOON) == "2026-11-03 12:00 UTC"


texts = st.text(st.characters(), max_size=20)


@settings(max_examples=examples(50), deadline=None)
@given(texts, texts, texts)
def test_nothing_hostile_is_shown(name: str, other: str, image_id: str) -> None:
    spec = ImageSpec(other, name, triggers={name: other})
    failed = build(BuildStatus.FAILED, spec, job_id=other, error=BuildError(name, other))
    one = record(name, spec, server_id=other, image_id=image_id, attempt=failed, history=[build(image_id=image_id)])
    rows = [StatusRow(name, other, None, one), StatusRow(name, other, None, replace(one, attempt=None))]
    for style in (Style(), Style(colour=True)):
        shown = render_record(one, style) + render_status(rows, style) + render_outputs({name: image_id}, "text")
        shown = re.sub(r"\x1b\[[0-9;]+m", "", shown)
        assert all(char.isprintable() or char in "\n\u3000" for char in shown)


IMAGES = {"office": "i1", "财务-1": "i2"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("text", "office  i1\n财务-1  i2\n"),
        ("json", '{\n  "image_ids": {\n    "office": "i1",\n    "财务-1": "i2"\n  }\n}\n'),
        ("tfvars", 'image_ids = {\n  "office" = "i1"\n  "财务-1" = "i2"\n}\n'),
        ("env", "IMGCTL_IMAGE_OFFICE=i1\nIMGCTL_IMAGE____1=i2\n"),
    ],
)
def test_outputs(form: str, text: str) -> None:
    assert render_outputs(IMAGES, form) == text


@pytest.mark.parametrize("form", ["text", "json", "tfvars", "env"])
def test_no_outputs(form: str) -> None:
    assert (
        render_outputs({}, form)
        == {
            "text": "",
            "json": '{\n  "image_ids": {}\n}\n',
            "tfvars": "image_ids = {\n}\n",
            "env": "",
        }[form]
    )


@pytest.mark.parametrize("names", [("a-b", "a_b"), ("cad.1", "CAD-1"), ("财务-1", "研发-1")])
def test_two_names_for_one_variable_are_an_error(names: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{names[0]} and {names[1]} would both be IMGCTL_IMAGE_") as caught:
        render_outputs(dict.fromkeys(names, "i1"), "env")
    assert "--format json" in caught.value.hint


def test_a_name_without_a_letter_for_a_variable_is_an_error() -> None:
    with pytest.raises(UsageError, match="财务 makes no name for a variable"):
        render_outputs({"财务": "i1"}, "env")


@given(st.dictionaries(texts, texts, max_size=3))
def test_env_assigns_and_does_nothing_else(images: dict[str, str]) -> None:
    try:
        text = render_outputs(images, "env")
    except UsageError:
        return
    words = shlex.split(text)
    assert [word.partition("=")[2] for word in words] == list(images.values())
    assert all(re.fullmatch(r"IMGCTL_IMAGE_[A-Z0-9_]+", word.partition("=")[0]) for word in words)


HCL_STRING = r'"((?:[^"\\\x00-\x1f\x7f]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*)"'


def hcl_value(text: str) -> str:
    """What HCL makes of a quoted text. A template would begin with ${ or %{, which must not stand in it."""
    assert "${" not in text
    assert "%{" not in text
    return re.sub(r"\\u(.{4})|\\U(.{8})", lambda found: chr(int(found[1] or found[2], 16)), text)


@given(st.dictionaries(texts | st.sampled_from(["${x}", "$${x}", "%{if}", '"', "\\", "\b\f"]), texts, max_size=3))
def test_tfvars_hold_texts_and_nothing_else(images: dict[str, str]) -> None:
    begin, *lines, end = render_outputs(images, "tfvars").removesuffix("\n").split("\n")
    assert (begin, end) == ("image_ids = {", "}")
    read = []
    for line in lines:
        found = re.fullmatch(f"  {HCL_STRING} = {HCL_STRING}", line)
        assert found, line
        read.append((hcl_value(found[1]), hcl_value(found[2])))
    surrogate = re.compile("[\ud800-\udfff]")
    assert read == [(surrogate.sub("\ufffd", name), surrogate.sub("\ufffd", image)) for name, image in images.items()]

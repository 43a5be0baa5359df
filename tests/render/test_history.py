"""The builds of the past: table, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.record import BuildError, BuildStatus, Context
from reconciler.render.history import HistoryRow, render_history
from reconciler.render.records import render_records
from reconciler.render.terminal import Style
from tests.planning.figures import NOON, A, B, build, record
from tests.support import examples

FAILED = replace(
    build(BuildStatus.FAILED, B, error=BuildError("IMG.0042", "the disk is full")), context=Context(actor="li")
)
OFFICE = record("办公", A, attempt=FAILED, history=[build()])
ROWS = [HistoryRow(OFFICE, one) for one in OFFICE.builds]


def test_the_table() -> None:
    assert render_history(ROWS, "table", Style()).splitlines() == [
        "REQUESTED             NAME  STATUS     IMAGE     IMAGE ID  JOB  TOOK    BY",
        "2026-11-03 12:00 UTC  办公  succeeded  office-1  i1        j1   24 min  -",
        "2026-11-03 12:00 UTC  办公  failed     office-2  -         j1   24 min  li",
    ]
    assert render_history([], "table", Style()) == "No build is recorded.\n"


def test_csv_and_json_say_the_same() -> None:
    rows = list(csv.DictReader(io.StringIO(render_history(ROWS, "csv", Style()))))
    document = json.loads(render_history(ROWS, "json", Style()))
    assert [(row["name"], row["status"], row["actor"]) for row in rows] == [
        ("办公", "succeeded", ""),
        ("办公", "failed", "li"),
    ]
    assert [(row["name"], row["status"]) for row in document] == [("办公", "succeeded"), ("办公", "failed")]
    assert rows[1]["error_message"] == document[1]["error"]["message"] == "the disk is full"


def test_records() -> None:
    gone = record("cad", server_id="s2", retired=True)
    assert render_records([OFFICE, gone], Style()).splitlines() == [
        "NAME  SERVER ID  IMAGE     IMAGE ID  BUILDS",
        "办公  s1         office-1  i1        2",
        f"cad   s2         -         -         0       forgotten {NOON:%Y-%m-%d %H:%M} UTC",
    ]


texts = st.text(st.characters(), max_size=20)


@settings(max_examples=examples(50), deadline=None)
@given(texts, texts, texts)
def test_nothing_hostile_is_shown(name: str, other: str, note: str) -> None:
    one = replace(
        FAILED, job_id=other, image_id=other, error=BuildError(name, other), context=Context(note=note, actor=name)
    )
    owner = record(name, A, server_id=other, image_id=other, attempt=one)
    shown = "".join(render_history([HistoryRow(owner, one)], form, Style()) for form in ("table", "json", "csv"))
    shown += render_records([owner], Style())
    assert all(char.isprintable() or char in "\n\u3000" for char in shown)
    # No spreadsheet takes a cell for a formula.
    (row,) = csv.DictReader(io.StringIO(render_history([HistoryRow(owner, one)], "csv", Style())))
    assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())

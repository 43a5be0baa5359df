"""The builds of the past, for people, spreadsheets and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.model.record import Build, Record
from reconciler.render.records import build_document, moment, said_of_image
from reconciler.render.terminal import Style, clean, duration, json_text, table

_ASKED_BY = ("actor", "host", "run", "commit", "pull_request", "note")
_COLUMNS = (
    *("name", "server_id", "status", "image_name", "image_id", "job_id", "requested_at", "finished_at", "adopted"),
    *("error_code", "error_message", "plan_id", *_ASKED_BY),
    *("deleted_at", "pruned_by"),
)
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One build and the record that it belongs to."""

    record: Record
    build: Build


def render_history(rows: Iterable[HistoryRow], form: str, style: Style) -> str:
    """The builds as `table`, `json` or `csv`."""
    rows = list(rows)
    match form:
        case "json":
            return json_text([_document(row) for row in rows])
        case "csv":
            return _csv(rows)
        case _:
            return _table(rows, style)


def _document(row: HistoryRow) -> dict[str, object]:
    identity = {
        "name": row.record.name,
        "server_id": row.record.server_id,
        "forgotten": row.record.retired_at is not None,
    }
    return identity | build_document(row.build)


def _table(rows: list[HistoryRow], style: Style) -> str:
    if not rows:
        return "No build is recorded.\n"
    cells = [("REQUESTED", "NAME", "STATUS", "IMAGE", "IMAGE ID", "JOB", "TOOK", "BY")]
    for row in rows:
        build = row.build
        took = "-"
        if build.finished_at is not None:
            took = duration((build.finished_at - build.requested_at).total_seconds())
        by = build.context.pull_request or build.context.run or build.context.actor
        cells.append(
            (
                moment(build.requested_at),
                clean(row.record.name),
                f"{build.status}{' (adopted)' if build.adopted else ''}",
                clean(build.spec.name),
                f"{clean(build.image_id)}{said_of_image(build)}" if build.image_id else "-",
                clean(build.job_id) or "-",
                took,
                clean(by) or "-",
            )
        )
    head, *lines = table(cells)
    return "\n".join([style(head, "bold"), *lines]) + "\n"


def _csv(rows: list[HistoryRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        document = _document(row)
        error = row.build.error
        context = row.build.context
        values = document | {
            "error_code": error.code if error is not None else "",
            "error_message": error.message if error is not None else "",
            **{name: getattr(context, name) for name in _ASKED_BY},
        }
        writer.writerow([_cell(values[column]) for column in _COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = clean("" if value is None else str(value))
    return "'" + text if text.startswith(_FORMULA) else text

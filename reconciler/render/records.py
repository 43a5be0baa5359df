"""Recorded servers for people and for machines: status, show, output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import UsageError
from reconciler.model.observed import ObservedJob
from reconciler.model.record import Build, BuildStatus, Record
from reconciler.model.spec import DeclaredServer
from reconciler.render.terminal import Style, clean, json_text, table

_STATUS_COLOURS = {"held": "green", "failed": "red", "in doubt": "yellow", "building": "blue"}

# What ends a quoted text of HCL, begins an escape or a template in it, or cannot be seen.
_HCL_SPECIAL = re.compile(r"""["\\\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|[$%](?=\{)""")


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One image server in `status`: what is declared and what is recorded; either may be missing.

    `job` is its build in flight as the cloud sees it now, where it was asked.
    """

    name: str
    server_id: str
    declared: DeclaredServer | None
    record: Record | None
    job: ObservedJob | None = None

    @property
    def status(self) -> str:
        """One or two words: held, building, in doubt, failed, never built."""
        attempt = self.record.attempt if self.record is not None else None
        if attempt is not None and attempt.status is BuildStatus.RUNNING:
            return "building"
        if attempt is not None and attempt.status.in_flight:
            return "in doubt"
        if attempt is not None and attempt.status in (BuildStatus.FAILED, BuildStatus.REFUSED):
            return "failed"
        return "held" if self.record is not None and self.record.held is not None else "never built"

    @property
    def remarks(self) -> str:
        """What a person should know beyond the status."""
        attempt = self.record.attempt if self.record is not None else None
        said = []
        if attempt is not None and attempt.job_id and attempt.status is BuildStatus.RUNNING:
            said.append(f"job {attempt.job_id}{f' is {self.job.status}' if self.job is not None else ''}")
        if attempt is not None and attempt.error is not None:
            said.append(f"{attempt.error.code} {attempt.error.message}".strip())
        if self.declared is None:
            said.append("no longer declared")
        return "; ".join(said)


def render_status(rows: Iterable[StatusRow], style: Style) -> str:
    """The fleet as a table."""
    cells = [("NAME", "STATUS", "IMAGE", "IMAGE ID", "BUILT", "")]
    for row in rows:
        held = row.record.held if row.record is not None else None
        cells.append(
            (
                clean(row.name),
                row.status,
                clean(held.spec.name) if held is not None else "-",
                clean(held.image_id) if held is not None else "-",
                moment(held.built_at) if held is not None else "-",
                clean(row.remarks),
            )
        )
    if len(cells) == 1:
        return "No image server is declared or recorded.\n"
    lines = table(cells)
    coloured = [style(lines[0], "bold")]
    for line, (name, status, *_) in zip(lines[1:], cells[1:], strict=True):
        begin = line.index(status, len(name))
        end = begin + len(status)
        coloured.append(line[:begin] + style(status, _STATUS_COLOURS.get(status, "dim")) + line[end:])
    return "\n".join(coloured) + "\n"


def status_document(rows: Iterable[StatusRow]) -> list[dict[str, Any]]:
    """The fleet as plain data."""
    return [
        {
            "name": row.name,
            "server_id": row.server_id,
            "status": row.status,
            "declared": row.declared is not None,
            "held": _held(row.record),
            "attempt": build_document(row.record.attempt) if row.record is not None and row.record.attempt else None,
            "job_status": row.job.status if row.job is not None else None,
        }
        for row in rows
    ]


def render_record(record: Record, style: Style) -> str:
    """Everything recorded of one server."""
    rows = [("server id", record.server_id)]
    if record.protect:
        rows.append(("protect", "true"))
    if record.retired_at is not None:
        rows.append(("forgotten", moment(record.retired_at)))
    held = record.held
    if held is not None:
        rows += [("image", held.spec.name), ("image id", held.image_id), ("built", moment(held.built_at))]
        rows += [("description", held.spec.description)] if held.spec.description else []
        if held.spec.execute_sysprep is not None:
            rows.append(("execute sysprep", "true" if held.spec.execute_sysprep else "false"))
        rows += [(f"trigger {key}", value) for key, value in sorted(held.spec.triggers.items())]
    else:
        rows.append(("image", "none held"))
    lines = [
        style(clean(record.name), "bold"),
        *table(((clean(key), clean(value)) for key, value in rows), indent="  "),
    ]
    if record.builds:
        lines += ["", style("builds, latest first", "bold")]
        lines += table((_build_row(build) for build in reversed(record.builds)), indent="  ")
    return "\n".join(lines) + "\n"


def render_records(records: Iterable[Record], style: Style) -> str:
    """Records as a table: forgotten ones too, with when."""
    cells = [("NAME", "SERVER ID", "IMAGE", "IMAGE ID", "BUILDS", "")]
    for record in records:
        held = record.held
        said = [f"forgotten {moment(record.retired_at)}"] if record.retired_at is not None else []
        if record.attempt is not None and record.attempt.status.in_flight:
            said.append(f"in flight: {record.attempt.status}")
        cells.append(
            (
                clean(record.name),
                clean(record.server_id),
                clean(held.spec.name) if held is not None else "-",
                clean(held.image_id) if held is not None else "-",
                str(len(record.builds)),
                "; ".join(said),
            )
        )
    if len(cells) == 1:
        return "Nothing is recorded.\n"
    head, *lines = table(cells)
    return "\n".join([style(head, "bold"), *lines]) + "\n"


def record_document(record: Record) -> dict[str, Any]:
    """Everything recorded of one server, as plain data."""
    return {
        "name": record.name,
        "server_id": record.server_id,
        "protect": record.protect,
        "retired_at": _time(record.retired_at),
        "held": _held(record),
        "builds": [build_document(build) for build in record.builds],
    }


def build_document(build: Build) -> dict[str, Any]:
    """One build as plain data."""
    error, context = build.error, build.context
    return {
        "status": build.status.value,
        "job_id": build.job_id or None,
        "image_id": build.image_id or None,
        "image_name": build.spec.name,
        "requested_at": _time(build.requested_at),
        "finished_at": _time(build.finished_at),
        "error": {"code": error.code, "message": error.message, "request_id": error.request_id} if error else None,
        "adopted": build.adopted,
        "deleted_at": _time(build.deleted_at),
        "pruned_by": build.pruned_by or None,
        "plan_id": build.plan_id or None,
        "context": {key: getattr(context, key) for key in context.__slots__ if getattr(context, key)},
    }


def render_outputs(images: Mapping[str, str], form: str) -> str:
    """The held image ids by name, for other tools: `text`, `json`, `tfvars` or `env`.

    Raises UsageError where two names become the same variable in `env`.
    """
    match form:
        case "json":
            return json_text({"image_ids": dict(images)})
        case "tfvars":
            body = "".join(f"  {_hcl(name)} = {_hcl(image)}\n" for name, image in images.items())
            return "image_ids = {\n" + body + "}\n"
        case "env":
            return _env(images)
        case _:
            return "".join(line + "\n" for line in table((clean(name), clean(image)) for name, image in images.items()))


def moment(when: datetime | None) -> str:
    """A time for people: UTC, to the minute."""
    return "-" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _env(images: Mapping[str, str]) -> str:
    names: dict[str, str] = {}
    for name in images:
        variable = "IMGCTL_IMAGE_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if not variable.removeprefix("IMGCTL_IMAGE_").strip("_"):
            raise UsageError(
                f"{name} makes no name for a variable", hint="Use --format json, or name one image server."
            )
        if variable in names.values():
            other = next(known for known, taken in names.items() if taken == variable)
            raise UsageError(
                f"{other} and {name} would both be {variable}", hint="Use --format json, or name one image server."
            )
        names[name] = variable
    # The ids are plain; were one not, a shell that reads this must still see a value and nothing else.
    return "".join(f"{names[name]}={shlex.quote(image)}\n" for name, image in images.items())


def _hcl(text: str) -> str:
    """A text as HCL writes it: quoted, no template in it, and whatever is unprintable as its code."""
    return f'"{_HCL_SPECIAL.sub(lambda found: _hcl_code(ord(found[0])), text)}"'


def _hcl_code(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        # Half a character, which no text file can hold.
        code = 0xFFFD
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _build_row(build: Build) -> tuple[str, ...]:
    error = f"{build.error.code} {build.error.message}".strip() if build.error is not None else ""
    return (
        moment(build.requested_at),
        build.status.value,
        clean(build.spec.name),
        f"job {clean(build.job_id)}" if build.job_id else "no job",
        clean(error) or (f"image {clean(build.image_id)}{said_of_image(build)}" if build.image_id else ""),
    )


def said_of_image(build: Build) -> str:
    """What became of a build's image, to stand behind it: empty while it is there, as far as is recorded."""
    if build.deleted_at is None:
        return ""
    return f" ({'pruned' if build.pruned_by else 'gone'} {moment(build.deleted_at)})"


def _held(record: Record | None) -> dict[str, Any] | None:
    held = record.held if record is not None else None
    if held is None:
        return None
    return {
        "image_id": held.image_id,
        "image_name": held.spec.name,
        "description": held.spec.description,
        "job_id": held.job_id or None,
        "built_at": _time(held.built_at),
    }


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

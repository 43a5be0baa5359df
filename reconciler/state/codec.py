"""The state's document: records to JSON and back, with a check of every field.

The published description of the same format is `schemas/state.schema.json`; the tests hold the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import StateError
from reconciler.model.record import Binding, Build, BuildError, BuildStatus, Context, Held, Record, Recorded
from reconciler.model.spec import ImageSpec, Limits

VERSION = 1
_RESTORE = (
    "Restore the file from a backup. Do not delete it: "
    "without it imgctl does not know which images and jobs are its own."
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def encode(recorded: Recorded) -> bytes:
    """The document as bytes, readable: two spaces, one field a line, ending in a newline."""
    document: dict[str, Any] = {"version": VERSION, "lineage": recorded.lineage, "serial": recorded.serial}
    if recorded.bound_to is not None:
        bound = recorded.bound_to
        document["bound_to"] = {"provider": bound.provider, "region": bound.region, "project_id": bound.project_id}
    limits = _present(
        max_changes=recorded.limits.max_changes,
        max_prunes=recorded.limits.max_prunes,
        max_in_flight=recorded.limits.max_in_flight,
    )
    if limits:
        document["limits"] = limits
    document["servers"] = {key: _record_out(record) for key, record in recorded.servers.items()}
    document["retired"] = {key: _record_out(record) for key, record in recorded.retired.items()}
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"


def decode(content: bytes, source: str) -> Recorded:
    """The records of a document; `source` names it in errors.

    Raises StateError where the document is truncated, of a newer version, or has a field that cannot be: with the
    field's path. An empty document is damage, never "no state".
    """
    try:
        document = json.loads(content)
    except RecursionError:
        raise StateError(f"{source}: nested too deeply to be a state") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        what = "is empty" if not content.strip() else f"is damaged or cut short: {error}"
        raise StateError(f"{source} {what}", hint=_RESTORE) from None
    top = _Object(document, source)
    version = top.raw.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StateError(
            f"{source} is a state of version {version}; this imgctl reads up to version {VERSION}",
            hint="Use the imgctl that wrote it, or a newer one.",
        )
    if version != VERSION or isinstance(version, bool):
        raise StateError(f"{source} is no imgctl state: its version is {version!r}", hint=_RESTORE)
    bound = top.object("bound_to")
    limits = top.object("limits")
    return Recorded(
        lineage=top.text("lineage"),
        serial=top.number("serial"),
        bound_to=None
        if bound is None
        else Binding(bound.text("provider"), bound.text("region"), bound.text("project_id")),
        servers=_records_in(top, "servers"),
        retired=_records_in(top, "retired"),
        limits=Limits()
        if limits is None
        else Limits(limits.count("max_changes"), limits.count("max_prunes"), limits.count("max_in_flight")),
        exists=True,
    )


def time_out(moment: datetime | None) -> str | None:
    """A time as the state writes it: UTC, milliseconds, Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _present(**fields: object) -> dict[str, object]:
    """The fields that say something: neither None nor empty."""
    return {key: value for key, value in fields.items() if value not in (None, "", {}, [])}


def _record_out(record: Record) -> dict[str, object]:
    held = record.held
    return _present(
        name=record.name,
        protect=record.protect or None,
        retired_at=time_out(record.retired_at),
        held=held
        and _present(
            spec=_spec_out(held.spec),
            image_id=held.image_id,
            job_id=held.job_id,
            built_at=time_out(held.built_at),
        ),
        attempt=record.attempt and _build_out(record.attempt),
        history=[_build_out(build) for build in record.history],
    )


def _build_out(build: Build) -> dict[str, object]:
    error, context = build.error, build.context
    return _present(
        attempt_id=build.attempt_id,
        status=build.status.value,
        job_id=build.job_id,
        image_id=build.image_id,
        spec=_spec_out(build.spec),
        requested_at=time_out(build.requested_at),
        finished_at=time_out(build.finished_at),
        error=error and _present(code=error.code, message=error.message, request_id=error.request_id),
        server_status=build.server_status,
        server_image_id=build.server_image_id,
        plan_id=build.plan_id,
        context=_present(
            tool_version=context.tool_version,
            actor=context.actor,
            host=context.host,
            run=context.run,
            commit=context.commit,
            pull_request=context.pull_request,
            note=context.note,
        ),
    )


def _spec_out(spec: ImageSpec) -> dict[str, object]:
    return _present(
        name=spec.name,
        description=spec.description,
        execute_sysprep=spec.execute_sysprep,
        triggers=dict(spec.triggers),
    )


def _records_in(top: _Object, key: str) -> dict[str, Record]:
    section = top.object(key)
    if section is None:
        return {}
    return {server_id: _record_in(server_id, section.member(server_id)) for server_id in section.raw}


def _record_in(server_id: str, node: _Object) -> Record:
    if not _ID.fullmatch(server_id):
        raise node.problem("", "this is no server id: letters, digits, - and _ only, 1 to 128 of them")
    held = node.object("held")
    attempt = node.object("attempt")
    return Record(
        server_id=server_id,
        name=node.text("name"),
        protect=node.flag("protect") or False,
        retired_at=node.time("retired_at"),
        held=None
        if held is None
        else Held(
            spec=_spec_in(held.required("spec")),
            image_id=held.identifier("image_id"),
            job_id=held.identifier("job_id", ""),
            built_at=held.time("built_at"),
        ),
        attempt=None if attempt is None else _build_in(attempt),
        history=tuple(_build_in(build) for build in node.objects("history")),
    )


def _build_in(node: _Object) -> Build:
    requested_at = node.time("requested_at")
    if requested_at is None:
        raise node.problem("requested_at", "is missing")
    try:
        status = BuildStatus(node.text("status"))
    except ValueError:
        raise node.problem("status", f"must be one of {', '.join(BuildStatus)}") from None
    job_id = node.identifier("job_id", "")
    image_id = node.identifier("image_id", "")
    if status is BuildStatus.RUNNING and not job_id:
        raise node.problem("job_id", "is missing from a running build")
    error = node.object("error")
    context = node.object("context")
    return Build(
        attempt_id=node.identifier("attempt_id"),
        spec=_spec_in(node.required("spec")),
        status=status,
        requested_at=requested_at,
        server_status=node.text("server_status", ""),
        server_image_id=node.identifier("server_image_id", ""),
        job_id=job_id,
        finished_at=node.time("finished_at"),
        image_id=image_id,
        error=None
        if error is None
        else BuildError(error.text("code", ""), error.text("message", ""), error.text("request_id", "")),
        plan_id=node.text("plan_id", ""),
        context=Context() if context is None else Context(*(context.text(key, "") for key in Context.__slots__)),
    )


def _spec_in(node: _Object) -> ImageSpec:
    triggers = node.object("triggers")
    return ImageSpec(
        name=node.text("name"),
        description=node.text("description", ""),
        execute_sysprep=node.flag("execute_sysprep"),
        triggers={} if triggers is None else {key: triggers.text(key) for key in triggers.raw},
    )


class _Object:
    """A JSON object that knows its path, so that an error can name the field."""

    __slots__ = ("raw", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise StateError(f"{where}: must be an object", hint=_RESTORE)
        self.raw: Mapping[str, Any] = value
        self.where = where

    def problem(self, key: str, what: str) -> StateError:
        return StateError(f"{self.where}{'/' + key if key else ''}: {what}", hint=_RESTORE)

    def member(self, key: str) -> _Object:
        return _Object(self.raw[key], f"{self.where}/{key}")

    def object(self, key: str) -> _Object | None:
        return self.member(key) if self.raw.get(key) is not None else None

    def required(self, key: str) -> _Object:
        if key not in self.raw:
            raise self.problem(key, "is missing")
        return self.member(key)

    def objects(self, key: str) -> list[_Object]:
        items = self.raw.get(key, [])
        if not isinstance(items, list):
            raise self.problem(key, "must be a list")
        return [_Object(item, f"{self.where}/{key}/{index}") for index, item in enumerate(items)]

    def text(self, key: str, default: str | None = None) -> str:
        value = self.raw.get(key, default)
        if not isinstance(value, str):
            raise self.problem(key, "is missing" if value is None else "must be text")
        return value

    def identifier(self, key: str, default: str | None = None) -> str:
        value = self.text(key, default)
        if value != default and not _ID.fullmatch(value):
            raise self.problem(key, "is no id: letters, digits, - and _ only, 1 to 128 of them")
        return value

    def number(self, key: str) -> int:
        value = self.raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.problem(key, "must be a whole number, 0 or more")
        return value

    def count(self, key: str) -> int | None:
        return None if self.raw.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool | None:
        value = self.raw.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.problem(key, "must be true or false")
        return value

    def time(self, key: str) -> datetime | None:
        if self.raw.get(key) is None:
            return None
        try:
            moment = datetime.fromisoformat(self.text(key))
        except ValueError:
            raise self.problem(key, "must be a time such as 2026-11-23T10:00:00.000Z") from None
        if moment.tzinfo is None:
            raise self.problem(key, "must name its time zone, as in 2026-11-23T10:00:00.000Z")
        return moment

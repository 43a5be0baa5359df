"""The state's document: records to JSON and back, with a check of every field.

The published description of the same format is `schemas/state.schema.json`; the tests hold the two together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from reconciler.errors import StateError
from reconciler.model.record import Binding, Build, BuildError, BuildStatus, Context, Held, Record, Recorded
from reconciler.model.spec import ImageSpec, Limits
from reconciler.state.fields import ID, RESTORE, Fields
from reconciler.state.patch import Patch

VERSION = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as it was read: the records, and the number of the last journal frame that it holds."""

    recorded: Recorded
    folded: int


def encode(recorded: Recorded, folded: int) -> bytes:
    """The document as bytes, readable: two spaces, one field a line, ending in a newline."""
    document: dict[str, Any] = {
        "version": VERSION,
        "lineage": recorded.lineage,
        "serial": recorded.serial,
        "folded": folded,
        **_settings_out(recorded),
    }
    document["servers"] = {key: _record_out(record) for key, record in recorded.servers.items()}
    document["retired"] = {key: _record_out(record) for key, record in recorded.retired.items()}
    return json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"


def decode(content: bytes, source: str) -> Stored:
    """A document; `source` names it in errors.

    Raises StateError where the document is truncated, of a newer version, or has a field that cannot be: with the
    field's path. An empty document is damage, never "no state".
    """
    try:
        document = json.loads(content)
    except RecursionError:
        raise StateError(f"{source}: nested too deeply to be a state") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        what = "is empty" if not content.strip() else f"is damaged or cut short: {error}"
        raise StateError(f"{source} {what}", hint=RESTORE) from None
    return decode_object(document, source)


def decode_object(document: object, source: str) -> Stored:
    """The same of a document that is no text any more."""
    top = Fields(document, source)
    version = top.raw.get("version")
    if isinstance(version, int) and version > VERSION:
        raise StateError(
            f"{source} is a state of version {version}; this imgctl reads up to version {VERSION}",
            hint="Use the imgctl that wrote it, or a newer one.",
        )
    if version != VERSION or isinstance(version, bool):
        raise StateError(f"{source} is no imgctl state: its version is {version!r}", hint=RESTORE)
    recorded = Recorded(
        lineage=top.text("lineage"),
        serial=top.number("serial"),
        bound_to=_binding_in(top),
        servers=_records_in(top, "servers"),
        retired=_records_in(top, "retired"),
        limits=_limits_in(top),
        exists=True,
        state_url=_state_url_in(top),
        moved_to=top.text("moved_to", ""),
    )
    return Stored(recorded, top.count("folded") or 0)


def encode_patch(patch: Patch) -> dict[str, Any]:
    """A patch as a journal frame carries it."""
    return {
        "serial": patch.serial,
        **_settings_out(patch),
        **_present(
            servers={key: record and _record_out(record) for key, record in patch.servers.items()},
            retired={key: record and _record_out(record) for key, record in patch.retired.items()},
        ),
    }


def decode_patch(patch: Mapping[str, Any], source: str) -> Patch:
    """A patch from a journal frame. Raises StateError where it has a field that cannot be."""
    top = Fields(patch, source)
    return Patch(
        serial=top.number("serial"),
        bound_to=_binding_in(top),
        limits=_limits_in(top),
        servers=_patched_in(top, "servers"),
        retired=_patched_in(top, "retired"),
        state_url=_state_url_in(top),
        moved_to=top.text("moved_to", ""),
    )


def replay(recorded: Recorded, patches: Iterable[Mapping[str, Any]], source: str) -> Recorded:
    """The state after the patches of a journal. Raises StateError where one has a field that cannot be."""
    servers, retired = dict(recorded.servers), dict(recorded.retired)
    for each in patches:
        patch = decode_patch(each, source)
        recorded = replace(
            recorded,
            serial=patch.serial,
            bound_to=patch.bound_to,
            limits=patch.limits,
            state_url=patch.state_url,
            moved_to=patch.moved_to,
        )
        for records, changed in ((servers, patch.servers), (retired, patch.retired)):
            for server_id, record in changed.items():
                if record is None:
                    records.pop(server_id, None)
                else:
                    records[server_id] = record
    return replace(recorded, servers=servers, retired=retired)


def time_out(moment: datetime | None) -> str | None:
    """A time as the state writes it: UTC, milliseconds, Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _present(**fields: object) -> dict[str, object]:
    """The fields that say something: neither None nor empty."""
    return {key: value for key, value in fields.items() if value not in (None, "", {}, [])}


def _settings_out(source: Recorded | Patch) -> dict[str, object]:
    """What a document and a patch say besides the records."""
    bound_to, limits = _binding_out(source.bound_to), _limits_out(source.limits)
    said = _present(bound_to=bound_to, limits=limits, moved_to=source.moved_to)
    # Empty says something as well: the manifest named no place.
    return said if source.state_url is None else {**said, "state_url": source.state_url}


def _state_url_in(top: Fields) -> str | None:
    return None if top.raw.get("state_url") is None else top.text("state_url")


def _binding_out(bound: Binding | None) -> dict[str, object] | None:
    if bound is None:
        return None
    return {"provider": bound.provider, "region": bound.region, "project_id": bound.project_id}


def _binding_in(top: Fields) -> Binding | None:
    bound = top.object("bound_to")
    return None if bound is None else Binding(bound.text("provider"), bound.text("region"), bound.text("project_id"))


def _limits_out(limits: Limits) -> dict[str, object]:
    return _present(max_changes=limits.max_changes, max_prunes=limits.max_prunes, max_in_flight=limits.max_in_flight)


def _limits_in(top: Fields) -> Limits:
    limits = top.object("limits")
    if limits is None:
        return Limits()
    return Limits(limits.count("max_changes"), limits.count("max_prunes"), limits.count("max_in_flight"))


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
        adopted=build.adopted or None,
        deleted_at=time_out(build.deleted_at),
        pruned_by=build.pruned_by,
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


def _records_in(top: Fields, key: str) -> dict[str, Record]:
    section = top.object(key)
    if section is None:
        return {}
    return {server_id: _record_in(server_id, section.member(server_id)) for server_id in section.raw}


def _patched_in(top: Fields, key: str) -> dict[str, Record | None]:
    section = top.object(key)
    if section is None:
        return {}
    return {
        server_id: None if section.raw[server_id] is None else _record_in(server_id, section.member(server_id))
        for server_id in section.raw
    }


def _record_in(server_id: str, node: Fields) -> Record:
    if not ID.fullmatch(server_id):
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


def _build_in(node: Fields) -> Build:
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
        adopted=node.flag("adopted") or False,
        deleted_at=node.time("deleted_at"),
        pruned_by=node.text("pruned_by", ""),
        context=Context() if context is None else Context(*(context.text(key, "") for key in Context.__slots__)),
    )


def _spec_in(node: Fields) -> ImageSpec:
    triggers = node.object("triggers")
    return ImageSpec(
        name=node.text("name"),
        description=node.text("description", ""),
        execute_sysprep=node.flag("execute_sysprep"),
        triggers={} if triggers is None else {key: triggers.text(key) for key in triggers.raw},
    )

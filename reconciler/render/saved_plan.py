"""A saved plan: the plan's own document, what it takes to plan again, and a checksum over all of it.

A plan file is read with the care that is due to what a stranger may have written: it is taken only if it is, to the
last byte, what this imgctl writes for the plan that is found in it. The checksum and the plan's id tell accidents and
thoughtless edits; neither is a signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from reconciler.errors import PlanFileError, StateError
from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.observed import Quota
from reconciler.model.plan import Action, Change, FieldDiff, Plan
from reconciler.model.record import Binding
from reconciler.model.spec import ImageSpec, Limits, Override
from reconciler.planning.approval import Approval, Asked, Basis
from reconciler.planning.identity import plan_id
from reconciler.render.plan_json import FORMAT_VERSION, plan_document
from reconciler.render.plan_text import render_plan
from reconciler.render.terminal import Style, clean, json_text
from reconciler.state.fields import ID, Fields

PLAN_AGAIN = "Make it anew: imgctl plan --out FILE"
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Seconds: far beyond what anything takes.
_LONGEST = 1e12
_Enum = TypeVar("_Enum", Action, Severity)


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """An approval as a file keeps it. `created_at` is UTC and a note: nothing depends on it."""

    approval: Approval
    created_at: datetime
    tool_version: str


def encode(saved: SavedPlan) -> str:
    """The file's text. That of two plans of the same inputs differs in `created_at` alone."""
    return json_text(saved_document(saved))


def saved_document(saved: SavedPlan) -> dict[str, Any]:
    """A saved plan as plain data."""
    plan, asked = saved.approval.plan, saved.approval.asked
    document = plan_document(plan)
    document["saved"] = {
        "created_at": _time(saved.created_at),
        "tool_version": saved.tool_version,
        "asked": {
            "manifest": asked.manifest,
            "targets": list(asked.targets),
            "excludes": list(asked.excludes),
            "labels": list(asked.labels),
            "replace": list(asked.replace),
            **_limits(Limits(asked.max_changes, asked.max_prunes, asked.max_in_flight)),
        },
        "guards": {
            **_limits(plan.limits),
            "protect": dict(sorted(plan.protect.items())),
            "state_url": plan.state_url,
        },
        "basis": {
            server_id: {"declared": one.declared, "held": one.held, "attempt_id": one.attempt_id}
            for server_id, one in saved.approval.basis.items()
        },
        "in_flight": plan.in_flight,
    }
    return {**document, "checksum": _checksum(document)}


def render_saved(saved: SavedPlan, source: str, style: Style) -> str:
    """A saved plan for a terminal: what it is, then the plan as it was shown when it was made."""
    asked = saved.approval.asked
    flags = [f"{flag} {value}" for flag, values in _flags(asked).items() for value in values]
    lines = [
        f"Plan {saved.approval.plan.plan_id}",
        f"saved as {source} at {_time(saved.created_at)} by imgctl {saved.tool_version}, made of {asked.manifest}",
        *([f"with {' '.join(flags)}"] if flags else []),
    ]
    return "".join(f"{clean(line)}\n" for line in lines) + "\n" + render_plan(saved.approval.plan, style)


def _flags(asked: Asked) -> dict[str, tuple[object, ...]]:
    """What was asked for, as flags and their values."""
    limits = _limits(Limits(asked.max_changes, asked.max_prunes, asked.max_in_flight))
    return {
        "--target": asked.targets,
        "--exclude": asked.excludes,
        "-l": asked.labels,
        "--replace": asked.replace,
        **{f"--{name.replace('_', '-')}": () if value is None else (value,) for name, value in limits.items()},
    }


def decode(content: bytes, source: str) -> SavedPlan:
    """A saved plan; `source` names it in errors.

    Raises PlanFileError where it is damaged, edited, cut short, or of another version.
    """
    try:
        return _decode(content, source)
    except RecursionError:
        raise PlanFileError(f"{source} is no plan: nested too deeply", hint=PLAN_AGAIN) from None
    except OverflowError:
        raise PlanFileError(f"{source} is damaged: a number in it is too large", hint=PLAN_AGAIN) from None
    except StateError as error:
        # Fields speaks of states.
        raise PlanFileError(error.summary, hint=PLAN_AGAIN) from None


def _decode(content: bytes, source: str) -> SavedPlan:
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        what = "is empty" if not content.strip() else "is damaged or cut short"
        raise PlanFileError(f"{source} {what}: {_reason(error)}", hint=PLAN_AGAIN) from None
    if not isinstance(document, dict) or "format_version" not in document or "plan_id" not in document:
        raise PlanFileError(f"{source} is no imgctl plan", hint=PLAN_AGAIN)
    _check_version(document["format_version"], source)
    if "saved" not in document or "checksum" not in document:
        raise PlanFileError(
            f"{source} shows a plan, but lacks what it takes to apply it",
            hint="imgctl plan --format json is for reading; imgctl plan --out FILE writes what apply takes.",
        )
    if document["checksum"] != _checksum(document):
        raise PlanFileError(f"{source} was edited or damaged: its checksum does not fit", hint=PLAN_AGAIN)
    saved = _saved_in(_PlanFields(document, source))
    if encode(saved).encode() != content:
        raise PlanFileError(f"{source} was edited: this is not how imgctl writes a plan", hint=PLAN_AGAIN)
    plan = saved.approval.plan
    if plan.plan_id != plan_id(plan.bound_to, plan.lineage, plan.changes, plan.protect):
        raise PlanFileError(f"{source} was edited: its plan_id is that of other changes", hint=PLAN_AGAIN)
    if saved.approval.basis.keys() != {change.server_id for change in plan.changes}:
        raise PlanFileError(f"{source} was edited: its basis is that of other servers", hint=PLAN_AGAIN)
    return saved


def _check_version(version: object, source: str) -> None:
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None:
        raise PlanFileError(f"{source} is no imgctl plan: its format_version is no version", hint=PLAN_AGAIN)
    if version != FORMAT_VERSION:
        raise PlanFileError(
            f"{source} is a plan of format {found[0]}; this imgctl reads {FORMAT_VERSION}",
            hint="Use the imgctl that wrote it, or plan again with this one: imgctl plan --out FILE",
        )


def _checksum(document: Mapping[str, Any]) -> str:
    """SHA-256 over everything but the checksum itself and the time, by which two plans of the same inputs differ."""
    covered = {key: value for key, value in document.items() if key != "checksum"}
    if isinstance(covered.get("saved"), dict):
        covered["saved"] = {key: value for key, value in covered["saved"].items() if key != "created_at"}
    text = json.dumps(covered, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error) if isinstance(error, json.JSONDecodeError) else "a number in it is too long, or is none"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _limits(limits: Limits) -> dict[str, int | None]:
    return {
        "max_changes": limits.max_changes,
        "max_prunes": limits.max_prunes,
        "max_in_flight": limits.max_in_flight,
    }


# Reading. What a field may hold is checked here; that there is nothing besides, by writing it again.


class _PlanFields(Fields):
    """Fields of a plan, whose texts are escaped: the name of a file may have half a character in it."""

    __slots__ = ()

    def check_whole(self, key: str, value: str) -> None:
        """See Fields."""


def _saved_in(top: Fields) -> SavedPlan:
    saved = top.required("saved")
    asked, guards, basis = saved.required("asked"), saved.required("guards"), saved.required("basis")
    created_at = saved.time("created_at")
    if created_at is None:
        raise saved.problem("created_at", "is missing")
    approval = Approval(
        plan=_plan_in(top, guards, saved.number("in_flight")),
        asked=Asked(
            manifest=asked.text("manifest"),
            targets=_texts(asked, "targets"),
            excludes=_texts(asked, "excludes"),
            labels=_texts(asked, "labels"),
            replace=_texts(asked, "replace"),
            max_changes=asked.count("max_changes"),
            max_prunes=asked.count("max_prunes"),
            max_in_flight=asked.count("max_in_flight"),
        ),
        basis={_id(basis, key): _basis_in(basis.member(key)) for key in basis.raw},
    )
    return SavedPlan(approval, created_at, saved.text("tool_version"))


def _plan_in(top: Fields, guards: Fields, in_flight: int) -> Plan:
    state, bound, quota = top.required("state"), top.required("bound_to"), top.object("quota")
    protect = guards.required("protect")
    return Plan(
        plan_id=_digest(top, "plan_id"),
        lineage=state.text("lineage"),
        serial=state.number("serial"),
        bound_to=Binding(bound.text("provider"), bound.text("region"), bound.text("project_id")),
        changes=tuple(map(_change_in, top.objects("changes"))),
        unchanged=top.required("summary").number("unchanged"),
        refreshed=_flag(top, "refreshed"),
        expected_seconds=_seconds(top, "expected_seconds"),
        quota=None if quota is None else Quota(quota.number("used"), quota.number("limit")),
        in_flight=in_flight,
        queued=top.number("queued"),
        refresh_only=_flag(top, "refresh_only"),
        overrides=tuple(
            Override(one.text("name"), one.text("value"), one.text("source")) for one in top.objects("overrides")
        ),
        diagnostics=tuple(map(_diagnostic_in, top.objects("diagnostics"))),
        limits=Limits(guards.count("max_changes"), guards.count("max_prunes"), guards.count("max_in_flight")),
        protect={_id(protect, key): _flag(protect, key) for key in protect.raw},
        state_url=_optional(guards, "state_url"),
    )


def _change_in(node: Fields) -> Change:
    before, after = node.object("before"), node.object("after")
    return Change(
        name=node.text("name"),
        server_id=node.identifier("server_id"),
        action=_one_of(node, "action", Action),
        reasons=_texts(node, "reasons"),
        before=None if before is None else _spec_in(before),
        after=None if after is None else _spec_in(after),
        diff=tuple(
            FieldDiff(one.text("path"), _value(one, "before"), _value(one, "after")) for one in node.objects("diff")
        ),
        unavailable=_optional(node, "unavailable") or "",
        gated=_optional(node, "gated") or "",
        old_name=_optional(node, "old_name") or "",
        job_id=_optional_id(node, "job_id"),
        image_id=_optional_id(node, "image_id"),
        origin=_origin_in(node),
    )


def _spec_in(node: Fields) -> ImageSpec:
    triggers = node.required("triggers")
    return ImageSpec(
        name=node.text("name"),
        description=node.text("description"),
        execute_sysprep=node.flag("execute_sysprep"),
        triggers={key: triggers.text(key) for key in triggers.raw},
    )


def _diagnostic_in(node: Fields) -> Diagnostic:
    return Diagnostic(
        severity=_one_of(node, "severity", Severity),
        summary=node.text("summary"),
        hint=node.text("hint"),
        origin=_origin_in(node),
        name=_optional(node, "name"),
    )


def _origin_in(node: Fields) -> Origin | None:
    origin = node.object("origin")
    return None if origin is None else Origin(origin.text("file"), origin.number("line"), origin.number("column"))


def _basis_in(node: Fields) -> Basis:
    declared, held = (_digest(node, key) if node.text(key) else "" for key in ("declared", "held"))
    return Basis(declared, held, node.identifier("attempt_id", ""))


def _one_of(node: Fields, key: str, kind: type[_Enum]) -> _Enum:
    try:
        return kind(node.text(key))
    except ValueError:
        raise node.problem(key, f"must be one of {', '.join(kind)}") from None


def _texts(node: Fields, key: str) -> tuple[str, ...]:
    items = node.raw.get(key)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise node.problem(key, "must be a list of texts")
    return tuple(items)


def _optional(node: Fields, key: str) -> str | None:
    return None if node.raw.get(key) is None else node.text(key)


def _optional_id(node: Fields, key: str) -> str:
    return "" if node.raw.get(key) is None else node.identifier(key)


def _id(node: Fields, key: str) -> str:
    if not ID.fullmatch(key):
        raise node.problem("", "has a key that is no server id")
    return key


def _digest(node: Fields, key: str) -> str:
    value = node.text(key)
    if not _DIGEST.fullmatch(value):
        raise node.problem(key, "must be 64 hexadecimal digits")
    return value


def _flag(node: Fields, key: str) -> bool:
    value = node.flag(key)
    if value is None:
        raise node.problem(key, "is missing")
    return value


def _value(node: Fields, key: str) -> str | bool | None:
    value = node.raw.get(key)
    if value is not None and not isinstance(value, str | bool):
        raise node.problem(key, "must be text, true, false or null")
    return value


def _seconds(node: Fields, key: str) -> float:
    value = node.raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise node.problem(key, "must be a number of seconds, 0 or more")
    return float(value)

"""A plan as JSON, version 1: schemas/plan.schema.json describes it."""

from __future__ import annotations

from typing import Any

from reconciler.model.diagnostics import Diagnostic, Origin
from reconciler.model.plan import Change, Plan
from reconciler.model.spec import ImageSpec
from reconciler.render.terminal import json_text

FORMAT_VERSION = "1.0"


def render_plan_json(plan: Plan) -> str:
    """The plan as a document, ending in a newline; it holds no secret and no time."""
    return json_text(plan_document(plan))


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain data."""
    bound = plan.bound_to
    return {
        "format_version": FORMAT_VERSION,
        "plan_id": plan.plan_id,
        "simulated": plan.simulated,
        "refreshed": plan.refreshed,
        "refresh_only": plan.refresh_only,
        "state": {"lineage": plan.lineage, "serial": plan.serial},
        "bound_to": {"provider": bound.provider, "region": bound.region, "project_id": bound.project_id},
        "overrides": [{"name": one.name, "value": one.value, "source": one.source} for one in plan.overrides],
        "summary": plan.summary,
        "expected_seconds": round(plan.expected_seconds, 1),
        "quota": {"used": plan.quota.used, "limit": plan.quota.limit} if plan.quota is not None else None,
        "queued": plan.queued,
        "changes": [_change(change) for change in plan.changes],
        "diagnostics": [diagnostic_document(one) for one in plan.diagnostics],
    }


def diagnostic_document(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data."""
    return {
        "severity": diagnostic.severity.value,
        "summary": diagnostic.summary,
        "hint": diagnostic.hint,
        "name": diagnostic.name or None,
        "origin": _origin(diagnostic.origin),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "server_id": change.server_id,
        "action": change.action.value,
        "reasons": list(change.reasons),
        "before": _spec(change.before),
        "after": _spec(change.after),
        "diff": [{"path": one.path, "before": one.before, "after": one.after} for one in change.diff],
        "unavailable": change.unavailable or None,
        "gated": change.gated or None,
        "old_name": change.old_name or None,
        "job_id": change.job_id or None,
        "image_id": change.image_id or None,
        "origin": _origin(change.origin),
    }


def _spec(spec: ImageSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    return {
        "name": spec.name,
        "description": spec.description,
        "execute_sysprep": spec.execute_sysprep,
        "triggers": dict(sorted(spec.triggers.items())),
    }


def _origin(origin: Origin | None) -> dict[str, Any] | None:
    return {"file": origin.file, "line": origin.line, "column": origin.column} if origin is not None else None

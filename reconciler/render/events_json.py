"""What happens during an apply as JSON lines, one object each: schemas/events.schema.json describes them.

Everything beyond ASCII is escaped, so that no reader takes a character in a value for the end of a line.
"""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from typing import Any

from reconciler.model.outcome import Outcome, Result
from reconciler.model.plan import Plan
from reconciler.model.progress import Progress
from reconciler.render.plan_json import plan_document

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


def plan_event(plan: Plan, now: datetime) -> str:
    """What is about to be done: the whole plan."""
    return _line("plan", now, {"plan": plan_document(plan)})


def nothing_event(why: str, now: datetime) -> str:
    """There is nothing to do, and why."""
    return _line("nothing_to_do", now, {"why": why})


def progress_event(happened: Progress, now: datetime) -> str:
    """One step: its type is that of the value in words, and so are its fields."""
    return _line(_WORD.sub("_", type(happened).__name__).lower(), now, dataclasses.asdict(happened))


def outcome_event(outcome: Outcome, plan: Plan, now: datetime) -> str:
    """What became of the plan: a result for each change, in the plan's order."""
    error = outcome.error
    return _line(
        "outcome",
        now,
        {
            "plan_id": plan.plan_id,
            "simulated": plan.simulated,
            "complete": outcome.complete,
            "stopped": outcome.stopped.value if outcome.stopped is not None else None,
            "seconds": round(outcome.seconds, 3),
            "requests": outcome.requests,
            "error": {"summary": error.summary, "hint": error.hint} if error is not None else None,
            "results": [_result(result) for result in outcome.results],
        },
    )


def _result(result: Result) -> dict[str, Any]:
    change = result.change
    return {
        "name": change.name,
        "server_id": change.server_id,
        "action": change.action.value,
        "image_id": change.image_id or None,
        "result": result.kind.value.replace(" ", "_"),
        "detail": result.detail,
    }


def _line(kind: str, now: datetime, fields: dict[str, Any]) -> str:
    at = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": kind, "at": at, **fields}, separators=(",", ":"))

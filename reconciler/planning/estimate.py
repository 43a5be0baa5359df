"""How long the builds of a plan will take, from those that have been."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from reconciler.model.plan import Action, Change
from reconciler.model.record import BuildStatus, Record, Recorded
from reconciler.planning.subjects import Subject


def usual_build_seconds(recorded: Recorded) -> float | None:
    """The median duration of every server's latest successful build; None where there is none."""
    taken = [seconds for record in recorded.servers.values() if (seconds := _latest_seconds(record)) > 0]
    if not taken:
        return None
    # Imported here: it brings fractions and decimals along.
    from statistics import median

    return median(taken)


def expected_seconds(
    changes: Iterable[Change], subjects: Mapping[str, Subject], build_seconds: float, max_in_flight: int | None
) -> float:
    """How long all builds take together, those in flight counted as if they began now; `subjects` by server id.

    Gated builds count, since the plan's totals count them too.
    """
    waiting = sum(
        change.action.builds or (change.action is Action.RESUME and not subjects[change.server_id].job_ended)
        for change in changes
        if not change.unavailable
    )
    return math.ceil(waiting / (max_in_flight or waiting)) * build_seconds if waiting else 0.0


def _latest_seconds(record: Record) -> float:
    for build in reversed(record.builds):
        if build.status is BuildStatus.SUCCEEDED and build.finished_at is not None:
            return (build.finished_at - build.requested_at).total_seconds()
    return 0.0

"""The records as they were before a plan was begun, as far as they tell.

An id is a digest: it says whether a plan is the approved one, not what that one was. Once a plan is begun, what is left
of it has another id. So what its runs have done is taken back here, and planned for once more: where that gives the
approved id, it is proven what was approved. A wrong guess proves nothing and does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product

from reconciler.model.observed import Observation, ObservedImage
from reconciler.model.record import Build, BuildStatus, Held, Record, Recorded

# A run forgets servers before it builds, and may then wait for its turn.
_FORGOTTEN_BEFORE = timedelta(minutes=15)


def begun(recorded: Recorded, plan_id: str) -> int:
    """How many builds of a plan are recorded."""
    return sum(build.plan_id == plan_id for record in recorded.all_records for build in record.builds)


def rewound(
    recorded: Recorded, observed: Observation | None, plan_id: str
) -> Iterator[tuple[Recorded, Observation | None]]:
    """What state and cloud may have been before the plan was begun, the likeliest first.

    Its builds and prunes carry its id. Forgotten servers and edited images do not: with them and without. What a
    record was called before it moved is in no record, so a plan that moves one cannot be found again.
    """
    pruned = [build for record in recorded.servers.values() for build in record.builds if build.pruned_by == plan_id]
    if observed is not None and pruned:
        back = {one.image_id: ObservedImage(one.image_id, one.spec.name, "active") for one in pruned}
        observed = replace(
            observed, images={**back, **observed.images}, gone=observed.gone - {one.image_id for one in pruned}
        )
    own = [build for record in recorded.all_records for build in record.builds if build.plan_id == plan_id]
    since = min((build.requested_at for build in own), default=None)
    forgotten = {
        key: replace(record, retired_at=None)
        for key, record in recorded.retired.items()
        if since is not None and record.retired_at is not None and record.retired_at >= since - _FORGOTTEN_BEFORE
    }
    for edits, forgets in product((False, True), (False, True) if forgotten else (False,)):
        servers = {**recorded.servers, **(forgotten if forgets else {})}
        retired = {key: one for key, one in recorded.retired.items() if not (forgets and key in forgotten)}
        before = {key: _before(record, plan_id, edits=edits) for key, record in servers.items()}
        kept = {key: record for key, record in before.items() if record is not None}
        past = replace(recorded, servers=kept, retired=retired)
        if not kept and not retired:
            # The plan may have been the first one, made where there was no state yet.
            yield replace(past, lineage="", bound_to=None, exists=False), observed
        yield past, observed


def _before(record: Record, plan_id: str, *, edits: bool) -> Record | None:
    """A record without a plan's own builds and prunes; None where there was none before. `edits`: of the image too."""
    builds = [replace(one, deleted_at=None, pruned_by="") if one.pruned_by == plan_id else one for one in record.builds]
    built = False
    while builds and builds[-1].plan_id == plan_id:
        built |= builds.pop().status is BuildStatus.SUCCEEDED
    held = record.held
    if built:
        held = _held_by(builds)
    elif edits and held is not None:
        made = next((one for one in builds if one.image_id == held.image_id), None)
        held = replace(held, spec=made.spec) if made is not None else held
    if held is None and not builds:
        return None
    return replace(record, held=held, attempt=builds[-1] if builds else None, history=tuple(builds[:-1]))


def _held_by(builds: list[Build]) -> Held | None:
    """What a server holds after these builds: the image of the last one that succeeded, if it is still there."""
    made = next((one for one in reversed(builds) if one.status is BuildStatus.SUCCEEDED), None)
    if made is None or made.deleted_at is not None:
        return None
    return Held(made.spec, made.image_id, made.job_id, made.finished_at)

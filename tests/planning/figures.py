"""Short ways to say what is declared, recorded and observed; and what an apply would make of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.model.diagnostics import Origin
from reconciler.model.observed import Observation, ObservedImage, ObservedJob, ObservedServer, Quota
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding, Build, BuildError, BuildStatus, Held, Record, Recorded
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits, Manifest
from reconciler.planning.planner import Options, make_plan
from reconciler.planning.selection import Selection

BINDING = Binding("huaweicloud", "ap-southeast-1", "a4da8115c9d8464ead3a38309130523f")
LINEAGE = "6f1c2f7e-5b0e-4f53-9d5a-0f1f4b1a9d11"
NOON = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)

A = ImageSpec("office-1")
B = ImageSpec("office-2")


def declared(
    name: str = "office",
    spec: ImageSpec = A,
    *,
    server_id: str = "s1",
    labels: Mapping[str, str] | None = None,
    protect: bool = False,
    keep_images: int | None = None,
    line: int = 10,
) -> DeclaredServer:
    origin = Origin("imgctl.yaml", line, 3)
    return DeclaredServer(name, server_id, spec, labels or {}, protect, keep_images, origin=origin)


def build(
    status: BuildStatus = BuildStatus.SUCCEEDED,
    spec: ImageSpec = A,
    *,
    job_id: str = "j1",
    image_id: str = "",
    error: BuildError | None = None,
    minutes: float = 24,
    attempt_id: str = "a1",
) -> Build:
    ended = not status.in_flight
    if status is BuildStatus.SUCCEEDED:
        image_id = image_id or "i1"
    if status in (BuildStatus.INTENT, BuildStatus.UNKNOWN, BuildStatus.REFUSED):
        job_id = ""
    return Build(
        attempt_id=attempt_id,
        spec=spec,
        status=status,
        requested_at=NOON,
        job_id=job_id,
        finished_at=NOON + timedelta(minutes=minutes) if ended else None,
        image_id=image_id,
        error=error,
    )


def record(
    name: str = "office",
    held: ImageSpec | None = None,
    *,
    server_id: str = "s1",
    image_id: str = "i1",
    attempt: Build | None = None,
    history: Iterable[Build] = (),
    protect: bool = False,
    retired: bool = False,
) -> Record:
    return Record(
        server_id=server_id,
        name=name,
        held=Held(held, image_id, "j1", NOON) if held is not None else None,
        attempt=attempt,
        history=tuple(history),
        protect=protect,
        retired_at=NOON if retired else None,
    )


def server(server_id: str = "s1", status: str = "BUILT", **fields: Any) -> ObservedServer:
    return ObservedServer(server_id, fields.pop("name", f"cloud-{server_id}"), status, **fields)


def image(image_id: str = "i1", name: str = "office-1", **fields: Any) -> ObservedImage:
    return ObservedImage(image_id, name, fields.pop("status", "active"), **fields)


def observation(
    *servers: ObservedServer,
    jobs: Iterable[ObservedJob] = (),
    images: Iterable[ObservedImage] = (),
    gone: Iterable[str] = (),
    free: int | None = None,
    problems: tuple[str, ...] = (),
) -> Observation:
    return Observation(
        servers={one.id: one for one in servers},
        jobs={one.id: one for one in jobs},
        images={one.id: one for one in images},
        gone=frozenset(gone),
        quota=Quota(50 - free, 50) if free is not None else None,
        problems=problems,
    )


def manifest(*servers: DeclaredServer, **fields: Any) -> Manifest:
    return Manifest({one.name: one for one in servers}, **fields)


def recorded(*records: Record, limits: Limits | None = None, exists: bool = True) -> Recorded:
    return Recorded(
        lineage=LINEAGE,
        serial=len(records),
        bound_to=BINDING if exists else None,
        servers={one.server_id: one for one in records if one.retired_at is None},
        retired={one.server_id: one for one in records if one.retired_at is not None},
        limits=limits or Limits(),
        exists=exists,
    )


def plan_of(
    servers: Manifest | Iterable[DeclaredServer] = (),
    records: Recorded | Iterable[Record] = (),
    observed: Observation | None = None,
    *,
    targets: Iterable[str] = (),
    excludes: Iterable[str] = (),
    labels: Iterable[str] = (),
    replaced: Iterable[str] = (),
    allowed: Iterable[str] = (),
    **options: Any,
) -> Plan:
    return make_plan(
        servers if isinstance(servers, Manifest) else manifest(*servers),
        records if isinstance(records, Recorded) else recorded(*records),
        observed,
        BINDING,
        Options(
            selection=Selection.parse(targets, excludes, labels),
            replace=frozenset(replaced),
            allowed=frozenset(allowed),
            **options,
        ),
    )


def only(plan: Plan) -> Change:
    (change,) = plan.changes
    return change


def actions(plan: Plan) -> dict[str, str]:
    """The action of every server id."""
    return {change.server_id: change.action.value for change in plan.changes}


def applied(plan: Plan, before: Recorded) -> Recorded:
    """The state after an apply in which everything that starts succeeds, and what is in flight stays so."""
    servers, retired = dict(before.servers), dict(before.retired)
    for change in plan.changes:
        if change.unavailable:
            continue
        past = servers.get(change.server_id) or retired.get(change.server_id)
        match change.action:
            case Action.MOVE:
                assert past is not None
                servers[change.server_id] = replace(past, name=change.name, retired_at=None)
                retired.pop(change.server_id, None)
            case Action.FORGET:
                retired[change.server_id] = replace(servers.pop(change.server_id), retired_at=NOON)
            case Action.BUILD | Action.REBUILD:
                assert change.after is not None
                past = past or Record(change.server_id, change.name)
                history = past.builds
                new = build(spec=change.after, image_id=f"i-{len(history)}", attempt_id=f"n-{len(history)}")
                servers[change.server_id] = replace(
                    past,
                    name=change.name,
                    held=Held(change.after, new.image_id),
                    attempt=new,
                    history=history,
                    retired_at=None,
                )
                retired.pop(change.server_id, None)
            case Action.UPDATE:
                assert past is not None
                assert past.held is not None
                assert change.after is not None
                assert past.held.image_id == change.image_id
                spec = replace(past.held.spec, name=change.after.name, description=change.after.description)
                servers[change.server_id] = replace(past, held=replace(past.held, spec=spec))
            case Action.PRUNE:
                assert past is not None
                assert past.held is None or past.held.image_id != change.image_id
                gone = [
                    replace(one, deleted_at=NOON) if one.image_id == change.image_id else one for one in past.history
                ]
                servers[change.server_id] = replace(past, history=tuple(gone))
            case Action.REFRESH | Action.RESUME:
                pass
    return replace(before, servers=servers, retired=retired, exists=True, serial=before.serial + 1)

"""What one server needs: each function makes one kind of change, without asking whether it may start."""

from __future__ import annotations

from reconciler.model.observed import ObservedJob
from reconciler.model.plan import Action, Change, FieldDiff
from reconciler.model.record import Build, BuildStatus, Record
from reconciler.model.spec import DeclaredServer, ImageSpec
from reconciler.planning.differ import diff_specs

_DESCRIPTION = "image.description"


def declared_change(
    declared: DeclaredServer,
    record: Record | None,
    retired: Record | None,
    job: ObservedJob | None,
    *,
    forced: bool,
) -> Change | None:
    """The change that brings a declared server to its declaration; None where it is there already.

    `retired` is the server's record from when it was forgotten, `job` its build in flight as the cloud sees it,
    `forced` is `--replace`.
    """
    if record is None:
        if retired is not None and retired.held is not None:
            return _move(declared, retired)
        return _build(declared, retired)
    if record.in_flight:
        return resume(declared, record, job)
    if record.name != declared.name:
        return _move(declared, record)
    if record.held is None:
        return _build(declared, record)
    return _compare(declared, record, forced=forced)


def resume(declared: DeclaredServer | None, record: Record, job: ObservedJob | None) -> Change:
    """The change of a server whose latest build has no known end: all that it may get before that."""
    attempt = record.attempt
    if attempt is None:
        raise ValueError(f"server {record.server_id} has no attempt to resume")
    reasons = [_in_flight(attempt, job)]
    after: ImageSpec | None = None
    if declared is None:
        reasons.append("no longer declared: forget follows")
    elif declared.image == attempt.spec:
        after = declared.image
    else:
        # Once this build has succeeded the server holds its spec: that is what the next plan compares with.
        diff = diff_specs(attempt.spec, declared.image)
        follows = Action.REBUILD if _causes(diff) else Action.UPDATE
        reasons.append(f"the declaration has changed since ({_paths(diff)}): {follows} follows")
    if declared is not None and declared.name != record.name:
        reasons.append(f"renamed to {declared.name}: move follows")
    return Change(
        name=record.name,
        server_id=record.server_id,
        action=Action.RESUME,
        reasons=tuple(reasons),
        before=attempt.spec,
        after=after,
        job_id=attempt.job_id,
        origin=declared.origin if declared is not None else None,
    )


def forget(record: Record) -> Change:
    """The change of a recorded server that no file declares any more."""
    return Change(
        name=record.name,
        server_id=record.server_id,
        action=Action.FORGET,
        reasons=("no longer declared",),
        before=record.held.spec if record.held is not None else None,
        image_id=record.held.image_id if record.held is not None else "",
    )


def _build(declared: DeclaredServer, record: Record | None) -> Change:
    return Change(
        name=declared.name,
        server_id=declared.server_id,
        action=Action.BUILD,
        reasons=_last_failure(record) or ("first build" if record is None else "nothing is held",),
        after=declared.image,
        diff=diff_specs(None, declared.image),
        origin=declared.origin,
    )


def _compare(declared: DeclaredServer, record: Record, *, forced: bool) -> Change | None:
    """Nothing, an update in place, or a rebuild of a server that holds an image."""
    held = record.held
    if held is None:
        raise ValueError(f"server {record.server_id} holds nothing to compare with")
    diff = diff_specs(held.spec, declared.image)
    if not diff and not forced:
        return None
    causes = _causes(diff)
    if causes or forced:
        action = Action.REBUILD
        reasons = (*causes, *(("--replace",) if forced else ()), *_last_failure(record))
    else:
        action = Action.UPDATE
        reasons = ("only the description differs",)
    return Change(
        name=declared.name,
        server_id=declared.server_id,
        action=action,
        reasons=reasons,
        before=held.spec,
        after=declared.image,
        diff=diff,
        image_id=held.image_id,
        origin=declared.origin,
    )


def _move(declared: DeclaredServer, record: Record) -> Change:
    """A record under a new name, or a forgotten one that is declared again; whatever else differs comes next time."""
    reasons = []
    if record.retired_at is not None:
        reasons.append(f"declared again: its record returns (forgotten on {record.retired_at:%Y-%m-%d})")
    held = record.held is not None
    follows = _compare(declared, record, forced=False) if held else _build(declared, record)
    if follows is not None:
        paths = f" ({_paths(follows.diff)})" if follows.before is not None else ""
        reasons.append(f"{follows.action} follows at the next apply{paths}")
    return Change(
        name=declared.name,
        server_id=declared.server_id,
        action=Action.MOVE,
        reasons=tuple(reasons),
        old_name=record.name,
        image_id=record.held.image_id if record.held is not None else "",
        origin=declared.origin,
    )


def _causes(diff: tuple[FieldDiff, ...]) -> tuple[str, ...]:
    """What makes a rebuild necessary, in words: `name differs`, `triggers.gpu_driver differs`."""
    return tuple(f"{one.path.removeprefix('image.')} differs" for one in diff if one.path != _DESCRIPTION)


def _paths(diff: tuple[FieldDiff, ...]) -> str:
    return ", ".join(one.path for one in diff)


def _in_flight(attempt: Build, job: ObservedJob | None) -> str:
    if attempt.status is not BuildStatus.RUNNING:
        return "the outcome of the request is unknown: it will be reconciled"
    if job is None:
        return f"job {attempt.job_id} is in flight"
    ended = ": its end will be recorded" if job.status in ("SUCCESS", "FAILED") else ""
    return f"job {attempt.job_id} is {job.status}{ended}"


def _last_failure(record: Record | None) -> tuple[str, ...]:
    attempt = record.attempt if record is not None else None
    if attempt is None or attempt.status not in (BuildStatus.FAILED, BuildStatus.REFUSED):
        return ()
    what = f": {attempt.error.code} {attempt.error.message}".rstrip() if attempt.error is not None else ""
    return (f"the last build {'failed' if attempt.status is BuildStatus.FAILED else 'was not started'}{what}",)

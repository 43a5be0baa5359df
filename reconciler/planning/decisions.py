"""What one server needs: its one change, without asking whether it may start."""

from __future__ import annotations

from reconciler.model.plan import Action, Change, FieldDiff
from reconciler.model.record import Build, BuildStatus, Held, Record
from reconciler.model.spec import DeclaredServer, ImageSpec
from reconciler.planning.differ import diff_specs
from reconciler.planning.drift import IMAGE_GONE, refresh_of, shown_spec
from reconciler.planning.subjects import Subject

_NAME, _DESCRIPTION = "image.name", "image.description"


def change_of(subject: Subject, *, forced: bool) -> Change | None:
    """The change that brings a server to its declaration; None where it is there already. `forced` is `--replace`."""
    declared, record = subject.declared, subject.record
    if record is not None and record.attempt is not None and record.in_flight:
        return _resume(subject, record, record.attempt)
    if declared is None:
        return _forget(record, subject.successor_id) if record is not None else None
    if moves(subject):
        return _move(declared, subject)
    held = record.held if record is not None else None
    if held is None:
        return _build(declared, subject.past)
    return _compare(declared, held, subject, forced=forced)


def refreshed(subject: Subject) -> Change | None:
    """What only has to be recorded of a server: the end of its build, or what became of its image in IMS."""
    record = subject.record
    if record is None:
        return None
    if record.attempt is not None and record.in_flight:
        return _resume(subject, record, record.attempt) if subject.job_ended else None
    return refresh_of(record, subject.image, subject.declared, gone=subject.image_gone)


def moves(subject: Subject) -> bool:
    """True where a record, or a forgotten one that holds an image, is to go on under the declared name."""
    if subject.declared is None:
        return False
    if subject.record is not None:
        return subject.record.name != subject.declared.name
    return subject.retired is not None and subject.retired.held is not None


def _resume(subject: Subject, record: Record, attempt: Build) -> Change:
    """All that a server may get before the end of its latest build is known."""
    declared = subject.declared
    reasons = [_in_flight(subject, attempt)]
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


def _forget(record: Record, successor_id: str) -> Change:
    named = f": {record.name} is now server {successor_id}" if successor_id else ""
    return Change(
        name=record.name,
        server_id=record.server_id,
        action=Action.FORGET,
        reasons=(f"no longer declared{named}",),
        before=record.held.spec if record.held is not None else None,
        image_id=record.held.image_id if record.held is not None else "",
    )


def _build(declared: DeclaredServer, past: Record | None) -> Change:
    return Change(
        name=declared.name,
        server_id=declared.server_id,
        action=Action.BUILD,
        reasons=_last_failure(past) or ("first build" if past is None else "nothing is held",),
        after=declared.image,
        diff=diff_specs(None, declared.image),
        origin=declared.origin,
    )


def _compare(declared: DeclaredServer, held: Held, subject: Subject, *, forced: bool) -> Change | None:
    """Nothing, an update in place, or a rebuild of a server that holds an image."""
    diff = diff_specs(held.spec, declared.image)
    causes = (*_causes(diff), *((IMAGE_GONE,) if subject.image_gone else ()), *(("--replace",) if forced else ()))
    if causes:
        action = Action.REBUILD
        reasons = (*causes, *_last_failure(subject.past))
    else:
        action = Action.UPDATE
        edits = diff_specs(shown_spec(held, subject.image), declared.image)
        reasons = _edits(edits, described=bool(diff))
        diff = edits or diff
    if not reasons:
        return None
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


def _edits(edits: tuple[FieldDiff, ...], *, described: bool) -> tuple[str, ...]:
    """Why the held image is edited in IMS; `described`: the declaration gives it another description than is held."""
    renamed = ("renamed in IMS",) if any(one.path == _NAME for one in edits) else ()
    if any(one.path == _DESCRIPTION for one in edits):
        if not described:
            return (*renamed, "described otherwise in IMS")
        return (*renamed, "the description differs" if renamed else "only the description differs")
    if described:
        return (*renamed, "IMS has this description already: it is recorded")
    return renamed


def _move(declared: DeclaredServer, subject: Subject) -> Change:
    """A record under a new name, or a forgotten one that is declared again; whatever else differs comes next time.

    The specs say what is held and what is declared, as everywhere; a move changes neither, hence no diff.
    """
    record = subject.past
    if record is None:
        raise ValueError(f"server {declared.server_id} has no record to move")
    held = record.held
    reasons = []
    if record.retired_at is not None:
        reasons.append(f"declared again: its record returns (forgotten on {record.retired_at:%Y-%m-%d})")
    follows = _compare(declared, held, subject, forced=False) if held is not None else _build(declared, record)
    if follows is not None:
        paths = f" ({_paths(follows.diff)})" if follows.before is not None else ""
        reasons.append(f"{follows.action} follows at the next apply{paths}")
    return Change(
        name=declared.name,
        server_id=declared.server_id,
        action=Action.MOVE,
        reasons=tuple(reasons),
        before=held.spec if held is not None else None,
        after=declared.image,
        # A forgotten record may come back under the name that it had.
        old_name=record.name if record.name != declared.name else "",
        image_id=held.image_id if held is not None else "",
        origin=declared.origin,
    )


def _causes(diff: tuple[FieldDiff, ...]) -> tuple[str, ...]:
    """What makes a rebuild necessary, in words: `name differs`, `triggers.gpu_driver differs`."""
    return tuple(f"{one.path.removeprefix('image.')} differs" for one in diff if one.path != _DESCRIPTION)


def _paths(diff: tuple[FieldDiff, ...]) -> str:
    return ", ".join(one.path for one in diff)


def _in_flight(subject: Subject, attempt: Build) -> str:
    if attempt.status is not BuildStatus.RUNNING:
        return "the outcome of the request is unknown: it will be reconciled"
    if subject.job is None or not subject.job.status:
        return f"job {attempt.job_id} is in flight"
    return f"job {attempt.job_id} is {subject.job.status}{': its end will be recorded' if subject.job_ended else ''}"


def _last_failure(record: Record | None) -> tuple[str, ...]:
    attempt = record.attempt if record is not None else None
    if attempt is None or attempt.status not in (BuildStatus.FAILED, BuildStatus.REFUSED):
        return ()
    said = f"{attempt.error.code} {attempt.error.message}".strip() if attempt.error is not None else ""
    verb = "failed" if attempt.status is BuildStatus.FAILED else "was not started"
    return (f"the last build {verb}{f': {said}' if said else ''}",)

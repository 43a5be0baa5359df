"""A saved plan is an approval, not instructions: is what would be done now still what was approved?

Whoever applies a saved plan plans again. What comes out is compared here, server by server, with what was approved:
the change itself, and digests of the declaration and the record that it rests on. What an earlier run of the same plan
has done already is told by the records: builds by the plan's id, everything else by the outcome that they show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reconciler.model.observed import Observation
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding, Build, BuildStatus, Record, Recorded
from reconciler.model.spec import DeclaredServer, ImageSpec, Manifest
from reconciler.planning.decisions import moves
from reconciler.planning.differ import diff_specs
from reconciler.planning.guards import tighten
from reconciler.planning.identity import spec_fields
from reconciler.planning.planner import Options
from reconciler.planning.selection import Selection
from reconciler.planning.subjects import find_subjects

_ID_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan was asked for, besides variables and --refresh-only, which the plan itself tells.

    `manifest` is its path as it was given: for messages, never to be opened. The limits are those of flags.
    """

    manifest: str = ""
    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    max_changes: int | None = None
    max_prunes: int | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """What the changes of one server rest on.

    `declared` and `held` are digests of its declaration and of what it holds, empty where there is none; `attempt_id`
    is its latest build, empty where there is none.
    """

    declared: str = ""
    held: str = ""
    attempt_id: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A plan that somebody has looked at, with what it was asked for and the basis of every server that it changes."""

    plan: Plan
    asked: Asked = field(default_factory=Asked)
    basis: Mapping[str, Basis] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """A server of which something else would be done now than was approved, and why, in words."""

    server_id: str
    name: str
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of an approved plan: `changes` as they are planned now, or, where something `moved`, nothing.

    `done` is what an earlier run has done already.
    """

    changes: tuple[Change, ...] = ()
    done: tuple[Change, ...] = ()
    moved: tuple[Moved, ...] = ()


class _Standing(StrEnum):
    """How far an approved change of a server has come, by its record."""

    OPEN = "open"
    DONE = "done"
    # Its build has ended without an image, which is all that a resume can promise.
    ENDED = "ended"


def approve(plan: Plan, asked: Asked, manifest: Manifest, recorded: Recorded) -> Approval:
    """The plan as it is to be approved."""
    return Approval(plan, asked, basis_of(plan.changes, asked, manifest, recorded))


def basis_of(changes: Iterable[Change], asked: Asked, manifest: Manifest, recorded: Recorded) -> dict[str, Basis]:
    """What the changes rest on, by server id."""
    declared = {one.server_id: one for one in manifest.servers.values()}
    found = {}
    for change in changes:
        past = _past(change.server_id, recorded)
        found[change.server_id] = Basis(
            declared=_declared_digest(declared.get(change.server_id), labelled=bool(asked.labels)),
            held=_held_digest(past),
            attempt_id=past.builds[-1].attempt_id if past is not None and past.builds else "",
        )
    return found


def elsewhere(approved: Binding, now: Binding) -> bool:
    """True where a plan was approved for another place; what either side does not know yet fits."""
    return any(
        known and found and known != found
        for known, found in (
            (approved.provider, now.provider),
            (approved.region, now.region),
            (approved.project_id, now.project_id),
        )
    )


def done_before(approval: Approval, recorded: Recorded, gone: Collection[str] = ()) -> tuple[Change, ...]:
    """The approved changes that earlier runs have done, as far as the records tell; images `gone` need no prune."""
    plan_id, done = approval.plan.plan_id, []
    for server_id, changes in by_server(approval.plan.changes).items():
        main, prunes = _parted(changes)
        record = recorded.servers.get(server_id)
        past = record or recorded.retired.get(server_id)
        standing = _Standing.OPEN
        if main is not None:
            standing = _standing(main, plan_id, approval.basis.get(server_id, Basis()), record, past)
            if standing is not _Standing.OPEN:
                done.append(main)
        done += [one for one in prunes if standing is _Standing.ENDED or one.image_id in gone or _is_pruned(one, past)]
    return tuple(done)


def options_again(
    approval: Approval, manifest: Manifest, recorded: Recorded, observed: Observation | None, options: Options
) -> Options:
    """How to plan again: as the plan was asked for, and for those of its servers of which something is left.

    `options` are this run's: the plan's limits only tighten them, and what opens gates comes from them alone. A name
    that --replace cannot take by now is left out: its server then comes out as something else than was approved.
    """
    asked = approval.asked
    done = done_before(approval, recorded, observed.gone if observed is not None else ())
    keys = {change.key for change in done}
    servers = frozenset(change.server_id for change in approval.plan.changes if change.key not in keys)
    to_replace = servers - {change.server_id for change in done}
    return replace(
        options,
        selection=Selection(),
        servers=servers,
        left_over=_left_over(approval, done),
        replace=frozenset(
            one.declared.name
            for one in find_subjects(manifest, recorded, observed)
            if one.declared is not None
            and one.declared.name in asked.replace
            and one.server_id in to_replace
            and not (one.record is not None and one.record.in_flight)
            and not moves(one)
        ),
        refresh_only=approval.plan.refresh_only,
        limits=tighten(options.limits, asked.max_changes, asked.max_prunes, asked.max_in_flight),
    )


def remainder(
    approval: Approval, fresh: Plan, manifest: Manifest, recorded: Recorded, observed: Observation | None
) -> Remainder:
    """Compare what was approved with a fresh plan for the servers of which something is left."""
    gone = observed.gone if observed is not None else frozenset()
    done = list(done_before(approval, recorded, gone))
    keys = {change.key for change in done}
    approved = by_server(change for change in approval.plan.changes if change.key not in keys)
    planned = by_server(fresh.changes)
    now = basis_of(approval.plan.changes, approval.asked, manifest, recorded)
    moved, changes = [], set()
    for server_id, wanted in approved.items():
        found = planned.get(server_id, ())
        main, _ = _parted(wanted)
        if main is not None and not found and _shows(main, recorded.servers.get(server_id)):
            done += wanted
            continue
        how = _how_moved(approval, wanted, found, now[server_id], _past(server_id, recorded))
        if how:
            moved.append(Moved(server_id, wanted[0].name, how))
        changes.add(server_id)
    if moved:
        return Remainder(moved=tuple(moved))
    order = {change.key: place for place, change in enumerate(approval.plan.changes)}
    done.sort(key=lambda change: order[change.key])
    return Remainder(tuple(one for one in fresh.changes if one.server_id in changes), tuple(done))


def as_approved(
    approval: Approval, fresh: Plan, changes: tuple[Change, ...], manifest: Manifest, recorded: Recorded
) -> Plan:
    """The fresh plan under the approved one's id, with `changes` alone, and the guards that were seen with it.

    A guard that has changed since is not noted: the caution about a looser one is for whoever approves the next plan.
    """
    approved = approval.plan
    seen = approved.protect
    return replace(
        fresh,
        plan_id=approved.plan_id,
        changes=changes,
        limits=approved.limits if approved.limits == fresh.limits else recorded.limits,
        protect={
            one.server_id: one.protect for one in manifest.servers.values() if seen.get(one.server_id) is one.protect
        },
        state_url=approved.state_url if approved.state_url == fresh.state_url else None,
    )


def by_server(changes: Iterable[Change]) -> dict[str, tuple[Change, ...]]:
    """The changes by server id, each server's in their order."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.server_id, []).append(change)
    return {server_id: tuple(its) for server_id, its in found.items()}


# What is done already


def _left_over(approval: Approval, done: Iterable[Change]) -> frozenset[str]:
    """The ids of the images that are still to be pruned though the build that they come along with is done."""
    keys = {change.key for change in done}
    built = {change.server_id for change in done if change.action is not Action.PRUNE}
    return frozenset(
        change.image_id
        for change in approval.plan.changes
        if change.action is Action.PRUNE and change.key not in keys and change.server_id in built
    )


def _standing(main: Change, plan_id: str, basis: Basis, record: Record | None, past: Record | None) -> _Standing:
    match main.action:
        case Action.BUILD | Action.REBUILD:
            later = _later(basis, past) or ()
            built = any(one.plan_id == plan_id and one.status is BuildStatus.SUCCEEDED for one in later)
            return _Standing.DONE if built else _Standing.OPEN
        case Action.RESUME:
            return _resumed(plan_id, basis, past)
        case Action.FORGET:
            done = record is None and past is not None
        case Action.MOVE:
            done = record is not None and record.name == main.name
        case Action.UPDATE | Action.REFRESH:
            # One that only sets right what somebody has changed in IMS leaves no trace in the records.
            done = main.before != main.after and _shows(main, record)
        case _:
            done = False
    return _Standing.DONE if done else _Standing.OPEN


def _resumed(plan_id: str, basis: Basis, past: Record | None) -> _Standing:
    """A build in flight has been resumed once its end is known; a request that was not issued may follow it."""
    later = _later(basis, past)
    if past is None or later is None:
        return _Standing.OPEN
    builds = [one for one in past.builds if one.attempt_id == basis.attempt_id]
    builds += [one for one in later if one.plan_id == plan_id]
    if any(one.status.in_flight for one in builds):
        return _Standing.OPEN
    return _Standing.DONE if any(one.status is BuildStatus.SUCCEEDED for one in builds) else _Standing.ENDED


def _later(basis: Basis, past: Record | None) -> tuple[Build, ...] | None:
    """The builds of a server since the plan was made; None where the record does not have the one that it had then."""
    builds = past.builds if past is not None else ()
    if not basis.attempt_id:
        return builds
    for place in reversed(range(len(builds))):
        if builds[place].attempt_id == basis.attempt_id:
            return builds[place + 1 :]
    return None


def _shows(main: Change, record: Record | None) -> bool:
    """True where the record shows what an edit, or a look at IMS, was to bring about."""
    held = record.held if record is not None else None
    match main.action:
        case Action.UPDATE:
            return held is not None and held.image_id == main.image_id and held.spec == main.after
        case Action.REFRESH if main.after is None:
            return record is not None and (held is None or held.image_id != main.image_id)
        case Action.REFRESH:
            return held is not None and held.image_id == main.image_id and held.spec == main.after
        case _:
            return False


def _is_pruned(prune: Change, past: Record | None) -> bool:
    builds = past.builds if past is not None else ()
    return any(one.image_id == prune.image_id and one.deleted_at is not None for one in builds)


# What has moved


def _how_moved(
    approval: Approval, wanted: tuple[Change, ...], found: tuple[Change, ...], now: Basis, past: Record | None
) -> tuple[str, ...]:
    """Why `found` is not what was approved of a server, or rests on something else; empty where it is, and does not."""
    plan_id = approval.plan.plan_id
    basis = approval.basis.get(wanted[0].server_id, Basis())
    main, prunes = _parted(wanted)
    main_now, prunes_now = _parted(found)
    how: list[str] = []
    later = _later(basis, past)
    if main is not None:
        how += _declared_moved(basis, now, main, main_now)
        how += _recorded_moved(basis, now, later, plan_id)
        own = later[-1] if later and later[-1].plan_id == plan_id else None
        continued = own is not None and own.status.in_flight and own.spec == main.after
        how += _action_moved(main, main_now, continued=continued, explained=bool(how))
    elif main_now is not None:
        how.append(f"{main_now.action} comes before what is left of it")
    ids, ids_now = ({one.image_id for one in each} for each in (prunes, prunes_now))
    how += [f"image {image_id} would be pruned, too" for image_id in sorted(ids_now - ids)]
    # A build in flight that has failed takes nothing with it.
    if main_now is None or main_now.action is not Action.RESUME:
        how += [f"image {image_id} would not be pruned" for image_id in sorted(ids - ids_now)]
    return tuple(dict.fromkeys(how))


def _declared_moved(basis: Basis, now: Basis, main: Change, main_now: Change | None) -> list[str]:
    if basis.declared == now.declared:
        return []
    if not now.declared:
        return ["no longer declared"]
    if not basis.declared:
        return ["declared now"]
    paths = ""
    if main.after is not None and main_now is not None and main_now.after is not None:
        paths = ", ".join(one.path for one in diff_specs(main.after, main_now.after))
    return [f"its declaration has changed{f' ({paths})' if paths else ''}"]


def _recorded_moved(basis: Basis, now: Basis, later: tuple[Build, ...] | None, plan_id: str) -> list[str]:
    if later is None:
        return [f"its record lacks the build that the plan was made after ({basis.attempt_id})"]
    others = [one for one in later if one.plan_id != plan_id]
    if others:
        return [_other_build(others[-1])]
    return ["its record holds something else now"] if basis.held != now.held else []


def _other_build(build: Build) -> str:
    if build.adopted or not build.plan_id:
        return "a build of it was imported since"
    doing = (
        "is building it" if build.status.in_flight else "has built it" if build.image_id else "has tried to build it"
    )
    return f"another plan {doing} since ({build.plan_id[:_ID_SHOWN]})"


def _action_moved(main: Change, now: Change | None, *, continued: bool, explained: bool) -> list[str]:
    """`continued`: what this plan has begun is in flight, and so to be resumed; `explained`: it is said why."""
    if now is None:
        return [f"{main.action} is not needed any more"]
    if continued and now.action is Action.RESUME:
        return []
    if now.action is not main.action:
        why = f": {', '.join(now.reasons)}" if now.reasons else ""
        return [f"{now.action} instead of {main.action}{why}"]
    if now.name != main.name:
        return [f"its name is {now.name}, not {main.name}"]
    if _done_by(now) != _done_by(main) and not explained:
        return [f"{main.action} would do something else"]
    return []


def _done_by(change: Change) -> tuple[ImageSpec | None, ImageSpec | None, str, str]:
    return change.before, change.after, change.old_name, change.image_id


def _parted(changes: Iterable[Change]) -> tuple[Change | None, tuple[Change, ...]]:
    """A server's one change and the prunes that come along with it."""
    changes = tuple(changes)
    main = next((change for change in changes if change.action is not Action.PRUNE), None)
    return main, tuple(change for change in changes if change.action is Action.PRUNE)


def _past(server_id: str, recorded: Recorded) -> Record | None:
    return recorded.servers.get(server_id) or recorded.retired.get(server_id)


def _declared_digest(declared: DeclaredServer | None, *, labelled: bool) -> str:
    """Labels count where they have chosen the servers; otherwise nothing that is done rests on them."""
    if declared is None:
        return ""
    labels = sorted(declared.labels.items()) if labelled else []
    return _digest([declared.name, spec_fields(declared.image), declared.protect, declared.keep_images, labels])


def _held_digest(past: Record | None) -> str:
    held = past.held if past is not None else None
    return _digest([spec_fields(held.spec), held.image_id]) if held is not None else ""


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode("ascii")).hexdigest()

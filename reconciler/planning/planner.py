"""The planner: a pure function of what is declared, recorded and observed. It reads no clock, no disk, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.errors import StateError, UsageError
from reconciler.model.observed import Observation
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding, Recorded
from reconciler.model.spec import Limits, Manifest
from reconciler.planning.availability import why_unavailable, with_free_image_names, with_free_names
from reconciler.planning.decisions import change_of, moves, refreshed
from reconciler.planning.estimate import expected_seconds, usual_build_seconds
from reconciler.planning.guards import gate, gate_forgetting, open_gates
from reconciler.planning.identity import plan_id
from reconciler.planning.places import at_one_time, tasks_of_others, with_places
from reconciler.planning.remarks import (
    builds_elsewhere,
    failed_look_ups,
    full_quota,
    gone_servers,
    loosened,
    lost_state,
    needless_names,
    other_images,
    other_place,
    other_tasks,
    same_names,
)
from reconciler.planning.retention import with_prunes
from reconciler.planning.selection import Selection, unknown_name
from reconciler.planning.subjects import Subject, find_subjects, select_subjects

# What the API page's example took: 23 min 35 s (facts sheet, 2.4).
DOCUMENTED_BUILD_SECONDS = 1414.6

_ORDER = {action: position for position, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Options:
    """How a plan is asked for. `replace` and `allowed` are names; `limits` the manifest's, tightened by flags.

    `refresh_only` plans what the records learn from the cloud, and nothing that changes the cloud. `build_seconds` is
    what a build is assumed to take where history has none. `busy` are the servers that other runs have at this moment,
    by id, and who those are.

    `servers` are the ids to plan for instead of what the selection picks, where it is not None. `left_over` are ids of
    images to prune though no build of their server comes along: theirs has succeeded in an earlier run.
    """

    selection: Selection = field(default_factory=Selection)
    replace: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    allow_empty: bool = False
    refresh_only: bool = False
    limits: Limits = field(default_factory=Limits)
    build_seconds: float = DOCUMENTED_BUILD_SECONDS
    busy: Mapping[str, str] = field(default_factory=dict)
    servers: frozenset[str] | None = None
    left_over: frozenset[str] = frozenset()


def make_plan(
    manifest: Manifest, recorded: Recorded, observed: Observation | None, binding: Binding, options: Options
) -> Plan:
    """Decide what to do. `observed` None plans from manifest and state alone.

    Raises StateError where the state is bound elsewhere, UsageError where a selector or a name matches nothing.
    """
    binding = resolve_binding(binding, recorded)
    everyone = find_subjects(manifest, recorded, observed)
    if options.servers is None:
        selected = select_subjects(everyone, options.selection)
    else:
        selected = {one.server_id: one for one in everyone if one.server_id in options.servers}
    _check_names(everyone, selected, options)

    quota = observed.quota if observed is not None else None
    building = sum(subject.in_flight for subject in everyone)
    if options.refresh_only:
        wanted = tuple(_unless_busy(change, options) for change in map(refreshed, selected.values()) if change)
        queued = 0
    else:
        wanted = _changes(selected.values(), recorded, observed, options)
        wanted = with_prunes(wanted, selected, recorded, observed, options.left_over)
        wanted, queued = with_places(wanted, quota, building)
    gated = _ungated_where_busy(gate(wanted, selected, options.limits), options)
    changes = open_gates(gated, options.allowed)
    if not manifest.servers and not options.allow_empty:
        changes = gate_forgetting(changes)

    # A state without a decision in it has a lineage that nobody has seen yet.
    lineage = recorded.lineage if recorded.exists else ""
    protect = {
        one.server_id: one.declared.protect
        for one in selected.values()
        if one.declared is not None and one.server_id not in options.busy
    }
    build_seconds = usual_build_seconds(recorded) or options.build_seconds
    others = tasks_of_others(everyone, observed)
    # Each run has a bound of its own; IMS has one for all.
    others += sum(one.in_flight and one.server_id in options.busy for one in everyone)
    ours = sum(one.in_flight and one.server_id not in options.busy for one in everyone)
    unselected = ours - sum(one.in_flight and one.server_id not in options.busy for one in selected.values())
    bound = at_one_time(options.limits.max_in_flight, others, unselected)
    # Where builds wait for places they come in waves as large as the quota's room.
    together = min(quota.free or 1, bound or quota.free or 1) if quota is not None and queued else bound
    return Plan(
        plan_id=plan_id(binding, lineage, changes, protect),
        lineage=lineage,
        serial=recorded.serial,
        bound_to=binding,
        changes=changes,
        unchanged=len(selected) - len({change.server_id for change in changes}),
        refreshed=observed is not None,
        expected_seconds=expected_seconds(changes, selected, build_seconds, together),
        build_seconds=build_seconds,
        max_in_flight=bound,
        quota=quota,
        in_flight=building,
        queued=queued,
        refresh_only=options.refresh_only,
        overrides=manifest.overrides,
        diagnostics=(
            *manifest.diagnostics,
            *lost_state(everyone, recorded),
            *other_place(manifest, recorded),
            *loosened(manifest, everyone, recorded),
            *gone_servers(selected.values(), observed),
            *same_names(changes, recorded, observed),
            *other_images(selected.values(), observed),
            *full_quota(changes, selected.values(), observed),
            *builds_elsewhere(unselected, options.limits.max_in_flight),
            *other_tasks(others, options.limits.max_in_flight),
            *failed_look_ups(observed),
            *needless_names(gated, options.allowed),
        ),
        limits=manifest.limits,
        protect=protect,
        state_url=manifest.state_url or "",
    )


def resolve_binding(binding: Binding, recorded: Recorded) -> Binding:
    """Where this plan belongs; what is not known without asking the cloud is taken from the state.

    Raises StateError where the state belongs to another provider, region or project.
    """
    bound = recorded.bound_to
    if bound is None:
        return binding
    complete = Binding(binding.provider, binding.region or bound.region, binding.project_id or bound.project_id)
    if complete != bound:
        raise StateError(
            f"this state belongs elsewhere: it is bound to {bound}; this run is for {complete}",
            hint="Check region and project_id in the manifest and the environment, or name another state with --state.",
        )
    return complete


def _changes(
    subjects: Iterable[Subject], recorded: Recorded, observed: Observation | None, options: Options
) -> tuple[Change, ...]:
    """What the servers need, in the order in which it happens, with the reasons why it cannot start now."""
    changes = []
    for subject in subjects:
        forced = subject.declared is not None and subject.declared.name in options.replace
        change = change_of(subject, forced=forced)
        if change is not None:
            why = why_unavailable(change, subject.past, observed, forced=forced)
            changes.append(_unless_busy(replace(change, unavailable=why) if why else change, options))
    # Stable: within one action, the manifest's order.
    changes.sort(key=lambda change: _ORDER[change.action])
    return with_free_names(with_free_image_names(changes, recorded.servers), recorded.servers)


def _unless_busy(change: Change, options: Options) -> Change:
    """The change, unavailable where another run has its server."""
    who = options.busy.get(change.server_id)
    return change if who is None else replace(change, unavailable=f"another run has this server: {who}")


def _ungated_where_busy(changes: Iterable[Change], options: Options) -> tuple[Change, ...]:
    """The changes; what another run has holds nothing back: this run leaves it alone, and may know less of it."""
    return tuple(replace(change, gated="") if change.server_id in options.busy else change for change in changes)


def _check_names(everyone: Iterable[Subject], selected: Mapping[str, Subject], options: Options) -> None:
    if not options.allowed and not options.replace:
        return
    known = {name for subject in everyone for name in subject.names}
    for name in sorted(options.allowed - known):
        raise unknown_name("--allow", name, known)
    declared = {subject.declared.name: subject for subject in everyone if subject.declared is not None}
    for name in sorted(options.replace):
        if name not in known:
            raise unknown_name("--replace", name, declared)
        if name not in declared:
            raise UsageError(f"--replace {name}: no image server is declared under this name, so there is no build")
        _check_replace(name, declared[name], selected)


def _check_replace(name: str, subject: Subject, selected: Mapping[str, Subject]) -> None:
    """Raise UsageError where `--replace` could not do what it says: it must not be dropped in silence."""
    if subject.server_id not in selected:
        raise UsageError(f"--replace {name}: the selectors leave this server out")
    if subject.record is not None and subject.record.in_flight:
        raise UsageError(
            f"--replace {name}: a build of this server is in flight", hint="Let it end first: imgctl wait."
        )
    if moves(subject):
        raise UsageError(
            f"--replace {name}: this server's record moves first, and a server gets one change at a time",
            hint="Apply without --replace, then with it.",
        )

"""What holds of every plan, whatever is declared, recorded and observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from deepdiff.diff import DeepDiff
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from reconciler.errors import StateError, UsageError
from reconciler.model.observed import Observation, ObservedServer, Quota
from reconciler.model.plan import Action, Plan
from reconciler.model.record import BuildStatus, Recorded
from reconciler.model.spec import ImageSpec, Limits, Manifest
from reconciler.planning.differ import diff_specs
from reconciler.planning.planner import Options, make_plan
from reconciler.planning.selection import Selection
from tests.planning.figures import BINDING, applied
from tests.planning.strategies import SERVER_IDS, few_specs, manifests, observations, options, specs, states
from tests.support import examples

often = settings(max_examples=examples(40), deadline=None)
UNGUARDED: Mapping[str, Any] = {
    "replace": frozenset(),
    "allow_empty": True,
    "limits": Limits(),
    "selection": Selection(),
    "allowed": frozenset(),
}

READY = Observation({server_id: ObservedServer(server_id, "", "ACTIVE") for server_id in SERVER_IDS})


def planned(manifest: Manifest, state: Recorded, observed: Observation | None, how: Options) -> Plan:
    try:
        return make_plan(manifest, state, observed, BINDING, how)
    except (UsageError, StateError):
        assume(False)
        raise


def shuffled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in reversed(list(values))}


def as_data(spec: ImageSpec) -> dict[str, dict[str, object]]:
    said = {"name": spec.name, "description": spec.description, "execute_sysprep": spec.execute_sysprep}
    return {
        "image": {name: value for name, value in said.items() if value not in ("", None) or name == "name"},
        "triggers": dict(spec.triggers),
    }


@settings(max_examples=examples(200))
@given(few_specs, few_specs, specs, st.booleans())
def test_a_diff_is_what_deepdiff_finds(one: ImageSpec, other: ImageSpec, third: ImageSpec, mixed: bool) -> None:
    if mixed:
        # Alike in most of their fields.
        other = replace(one, triggers={**one.triggers, **third.triggers}, execute_sysprep=third.execute_sysprep)
    found = DeepDiff(
        as_data(one), as_data(other), view="tree", threshold_to_diff_deeper=0, ignore_private_variables=False
    )
    paths = {tuple(level.path(output_format="list")) for levels in found.values() for level in levels}
    event(f"{min(len(paths), 3)} fields differ")
    diff = diff_specs(one, other)
    assert sorted(field.path for field in diff) == sorted(f"{section}.{name}" for section, name in paths)
    for field in diff:
        section, _, name = field.path.partition(".")
        assert field.before == as_data(one)[section].get(name)
        assert field.after == as_data(other)[section].get(name)


@often
@given(manifests(), states(), observations(), options())
def test_a_plan_is_sound(manifest: Manifest, state: Recorded, observed: Observation | None, how: Options) -> None:
    plan = planned(manifest, state, observed, how)
    declared = {server.server_id: server for server in manifest.servers.values()}
    # At most one change per server and prunes beside it, each of a server that is declared or recorded, in the order
    # of actions.
    keys = [change.key for change in plan.changes]
    assert len(set(keys)) == len(keys)
    server_ids = [change.server_id for change in plan.changes if change.action is not Action.PRUNE]
    assert len(set(server_ids)) == len(server_ids)
    assert {change.server_id for change in plan.changes} == set(server_ids)
    assert set(server_ids) <= declared.keys() | state.servers.keys()
    order = list(Action)
    assert [order.index(change.action) for change in plan.changes] == sorted(
        order.index(change.action) for change in plan.changes
    )
    for change in plan.changes:
        record = state.servers.get(change.server_id)
        in_flight = record is not None and record.in_flight
        if change.action is Action.PRUNE:
            continue
        assert (change.action is Action.RESUME) == in_flight
        assert (change.action is Action.FORGET) == (change.server_id not in declared and not in_flight)
        if change.action.builds or change.action is Action.UPDATE:
            assert change.after == declared[change.server_id].image
        # A resume was approved when it was issued: nothing holds it back.
        assert change.action is not Action.RESUME or change.starts
    # Nothing is lost on the way to a count.
    counts = plan.summary
    assert sum(counts[action.value] for action in Action) + counts["unavailable"] == len(plan.changes)
    assert counts["gated"] == len(plan.gated)
    assert plan.expected_seconds >= 0
    if how.selection.everything:
        assert counts["unchanged"] + len(server_ids) == len(declared.keys() | state.servers.keys())


@often
@given(manifests(), states(), observations(), options())
def test_what_a_prune_may_take(manifest: Manifest, state: Recorded, observed: Observation | None, how: Options) -> None:
    plan = planned(manifest, state, observed, how)
    declared = {server.server_id: server for server in manifest.servers.values()}
    builders = {change.server_id: change for change in plan.changes if change.action is not Action.PRUNE}
    prunes = [change for change in plan.changes if change.action is Action.PRUNE]
    event("prunes" if prunes else "no prune")
    for prune in prunes:
        builder, keep = builders[prune.server_id], declared[prune.server_id].keep_images
        assert keep is not None
        assert builder.action.builds or builder.action is Action.RESUME
        # It can start only where its build can.
        assert builder.starts or not prune.starts
        record = state.servers[prune.server_id]
        (build,) = [one for one in record.builds if one.image_id == prune.image_id]
        assert build.status is BuildStatus.SUCCEEDED
        assert not build.adopted
        assert build.deleted_at is None
        for other in state.all_records:
            if other.server_id != prune.server_id:
                assert other.held is None or other.held.image_id != prune.image_id
                assert other.retired_at is None or all(one.image_id != prune.image_id for one in other.builds)
        if observed is not None:
            assert not observed.images[prune.image_id].protected
            shown = {one.image_id for one in observed.servers.values() if one.id != prune.server_id}
            assert prune.image_id not in shown
    for server_id, count in Counter(prune.server_id for prune in prunes).items():
        images = {one.image_id for one in state.servers[server_id].builds if one.status is BuildStatus.SUCCEEDED}
        # What is left, and the one that is being built.
        assert len(images) - count + 1 >= (declared[server_id].keep_images or 0)


@often
@given(manifests(), states(), observations(), st.builds(Quota, st.integers(0, 6), st.integers(0, 8)), options())
def test_no_more_builds_start_than_the_quota_has_places_for(
    manifest: Manifest, state: Recorded, seen: Observation | None, quota: Quota, how: Options
) -> None:
    observed = replace(seen or READY, quota=quota)
    plan = planned(manifest, state, observed, how)
    starting = [change for change in plan.changes if change.action.builds and change.starts]
    prunes = Counter(change.server_id for change in plan.changes if change.action is Action.PRUNE and change.starts)
    in_flight = [one for one in state.servers.values() if one.in_flight]
    ended = {job.id for job in observed.jobs.values() if job.status in ("SUCCESS", "FAILED")}
    going_on = [one for one in in_flight if one.attempt is not None and one.attempt.job_id not in ended]
    if starting:
        assert len(starting) <= max(0, quota.free - len(going_on)) + sum(prunes.values())
    assert 0 <= plan.queued <= len(starting)


@often
@given(manifests(), states(), observations(), options(replace=frozenset(), refresh_only=True))
def test_a_plan_that_only_refreshes_asks_nothing_of_the_cloud(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    plan = planned(manifest, state, observed, how)
    assert {change.action for change in plan.changes} <= {Action.RESUME, Action.REFRESH}
    assert all(change.starts for change in plan.changes)
    assert observed is not None or not plan.changes


@often
@given(manifests(), states(), observations(), options())
def test_the_same_inputs_give_the_same_plan(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    assert planned(manifest, state, observed, how) == planned(manifest, state, observed, how)
    # Places in the quota go by the order of the manifest.
    observed = replace(observed, quota=None) if observed is not None else None
    plan = planned(manifest, state, observed, how)
    turned = planned(
        replace(manifest, servers=shuffled(manifest.servers)),
        replace(state, servers=shuffled(state.servers), retired=shuffled(state.retired), serial=state.serial + 1),
        observed,
        how,
    )
    assert turned.plan_id == plan.plan_id
    assert Counter(map(repr, turned.changes)) == Counter(map(repr, plan.changes))
    # Nor does an id say whether something may start at this minute.
    if observed is not None:
        busy = {one.id: replace(one, status="BUILDING") for one in observed.servers.values()}
        assert planned(manifest, state, replace(observed, servers=busy), how).plan_id == plan.plan_id


@often
@given(manifests(), states(), observations(), options())
def test_what_is_not_selected_does_not_appear(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    # Places in the quota go to those that are selected.
    observed = replace(observed, quota=None) if observed is not None else None
    part = planned(manifest, state, observed, how)
    whole = planned(manifest, state, observed, replace(how, selection=Selection()))
    decided = {change.key: replace(change, unavailable="", gated="") for change in whole.changes}
    assert all(replace(change, unavailable="", gated="") == decided[change.key] for change in part.changes)
    for change in part.changes:
        record = state.servers.get(change.server_id)
        assert record is None or record.name not in how.selection.excludes
        assert change.name not in how.selection.excludes
    assert part.protect.keys() <= whole.protect.keys()
    assert part.unchanged <= whole.unchanged


@often
@given(manifests(), states(), observations(), options())
def test_a_gate_hides_nothing_and_opens_by_name(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    gated = planned(manifest, state, observed, replace(how, allowed=frozenset(), allow_empty=False))
    names = frozenset(change.name for change in gated.gated)
    opened = planned(manifest, state, observed, replace(how, allowed=names, allow_empty=True))
    assert not opened.gated
    assert opened.plan_id == gated.plan_id
    # But for their gates, the changes are the same.
    assert opened.changes == tuple(replace(change, gated="") for change in gated.changes)
    if not manifest.servers:
        assert all(change.gated for change in gated.changes if change.action is Action.FORGET)
    if how.limits.max_changes is not None:
        alter = (Action.BUILD, Action.REBUILD, Action.UPDATE, Action.FORGET)
        assert sum(one.starts and one.action in alter for one in gated.changes) <= how.limits.max_changes
    if how.limits.max_prunes is not None:
        assert sum(one.starts and one.action is Action.PRUNE for one in gated.changes) <= how.limits.max_prunes


@often
@given(manifests(), states(), st.sampled_from([None, READY]), options(**UNGUARDED))
def test_applied_a_plan_leads_to_no_changes(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    """At the third plan at the latest: a server that moves gets what else it needs at the next apply."""
    plan = planned(manifest, state, observed, how)
    for _ in range(3):
        taken = Counter(record.name for record in state.servers.values())
        assert max(taken.values(), default=0) <= 1
        state = applied(plan, state)
        plan = planned(manifest, state, observed, how)
    # What is left has a build in flight, waits for the name of one that has, or has failed three times.
    assert all(change.action is Action.RESUME or change.unavailable for change in plan.changes)
    left = {change.server_id for change in plan.changes}
    declared = {server.server_id: server for server in manifest.servers.values()}
    assert state.servers.keys() - left == declared.keys() - left
    for server_id in declared.keys() - left:
        held = state.servers[server_id].held
        assert held is not None
        assert (held.spec, state.servers[server_id].name) == (declared[server_id].image, declared[server_id].name)


@often
@given(manifests(), states(), observations(), options())
def test_planning_fails_only_with_an_explanation(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    with suppress(UsageError, StateError):
        make_plan(manifest, state, observed, BINDING, how)

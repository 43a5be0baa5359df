"""What holds of every plan, whatever is declared, recorded and observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.errors import StateError, UsageError
from reconciler.model.observed import Observation, ObservedServer
from reconciler.model.plan import Action, Plan
from reconciler.model.record import Recorded
from reconciler.model.spec import Limits, Manifest
from reconciler.planning.planner import Options, make_plan
from reconciler.planning.selection import Selection
from tests.planning.figures import BINDING, applied
from tests.planning.strategies import SERVER_IDS, manifests, observations, options, states

often = settings(max_examples=40, deadline=None)
UNGUARDED: Mapping[str, Any] = {
    "replace": frozenset(),
    "allow_empty": True,
    "limits": Limits(),
    "selection": Selection(),
    "allowed": frozenset(),
}


def planned(manifest: Manifest, state: Recorded, observed: Observation | None, how: Options) -> Plan:
    try:
        return make_plan(manifest, state, observed, BINDING, how)
    except (UsageError, StateError):
        assume(False)
        raise


def shuffled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in reversed(list(values))}


@often
@given(manifests(), states(), observations(), options())
def test_a_plan_is_sound(manifest: Manifest, state: Recorded, observed: Observation | None, how: Options) -> None:
    plan = planned(manifest, state, observed, how)
    declared = {server.server_id: server for server in manifest.servers.values()}
    # At most one change per server, each of a server that is declared or recorded, in the order of actions.
    server_ids = [change.server_id for change in plan.changes]
    assert len(set(server_ids)) == len(server_ids)
    assert set(server_ids) <= declared.keys() | state.servers.keys()
    order = list(Action)
    assert [order.index(change.action) for change in plan.changes] == sorted(
        order.index(change.action) for change in plan.changes
    )
    for change in plan.changes:
        record = state.servers.get(change.server_id)
        in_flight = record is not None and record.in_flight
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
        assert counts["unchanged"] + len(plan.changes) == len(declared.keys() | state.servers.keys())


@often
@given(manifests(), states(), observations(), options())
def test_the_same_inputs_give_the_same_plan(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    plan = planned(manifest, state, observed, how)
    assert planned(manifest, state, observed, how) == plan
    turned = planned(
        replace(manifest, servers=shuffled(manifest.servers)),
        replace(state, servers=shuffled(state.servers), retired=shuffled(state.retired), serial=state.serial + 1),
        observed,
        how,
    )
    assert turned.plan_id == plan.plan_id
    assert Counter(map(repr, turned.changes)) == Counter(map(repr, plan.changes))
    # Nor does an id say whether something may start at this minute.
    assert planned(manifest, state, None, how).plan_id == plan.plan_id


@often
@given(manifests(), states(), observations(), options())
def test_what_is_not_selected_does_not_appear(
    manifest: Manifest, state: Recorded, observed: Observation | None, how: Options
) -> None:
    part = planned(manifest, state, observed, how)
    whole = planned(manifest, state, observed, replace(how, selection=Selection()))
    decided = {change.server_id: replace(change, unavailable="", gated="") for change in whole.changes}
    assert all(replace(change, unavailable="", gated="") == decided[change.server_id] for change in part.changes)
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
        alters = [one for one in gated.changes if one.starts and one.action not in (Action.RESUME, Action.MOVE)]
        assert len(alters) <= how.limits.max_changes


READY = Observation({server_id: ObservedServer(server_id, "", "ACTIVE") for server_id in SERVER_IDS})


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

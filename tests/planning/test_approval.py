"""What was approved against what comes out now: the same, done already, or moved, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from reconciler.errors import StateError, UsageError
from reconciler.model.observed import Observation, ObservedServer
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.record import Binding, Build, BuildStatus, Record, Recorded
from reconciler.model.spec import Limits, Manifest
from reconciler.planning.approval import Approval, Asked, Remainder, approve, elsewhere, options_again, remainder
from reconciler.planning.planner import Options, make_plan
from reconciler.planning.rewind import rewound
from tests.planning.figures import (
    BINDING,
    A,
    B,
    applied,
    build,
    declared,
    image,
    manifest,
    observation,
    record,
    recorded,
    server,
)
from tests.planning.strategies import SERVER_IDS, manifests, states
from tests.support import examples

READY = Observation({server_id: ObservedServer(server_id, "", "ACTIVE") for server_id in SERVER_IDS})
OFFICE = declared("office", B)
OLD = record("office", A, attempt=build(spec=A))
OPEN = Options(allow_empty=True)


def again(
    approval: Approval,
    wanted: Manifest,
    state: Recorded,
    observed: Observation | None = None,
    options: Options = OPEN,
) -> Remainder:
    how = options_again(approval, wanted, state, observed, options)
    return remainder(approval, make_plan(wanted, state, observed, BINDING, how), wanted, state, observed)


def approved(
    wanted: Manifest, state: Recorded, observed: Observation | None = None, asked: Asked | None = None, **options: Any
) -> Approval:
    how = Options(**{"allow_empty": True, **options})
    return approve(make_plan(wanted, state, observed, BINDING, how), asked or Asked(), wanted, state)


def stamped(plan: Plan, state: Recorded, keys: Iterable[tuple[str, Action, str]]) -> Recorded:
    """The state after a run of the plan that has done the changes with these keys and was then cut off."""
    keys = set(keys)
    done = replace(plan, changes=tuple(change for change in plan.changes if change.key in keys))
    after = applied(done, state)
    servers = dict(after.servers)
    for change in done.changes:
        # A gate may have been opened for the run.
        if change.action.builds and not change.unavailable:
            attempt = servers[change.server_id].attempt
            assert attempt is not None
            servers[change.server_id] = replace(
                servers[change.server_id], attempt=replace(attempt, plan_id=plan.plan_id)
            )
    return replace(after, servers=servers)


# Whatever is declared and recorded


def some(changes: Sequence[Change], at_least: int = 0) -> st.SearchStrategy[list[Change]]:
    if not changes:
        return st.just([])
    return st.lists(st.sampled_from(changes), unique_by=lambda one: one.key, min_size=at_least)


often = settings(max_examples=examples(40))


@often
@given(manifests(), states(), st.sampled_from([None, READY]))
def test_at_once_the_same_comes_out(wanted: Manifest, state: Recorded, observed: Observation | None) -> None:
    try:
        approval = approved(wanted, state, observed)
    except (UsageError, StateError):
        assume(False)
        raise
    left = again(approval, wanted, state, observed)
    assert not left.moved
    assert not left.done
    assert left.changes == approval.plan.changes


@often
@given(manifests(), states(), st.sampled_from([None, READY]), st.data())
def test_what_was_done_is_done_and_the_rest_is_left(
    wanted: Manifest, state: Recorded, observed: Observation | None, data: st.DataObject
) -> None:
    try:
        approval = approved(wanted, state, observed)
    except (UsageError, StateError):
        assume(False)
        raise
    plan = approval.plan
    startable = [change for change in plan.changes if not change.unavailable and change.action is not Action.RESUME]
    records = [one for one in startable if one.action in (Action.MOVE, Action.FORGET)]
    # The records change together, before anything is built; a prune follows its build.
    built = [one for one in startable if one.action.builds or one.action is Action.UPDATE]
    chosen = data.draw(some(built))
    done = {one.key for one in (*records, *chosen)}
    builders = {one.server_id for one in chosen if one.action.builds}
    prunes = [one for one in startable if one.action is Action.PRUNE and one.server_id in builders]
    done |= {one.key for one in data.draw(some(prunes))}
    after = stamped(plan, state, done)
    left = again(approval, wanted, after, observed)
    assert not left.moved
    event(f"{min(len(done), 3)} done, {min(len(left.changes), 3)} left")
    assert {one.key for one in left.done} == done
    assert {one.key for one in left.changes} == {one.key for one in plan.changes} - done
    # And once more it is the same.
    rest = {one.key for one in left.changes if not one.unavailable and one.action is not Action.RESUME}
    again_after = stamped(replace(plan, changes=left.changes), after, rest)
    assert {one.key for one in again(approval, wanted, again_after, observed).done} == done | rest


@often
@given(manifests(), states(), states())
def test_another_state_is_never_taken_for_the_one_of_the_plan(wanted: Manifest, one: Recorded, other: Recorded) -> None:
    """Of every server of which nothing is said to have moved, declaration, held image and latest build are the same."""
    try:
        approval = approved(wanted, one)
        left = again(approval, wanted, other)
    except (UsageError, StateError):
        assume(False)
        raise
    if left.moved:
        return
    for change in left.changes:
        before, now = (
            state.servers.get(change.server_id) or state.retired.get(change.server_id) for state in (one, other)
        )
        assert (before.held if before else None) == (now.held if now else None)
        assert (before.attempt if before else None) == (now.attempt if now else None)
    keys = {each.key for each in (*left.changes, *left.done)}
    assert keys == {each.key for each in approval.plan.changes}


# What moves, and how


def moved(approval: Approval, wanted: Manifest, state: Recorded, observed: Observation | None = None) -> str:
    left = again(approval, wanted, state, observed)
    assert not left.changes
    return "; ".join(f"{one.name}: {'; '.join(one.how)}" for one in left.moved)


REBUILD = approved(manifest(OFFICE), recorded(OLD))
KEEPING = declared("office", B, keep_images=1)
PRUNING = approved(manifest(KEEPING), recorded(OLD))
GONE = approved(manifest(declared()), recorded(OLD), observation(server(), gone=["i1"]))


@pytest.mark.parametrize(
    ("approval", "wanted", "state", "how"),
    [
        pytest.param(
            REBUILD,
            [declared("office", replace(B, triggers={"gpu": "1"}))],
            [OLD],
            "its declaration has changed (triggers.gpu)",
            id="declared",
        ),
        pytest.param(REBUILD, [replace(OFFICE, protect=True)], [OLD], "its declaration has changed", id="protected"),
        pytest.param(REBUILD, [replace(OFFICE, keep_images=9)], [OLD], "its declaration has changed", id="keeps"),
        pytest.param(REBUILD, [], [OLD], "no longer declared; forget instead of rebuild", id="gone from the manifest"),
        pytest.param(
            REBUILD,
            [declared("bureau", B)],
            [OLD],
            "its declaration has changed; move instead of rebuild",
            id="renamed",
        ),
        pytest.param(
            REBUILD,
            [declared("office", A)],
            [OLD],
            "its declaration has changed; rebuild is not needed any more",
            id="declared as it was",
        ),
        pytest.param(
            REBUILD,
            [OFFICE],
            [record("office", A, image_id="i9", attempt=build(spec=A))],
            "its record holds something else now",
            id="held",
        ),
        pytest.param(REBUILD, [OFFICE], [record("office", A)], "its record lacks the build", id="rolled back"),
        pytest.param(
            REBUILD,
            [OFFICE],
            [
                replace(
                    OLD,
                    history=(build(spec=A),),
                    attempt=replace(build(BuildStatus.FAILED, B, attempt_id="a2"), plan_id="f" * 64),
                )
            ],
            "another plan has tried to build it since (ffffffffffff)",
            id="tried by another plan",
        ),
        pytest.param(
            REBUILD,
            [OFFICE],
            [
                replace(
                    OLD,
                    history=(build(spec=A),),
                    attempt=replace(build(BuildStatus.RUNNING, B, attempt_id="a2"), plan_id="f" * 64),
                )
            ],
            "another plan is building it since (ffffffffffff); resume instead of rebuild",
            id="in flight by another plan",
        ),
        pytest.param(
            REBUILD,
            [OFFICE],
            [
                record(
                    "office",
                    B,
                    image_id="i2",
                    history=[build(spec=A)],
                    attempt=build(spec=B, image_id="i2", attempt_id="a2"),
                )
            ],
            "a build of it was imported since; rebuild is not needed any more",
            id="imported",
        ),
        pytest.param(
            approved(manifest(declared("office", replace(A, description="x"))), recorded(OLD)),
            [declared("office", replace(A, description="y"))],
            [OLD],
            "its declaration has changed (image.description)",
            id="described otherwise",
        ),
        pytest.param(
            approved(manifest(), recorded(OLD)),
            [declared()],
            [OLD],
            "declared now; forget is not needed any more",
            id="declared again",
        ),
    ],
)
def test_how_a_server_moves(approval: Approval, wanted: Any, state: Any, how: str) -> None:
    assert how in moved(approval, manifest(*wanted), recorded(*state))


def test_what_the_cloud_shows_moves_too() -> None:
    seen = observation(server(), images=[image()])
    assert "rebuild is not needed any more" in moved(GONE, manifest(declared()), recorded(OLD), seen)
    assert "would not be pruned" in moved(
        PRUNING, manifest(KEEPING), recorded(OLD), observation(server(), images=[image(protected=True)])
    )
    kept = approved(manifest(KEEPING), recorded(OLD), observation(server(), images=[image(protected=True)]))
    assert "image i1 would be pruned, too" in moved(kept, manifest(KEEPING), recorded(OLD), seen)
    # One that somebody has deleted already need not be pruned any more.
    left = again(PRUNING, manifest(KEEPING), recorded(OLD), observation(server(), gone=["i1"]))
    assert not left.moved
    assert [one.action for one in left.done] == [Action.PRUNE]


def test_labels_count_where_they_chose_the_servers() -> None:
    wanted, other = (manifest(replace(OFFICE, labels={"ring": ring})) for ring in ("canary", "late"))
    assert not again(approved(wanted, recorded(OLD)), other, recorded(OLD)).moved
    labelled = approved(wanted, recorded(OLD), asked=Asked(labels=("ring=canary",)))
    assert "its declaration has changed" in moved(labelled, other, recorded(OLD))


def test_other_servers_may_change() -> None:
    other = declared("cad", replace(A, name="cad-1"), server_id="s2")
    left = again(REBUILD, manifest(OFFICE, other), recorded(OLD, record("web", A, server_id="s3")))
    assert [(one.server_id, one.action) for one in left.changes] == [("s1", Action.REBUILD)]


def test_what_cannot_start_now_is_not_stale() -> None:
    left = again(REBUILD, manifest(OFFICE), recorded(OLD), observation(server(status="BUILDING")))
    assert not left.moved
    assert left.changes[0].unavailable


# Builds of the plan itself


def attempted(approval: Approval, status: BuildStatus, spec: Any = B) -> Build:
    return replace(build(status, spec, attempt_id="a2", job_id="j2"), plan_id=approval.plan.plan_id)


def begun(status: BuildStatus) -> Record:
    return replace(OLD, history=(build(spec=A),), attempt=attempted(REBUILD, status))


@pytest.mark.parametrize("status", [BuildStatus.INTENT, BuildStatus.UNKNOWN, BuildStatus.RUNNING])
def test_what_is_in_flight_is_resumed(status: BuildStatus) -> None:
    left = again(REBUILD, manifest(OFFICE), recorded(begun(status)))
    assert [one.action for one in left.changes] == [Action.RESUME]


@pytest.mark.parametrize("status", [BuildStatus.FAILED, BuildStatus.REFUSED])
def test_what_has_failed_is_tried_again(status: BuildStatus) -> None:
    left = again(REBUILD, manifest(OFFICE), recorded(begun(status)))
    assert [one.action for one in left.changes] == [Action.REBUILD]


def test_after_three_failures_it_needs_a_persons_word() -> None:
    tries = [replace(attempted(REBUILD, BuildStatus.FAILED), attempt_id=f"t{i}") for i in range(3)]
    state = recorded(replace(OLD, history=(build(spec=A), *tries[:2]), attempt=tries[2]))
    (left,) = again(REBUILD, manifest(OFFICE), state).changes
    assert "have failed" in left.unavailable


def test_what_is_built_is_done_whatever_came_later() -> None:
    built = attempted(REBUILD, BuildStatus.SUCCEEDED)
    state = recorded(record("office", B, image_id="i2", history=[build(spec=A)], attempt=built))
    assert [one.action for one in again(REBUILD, manifest(OFFICE), state).done] == [Action.REBUILD]
    later = replace(build(attempt_id="a3"), plan_id="f" * 64)
    state = recorded(record("office", A, image_id="i3", history=[build(spec=A), built], attempt=later))
    assert not again(REBUILD, manifest(declared()), state).changes


def test_an_earlier_build_under_the_same_id_does_not_count() -> None:
    """Built, its image gone, planned again: the same decisions have the same id, and are to be done once more."""
    first = approved(manifest(declared()), recorded())
    built = replace(build(), plan_id=first.plan.plan_id)
    state = recorded(record("office", attempt=built))
    second = approved(manifest(declared()), state)
    assert second.plan.plan_id == first.plan.plan_id
    assert [one.action for one in again(second, manifest(declared()), state).changes] == [Action.BUILD]


def test_replacing_once_is_not_replacing_twice() -> None:
    approval = approved(
        manifest(declared()), recorded(OLD), asked=Asked(replace=("office",)), replace=frozenset({"office"})
    )
    assert [one.action for one in again(approval, manifest(declared()), recorded(OLD)).changes] == [Action.REBUILD]
    running = replace(OLD, history=(build(spec=A),), attempt=attempted(approval, BuildStatus.RUNNING, A))
    assert [one.action for one in again(approval, manifest(declared()), recorded(running)).changes] == [Action.RESUME]
    built = attempted(approval, BuildStatus.SUCCEEDED, A)
    state = recorded(record("office", A, image_id="i2", history=[build(spec=A)], attempt=built))
    left = again(approval, manifest(declared()), state)
    assert (left.changes, [one.action for one in left.done]) == ((), [Action.REBUILD])


@pytest.mark.parametrize("status", list(BuildStatus))
def test_a_build_in_flight_is_resumed_until_its_end_is_known(status: BuildStatus) -> None:
    running = replace(OLD, history=(build(spec=A),), attempt=build(BuildStatus.RUNNING, B, attempt_id="a2"))
    approval = approved(manifest(OFFICE), recorded(running))
    assert approval.plan.changes[0].action is Action.RESUME
    ended = replace(running, attempt=build(status, B, attempt_id="a2"))
    left = again(approval, manifest(OFFICE), recorded(ended))
    assert not left.moved
    assert [one.action for one in left.changes] == ([Action.RESUME] if status.in_flight else [])


def test_a_prune_is_left_over_where_a_run_was_cut_off_after_its_build() -> None:
    built = attempted(PRUNING, BuildStatus.SUCCEEDED)
    state = recorded(record("office", B, image_id="i2", history=[build(spec=A)], attempt=replace(built, image_id="i2")))
    seen = observation(server(), images=[image(), image("i2", "office-2")])
    left = again(PRUNING, manifest(KEEPING), state, seen)
    assert [(one.action, one.image_id) for one in left.changes] == [(Action.PRUNE, "i1")]
    # Where it is more than is kept no longer, it stays.
    more = manifest(replace(KEEPING, keep_images=2))
    assert moved(PRUNING, more, state, seen) == "office: image i1 would not be pruned"
    # And nothing is pruned before what else the server needs by now.
    other = manifest(declared("office", replace(B, name="office-3"), keep_images=1))
    assert "rebuild comes before what is left of it" in moved(PRUNING, other, state, seen)


def test_limits_of_the_plan_only_tighten() -> None:
    def limits(asked: Asked, mine: Limits) -> Limits:
        approval = approved(manifest(OFFICE), recorded(OLD), asked=asked)
        return options_again(approval, manifest(OFFICE), recorded(OLD), None, Options(limits=mine)).limits

    assert limits(Asked(max_changes=9, max_in_flight=0), Limits(2, 3, 40)) == Limits(2, 3, 40)
    assert limits(Asked(max_changes=1, max_prunes=1, max_in_flight=1), Limits(2, None, 40)) == Limits(1, 1, 1)


@pytest.mark.parametrize(
    ("now", "differs"),
    [
        (BINDING, False),
        (replace(BINDING, region=""), False),
        (Binding("huaweicloud", "", ""), False),
        (replace(BINDING, provider="simulator"), True),
        (replace(BINDING, region="cn-north-4"), True),
        (replace(BINDING, project_id="0" * 32), True),
    ],
)
def test_a_plan_belongs_to_one_place(now: Binding, differs: bool) -> None:
    assert elsewhere(BINDING, now) is differs
    assert elsewhere(now, BINDING) is differs


# Found again by its id


@often
@given(manifests(), st.data())
def test_a_first_plan_is_found_again_once_it_is_begun(wanted: Manifest, data: st.DataObject) -> None:
    plan = make_plan(wanted, Recorded(), None, BINDING, Options())
    assume(plan.changes)
    done = data.draw(some(plan.changes, at_least=1))
    state = replace(stamped(plan, Recorded(), {one.key for one in done}), lineage="made up", bound_to=BINDING)
    ids = [
        make_plan(wanted, past, seen, BINDING, Options()).plan_id for past, seen in rewound(state, None, plan.plan_id)
    ]
    assert plan.plan_id in ids


def test_builds_prunes_edits_and_what_was_forgotten_are_taken_back() -> None:
    described = declared("cad", replace(A, name="cad-1", description="new"), server_id="s2")
    cad = record(
        "cad",
        replace(A, name="cad-1"),
        server_id="s2",
        image_id="c1",
        attempt=build(spec=replace(A, name="cad-1"), image_id="c1"),
    )
    web = record("web", A, server_id="s3", image_id="w1")
    wanted, state = manifest(KEEPING, described), recorded(OLD, cad, web)
    seen = observation(server(), server("s2"), images=[image(), image("c1", "cad-1")])
    plan = make_plan(wanted, state, seen, BINDING, Options())
    assert sorted(change.action for change in plan.changes) == ["forget", "prune", "rebuild", "update"]
    after = stamped(plan, state, {change.key for change in plan.changes})
    office = after.servers["s1"]
    pruned = replace(office.history[0], pruned_by=plan.plan_id)
    after = replace(after, servers={**after.servers, "s1": replace(office, history=(pruned,))})
    now = observation(
        server(), server("s2"), images=[image("c1", "cad-1", description="new"), image("i-1", "office-2")], gone=["i1"]
    )
    found = [
        past
        for past, then in rewound(after, now, plan.plan_id)
        if make_plan(wanted, past, then, BINDING, Options()).plan_id == plan.plan_id
    ]
    assert found
    assert not again(approve(plan, Asked(), wanted, found[0]), wanted, after, now).changes

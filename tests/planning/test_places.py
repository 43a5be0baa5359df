"""Builds against the quota and against the image tasks of others, before any time is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.diagnostics import Severity
from reconciler.model.observed import Quota
from reconciler.model.plan import Action, Plan
from reconciler.model.record import BuildStatus, Record
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits
from tests.planning.figures import build, declared, image, observation, plan_of, record, server

MINUTES_24 = 24 * 60.0


def servers(count: int, **fields: Any) -> list[DeclaredServer]:
    return [declared(f"n{i}", ImageSpec(f"n{i}-2"), server_id=f"s{i}", **fields) for i in range(count)]


def records(count: int) -> list[Record]:
    """Servers with one image each, that imgctl built."""
    specs = [ImageSpec(f"n{i}-1") for i in range(count)]
    builds = [build(spec=spec, image_id=f"i{i}", attempt_id=f"a{i}") for i, spec in enumerate(specs)]
    return [
        record(f"n{i}", spec, server_id=f"s{i}", image_id=f"i{i}", attempt=one)
        for i, (spec, one) in enumerate(zip(specs, builds, strict=True))
    ]


def planned(count: int, free: int, *, keep: int | None = None, keeping: int = 0, **options: Any) -> Plan:
    """Rebuilds of so many servers, of which the last `keeping` ones keep one image."""
    declarations = [*servers(count - keeping), *servers(count, keep_images=keep)[count - keeping :]]
    images = [image(f"i{i}", f"n{i}-1") for i in range(count)]
    observed = observation(*(server(f"s{i}", image_id=f"i{i}") for i in range(count)), images=images, free=free)
    return plan_of(declarations, records(count), observed, **options)


def starting(plan: Plan) -> list[str]:
    return [change.name for change in plan.changes if change.action.builds and change.starts]


@pytest.mark.parametrize(("free", "names"), [(9, 4), (4, 4), (3, 3), (1, 1), (0, 0)])
def test_builds_beyond_the_quota_are_unavailable(free: int, names: int) -> None:
    plan = planned(4, free)
    assert len(starting(plan)) == names
    assert plan.queued == 0
    assert plan.quota is not None
    assert plan.quota.free == free
    for change in plan.unavailable:
        assert change.unavailable.startswith(f"no place in the quota of private images: {50 - free} of 50 are used")
    if names == 3:
        assert plan.unavailable[0].unavailable.endswith(", and 3 other builds come first")


def test_a_full_quota_says_what_to_do_and_what_retention_has_left_over() -> None:
    # n0 was built by a run that was cut off before it pruned: it has one image more than it keeps.
    mine = records(2)
    old = mine[0].attempt
    newer = build(spec=ImageSpec("n0-2"), image_id="i9", attempt_id="a9")
    mine[0] = record(
        "n0", ImageSpec("n0-2"), server_id="s0", image_id="i9", attempt=newer, history=[old] if old else []
    )
    images = [image("i0", "n0-1"), image("i1", "n1-1"), image("i9", "n0-2")]
    observed = observation(server("s0", image_id="i9"), server("s1", image_id="i1"), images=images, free=0)
    plan = plan_of(servers(2, keep_images=1), mine, observed)
    assert [change.name for change in plan.changes if change.action.builds] == ["n1"]
    (caution,) = plan.diagnostics
    assert caution.summary == "1 build finds no place in the quota of private images"
    assert caution.hint.splitlines() == [
        "Delete images that nobody needs, or have the quota raised.",
        "Older than keep_images, and pruned once that server is built: i0 of n0",
    ]
    roomy = plan_of(servers(2, keep_images=1), mine, replace(observed, quota=Quota(3, 4)))
    assert roomy.diagnostics == ()
    assert roomy.plan_id == plan.plan_id


def test_builds_queue_for_the_places_that_prunes_give_back() -> None:
    plan = planned(4, 1, keep=1, keeping=4)
    assert len(starting(plan)) == 4
    assert plan.queued == 3
    assert not plan.unavailable
    # One after the other.
    assert plan.expected_seconds == pytest.approx(4 * MINUTES_24)


def test_scarce_places_go_first_to_those_that_give_one_back() -> None:
    # n3 keeps one image: built first, it gives its place to one of the others.
    plan = planned(4, 1, keep=1, keeping=1)
    assert sorted(starting(plan)) == ["n0", "n3"]
    assert plan.queued == 1
    assert [change.name for change in plan.changes if change.action is Action.PRUNE and change.starts] == ["n3"]


def test_nothing_gives_a_place_back_before_it_has_taken_one() -> None:
    plan = planned(4, 0, keep=1, keeping=4)
    assert starting(plan) == []
    assert len(plan.unavailable) == 8
    assert plan.queued == 0


def test_builds_in_flight_will_take_places_too() -> None:
    running = build(BuildStatus.RUNNING, ImageSpec("n9-2"), job_id="j9")
    mine = [*records(2), record("n9", server_id="s9", attempt=running)]
    wanted = [*servers(2), declared("n9", ImageSpec("n9-2"), server_id="s9")]
    observed = observation(*(server(f"s{i}") for i in (0, 1)), server("s9", "BUILDING"), free=2)
    plan = plan_of(wanted, mine, observed)
    assert starting(plan) == ["n0"]
    assert plan.unavailable[0].unavailable.endswith(", and 2 other builds come first")


def test_builds_that_wait_for_places_come_in_waves_no_larger_than_the_bound() -> None:
    plan = planned(6, 4, keep=1, keeping=6, limits=Limits(max_in_flight=2))
    assert plan.queued == 2
    assert plan.expected_seconds == pytest.approx(3 * MINUTES_24)


@pytest.mark.parametrize(("bound", "left"), [(40, 37), (3, 1), (None, None)])
def test_builds_on_servers_that_are_left_out_count_towards_the_bound(bound: int | None, left: int | None) -> None:
    running = [build(BuildStatus.RUNNING, ImageSpec(f"n{i}-2"), job_id=f"j{i}") for i in range(4)]
    mine = [record(f"n{i}", server_id=f"s{i}", attempt=one) for i, one in enumerate(running)]
    observed = observation(*(server(f"s{i}", "BUILDING") for i in range(4)), server("s4"), free=9)
    plan = plan_of(servers(5), mine, observed, targets=["n3", "n4"], limits=Limits(max_in_flight=bound))
    assert plan.max_in_flight == left
    assert plan.in_flight == 4
    notes = [one.summary for one in plan.diagnostics]
    said = f"3 builds are in flight on servers that the selectors leave out, and count towards the {bound} at one time"
    assert notes == ([said] if bound else [])


def test_an_unknown_quota_holds_nothing_back() -> None:
    observed = observation(*(server(f"s{i}") for i in range(4)))
    assert len(starting(plan_of(servers(4), records(4), observed))) == 4


@pytest.mark.parametrize(
    ("others", "bound", "left"), [(0, 40, 40), (3, 40, 37), (3, 10, 10), (39, 40, 1), (45, 40, 1), (3, None, None)]
)
def test_image_tasks_of_others_leave_fewer_places(others: int, bound: int | None, left: int | None) -> None:
    building = [server(f"x{i}", "BUILDING") for i in range(others)]
    plan = plan_of(servers(1), records(1), observation(server("s0"), *building), limits=Limits(max_in_flight=bound))
    assert plan.max_in_flight == left
    said = [one.summary for one in plan.diagnostics if one.severity is Severity.NOTE]
    assert len(said) == (bound is not None and left != bound)
    assert all(f"that leaves {left}" in summary for summary in said)


def test_a_server_that_builds_for_us_is_no_task_of_others() -> None:
    running = record("n0", server_id="s0", attempt=build(BuildStatus.RUNNING, ImageSpec("n0-2"), job_id="j0"))
    plan = plan_of(servers(1), [running], observation(server("s0", "BUILDING")), limits=Limits(max_in_flight=40))
    assert plan.max_in_flight == 40

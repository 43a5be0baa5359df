"""What cannot start now is listed, and the rest goes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reconciler.model.observed import ObservedServer
from reconciler.model.record import Build, BuildStatus
from tests.planning.figures import A, B, build, declared, observation, only, plan_of, record, server

FAILED_A, FAILED_B = build(BuildStatus.FAILED, A), build(BuildStatus.FAILED, B)
REFUSED, SUCCEEDED = build(BuildStatus.REFUSED, A), build(BuildStatus.SUCCEEDED, A)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("ACTIVE", ""),
        ("BUILT", ""),
        ("BUILDING", "the server is BUILDING: a build that is not recorded here is in progress"),
        ("ERROR", "the server is in ERROR: repair it in the console first"),
        ("CREATING", "the server is CREATING: it must be ACTIVE or BUILT"),
        ("", "the server is in no known state: it must be ACTIVE or BUILT"),
    ],
)
@pytest.mark.parametrize("held", [None, B])
def test_a_build_needs_a_server_that_is_ready(status: str, why: str, held: None) -> None:
    change = only(plan_of([declared()], [record(held=held)] if held else [], observation(server(status=status))))
    assert change.unavailable == why


def test_only_builds_need_the_server() -> None:
    plan = plan_of(
        [declared("moved", server_id="s2")],
        [record(held=A), record("two", A, server_id="s2")],
        observation(server("s1", "ERROR")),
    )
    assert [(one.action.value, one.unavailable) for one in plan.changes] == [("move", ""), ("forget", "")]


def test_without_a_refresh_nothing_is_known_to_be_unavailable() -> None:
    assert only(plan_of([declared()])).unavailable == ""


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (
            ObservedServer("s2", "cad", "BUILT", aps_server_id="s1"),
            "server_id is the APS server id of cad: use its id: s2",
        ),
        (ObservedServer("s2", "cad", "BUILT", instance_id="s1"), "server_id is the ECS id of cad: use its id: s2"),
        (
            ObservedServer("s2", "", "BUILT", instance_id="s1"),
            "server_id is the ECS id of an image server: use its id: s2",
        ),
        (ObservedServer("s2", "s1", "BUILT"), "server_id is the name of an image server: use its id: s2"),
        (ObservedServer("s2", "cad", "BUILT"), "no image server of this project has the id s1"),
    ],
)
def test_an_id_that_no_server_has(other: ObservedServer, why: str) -> None:
    assert only(plan_of([declared()], [], observation(other))).unavailable == why


@pytest.mark.parametrize(
    ("builds", "failures"),
    [
        ((FAILED_A,) * 2, 0),
        ((FAILED_A,) * 3, 3),
        ((FAILED_A,) * 4, 4),
        # A request that was refused started nothing.
        ((FAILED_A, FAILED_A, REFUSED, FAILED_A, REFUSED), 3),
        ((REFUSED,) * 5, 0),
        # A changed declaration begins anew, also when it changes back.
        ((FAILED_B,) * 3, 0),
        ((FAILED_A, FAILED_A, FAILED_B, FAILED_A), 0),
        ((FAILED_A, FAILED_A, SUCCEEDED, FAILED_A), 0),
    ],
)
def test_three_failures_of_one_declaration_block_a_retry(builds: Sequence[Build], failures: int) -> None:
    office = record(held=B, attempt=builds[-1], history=builds[:-1])
    why = only(plan_of([declared()], [office], observation(server()))).unavailable
    assert why == (
        f"{failures} builds of this declaration have failed: change it, or --replace office" if failures else ""
    )


def test_replace_tries_a_failing_declaration_once_more() -> None:
    office = record(attempt=FAILED_A, history=[FAILED_A] * 2)
    assert only(plan_of([declared()], [office], replaced=["office"])).starts
    # The word is for the declaration, not for a server that is not ready.
    assert only(plan_of([declared()], [office], observation(server(status="ERROR")), replaced=["office"])).unavailable


SWAPPED = [declared("two", server_id="s1"), declared("one", B, server_id="s2")]
RECORDED = [record("one", A, server_id="s1"), record("two", B, server_id="s2")]


def test_a_chain_of_names_moves_as_a_whole_or_waits() -> None:
    chain = [declared("two", server_id="s1"), declared("three", B, server_id="s2")]
    assert [one.starts for one in plan_of(chain, RECORDED).changes] == [True, True]
    # The name in the middle stands for both servers; the first one's own name for it alone.
    assert len(plan_of(chain, RECORDED, targets=["two"]).changes) == 2
    change = only(plan_of(chain, RECORDED, targets=["one"]))
    assert change.unavailable == "the name two is still that of server s2: let both change in one apply"
    assert [one.server_id for one in plan_of(chain, RECORDED, targets=["three"]).changes] == ["s2"]


def test_a_swap_waits_for_a_build_in_flight() -> None:
    building = record("two", B, server_id="s2", attempt=build(BuildStatus.RUNNING, B))
    plan = plan_of(SWAPPED, [RECORDED[0], building])
    assert [(one.action.value, one.unavailable) for one in plan.changes] == [
        ("resume", ""),
        ("move", "the name two is still that of server s2, whose build is in flight"),
    ]


def test_one_move_that_waits_makes_the_next_one_wait() -> None:
    wanted = [declared("two", server_id="s1"), declared("three", server_id="s2"), declared("four", server_id="s3")]
    building = record("three", A, server_id="s3", attempt=build(BuildStatus.RUNNING))
    plan = plan_of(wanted, [record("one", A), record("two", A, server_id="s2"), building])
    assert {one.server_id: bool(one.unavailable) for one in plan.changes} == {"s1": True, "s2": True, "s3": False}


def test_a_new_server_waits_for_its_name() -> None:
    building = record("office", server_id="s1", attempt=build(BuildStatus.RUNNING))
    plan = plan_of([declared("office", server_id="s2")], [building], observation(server("s2")))
    assert [(one.action.value, bool(one.unavailable)) for one in plan.changes] == [("resume", False), ("build", True)]


def test_unavailable_changes_are_counted_apart() -> None:
    plan = plan_of(
        [declared(), declared("cad", B, server_id="s2")], [], observation(server("s1", "ERROR"), server("s2"))
    )
    assert (plan.summary["build"], plan.summary["unavailable"]) == (1, 1)
    assert len(plan.changes) == 2


def test_a_name_that_a_build_in_flight_makes_is_taken_until_it_has_ended() -> None:
    busy = record("old", A, server_id="s9", attempt=build(BuildStatus.RUNNING, A))
    plan = plan_of([declared("new", A, server_id="s1")], [busy])
    (change,) = [one for one in plan.changes if one.action.builds]
    assert "a build of old in flight makes an image of the same name" in change.unavailable
    ended = record("old", A, server_id="s9", attempt=build(BuildStatus.SUCCEEDED, A))
    assert not any(one.unavailable for one in plan_of([declared("new", A, server_id="s1")], [ended]).changes)

"""What must not start unless a person says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.diagnostics import Severity
from reconciler.model.record import BuildStatus
from reconciler.model.spec import Limits
from reconciler.planning.guards import EMPTY_MANIFEST, tighten
from tests.planning.figures import (
    A,
    B,
    build,
    declared,
    manifest,
    observation,
    only,
    plan_of,
    record,
    recorded,
    server,
)

PROTECTED = "protected (protect: true)"
DESCRIBED = replace(A, description="for the office")


def gates(plan: Any) -> dict[str, str]:
    return {change.server_id: change.gated for change in plan.changes}


def summaries(plan: Any, severity: Severity) -> list[str]:
    return [one.summary for one in plan.diagnostics if one.severity is severity]


@pytest.mark.parametrize(
    ("wanted", "before", "gated"),
    [
        pytest.param(declared(spec=B, protect=True), record(held=A), True, id="rebuild"),
        pytest.param(declared(spec=DESCRIBED, protect=True), record(held=A), True, id="update"),
        pytest.param(declared(protect=True), None, False, id="first build"),
        pytest.param(declared(protect=True), record(attempt=build(BuildStatus.FAILED)), False, id="build again"),
        pytest.param(declared(protect=True), record(attempt=build(BuildStatus.RUNNING)), False, id="resume"),
        pytest.param(declared("writing", protect=True), record(held=A), False, id="move"),
        # The manifest's word counts; that it was taken back is a caution.
        pytest.param(declared(spec=B), record(held=A, protect=True), False, id="no longer protected"),
        pytest.param(None, record(held=A, protect=True), True, id="forget, by what was recorded"),
        pytest.param(None, record(held=A), False, id="forget"),
    ],
)
def test_protect(wanted: Any, before: Any, gated: bool) -> None:
    others = [declared("cad", server_id="s9")]
    plan = plan_of([*others, *([wanted] if wanted else [])], [before] if before else [])
    assert gates(plan)["s1"] == (PROTECTED if gated else "")
    assert plan.summary["gated"] == gated
    allowed = plan_of([*others, *([wanted] if wanted else [])], [before] if before else [], allowed=["office"])
    if wanted is None or wanted.name == "office":
        assert not allowed.gated
        assert allowed.plan_id == plan.plan_id


def test_replace_does_not_open_a_protection() -> None:
    plan = plan_of([declared(protect=True)], [record(held=A)], replaced=["office"])
    assert only(plan).gated == PROTECTED


FIVE = [declared(f"n{i}", replace(A, name=f"image-{i}"), server_id=f"s{i}") for i in range(5)]


@pytest.mark.parametrize(("limit", "gated"), [(None, 0), (5, 0), (4, 5), (0, 5)])
def test_more_changes_than_the_limit_are_all_gated(limit: int | None, gated: int) -> None:
    plan = plan_of(FIVE, limits=Limits(max_changes=limit))
    assert len(plan.gated) == gated
    assert {one.gated for one in plan.gated} <= {f"5 changes, and max_changes is {limit}"}


def test_to_allow_one_opens_no_gate_of_another() -> None:
    plan = plan_of(FIVE, limits=Limits(max_changes=3), allowed=["n0", "n1"])
    assert [one.name for one in plan.gated] == ["n2", "n3", "n4"]
    assert not plan_of(FIVE, limits=Limits(max_changes=3), allowed=[one.name for one in FIVE]).gated


def test_the_limit_counts_what_alters_an_image_or_what_is_managed() -> None:
    wanted = [
        declared("new", server_id="s1"),
        declared("there", A, server_id="s2"),
        declared("busy", B, server_id="s5"),
    ]
    records = [
        record("was", A, server_id="s1"),
        record("there", attempt=build(BuildStatus.RUNNING), server_id="s2"),
        record("gone", A, server_id="s3"),
        record("gone too", A, server_id="s4"),
    ]
    observed = observation(server("s5", "ERROR"))
    plan = plan_of(wanted, records, observed, limits=Limits(max_changes=1))
    # A move and a resume alter nothing, and what cannot start is not about to.
    why = "2 changes, and max_changes is 1"
    assert gates(plan) == {"s1": "", "s2": "", "s3": why, "s4": why, "s5": ""}
    assert only(plan_of(wanted[:1], limits=Limits(max_changes=0))).gated == "1 change, and max_changes is 0"


def test_the_limit_counts_what_is_selected() -> None:
    assert not plan_of(FIVE, limits=Limits(max_changes=2), targets=["n0", "n1"]).gated


def test_every_gate_of_a_change_is_said() -> None:
    plan = plan_of([declared(spec=B, protect=True)], [record(held=A)], limits=Limits(max_changes=0))
    assert only(plan).gated == f"{PROTECTED}; 1 change, and max_changes is 0"


UNRECORDED = "the server already shows image i7, not recorded here"


@pytest.mark.parametrize(
    ("past", "shown", "gated"),
    [
        pytest.param(None, "i7", True, id="nothing recorded"),
        pytest.param(None, "", False, id="no image"),
        pytest.param(record(attempt=build(BuildStatus.FAILED)), "i7", True, id="another image"),
        pytest.param(
            record(attempt=build(BuildStatus.FAILED), history=[build(image_id="i7")]), "i7", False, id="in the history"
        ),
        pytest.param(
            record(attempt=build(image_id="i7"), retired=True), "i7", False, id="in the history of a forgotten one"
        ),
        pytest.param(record(retired=True), "i7", True, id="forgotten, another image"),
    ],
)
def test_a_first_build_of_a_server_that_shows_an_image(past: Any, shown: str, gated: bool) -> None:
    plan = plan_of([declared()], [past] if past else [], observation(server(image_id=shown)))
    assert only(plan).action.value == "build"
    assert only(plan).gated == (UNRECORDED if gated else "")


def test_a_rebuild_is_not_gated_by_the_image_that_its_server_shows() -> None:
    plan = plan_of([declared(spec=B)], [record(held=A)], observation(server(image_id="i7")))
    assert not plan.gated
    assert summaries(plan, Severity.NOTE) == ["office shows an image that imgctl did not build"]
    # Nor is anything caused by it.
    assert not plan_of([declared()], [record(held=A)], observation(server(image_id="i7"))).changes


def test_gated_and_unavailable_are_both_said() -> None:
    plan = plan_of([declared(spec=B, protect=True)], [record(held=A)], observation(server(status="ERROR")))
    assert only(plan).gated
    assert only(plan).unavailable


@pytest.mark.parametrize(
    ("options", "gated"),
    [
        ({}, {"s1": EMPTY_MANIFEST, "s2": f"{EMPTY_MANIFEST}; {PROTECTED}"}),
        ({"allowed": ["one", "two"]}, {"s1": EMPTY_MANIFEST, "s2": EMPTY_MANIFEST}),
        ({"allow_empty": True}, {"s1": "", "s2": PROTECTED}),
        ({"allow_empty": True, "allowed": ["two"]}, {"s1": "", "s2": ""}),
        ({"targets": ["one"]}, {"s1": EMPTY_MANIFEST}),
    ],
)
def test_an_empty_manifest_forgets_nothing_by_accident(options: Any, gated: dict[str, str]) -> None:
    records = [record("one", A), record("two", A, server_id="s2", protect=True)]
    plan = plan_of([], records, **options)
    assert gates(plan) == gated


def test_an_empty_manifest_still_waits_for_builds_in_flight() -> None:
    change = only(plan_of([], [record(attempt=build(BuildStatus.RUNNING))]))
    assert (change.action.value, change.gated) == ("resume", "")


def test_an_empty_manifest_and_an_empty_state() -> None:
    assert plan_of([], []).changes == ()


def test_allowing_what_is_not_gated_is_noted() -> None:
    plan = plan_of([declared(protect=True)], [], allowed=["office"])
    assert only(plan).starts
    assert summaries(plan, Severity.NOTE) == ["--allow office opens no gate"]
    assert not plan_of([declared(spec=B, protect=True)], [record(held=A)], allowed=["office"]).diagnostics


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Limits(max_changes=5), Limits(max_changes=5), None),
        (Limits(max_changes=5), Limits(max_changes=4), None),
        (Limits(), Limits(max_changes=4), None),
        (Limits(max_changes=5), Limits(max_changes=6), "limits.max_changes is loosened: 5 at the last apply, now 6"),
        (Limits(max_changes=0), Limits(), "limits.max_changes is loosened: 0 at the last apply, now none"),
        (Limits(max_prunes=1), Limits(), "limits.max_prunes is loosened: 1 at the last apply, now none"),
        # 0 means no bound here.
        (
            Limits(max_in_flight=5),
            Limits(max_in_flight=0),
            "limits.max_in_flight is loosened: 5 at the last apply, now none",
        ),
        (Limits(max_in_flight=0), Limits(max_in_flight=5), None),
        (Limits(max_in_flight=0), Limits(), None),
    ],
)
def test_loosened_limits_are_a_caution(before: Limits, now: Limits, said: str | None) -> None:
    plan = plan_of(manifest(declared(), limits=now), recorded(record(held=A), limits=before))
    assert summaries(plan, Severity.CAUTION) == ([said] if said else [])
    assert plan.limits == now


@pytest.mark.parametrize("retired", [False, True])
def test_a_protection_that_is_taken_back_is_a_caution(retired: bool) -> None:
    records = [record(held=A, protect=True, retired=retired), record("cad", A, server_id="s2")]
    plan = plan_of([declared(), declared("cad", server_id="s2")], records)
    assert summaries(plan, Severity.CAUTION) == ["office is no longer protected"]
    assert plan.diagnostics[0].origin is not None
    # It stays one until an apply that is about this server.
    narrow = plan_of([declared(), declared("cad", server_id="s2")], records, targets=["cad"])
    assert summaries(narrow, Severity.CAUTION) == ["office is no longer protected"]
    assert narrow.protect == {"s2": False}


def test_a_missing_state_is_not_an_empty_one() -> None:
    observed = observation(server(image_id="i1"), server("s2"))
    wanted = [declared(), declared("cad", server_id="s2")]
    plan = plan_of(wanted, recorded(exists=False), observed)
    assert summaries(plan, Severity.CAUTION) == [
        "no state was found, yet 1 of the declared servers already shows an image"
    ]
    assert [bool(one.gated) for one in plan.changes] == [True, False]
    assert not summaries(plan_of(wanted, recorded(), observed), Severity.CAUTION)
    assert not summaries(plan_of(wanted, recorded(exists=False), None), Severity.CAUTION)


@pytest.mark.parametrize(
    ("limits", "flags", "tightened"),
    [
        (Limits(), (None, None, None), Limits()),
        (Limits(5, 2, 40), (3, 1, 10), Limits(3, 1, 10)),
        (Limits(5, 2, 40), (9, 9, 99), Limits(5, 2, 40)),
        (Limits(max_in_flight=0), (None, None, 10), Limits(max_in_flight=10)),
        (Limits(max_in_flight=10), (None, None, 0), Limits(max_in_flight=10)),
        (Limits(max_changes=0), (5, None, None), Limits(max_changes=0)),
    ],
)
def test_a_flag_only_tightens(
    limits: Limits, flags: tuple[int | None, int | None, int | None], tightened: Limits
) -> None:
    assert tighten(limits, *flags) == tightened


def test_what_another_run_has_gates_nothing() -> None:
    declaring = [
        declared("office", B, server_id="s1", protect=True),
        declared("cad", server_id="s2"),
        declared("web", server_id="s3"),
    ]
    records = [record("office", held=A, server_id="s1")]
    shown = observation(server("s1"), server("s2", image_id="i9"), server("s3"))
    assert plan_of(declaring, records, shown).summary["gated"] == 2
    plan = plan_of(declaring, records, shown, busy={"s1": "alice", "s2": "bob"})
    assert gates(plan) == {"s1": "", "s2": "", "s3": ""}
    unavailable = {change.server_id: change.unavailable for change in plan.changes}
    assert unavailable == {
        "s1": "another run has this server: alice",
        "s2": "another run has this server: bob",
        "s3": "",
    }

"""A plan is bound to its decisions and what they rest on: its id moves with them, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.errors import StateError
from reconciler.model.diagnostics import Origin
from reconciler.model.observed import ObservedJob
from reconciler.model.record import Binding, BuildStatus, Recorded
from reconciler.model.spec import DeclaredServer, Limits, Manifest, Override
from reconciler.planning.planner import DOCUMENTED_BUILD_SECONDS, Options, make_plan, resolve_binding
from tests.planning.figures import (
    BINDING,
    LINEAGE,
    A,
    B,
    build,
    declared,
    manifest,
    observation,
    plan_of,
    record,
    recorded,
    server,
)

OFFICE = declared("office", B, server_id="s1")
CAD = declared("cad", replace(A, name="cad-1"), server_id="s2")
WEB = declared("web", replace(A, name="web-1"), server_id="s3")
RECORDS = (record("office", A, server_id="s1"), record("old", A, server_id="s4"))
ID = plan_of([OFFICE, CAD], RECORDS).plan_id


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(plan_of([CAD, OFFICE], RECORDS), id="another order of the manifest"),
        pytest.param(plan_of([OFFICE, CAD], RECORDS[::-1]), id="another order of the state"),
        pytest.param(plan_of([replace(OFFICE, origin=Origin("b.yaml", 9, 9)), CAD], RECORDS), id="another place"),
        pytest.param(plan_of([replace(OFFICE, labels={"ring": "x"}), CAD], RECORDS), id="labels"),
        pytest.param(plan_of([OFFICE, CAD], replace(recorded(*RECORDS), serial=99)), id="serial"),
        pytest.param(plan_of([OFFICE, CAD], RECORDS, observation(server("s1", "ERROR"))), id="availability"),
        pytest.param(plan_of([OFFICE, CAD], RECORDS, limits=Limits(0)), id="limits"),
        pytest.param(plan_of([OFFICE, CAD], RECORDS, limits=Limits(0), allowed=["cad"]), id="what is allowed"),
        pytest.param(
            plan_of([OFFICE, CAD], (replace(RECORDS[0], attempt=build(BuildStatus.FAILED, B)), RECORDS[1])),
            id="reasons",
        ),
        pytest.param(plan_of(manifest(OFFICE, CAD, overrides=(Override("a", "b", "--var"),)), RECORDS), id="overrides"),
        pytest.param(plan_of([OFFICE, CAD, WEB], (*RECORDS, record("web", WEB.image, server_id="s3"))), id="another"),
    ],
)
def test_what_does_not_move_an_id(other: Any) -> None:
    assert other.plan_id == ID


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(plan_of([OFFICE], RECORDS), id="a change less"),
        pytest.param(plan_of([OFFICE, CAD, WEB], RECORDS), id="a change more"),
        pytest.param(plan_of([replace(OFFICE, image=replace(B, description="x")), CAD], RECORDS), id="declared"),
        pytest.param(plan_of([replace(OFFICE, image=replace(B, triggers={"a": "b"})), CAD], RECORDS), id="trigger"),
        pytest.param(plan_of([replace(OFFICE, protect=True), CAD], RECORDS), id="protect"),
        pytest.param(plan_of([replace(OFFICE, server_id="s9"), CAD], RECORDS), id="server"),
        pytest.param(plan_of([OFFICE, replace(CAD, name="cad-1")], RECORDS), id="name"),
        pytest.param(plan_of([OFFICE, CAD], (record("office", A, image_id="i2"), RECORDS[1])), id="held image"),
        pytest.param(plan_of([OFFICE, CAD], (record("office", replace(A, name="x")), RECORDS[1])), id="held spec"),
        pytest.param(plan_of([OFFICE, CAD], replace(recorded(*RECORDS), lineage="another")), id="lineage"),
        pytest.param(
            plan_of([OFFICE, CAD], (replace(RECORDS[0], attempt=build(BuildStatus.RUNNING, B)), RECORDS[1])),
            id="action",
        ),
    ],
)
def test_what_moves_an_id(other: Any) -> None:
    assert other.plan_id != ID


def test_each_field_is_its_own() -> None:
    ids = {
        plan_of([declared(spec=replace(A, name="a", description="b"))]).plan_id,
        plan_of([declared(spec=replace(A, name="ab"))]).plan_id,
        plan_of([declared(spec=replace(A, name="a", triggers={"b": ""}))]).plan_id,
        plan_of([declared(spec=replace(A, name="a", triggers={"": "b"}))]).plan_id,
        plan_of([declared(spec=replace(A, name="a", execute_sysprep=False))]).plan_id,
        plan_of([declared(spec=replace(A, name="a", execute_sysprep=True))]).plan_id,
    }
    assert len(ids) == 6


def test_to_replace_once_is_not_to_replace_twice() -> None:
    """Approving `--replace` by a plan's id must not build a second time."""
    first = plan_of([declared()], [record(held=A, image_id="i1")], replaced=["office"])
    second = plan_of([declared()], [record(held=A, image_id="i2")], replaced=["office"])
    assert first.plan_id != second.plan_id


def test_a_state_that_nobody_has_seen_has_no_lineage() -> None:
    """Under the lock a new state has a lineage of its own already; the plan is still the one that was reviewed."""
    before = plan_of([OFFICE], Recorded())
    locked = plan_of([OFFICE], Recorded(lineage="new", exists=False))
    assert (locked.plan_id, locked.lineage) == (before.plan_id, "")
    assert plan_of([OFFICE], Recorded(lineage="new", exists=True)).plan_id != before.plan_id


def test_a_plan_says_where_it_belongs() -> None:
    plan = plan_of([OFFICE], RECORDS)
    assert (plan.lineage, plan.serial, plan.bound_to, plan.refreshed) == (LINEAGE, 2, BINDING, False)
    assert not plan.simulated
    assert plan_of([OFFICE], RECORDS, observation()).refreshed


ELSEWHERE = [
    replace(BINDING, provider="simulator"),
    replace(BINDING, region="cn-north-4"),
    replace(BINDING, project_id="0" * 32),
]


@pytest.mark.parametrize("other", ELSEWHERE)
def test_a_state_is_never_used_elsewhere(other: Binding) -> None:
    with pytest.raises(StateError, match="this state belongs elsewhere"):
        make_plan(Manifest({}), recorded(*RECORDS), None, other, Options())


def test_what_is_not_known_of_the_binding_comes_from_the_state() -> None:
    assert resolve_binding(Binding("huaweicloud", "", ""), recorded(*RECORDS)) == BINDING
    assert resolve_binding(BINDING, Recorded()) == BINDING
    unknown = Binding("huaweicloud", "ap-southeast-1", "")
    assert resolve_binding(unknown, Recorded()) == unknown


def servers(count: int) -> list[DeclaredServer]:
    return [declared(f"n{i}", replace(A, name=f"image-{i}"), server_id=f"s{i}") for i in range(count)]


@pytest.mark.parametrize(
    ("count", "in_flight", "seconds"),
    [(0, 2, 0), (1, None, 60), (5, None, 60), (5, 2, 180), (4, 2, 120), (40, 40, 60), (41, 40, 120)],
)
def test_builds_take_turns(count: int, in_flight: int | None, seconds: float) -> None:
    plan = plan_of(servers(count), limits=Limits(max_in_flight=in_flight), build_seconds=60)
    assert plan.expected_seconds == seconds


def test_the_usual_time_comes_from_history() -> None:
    assert plan_of([OFFICE]).build_seconds == DOCUMENTED_BUILD_SECONDS
    records = [
        record(f"r{i}", A, server_id=f"r{i}", attempt=build(minutes=minutes)) for i, minutes in enumerate((10, 20, 60))
    ]
    # The latest success counts, also behind a failure; a clock that ran backwards does not.
    failed = record("r3", A, server_id="r3", attempt=build(BuildStatus.FAILED, minutes=1), history=[build(minutes=40)])
    backwards = record("r4", A, server_id="r4", attempt=build(minutes=-5))
    assert plan_of([OFFICE], [*records, failed, backwards]).build_seconds == 30 * 60


def test_only_what_will_be_waited_for_takes_time() -> None:
    running = [record(f"n{i}", server_id=f"s{i}", attempt=build(BuildStatus.RUNNING, job_id=f"j{i}")) for i in range(2)]
    wanted = servers(2)

    def seconds(*jobs: ObservedJob) -> float:
        observed = observation(jobs=jobs)
        return plan_of(wanted, running, observed, limits=Limits(max_in_flight=1), build_seconds=60).expected_seconds

    assert seconds() == 120
    assert seconds(ObservedJob("j0", "SUCCESS")) == 60
    assert seconds(ObservedJob("j0", "SUCCESS"), ObservedJob("j1", "FAILED")) == 0
    assert (
        plan_of(wanted, [], observation(server("s0", "ERROR"), server("s1")), build_seconds=60).expected_seconds == 60
    )
    # Gated builds are part of the totals, and so of the time.
    assert plan_of(wanted, limits=Limits(max_changes=0), build_seconds=60).expected_seconds == 60
    assert plan_of([], [record(held=A)], build_seconds=60).expected_seconds == 0

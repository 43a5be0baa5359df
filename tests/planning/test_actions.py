"""The table of actions: what one server needs, by what is declared, recorded and observed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.observed import ObservedJob
from reconciler.model.plan import Action, FieldDiff
from reconciler.model.record import BuildError, BuildStatus
from reconciler.model.spec import ImageSpec
from tests.planning.figures import A, B, actions, build, declared, observation, only, plan_of, record, server

FAILED = build(BuildStatus.FAILED, B, error=BuildError("IMG.0042", "the disk is full"))
REFUSED = build(BuildStatus.REFUSED, B, error=BuildError("NotIssued", "no trace of the request was found"))
DESCRIBED = replace(A, description="for the office")
SYSPREP = replace(A, execute_sysprep=True)
TRIGGERED = replace(A, triggers={"gpu_driver": "551.86"})


@pytest.mark.parametrize(
    ("held", "wanted", "action", "reasons"),
    [
        pytest.param(None, A, "build", ("first build",), id="nothing recorded"),
        pytest.param(A, A, None, (), id="the same"),
        pytest.param(A, B, "rebuild", ("name differs",), id="name"),
        pytest.param(A, SYSPREP, "rebuild", ("execute_sysprep differs",), id="sysprep set"),
        pytest.param(SYSPREP, A, "rebuild", ("execute_sysprep differs",), id="sysprep unset"),
        pytest.param(
            SYSPREP, replace(A, execute_sysprep=False), "rebuild", ("execute_sysprep differs",), id="sysprep turned off"
        ),
        pytest.param(A, TRIGGERED, "rebuild", ("triggers.gpu_driver differs",), id="trigger added"),
        pytest.param(TRIGGERED, A, "rebuild", ("triggers.gpu_driver differs",), id="trigger removed"),
        pytest.param(
            TRIGGERED,
            replace(A, triggers={"gpu_driver": "552.12"}),
            "rebuild",
            ("triggers.gpu_driver differs",),
            id="trigger changed",
        ),
        pytest.param(A, DESCRIBED, "update", ("only the description differs",), id="description added"),
        pytest.param(DESCRIBED, A, "update", ("only the description differs",), id="description removed"),
        pytest.param(
            A, replace(B, description="for the office"), "rebuild", ("name differs",), id="name and description"
        ),
    ],
)
def test_what_is_held_against_what_is_declared(
    held: ImageSpec | None, wanted: ImageSpec, action: str | None, reasons: tuple[str, ...]
) -> None:
    plan = plan_of([declared(spec=wanted)], [record(held=held)] if held else [], observation(server()))
    if action is None:
        assert (plan.changes, plan.unchanged) == ((), 1)
        return
    change = only(plan)
    assert (change.action.value, change.reasons) == (action, reasons)
    assert (change.before, change.after) == (held, wanted)
    assert change.image_id == ("i1" if held else "")
    assert change.starts
    assert plan.unchanged == 0


@pytest.mark.parametrize(
    ("attempt", "held", "reason"),
    [
        (FAILED, A, "the last build failed: IMG.0042 the disk is full"),
        (REFUSED, A, "the last build was not started: NotIssued no trace of the request was found"),
        (build(BuildStatus.FAILED, B), None, "the last build failed"),
    ],
)
def test_a_failure_in_between_is_said_and_changes_nothing(attempt: Any, held: ImageSpec | None, reason: str) -> None:
    office = record(held=held, attempt=attempt)
    change = only(plan_of([declared(spec=B)], [office]))
    assert change.action is (Action.REBUILD if held else Action.BUILD)
    assert change.reasons[-1] == reason
    # Back to what is held: nothing to do, whatever a failed attempt in between says.
    assert plan_of([declared(spec=A)], [record(held=A, attempt=attempt)]).changes == ()


def test_a_record_that_holds_nothing_is_built() -> None:
    change = only(plan_of([declared()], [record()]))
    assert (change.action, change.reasons) == (Action.BUILD, ("nothing is held",))


@pytest.mark.parametrize(
    ("status", "job", "reason"),
    [
        (BuildStatus.INTENT, None, "the outcome of the request is unknown: it will be reconciled"),
        (BuildStatus.UNKNOWN, None, "the outcome of the request is unknown: it will be reconciled"),
        (BuildStatus.RUNNING, None, "job j1 is in flight"),
        (BuildStatus.RUNNING, "", "job j1 is in flight"),
        (BuildStatus.RUNNING, "RUNNING", "job j1 is RUNNING"),
        (BuildStatus.RUNNING, "SUCCESS", "job j1 is SUCCESS: its end will be recorded"),
        (BuildStatus.RUNNING, "FAILED", "job j1 is FAILED: its end will be recorded"),
    ],
)
def test_what_is_in_flight_is_resumed(status: BuildStatus, job: str | None, reason: str) -> None:
    jobs = [ObservedJob("j1", job)] if job is not None else []
    plan = plan_of([declared()], [record(attempt=build(status))], observation(server(status="BUILDING"), jobs=jobs))
    change = only(plan)
    assert (change.action, change.reasons) == (Action.RESUME, (reason,))
    assert (change.before, change.after) == (A, A)
    assert change.starts


@pytest.mark.parametrize(
    ("wanted", "follows"),
    [
        ([declared(spec=B)], "the declaration has changed since (image.name): rebuild follows"),
        ([declared(spec=DESCRIBED)], "the declaration has changed since (image.description): update follows"),
        ([declared("writing")], "renamed to writing: move follows"),
        ([declared("other", server_id="s2")], "no longer declared: forget follows"),
    ],
)
def test_in_flight_yields_only_resume_and_says_what_follows(wanted: list[Any], follows: str) -> None:
    plan = plan_of(wanted, [record(attempt=build(BuildStatus.RUNNING))])
    assert actions(plan)["s1"] == "resume"
    change = next(one for one in plan.changes if one.server_id == "s1")
    assert change.name == "office"
    assert change.reasons[-1] == follows
    # What is in flight is sent again only where it is still asked for.
    assert change.after == (A if "renamed" in follows else None)


def test_a_recorded_server_under_a_new_name_moves_and_builds_nothing() -> None:
    change = only(plan_of([declared("writing", B)], [record(held=A)]))
    assert (change.action, change.name, change.old_name) == (Action.MOVE, "writing", "office")
    assert (change.before, change.after, change.diff) == (A, B, ())
    assert change.reasons == ("rebuild follows at the next apply (image.name)",)


def test_a_move_of_a_record_that_holds_nothing() -> None:
    change = only(plan_of([declared("writing")], [record()]))
    assert (change.action, change.reasons) == (Action.MOVE, ("build follows at the next apply",))


def test_names_are_swapped_in_one_plan() -> None:
    plan = plan_of(
        [declared("two", server_id="s1"), declared("one", B, server_id="s2")],
        [record("one", A, server_id="s1"), record("two", B, server_id="s2")],
    )
    assert [(one.action.value, one.name, one.old_name, one.starts) for one in plan.changes] == [
        ("move", "two", "one", True),
        ("move", "one", "two", True),
    ]


@pytest.mark.parametrize("name", ["office", "writing"])
def test_a_forgotten_server_that_is_declared_again_gets_its_image_back(name: str) -> None:
    change = only(plan_of([declared(name)], [record(held=A, retired=True)], observation(server(image_id="i1"))))
    assert (change.action, change.name, change.image_id) == (Action.MOVE, name, "i1")
    assert change.old_name == ("" if name == "office" else "office")
    assert change.reasons == ("declared again: its record returns (forgotten on 2026-11-03)",)


def test_a_forgotten_server_that_held_nothing_is_built_with_its_past_in_mind() -> None:
    gone = record(attempt=build(BuildStatus.FAILED), history=[build(BuildStatus.FAILED)] * 2, retired=True)
    change = only(plan_of([declared()], [gone]))
    assert change.action is Action.BUILD
    assert change.unavailable == "3 builds of this declaration have failed: change it, or --replace office"


def test_what_is_no_longer_declared_is_forgotten() -> None:
    plan = plan_of([declared("cad", server_id="s2")], [record(held=A), record("cad", A, server_id="s2")])
    change = only(plan)
    assert (change.action, change.before, change.after, change.image_id) == (Action.FORGET, A, None, "i1")
    assert change.reasons == ("no longer declared",)
    assert plan.unchanged == 1


def test_a_name_that_goes_to_another_server_is_forgotten_and_built() -> None:
    plan = plan_of([declared("office", server_id="s2")], [record("office", A, server_id="s1")])
    assert [(one.action.value, one.server_id, one.starts) for one in plan.changes] == [
        ("forget", "s1", True),
        ("build", "s2", True),
    ]
    assert plan.changes[0].reasons == ("no longer declared: office is now server s2",)


@pytest.mark.parametrize(
    ("held", "action", "reasons"),
    [
        (A, "rebuild", ("--replace",)),
        (B, "rebuild", ("name differs", "--replace")),
        (DESCRIBED, "rebuild", ("--replace",)),
        (None, "build", ("first build",)),
    ],
)
def test_replace(held: ImageSpec | None, action: str, reasons: tuple[str, ...]) -> None:
    change = only(plan_of([declared()], [record(held=held)] if held else [], replaced=["office"]))
    assert (change.action.value, change.reasons) == (action, reasons)


def test_the_order_of_actions_is_the_order_in_which_they_happen() -> None:
    plan = plan_of(
        [
            declared("update", DESCRIBED, server_id="s1"),
            declared("build", server_id="s2"),
            declared("rebuild", B, server_id="s3"),
            declared("moved", server_id="s5"),
            declared("resume", server_id="s6"),
        ],
        [
            record("update", A, server_id="s1"),
            record("rebuild", A, server_id="s3"),
            record("forget", A, server_id="s4"),
            record("was", A, server_id="s5"),
            record("resume", A, server_id="s6", attempt=build(BuildStatus.RUNNING, B)),
        ],
    )
    assert [one.action.value for one in plan.changes] == ["resume", "move", "forget", "rebuild", "build", "update"]


def test_a_diff_lists_fields_in_the_manifests_order() -> None:
    before = ImageSpec("office-1", "one", triggers={"b": "1", "c": "1"})
    after = ImageSpec("office-2", "two", True, triggers={"c": "2", "a": "1"})
    assert only(plan_of([declared(spec=after)], [record(held=before)])).diff == (
        FieldDiff("image.name", "office-1", "office-2"),
        FieldDiff("image.description", "one", "two"),
        FieldDiff("image.execute_sysprep", None, True),
        FieldDiff("triggers.a", None, "1"),
        FieldDiff("triggers.b", "1", None),
        FieldDiff("triggers.c", "1", "2"),
    )


def test_a_first_build_shows_all_that_is_declared() -> None:
    spec = ImageSpec("office-1", "", False, {"b": "2", "a": "1"})
    assert [(one.path, one.before, one.after) for one in only(plan_of([declared(spec=spec)])).diff] == [
        ("image.name", None, "office-1"),
        ("image.execute_sysprep", None, False),
        ("triggers.a", None, "1"),
        ("triggers.b", None, "2"),
    ]

"""What the cloud shows of what is held: gone, renamed, described otherwise; and plans that only refresh."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.diagnostics import Severity
from reconciler.model.observed import ObservedImage, ObservedJob
from reconciler.model.plan import Action, FieldDiff
from reconciler.model.record import BuildStatus
from reconciler.model.spec import ImageSpec, Limits
from tests.planning.figures import (
    NOON,
    A,
    B,
    actions,
    build,
    declared,
    image,
    observation,
    only,
    plan_of,
    record,
    server,
)

DESCRIBED = replace(A, description="for the office")


def test_an_image_that_is_gone_is_built_anew() -> None:
    change = only(plan_of([declared()], [record(held=A)], observation(server(), gone=["i1"])))
    assert (change.action, change.reasons) == (Action.REBUILD, ("the held image is gone from IMS",))
    assert change.image_id == "i1"
    both = only(plan_of([declared(spec=B)], [record(held=A)], observation(server(), gone=["i1"])))
    assert both.reasons == ("name differs", "the held image is gone from IMS")


def test_what_nobody_could_look_at_causes_nothing_and_is_said() -> None:
    plan = plan_of([declared()], [record(held=A)], observation(server(), problems=("images could not be looked at",)))
    assert plan.changes == ()
    assert [(one.severity, one.summary) for one in plan.diagnostics] == [
        (Severity.NOTE, "images could not be looked at")
    ]


@pytest.mark.parametrize(
    ("held", "wanted", "shown", "reasons", "paths"),
    [
        pytest.param(A, A, image(), None, [], id="as held"),
        pytest.param(A, A, image(name="other"), ("renamed in IMS",), ["image.name"], id="renamed"),
        pytest.param(
            A, A, image(description="x"), ("described otherwise in IMS",), ["image.description"], id="described"
        ),
        pytest.param(DESCRIBED, DESCRIBED, image(description=""), ("described otherwise in IMS",), None, id="emptied"),
        pytest.param(
            A,
            DESCRIBED,
            image(name="other"),
            ("renamed in IMS", "the description differs"),
            ["image.name", "image.description"],
            id="renamed and to be described",
        ),
        pytest.param(A, DESCRIBED, image(), ("only the description differs",), ["image.description"], id="declared"),
        pytest.param(
            A,
            DESCRIBED,
            image(description="for the office"),
            ("IMS has this description already: it is recorded",),
            ["image.description"],
            id="done already",
        ),
    ],
)
def test_an_edited_image_is_edited_back(
    held: ImageSpec,
    wanted: ImageSpec,
    shown: ObservedImage,
    reasons: tuple[str, ...] | None,
    paths: list[str] | None,
) -> None:
    plan = plan_of([declared(spec=wanted)], [record(held=held)], observation(server(), images=[shown]))
    if reasons is None:
        assert plan.changes == ()
        return
    change = only(plan)
    assert (change.action, change.reasons, change.after) == (Action.UPDATE, reasons, wanted)
    assert paths is None or [one.path for one in change.diff] == paths
    assert change.starts


def test_the_difference_of_an_edit_is_the_one_to_what_ims_shows() -> None:
    plan = plan_of([declared()], [record(held=A)], observation(server(), images=[image(name="somebody's")]))
    assert only(plan).diff == (FieldDiff("image.name", "somebody's", "office-1"),)


def test_a_rebuild_makes_an_edit_of_the_old_image_needless() -> None:
    plan = plan_of([declared(spec=B)], [record(held=A)], observation(server(), images=[image(name="other")]))
    assert only(plan).action is Action.REBUILD


def test_an_image_that_is_not_active_cannot_be_edited_now() -> None:
    shown = image(name="other", status="saving")
    change = only(plan_of([declared()], [record(held=A)], observation(server(), images=[shown])))
    assert change.unavailable == "image i1 is saving: IMS edits active images only"


def test_an_edit_of_a_protected_server_is_gated() -> None:
    observed = observation(server(), images=[image(name="other")])
    assert only(plan_of([declared(protect=True)], [record(held=A)], observed)).gated


def test_a_server_that_is_gone_is_a_caution_and_its_image_stays() -> None:
    plan = plan_of([declared()], [record(held=A)], observation(images=[image()]))
    assert plan.changes == ()
    (caution,) = plan.diagnostics
    assert caution.severity is Severity.CAUTION
    assert "no image server has the id s1" in caution.summary
    assert "i1 stays" in caution.hint
    assert plan_of([declared()], [record(held=A)], None).diagnostics == ()


def test_somebody_elses_image_is_a_note_with_the_command_that_hands_it_over() -> None:
    shown = image("i7", "made by hand", created_at=NOON)
    plan = plan_of([declared()], [record(held=A)], observation(server(image_id="i7"), images=[image(), shown]))
    assert plan.changes == ()
    (note,) = plan.diagnostics
    assert note.severity is Severity.NOTE
    assert note.summary == "office shows an image that imgctl did not build"
    assert "image i7 ('made by hand', made 2026-11-03 12:00 UTC)" in note.hint
    assert "imgctl import office --image-id i7" in note.hint


def test_an_earlier_image_of_its_own_is_no_news() -> None:
    mine = record(held=B, image_id="i2", attempt=build(spec=B, image_id="i2"), history=[build(image_id="i1")])
    assert plan_of([declared(spec=B)], [mine], observation(server(image_id="i1"))).diagnostics == ()


def test_a_name_that_somebody_elses_image_has_is_a_caution_before_the_build() -> None:
    observed = observation(server(), images=[image("i7", "office-2"), image("i1", "office-1")])
    plan = plan_of([declared(spec=B)], [record(held=A)], observed)
    assert only(plan).starts
    (caution,) = plan.diagnostics
    assert caution.severity is Severity.CAUTION
    assert "'office-2' exists already" in caution.summary
    assert "IMG.0009" in caution.hint
    # An image of one's own with that name is the one that a changed trigger replaces.
    own = record(held=A, image_id="i1", attempt=build(spec=B, image_id="i7"))
    assert plan_of([declared(spec=B)], [own], observed).diagnostics == ()


RUNNING = build(BuildStatus.RUNNING, B)


@pytest.mark.parametrize(
    ("status", "action"), [("SUCCESS", Action.RESUME), ("FAILED", Action.RESUME), ("RUNNING", None), ("", None)]
)
def test_a_refresh_records_the_builds_that_have_ended(status: str, action: Action | None) -> None:
    observed = observation(server(), jobs=[ObservedJob("j1", status)])
    plan = plan_of([declared(spec=B)], [record(held=A, attempt=RUNNING)], observed, refresh_only=True)
    assert [change.action for change in plan.changes] == ([action] if action else [])
    assert plan.refresh_only


def test_a_refresh_takes_in_what_became_of_images_and_nothing_else() -> None:
    servers = [
        declared("gone", A, server_id="s1"),
        declared("edited", A, server_id="s2"),
        declared("same", A, server_id="s3"),
        declared("changed", B, server_id="s4"),
        declared("new", B, server_id="s5"),
    ]
    records = [
        record("gone", A, server_id="s1", image_id="i1"),
        record("edited", A, server_id="s2", image_id="i2"),
        record("same", A, server_id="s3", image_id="i3"),
        record("changed", A, server_id="s4", image_id="i4"),
        record("left", A, server_id="s6", image_id="i6"),
    ]
    shown = [image("i2", "other", description="d"), *(image(f"i{number}") for number in (3, 4, 6))]
    observed = observation(*(server(f"s{number}") for number in range(1, 7)), images=shown, gone=["i1"])
    plan = plan_of(servers, records, observed, refresh_only=True, limits=Limits(max_changes=0))
    assert actions(plan) == {"s1": "refresh", "s2": "refresh"}
    gone, edited = plan.changes
    assert (gone.after, gone.image_id) == (None, "i1")
    assert edited.after == replace(A, name="other", description="d")
    assert gone.reasons == ("the held image is gone from IMS: nothing is held any more", "build follows")
    assert edited.reasons == ("renamed in IMS", "described otherwise in IMS", "rebuild follows")
    assert [one.path for one in edited.diff] == ["image.name", "image.description"]
    assert not plan.gated

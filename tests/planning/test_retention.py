"""Which images go once a further one is built, and which never do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconciler.model.observed import ObservedImage, ObservedJob
from reconciler.model.plan import Action, Plan
from reconciler.model.record import Build, BuildStatus, Record
from reconciler.model.spec import ImageSpec, Limits
from tests.planning.figures import NOON, build, declared, image, observation, plan_of, record, server


def built(number: int, **fields: Any) -> Build:
    made = build(spec=ImageSpec(f"office-{number}"), image_id=f"i{number}", attempt_id=f"a{number}")
    return replace(made, finished_at=NOON + timedelta(days=number), **fields)


def office(*builds: Build, **fields: Any) -> Record:
    *history, attempt = builds
    held = [one for one in builds if one.status is BuildStatus.SUCCEEDED][-1]
    return record(held=held.spec, image_id=held.image_id, attempt=attempt, history=history, **fields)


def shown(*numbers: int, **fields: Any) -> list[ObservedImage]:
    return [image(f"i{number}", f"office-{number}", **fields) for number in numbers]


def rebuilding(
    keep: int | None, mine: Record, images: Iterable[ObservedImage], *others: Record, **options: Any
) -> Plan:
    servers = [declared(spec=ImageSpec("office-9"), keep_images=keep, protect=options.pop("protect", False))]
    elsewhere = options.pop("elsewhere", "")
    observed = observation(server(image_id="i3"), server("s2", image_id=elsewhere), images=images)
    return plan_of(servers, [mine, *others], observed, **options)


def pruned(plan: Plan) -> list[str]:
    return [change.image_id for change in plan.changes if change.action is Action.PRUNE]


THREE = office(built(1), built(2), built(3))


@pytest.mark.parametrize(
    ("keep", "gone"), [(None, []), (4, []), (3, ["i1"]), (2, ["i1", "i2"]), (1, ["i1", "i2", "i3"])]
)
def test_the_oldest_go_and_as_many_as_declared_stay_the_new_one_among_them(keep: int | None, gone: list[str]) -> None:
    plan = rebuilding(keep, THREE, shown(1, 2, 3))
    assert pruned(plan) == gone
    assert plan.summary["prune"] == len(gone)
    assert plan.unchanged == 0
    for change in plan.changes[1:]:
        assert change.before == ImageSpec(f"office-{change.image_id[1:]}")
        assert change.reasons == (
            f"image {change.image_id} of 2026-11-0{3 + int(change.image_id[1:])}",
            f"keep_images: {keep}",
        )


def test_without_a_build_nothing_goes() -> None:
    held = [declared(spec=ImageSpec("office-3"), keep_images=1)]
    assert plan_of(held, [THREE], observation(server(), images=shown(1, 2, 3))).changes == ()
    described = [declared(spec=ImageSpec("office-3", "x"), keep_images=1)]
    plan = plan_of(described, [THREE], observation(server(), images=shown(1, 2, 3)))
    assert [change.action for change in plan.changes] == [Action.UPDATE]


def test_images_that_are_gone_or_unknown_are_neither_counted_nor_pruned() -> None:
    assert pruned(rebuilding(2, THREE, shown(3))) == []
    assert pruned(rebuilding(2, THREE, shown(2, 3))) == ["i2"]
    assert pruned(rebuilding(1, THREE, [])) == []
    marked = office(built(1, deleted_at=NOON), built(2), built(3))
    assert pruned(rebuilding(2, marked, shown(1, 2, 3))) == ["i2"]


def test_an_image_that_somebody_has_renamed_is_shown_under_its_new_name() -> None:
    plan = rebuilding(3, THREE, [image("i1", "golden, keep"), *shown(2, 3)])
    assert plan.changes[-1].reasons == ("image i1 of 2026-11-04", "named 'golden, keep' in IMS now", "keep_images: 3")


def test_what_imgctl_did_not_build_stays() -> None:
    assert pruned(rebuilding(1, office(built(1, adopted=True), built(2), built(3)), shown(1, 2, 3))) == ["i2", "i3"]
    failed = replace(build(BuildStatus.FAILED), image_id="i1")
    assert pruned(rebuilding(1, office(failed, built(2), built(3)), shown(1, 2, 3))) == ["i2", "i3"]


def test_an_image_that_a_person_has_named_for_an_unknown_outcome_stays() -> None:
    # state: no job was ever known; `import --image-id` has settled it.
    settled = office(built(1, job_id=""), built(2), built(3))
    assert pruned(rebuilding(1, settled, shown(1, 2, 3))) == ["i2", "i3"]


def test_what_any_other_record_has_ever_had_stays() -> None:
    handed_over = built(2, adopted=True)
    other = record("other", ImageSpec("x"), server_id="s2", image_id="i8", attempt=built(8), history=[handed_over])
    assert pruned(rebuilding(1, THREE, shown(1, 2, 3), other)) == ["i1", "i3"]


def test_what_is_protected_stays_and_no_younger_one_goes_in_its_place() -> None:
    images = [*shown(1, protected=True), *shown(2, 3)]
    assert pruned(rebuilding(2, THREE, images)) == ["i2"]
    assert pruned(rebuilding(3, THREE, images)) == []


def test_what_another_server_shows_or_holds_stays() -> None:
    assert pruned(rebuilding(1, THREE, shown(1, 2, 3), elsewhere="i2")) == ["i1", "i3"]
    other = record("other", ImageSpec("x"), server_id="s2", image_id="i1")
    assert pruned(rebuilding(1, THREE, shown(1, 2, 3), other, targets=["office"])) == ["i2", "i3"]
    forgotten = record("old", None, server_id="s3", attempt=built(2), retired=True)
    assert pruned(rebuilding(1, THREE, shown(1, 2, 3), forgotten)) == ["i1", "i3"]


def test_a_server_that_is_busy_prunes_nothing_now_but_says_what_will_go() -> None:
    servers = [declared(spec=ImageSpec("office-9"), keep_images=2)]
    plan = plan_of(servers, [THREE], observation(server(status="ERROR"), images=shown(1, 2, 3)))
    assert [change.unavailable != "" for change in plan.changes] == [True, True, True]
    assert pruned(plan) == ["i1", "i2"]
    ready = plan_of(servers, [THREE], observation(server(), images=shown(1, 2, 3)))
    # Who approved the one has seen what the other does.
    assert ready.plan_id == plan.plan_id


def test_a_build_that_is_resumed_is_followed_by_its_prunes() -> None:
    running = build(BuildStatus.RUNNING, ImageSpec("office-9"), attempt_id="a9")
    mine = record(held=ImageSpec("office-3"), image_id="i3", attempt=running, history=[built(1), built(2), built(3)])
    plan = rebuilding(3, mine, shown(1, 2, 3))
    assert [change.action for change in plan.changes] == [Action.RESUME, Action.PRUNE]
    failed = observation(server(), jobs=[ObservedJob("j1", "FAILED")], images=shown(1, 2, 3))
    servers = [declared(spec=ImageSpec("office-9"), keep_images=3)]
    assert [change.action for change in plan_of(servers, [mine], failed).changes] == [Action.RESUME]


def test_without_a_look_at_the_cloud_the_recorded_images_count() -> None:
    plan = plan_of([declared(spec=ImageSpec("office-9"), keep_images=3)], [THREE], None)
    assert pruned(plan) == ["i1"]


def test_prunes_are_gated_by_their_own_limit_and_by_protection() -> None:
    plan = rebuilding(2, THREE, shown(1, 2, 3), limits=Limits(max_changes=1, max_prunes=1))
    assert [change.gated for change in plan.changes] == ["", *["2 prunes, and max_prunes is 1"] * 2]
    assert not rebuilding(2, THREE, shown(1, 2, 3), limits=Limits(max_prunes=2)).gated
    assert len(rebuilding(2, THREE, shown(1, 2, 3), limits=Limits(max_prunes=0), allowed=["office"]).gated) == 0
    protected = rebuilding(2, THREE, shown(1, 2, 3), protect=True)
    assert [change.gated for change in protected.changes] == ["protected (protect: true)"] * 3

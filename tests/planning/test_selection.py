"""Selectors: what is not selected is not changed, not forgotten and not counted."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import UsageError
from reconciler.model.record import BuildStatus
from reconciler.model.spec import ImageSpec
from reconciler.planning.selection import LabelTerm, Selection
from tests.planning.figures import A, B, actions, build, declared, plan_of, record

WANTED = [
    declared("office", B, server_id="s1", labels={"ring": "canary", "team": "finance"}),
    declared("cad-1", server_id="s2", labels={"ring": "broad", "team": "cad"}),
    declared("cad-2", server_id="s3", labels={"ring": "canary", "team": "cad"}),
    declared("new-name", A, server_id="s4", labels={"ring": "canary"}),
]
RECORDED = [
    record("office", A, server_id="s1"),
    record("cad-1", A, server_id="s2"),
    record("old-name", A, server_id="s4"),
    record("gone", A, server_id="s5"),
    record("gone-building", A, server_id="s6", attempt=build(BuildStatus.RUNNING, ImageSpec("gone-2"))),
]
EVERYTHING = {"s1": "rebuild", "s3": "build", "s4": "move", "s5": "forget", "s6": "resume"}


@pytest.mark.parametrize(
    ("selectors", "servers", "unchanged"),
    [
        ({}, "s1 s3 s4 s5 s6", 1),
        ({"targets": ["office"]}, "s1", 0),
        ({"targets": ["cad-*"]}, "s3", 1),
        ({"targets": ["cad-[2-9]", "gone"]}, "s3 s5", 0),
        ({"targets": ["gone*"]}, "s5 s6", 0),
        ({"excludes": ["gone*"]}, "s1 s3 s4", 1),
        ({"targets": ["cad-*"], "excludes": ["*-2"]}, "", 1),
        ({"labels": ["ring=canary"]}, "s1 s3 s4", 0),
        ({"labels": ["ring==canary"]}, "s1 s3 s4", 0),
        ({"labels": ["ring=canary,team!=finance"]}, "s3 s4", 0),
        ({"labels": ["ring=canary", "team=cad"]}, "s3", 0),
        # A server without the label does not have the value either, one that is no longer declared included.
        ({"labels": ["ring!=canary"]}, "s5 s6", 1),
        ({"labels": ["ring=canary"], "excludes": ["office"]}, "s3 s4", 0),
        # A server that is being renamed has two names, and each of them selects it, or leaves it out.
        ({"targets": ["old-name"]}, "s4", 0),
        ({"targets": ["new-name"]}, "s4", 0),
        ({"excludes": ["old-name"]}, "s1 s3 s5 s6", 1),
        ({"excludes": ["new-name"]}, "s1 s3 s5 s6", 1),
        ({"targets": ["old-name"], "labels": ["ring=canary"]}, "s4", 0),
    ],
)
def test_what_is_selected(selectors: Any, servers: str, unchanged: int) -> None:
    plan = plan_of(WANTED, RECORDED, **selectors)
    assert actions(plan) == {server_id: EVERYTHING[server_id] for server_id in servers.split()}
    assert plan.unchanged == unchanged
    assert sum(plan.summary[action] for action in set(EVERYTHING.values())) == len(servers.split())


@pytest.mark.parametrize("targets", [["one"], ["two"]])
def test_one_name_of_a_swap_selects_both_servers(targets: list[str]) -> None:
    swapped = [declared("two", server_id="s1"), declared("one", B, server_id="s2")]
    plan = plan_of(swapped, [record("one", A), record("two", B, server_id="s2")], targets=targets)
    assert actions(plan) == {"s1": "move", "s2": "move"}
    assert all(change.starts for change in plan.changes)


@pytest.mark.parametrize(
    ("selectors", "summary", "hint"),
    [
        ({"targets": ["ofice"]}, "--target ofice matches no declared or recorded", "Did you mean office?"),
        ({"targets": ["office", "x*"]}, "--target x* matches no", "The image servers are: cad-1, cad-2, gone, gone-"),
        ({"targets": ["Office"]}, "--target Office matches no", "Did you mean office?"),
        ({"targets": [""]}, "--target  matches no", ""),
        ({"excludes": ["prod"]}, "--exclude prod matches no", ""),
        ({"labels": ["ring=prod"]}, "-l ring=prod matches no image server", "The labels are: ring=broad, ring=canary"),
        ({"labels": ["rnig=canary"]}, "-l rnig=canary matches no image server", "The labels are"),
        # Each matches something, and together they match nothing: that is no "No changes".
        ({"targets": ["office"], "excludes": ["o*"]}, "the selectors together leave no image server", ""),
        ({"targets": ["office"], "labels": ["team=cad"]}, "the selectors together leave no image server", ""),
        ({"labels": ["team=finance,ring=broad"]}, "the selectors together leave no image server", ""),
        ({"excludes": ["*"]}, "the selectors together leave no image server", ""),
        ({"allowed": ["ofice"]}, "--allow ofice matches no declared or recorded", "Did you mean office?"),
        ({"replaced": ["ofice"]}, "--replace ofice matches no declared or recorded", "Did you mean office?"),
        ({"replaced": ["cad-*"]}, "--replace cad-* matches no", "Did you mean"),
        ({"replaced": ["gone"]}, "--replace gone: no image server is declared under this name", ""),
        ({"replaced": ["old-name"]}, "--replace old-name: no image server is declared under this name", ""),
        ({"replaced": ["new-name"]}, "--replace new-name: this server's record moves first", "Apply without"),
        ({"replaced": ["office"], "targets": ["cad-1"]}, "--replace office: the selectors leave this server out", ""),
    ],
)
def test_what_matches_nothing_is_an_error(selectors: Any, summary: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(WANTED, RECORDED, **selectors)
    assert caught.value.summary.startswith(summary)
    assert caught.value.hint.startswith(hint)


def test_replace_of_what_is_in_flight_is_an_error() -> None:
    with pytest.raises(UsageError, match="--replace office: a build of this server is in flight") as caught:
        plan_of([declared()], [record(attempt=build(BuildStatus.RUNNING))], replaced=["office"])
    assert "imgctl wait" in caught.value.hint


def test_replace_of_what_comes_back_is_an_error() -> None:
    with pytest.raises(UsageError, match="this server's record moves first"):
        plan_of([declared()], [record(held=A, retired=True)], replaced=["office"])


def test_a_name_that_is_recorded_can_be_allowed() -> None:
    assert not plan_of(WANTED, [*RECORDED[:3], record("gone", A, server_id="s5", protect=True)], allowed=["gone"]).gated


@pytest.mark.parametrize("text", ["", "ring", "=canary", "ring=a=b", "ring=canary,", "ring!canary", "!=x", "a b=c"])
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageError, match="is no label selector") as caught:
        Selection.parse((), (), [text])
    assert "ring=canary" in caught.value.hint


def test_labels_as_typed() -> None:
    assert Selection.parse((), (), [" ring = canary , team != x y", "办公/区=北京", "empty="]).labels == (
        LabelTerm("ring", "canary", negated=False),
        LabelTerm("team", "x y", negated=True),
        LabelTerm("办公/区", "北京", negated=False),
        LabelTerm("empty", "", negated=False),
    )


def test_an_empty_label_is_not_an_absent_one() -> None:
    wanted = [declared(labels={"ring": ""}), declared("cad", B, server_id="s2")]
    assert actions(plan_of(wanted, labels=["ring="])) == {"s1": "build"}


def test_without_servers_every_selector_is_an_error() -> None:
    every: list[Any] = [{"targets": ["*"]}, {"excludes": ["*"]}, {"labels": ["ring=x"]}]
    for selectors in every:
        with pytest.raises(UsageError) as caught:
            plan_of([], [], **selectors)
        assert caught.value.hint.startswith("There are no ")

"""The example of a policy, evaluated: on plans as imgctl prints them, and on what is none."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import regopy
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.render.plan_json import plan_document
from tests.ci.scripts import EXAMPLES
from tests.planning.figures import plan_of
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, examples

POLICY = (EXAMPLES / "policy/imgctl.rego").read_text(encoding="utf-8")
PROJECT = "a4da8115c9d8464ead3a38309130523f"
NO_PLAN = "this is no plan of imgctl that this policy knows"


def evaluated(plan: Any, *labels: str, rule: str = "deny", **review: Any) -> list[str]:
    """What the policy says of a plan in a review with these labels."""
    found: list[str] = _answer(plan, f"data.main.{rule}", *labels, **review)
    return sorted(found)


def is_denied(plan: Any) -> bool:
    """The same in a word: regopy cannot read its own answer where a sentence in it has a quote."""
    return bool(_answer(plan, "count(data.main.deny)"))


def _answer(plan: Any, query: str, *labels: str, **review: Any) -> Any:
    interpreter = regopy.Interpreter()
    interpreter.add_module("imgctl.rego", POLICY)
    interpreter.add_data({"review": {"labels": list(labels), "project_id": PROJECT, **review}})
    interpreter.set_input(plan)
    return json.loads(str(interpreter.query(f"x = {query}")))["bindings"]["x"]


def change(
    name: str = "office", action: str = "rebuild", file: str | None = "images/ring-canary.yaml"
) -> dict[str, Any]:
    origin = {"file": file, "line": 4, "column": 3} if file else None
    return {"name": name, "action": action, "origin": origin, "gated": None, "unavailable": None}


def document(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A plan as the schema has it."""
    plan: dict[str, Any] = plan_document(plan_of())
    plan |= {"changes": list(changes), "overrides": [], "diagnostics": [], "refreshed": True, "simulated": False}
    plan["bound_to"] = {"provider": "huaweicloud", "region": "ap-southeast-1", "project_id": PROJECT}
    plan["summary"] = {name: sum(one["action"] == name for one in changes) for name in plan["summary"]}
    return plan | more


def test_a_plan_as_it_is_printed_passes(imgctl: Imgctl, write_manifest: WriteManifest, start_cloud: StartCloud) -> None:
    cloud: Cloud = start_cloud()
    write_manifest()
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    assert len(plan["changes"]) == 3
    assert evaluated(plan, project_id=cloud.world.project_id) == []
    assert "another one" in evaluated(plan, project_id="0" * 32)[0]
    blind = imgctl("plan", "--format", "json", "--no-refresh", "--var", "release=9", env=cloud.env).json
    denied = evaluated(blind, project_id=blind["bound_to"]["project_id"])
    assert [text.partition(" (")[0] for text in denied] == [
        "release is set from outside the manifest",
        "the cloud was not asked",
    ]


def test_a_protected_server_is_pointed_out(
    imgctl: Imgctl, write_manifest: WriteManifest, start_cloud: StartCloud
) -> None:
    cloud = start_cloud()
    office = {"office": {"server_id": SERVER_IDS[0], "protect": True}}
    write_manifest(office)
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    write_manifest(office, vars={"release": "2"})
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    (warned,) = evaluated(plan, rule="warn")
    assert warned.startswith("office is gated: ")


def test_images_go_in_the_patch_window_only() -> None:
    plan = document(change(), change(action="prune"))
    assert evaluated(plan) == ["an image of office would be deleted outside of the patch window (label patch-window)"]
    assert evaluated(plan, "patch-window") == []


@pytest.mark.parametrize("action", ["build", "rebuild", "forget"])
@pytest.mark.parametrize("file", ["images/ring-broad.yaml", None])
def test_a_protected_ring_needs_a_label(action: str, file: str | None) -> None:
    plan = document(change(action=action, file=file))
    (denied,) = evaluated(plan, "patch-window")
    assert denied.startswith("office is in a protected ring")
    assert evaluated(plan, "canaries-good") == []


def test_so_many_builds_and_no_more() -> None:
    assert evaluated(document(*[change(f"server-{n}") for n in range(60)])) == []
    (denied,) = evaluated(document(*[change(f"server-{n}", "build" if n % 2 else "rebuild") for n in range(61)]))
    assert denied == "61 builds at once: no more than 60, cut it into rings"


def test_cautions_need_a_person() -> None:
    caution = {"severity": "caution", "summary": "limits were loosened"}
    plan = document(diagnostics=[caution, {"severity": "note", "summary": "a note"}])
    assert evaluated(plan) == ["limits were loosened (label cautions-seen)"]
    assert evaluated(plan, "cautions-seen") == []


def test_a_simulated_plan_is_denied() -> None:
    assert evaluated(document(simulated=True)) == ["the simulator's plan is of no use: it builds nothing"]


ASKED = ["format_version", "simulated", "refreshed", "bound_to", "changes", "overrides", "diagnostics", "summary"]


@pytest.mark.parametrize("missing", ASKED)
def test_what_lacks_something_is_no_plan(missing: str) -> None:
    plan = document(change())
    del plan[missing]
    assert NO_PLAN in evaluated(plan)


@pytest.mark.parametrize("plan", [None, [], {}, "plan", {"format_version": "2.0"}])
def test_what_is_no_plan_is_denied(plan: Any) -> None:
    assert NO_PLAN in evaluated(plan)


@settings(max_examples=examples(100))
@given(
    st.sampled_from(["prune", "rebuild"]),
    st.sampled_from([*document()["summary"], "bound_to", "refreshed", "name", "action"]),
    st.one_of(st.none(), st.text(max_size=5), st.just([])),
)
def test_no_damage_to_a_plan_that_is_denied_makes_it_pass(action: str, field: str, value: Any) -> None:
    plan = document(change(action=action, file="ring-broad.yaml"))
    assert is_denied(plan)
    damaged = copy.deepcopy(plan)
    for place in (damaged["summary"], damaged, damaged["changes"][0]):
        if field in place:
            place[field] = value
    assert is_denied(damaged)

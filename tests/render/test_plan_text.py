"""The plan for a terminal, against goldens: `UPDATE_GOLDENS=1 pytest tests/render` writes them anew."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.diagnostics import Diagnostic, Origin, Severity
from reconciler.model.observed import ObservedImage, ObservedJob, Quota
from reconciler.model.plan import Action, Change, FieldDiff, Plan
from reconciler.model.record import Binding, Build, BuildError, BuildStatus
from reconciler.model.spec import ImageSpec, Limits, Override
from reconciler.render.plan_text import render_plan
from reconciler.render.terminal import LINE_WIDTH, Style, width
from tests.planning.figures import BINDING, build, declared, manifest, observation, plan_of, record, recorded, server
from tests.support import examples

GOLDENS = Path(__file__).parent / "goldens"
SIMULATOR = replace(BINDING, provider="simulator")


def image(name: str, **fields: Any) -> ImageSpec:
    return ImageSpec(f"{name}-2026.11", f"Built from {name}, release 2026.11", True, **fields)


def old(name: str, **fields: Any) -> ImageSpec:
    return ImageSpec(f"{name}-2026.10", f"Built from {name}, release 2026.10", True, **fields)


def failed(spec: ImageSpec) -> Build:
    return build(BuildStatus.FAILED, spec, error=BuildError("IMG.0042", "the disk is full"))


def uuid(number: int) -> str:
    return f"25b1dd14-0c84-4558-aa57-{number:012d}"


def mixed_plan() -> Plan:
    """Twelve servers: every action, what is unavailable, what is gated, overrides, cautions, notes."""
    servers = [
        declared("office", image("office"), server_id=uuid(1)),
        declared(
            "cad", image("cad", triggers={"gpu_driver": "551.86"}), server_id=uuid(2), protect=True, keep_images=2
        ),
        declared("财务办公", image("财务办公"), server_id=uuid(3)),
        declared("研发-1", replace(old("研发-1"), description="研发用, 2026 年 11 月"), server_id=uuid(4)),
        declared("web", image("web"), server_id=uuid(5)),
        declared("kiosk", image("kiosk"), server_id=uuid(6)),
        declared("writing", image("writing"), server_id=uuid(7)),
        declared("lab", image("lab"), server_id=uuid(8)),
        declared("training", image("training"), server_id=uuid(9)),
        declared("design", image("design"), server_id=uuid(10)),
        declared("support", image("support"), server_id=uuid(11)),
    ]
    records = [
        record(
            "cad",
            old("cad", triggers={"gpu_driver": "537.13"}),
            server_id=uuid(2),
            image_id=uuid(92),
            attempt=build(spec=old("cad"), image_id=uuid(92), attempt_id="a2"),
            history=[build(spec=ImageSpec("cad-2026.09"), image_id=uuid(921))],
            protect=True,
        ),
        record("财务办公", old("财务办公"), server_id=uuid(3), image_id=uuid(93), attempt=failed(image("财务办公"))),
        record("研发-1", old("研发-1"), server_id=uuid(4), image_id=uuid(94)),
        record("web", old("web"), server_id=uuid(5), attempt=build(BuildStatus.RUNNING, image("web"), job_id="697354")),
        record("kiosk", server_id=uuid(6), attempt=build(BuildStatus.UNKNOWN, old("kiosk"))),
        record("letters", old("letters"), server_id=uuid(7), image_id=uuid(97)),
        record(
            "training",
            server_id=uuid(9),
            attempt=failed(image("training")),
            history=[failed(image("training"))] * 2,
        ),
        record("support", image("support"), server_id=uuid(11), image_id=uuid(911), protect=True),
        record("legacy", old("legacy"), server_id=uuid(12), image_id=uuid(912)),
    ]
    held = [
        ObservedImage(one.held.image_id, one.held.spec.name, "active", one.held.spec.description)
        for one in records
        if one.held is not None
    ]
    observed = observation(
        *(server(uuid(i)) for i in (1, 2, 3, 4, 5, 6, 7, 9)),
        server(uuid(8), "ERROR"),
        server(uuid(10), image_id=uuid(77)),
        server(uuid(11), image_id=uuid(78)),
        jobs=[ObservedJob("697354", "RUNNING")],
        images=[ObservedImage(uuid(921), "cad-2026.09"), *held],
        free=38,
    )
    return plan_of(
        manifest(*servers, overrides=(Override("release", "2026.11", "--var"),)),
        recorded(*records, limits=Limits(max_changes=20)),
        observed,
        limits=Limits(max_in_flight=3),
    )


def refresh_plan() -> Plan:
    """One image that is gone, one that was edited in the console."""
    records = [
        record(name, old(name), server_id=uuid(i), image_id=uuid(90 + i)) for i, name in enumerate(["a", "办公"])
    ]
    observed = observation(images=[ObservedImage(uuid(91), "办公-旧", "active")], gone=[uuid(90)])
    return plan_of([], records, observed, refresh_only=True)


def chinese_plan() -> Plan:
    names = ["办公", "财务-办公-北京", "a", "研发部门图形工作站"]
    servers = [declared(name, image(name), server_id=uuid(i)) for i, name in enumerate(names)]
    return plan_of(servers, [record(names[0], old(names[0]), server_id=uuid(0))])


def long_plan() -> Plan:
    """Names and texts as long as they may be."""
    name = "n" * 64
    before = ImageSpec("i" * 128, "d" * 200, triggers={"t" * 64: "v" * 100})
    error = BuildError("IMG.0042", "no space is left on the volume that the image is written to, " * 3)
    return plan_of(
        [
            declared(name, ImageSpec("k" * 128, "e" * 200), server_id="s1"),
            declared("short", ImageSpec("short-1"), server_id="s2"),
        ],
        [record(name, before, attempt=build(BuildStatus.FAILED, before, error=error))],
        limits=Limits(max_changes=0),
    )


def gated_plan() -> Plan:
    records = [record(f"n{i}", image(f"n{i}"), server_id=f"s{i}", protect=i == 3) for i in range(4)]
    return plan_of([], records)


def without_colours(text: str) -> str:
    """Less the codes that our own style puts in, in the pairs in which it does."""
    return re.sub(r"\x1b\[[0-9]+(?:;[0-9]+)*m([^\x1b\n]*)\x1b\[0m", r"\1", text)


PLANS: dict[str, tuple[Callable[[], Plan], dict[str, Any]]] = {
    "mixed": (mixed_plan, {}),
    "mixed-verbose": (mixed_plan, {"verbose": True}),
    "chinese": (chinese_plan, {}),
    "refresh": (refresh_plan, {}),
    "refreshed": (lambda: plan_of([declared()], [], observation(), refresh_only=True), {}),
    "long": (long_plan, {}),
    "empty-manifest": (gated_plan, {}),
    "simulated": (lambda: replace(chinese_plan(), bound_to=SIMULATOR, refreshed=True), {}),
    "no-changes": (lambda: replace(plan_of([declared()], [record(held=declared().image)]), refreshed=True), {}),
    "nothing-at-all": (lambda: replace(plan_of(), refreshed=True), {}),
    "no-refresh": (lambda: plan_of([declared()], [record(held=declared().image)]), {}),
    "coloured": (lambda: replace(mixed_plan(), bound_to=SIMULATOR), {"style": Style(colour=True)}),
}


@pytest.mark.parametrize("name", PLANS)
def test_golden(name: str) -> None:
    make, how = PLANS[name]
    how = {"style": Style(), **how}
    plan = make()
    text = render_plan(plan, **how)
    path = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    plain = render_plan(plan, Style(), verbose=how.get("verbose", False))
    assert without_colours(text) == plain
    assert "\x1b" not in plain
    if name != "long":
        assert max(map(width, plain.splitlines())) <= LINE_WIDTH


def test_every_golden_is_used() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == PLANS.keys()


def test_the_mixed_plan_has_everything() -> None:
    plan = mixed_plan()
    assert {change.action for change in plan.changes} == set(Action) - {Action.REFRESH}
    assert plan.gated
    assert plan.unavailable
    assert {one.severity for one in plan.diagnostics} == {Severity.CAUTION, Severity.NOTE}
    assert len({change.server_id for change in plan.changes}) + plan.unchanged == 12


def test_the_words_that_others_parse() -> None:
    assert "\nPlan: 2 to add, 0 to change, 0 to destroy.\n" in render_plan(plan_of([declared(), DESIGN]), Style())
    described = plan_of([declared()], [record(held=replace(declared().image, description="x"))])
    assert "\nPlan: 0 to add, 1 to change, 0 to destroy.\n" in render_plan(described, Style())
    assert render_plan(plan_of(), Style()).startswith("No changes. Your infrastructure matches the configuration.\n")


DESIGN = declared("design", ImageSpec("design-1"), server_id="s2")


@pytest.mark.parametrize(
    ("gated", "flags"),
    [
        (2, "--allow n0 --allow n1"),
        (3, "--allow n0 --allow n1 --allow n2"),
        (4, "--allow n0 --allow n1 --allow n2 …"),
    ],
)
def test_the_flags_that_would_open_the_gates(gated: int, flags: str) -> None:
    servers = [declared(f"n{i}", ImageSpec(f"image-{i}"), server_id=f"s{i}") for i in range(gated)]
    text = render_plan(plan_of(servers, limits=Limits(max_changes=1)), Style())
    assert text.splitlines()[-2] == f"{gated} gated: nothing starts unless allowed ({flags})."


# Everything that a manifest, a state, a flag or the cloud could bring along.
texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "\x1b[2J",
        "\x9b31m",
        "\r\nNo changes.",
        "\u202eevil\u202c",
        "\u2066x\u2069",
        "a\u200bb",
        "\x07",
        "\ud800",
        "\u2028",
        "\t",
    ]
)
images = st.builds(ImageSpec, texts, texts, st.none() | st.booleans(), st.dictionaries(texts, texts, max_size=1))
origins = st.none() | st.builds(Origin, texts, st.integers(1, 9), st.integers(1, 9))
changes = st.builds(
    Change,
    name=texts,
    server_id=texts,
    action=st.sampled_from(Action),
    reasons=st.lists(texts, max_size=2).map(tuple),
    before=st.none() | images,
    after=st.none() | images,
    diff=st.lists(st.builds(FieldDiff, texts, st.none() | texts, st.none() | texts | st.booleans()), max_size=2).map(
        tuple
    ),
    unavailable=texts,
    gated=texts,
    old_name=texts,
    job_id=texts,
    image_id=texts,
    origin=origins,
)
diagnostics = st.builds(
    Diagnostic, st.sampled_from(Severity), texts, texts, origins, st.none() | texts, st.none() | texts
)
plans = st.builds(
    Plan,
    plan_id=st.just("0" * 64),
    lineage=texts,
    serial=st.integers(0, 99),
    bound_to=st.builds(Binding, st.sampled_from(["huaweicloud", "simulator"]), texts, texts),
    changes=st.lists(changes, max_size=3).map(tuple),
    unchanged=st.integers(0, 3),
    refreshed=st.booleans(),
    expected_seconds=st.floats(0, 1e6),
    quota=st.none() | st.builds(Quota, st.integers(0, 9), st.integers(0, 9)),
    queued=st.integers(0, 2),
    refresh_only=st.booleans(),
    overrides=st.lists(st.builds(Override, texts, texts, texts), max_size=1).map(tuple),
    diagnostics=st.lists(diagnostics, max_size=1).map(tuple),
)


@settings(max_examples=examples(60), deadline=None)
@given(plans, st.booleans(), st.booleans())
def test_nothing_hostile_reaches_a_terminal(plan: Plan, verbose: bool, colour: bool) -> None:
    text = render_plan(plan, Style(colour), verbose=verbose)
    if colour:
        text = without_colours(text)
    assert text.endswith("\n")
    assert all(char.isprintable() or char in "\n\u3000" for char in text)

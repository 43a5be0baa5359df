"""docs/simulator.md is about the simulator that there is."""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.simulator import FAULT_KINDS, Faults, World
from reconciler.simulator.control import Hold, operations
from reconciler.simulator.faults import UNKNOWN_STATUS
from reconciler.simulator.garbage import VARIANTS

PAGE = (Path(__file__).parents[2] / "docs/simulator.md").read_text(encoding="utf-8")


def rows(head: str) -> dict[str, str]:
    """The table with this head: its rows by what stands in their first column."""
    lines = PAGE.split(f"| {head} | what ", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return dict(re.fullmatch(r"\| `(.+?)` \| (.*) \|", line).groups() for line in lines)  # type: ignore[union-attr,misc]


def test_every_fault_is_explained() -> None:
    assert rows("kind") == FAULT_KINDS
    assert rows("variant") == VARIANTS
    assert f"says `{UNKNOWN_STATUS}`" in PAGE


def test_its_examples_of_faults_are_some() -> None:
    examples = re.findall(r"--fault '?([a-z-]+=[^'\n]*?)'?(?: +#.*)?\n", PAGE)
    assert len(examples) == 4
    assert list(Faults(examples)) == examples


def test_every_control_is_listed() -> None:
    assert list(rows("request")) == [str(operation) for operation in operations(Hold())]


def test_the_password_is_the_world_s() -> None:
    world = World.create(1, 1.0)
    for text in (world.user_name, world.domain_name, world.password):
        assert f"`{text}`" in PAGE

"""A saved plan that is applied, cut off, and applied again: it goes on, does nothing twice and leaves nothing out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.model.record import BuildStatus
from reconciler.state.store import read
from tests.crash.conftest import Visited
from tests.crash.harness import ONE_AT_A_TIME, QUIET_TIME, Children, Fleet, Pool, Violation, new_fleet

# Beside the folder of the manifest: nothing else than the state belongs there.
_PLAN = "../release.plan"
_SLOWLY = ("apply", _PLAN, "--quiet-time", str(QUIET_TIME), *ONE_AT_A_TIME)
_KILLED = -9


def _prepare(fleet: Fleet) -> str:
    """A fleet whose every server gets a rebuild and a prune; returns the plan's id."""
    fleet.keep_images = 1
    fleet.declare("1")
    fleet.finish()
    fleet.declare("2")
    ended = fleet.run("plan", "--out", _PLAN)
    if ended.status:
        raise Violation(ended.output)
    plan_id: str = json.loads((fleet.work / _PLAN).read_text())["plan_id"]
    return plan_id


def _agree(fleet: Fleet, plan_id: str) -> None:
    recorded = read(fleet.state)
    for record in recorded.servers.values():
        own = [build for build in record.builds if build.plan_id == plan_id and build.status is BuildStatus.SUCCEEDED]
        # What a run that was cut off has left to prune is pruned too: it was approved.
        there = [build for build in record.builds if build.image_id and build.deleted_at is None]
        if len(own) != 1 or there != own:
            raise Violation(f"{record.name} was not built once by the plan, or not pruned: {record}")
    received = fleet.ledger["requests"]
    ended = fleet.run("apply", _PLAN)
    if ended.status or "was applied already" not in ended.output or fleet.ledger["requests"] != received:
        raise Violation(f"a completed plan asked for something\n{ended.output}")
    # It took no lock either: what else a run that was cut off has left behind the next one that does puts away.
    fleet.finish()
    fleet.agree()


def _boundaries(folder: Path, children: Children) -> list[str]:
    with new_fleet(folder, children, servers=2) as fleet:
        plan_id = _prepare(fleet)
        ended = fleet.run(*_SLOWLY)
        if ended.status:
            raise Violation(ended.output)
        _agree(fleet, plan_id)
        return ended.reached


def _visit(folder: Path, children: Children, boundary: str) -> None:
    try:
        with new_fleet(folder, children, servers=2) as fleet:
            plan_id = _prepare(fleet)
            ended = fleet.run(*_SLOWLY, kill=boundary, linger=0.05)
            if ended.status != _KILLED:
                raise Violation(f"it was never reached: the run ended with {ended.status}\n{ended.output}")
            fleet.after_crash(doubtful=1)
            fleet.finish(_PLAN)
            _agree(fleet, plan_id)
    except Violation as violation:
        raise Violation(f"{boundary}: {violation}") from violation


def test_a_plan_that_was_cut_off_is_continued(pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        boundaries = _boundaries(tmp_path / "dry", children)
    pool.visit(boundaries[:: len(boundaries) // 3], _visit, tmp_path)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_every_boundary_of_a_saved_plan(pool: Pool, tmp_path: Path, visited: Visited) -> None:
    with pool.children() as children:
        boundaries = _boundaries(tmp_path / "dry", children)
    pool.visit(boundaries, _visit, tmp_path)
    visited("SIGKILL, saved plan", boundaries, boundaries)

"""apply is killed at every boundary: before and after each system call of its state, and around each request."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.conftest import Visited
from tests.crash.harness import (
    HELD,
    QUIET_TIME,
    SCENES,
    Children,
    Held,
    Pool,
    Violation,
    dangerous,
    new_fleet,
    until,
)

_SHARDS = 4


def _visit_held(folder: Path, children: Children, held: Held) -> None:
    held.visit(folder, children)


def test_a_sample_of_the_boundaries_loses_nothing(pool: Pool, tmp_path: Path) -> None:
    scene = SCENES["new"]
    with pool.children() as children:
        boundaries = scene.boundaries(tmp_path / "dry", children)
    sample = dict.fromkeys([*boundaries[::30], *dangerous(boundaries)[::12]])
    pool.visit(list(sample), scene.visit, tmp_path)


@pytest.mark.parametrize(
    ("name", "boundary"),
    [
        ("lag", "after:write:journal:s2:2"),
        ("late-effect", "before:sync:journal:s2:2"),
        ("rebuild", "after:rename:document:-:3"),
        ("resume", "after:rename:document:-:1"),
        ("disk-full", "before:rename:emergency:-:1"),
        ("emergency", "before:remove:emergency:-:1"),
        # The build's end, and the deletion that follows it.
        ("prune", "after:sync:journal:s2:3"),
        ("prune", "before:write:journal:s5:4"),
        ("update", "before:write:journal:s3:1"),
    ],
)
def test_other_scenes_lose_nothing_where_it_is_worst(name: str, boundary: str, pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        SCENES[name].visit(tmp_path, children, boundary)


def test_a_kill_while_a_request_is_under_way_loses_nothing(pool: Pool, tmp_path: Path) -> None:
    pool.visit([HELD[1], HELD[2], HELD[11], HELD[-3]], _visit_held, tmp_path)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("name", "only"), [("prune", "DELETE /v2/images"), ("update", "PATCH /v2/cloudimages")])
def test_a_kill_while_an_image_is_deleted_or_edited_loses_nothing(
    name: str, only: str, when: str, pool: Pool, tmp_path: Path
) -> None:
    scene = SCENES[name]
    with pool.children() as children, new_fleet(tmp_path, children) as fleet:
        scene.set(fleet)
        fleet.hold(only, when)
        scene.begin(fleet)
        until(lambda: fleet.ask("GET", "hold")["held"] == 1)
        children.kill()
        fleet.end()
        fleet.after_crash(doubtful=0)
        # Nobody hears the answer any more.
        fleet.release_held()
        until(lambda: fleet.ask("GET", "hold")["held"] == 0)
        scene.after(fleet)
        fleet.finish()
        fleet.agree()


def test_a_boundary_that_is_never_reached_is_a_violation(pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children, pytest.raises(Violation, match="never reached"):
        SCENES["new"].visit(tmp_path, children, "before:write:journal:s9:1")


def test_the_boundaries_have_the_same_names_every_time(pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        first, second = (SCENES["resume"].boundaries(tmp_path / each, children) for each in "ab")
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(_SHARDS))
@pytest.mark.parametrize("name", SCENES)
def test_every_boundary(name: str, shard: int, pool: Pool, tmp_path: Path, visited: Visited) -> None:
    scene = SCENES[name]
    with pool.children() as children:
        boundaries = scene.boundaries(tmp_path / "dry", children)
    points = boundaries[shard::_SHARDS]
    pool.visit(points, scene.visit, tmp_path)
    visited(f"SIGKILL, {name}", boundaries, points, parts=_SHARDS)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_every_request_held(pool: Pool, tmp_path: Path, visited: Visited) -> None:
    pool.visit(HELD, _visit_held, tmp_path)
    names = [str(held) for held in HELD]
    visited("SIGKILL, request held", names, names)


def _visit_crowd(folder: Path, children: Children, seed: int) -> None:
    """Twenty-four servers, sixteen requests at a time, cut off twice at boundaries that the seed picks."""
    dice = random.Random(seed)
    faults = [(), ("lag=1:0.3",), ("late-effect=0.5:0.3",), ("throttle=0.1@recreate-image",)][seed % 4]
    with new_fleet(folder, children, servers=24, faults=faults) as fleet:
        fleet.declare("1")
        arguments = ("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), "--max-in-flight", "0")
        for crashes, number in enumerate((dice.randrange(28, 60), dice.randrange(1, 50)), start=1):
            fleet.run(*arguments, kill_number=number)
            # What the first crash left in doubt may be so still when the second one comes.
            fleet.after_crash(doubtful=16 * crashes)
        fleet.finish()
        # Every request that is accepted builds, a second one for the same server too: one too many would show there.
        fleet.idle_requests = True
        fleet.agree()


def _visit_busy(folder: Path, children: Children, seed: int) -> None:
    """Many builds and few requests at a time: as one is answered the next is sent, and then the run is cut off."""
    faults = ("throttle=0.1@recreate-image",) if seed % 2 else ()
    with new_fleet(folder, children, servers=40, faults=faults) as fleet:
        fleet.declare("1")
        number = random.Random(seed).randrange(34, 110)
        fleet.run("apply", "--auto-approve", "--max-in-flight", "0", "--max-requests", "4", kill_number=number)
        fleet.after_crash(doubtful=4)


def test_no_more_is_in_doubt_than_was_being_sent(pool: Pool, tmp_path: Path) -> None:
    pool.visit(range(4), _visit_busy, tmp_path)


def test_sixteen_requests_at_a_time(pool: Pool, tmp_path: Path) -> None:
    pool.visit(range(2), _visit_crowd, tmp_path)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_many_requests_at_a_time_by_many_seeds(pool: Pool, tmp_path: Path, visited: Visited) -> None:
    seeds = range(100, 160)
    pool.visit(seeds, _visit_crowd, tmp_path)
    pool.visit(seeds, _visit_busy, tmp_path / "busy")
    names = [str(seed) for seed in range(2 * len(seeds))]
    visited("SIGKILL, seeds", names, names)

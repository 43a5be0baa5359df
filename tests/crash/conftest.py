"""Children for the runs that are cut off, and the sum of what was visited."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from tests.crash.harness import Pool


class Visited(Protocol):
    def __call__(self, scene: str, seen: Sequence[str], points: Sequence[str], *, parts: int = 1) -> None: ...


_VISITED = "crash points"
_BEGUN = pytest.StashKey[float]()
# Visits wait more than they work: for builds, for the quiet time. So many of all workers together.
_AT_A_TIME = 8


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    pool = Pool(max(1, min(4, _AT_A_TIME // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))))
    yield pool
    pool.close()


@pytest.fixture
def visited(record_property: Callable[[str, object], None]) -> Visited:
    """Reports what a dry run saw of a scene and what this test, one of `parts`, visited of it."""

    def report(scene: str, seen: Sequence[str], points: Sequence[str], *, parts: int = 1) -> None:
        record_property(_VISITED, [scene, list(seen), list(points), parts])

    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_BEGUN] = time.monotonic()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if any(_missing(session.config).values()) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    sums = _sums(config)
    if not sums:
        return
    seconds = time.monotonic() - config.stash[_BEGUN]
    terminalreporter.section("crash points")
    for scene, found in sorted(sums.items()):
        terminalreporter.line(f"{scene:28} {len(found.points):5} visited")
    total = sum(len(found.points) for found in sums.values())
    terminalreporter.line(f"{total} points visited in {seconds:.0f} seconds")
    for scene, names in _missing(config).items():
        for name in sorted(names):
            terminalreporter.line(f"NEVER VISITED: {scene}, {name}", red=True)


@dataclass
class _Sum:
    """What was seen of a scene and what was visited; `missing_parts` tests of it have not reported."""

    seen: set[str] = field(default_factory=set)
    points: set[str] = field(default_factory=set)
    missing_parts: int = 0


def _sums(config: pytest.Config) -> dict[str, _Sum]:
    """What was seen and what was visited, by scene."""
    sums: dict[str, _Sum] = {}
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    for reports in reporter.stats.values() if reporter is not None else ():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                if name == _VISITED:
                    scene, seen, points, parts = value
                    found = sums.setdefault(scene, _Sum(missing_parts=parts))
                    found.seen.update(seen)
                    found.points.update(points)
                    found.missing_parts -= 1
    return sums


def _missing(config: pytest.Config) -> dict[str, set[str]]:
    """What was seen and never visited, by scene, where all of a scene was to be visited."""
    return {
        scene: found.seen - found.points
        for scene, found in _sums(config).items()
        if not found.missing_parts and found.seen - found.points
    }

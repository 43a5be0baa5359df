"""Children for the runs that are cut off, and the sum of what was visited."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.crash.harness import Pool

Visited = Callable[[str, Sequence[str], Sequence[str]], None]
_VISITED = "crash points"
_BEGUN = pytest.StashKey[float]()
# Visits wait more than they work: for builds, for the quiet time.
_AT_A_TIME = 4


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    pool = Pool(_AT_A_TIME)
    yield pool
    pool.close()


@pytest.fixture
def visited(record_property: Callable[[str, object], None]) -> Visited:
    """Reports what a dry run saw of a scene and what this test visited of it, for the sum at the end."""

    def report(scene: str, seen: Sequence[str], points: Sequence[str]) -> None:
        record_property(_VISITED, [scene, list(seen), list(points)])

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
    for scene, (_, points) in sorted(sums.items()):
        terminalreporter.line(f"{scene:28} {len(points):5} visited")
    total = sum(len(points) for _, points in sums.values())
    terminalreporter.line(f"{total} points visited in {seconds:.0f} seconds")
    for scene, names in _missing(config).items():
        for name in sorted(names):
            terminalreporter.line(f"NEVER VISITED: {scene}, {name}", red=True)


def _sums(config: pytest.Config) -> dict[str, tuple[set[str], set[str]]]:
    """What was seen and what was visited, by scene."""
    sums: dict[str, tuple[set[str], set[str]]] = {}
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    for reports in reporter.stats.values() if reporter is not None else ():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _VISITED and getattr(report, "when", "") == "call":
                    seen, points = sums.setdefault(value[0], (set(), set()))
                    seen.update(value[1])
                    points.update(value[2])
    return sums


def _missing(config: pytest.Config) -> dict[str, set[str]]:
    """What was seen and not visited, by scene; a selection of the tests visits what it visits."""
    if config.getoption("keyword"):
        return {}
    return {scene: seen - points for scene, (seen, points) in _sums(config).items() if seen - points}

"""What many tests use: imgctl as a user calls it, and a simulated cloud over TCP."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from reconciler.cli.app import run
from reconciler.execution import polling
from reconciler.simulator import World, serving
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest

# How long an example takes is the machine's business. Of a hundred examples a quick run tries thirty, the same ones
# every time, so that nobody is stopped by what they did not change; --hypothesis-profile full tries a hundred new ones.
# See support.examples.
settings.register_profile("quick", deadline=None, max_examples=30, derandomize=True)
settings.register_profile("full", deadline=None, max_examples=100)
settings.load_profile("quick")

# Every worker, and every imgctl in a process of its own, needs the same modules compiled. Once is enough, even where
# the environment says that Python is to keep nothing compiled: each would spend seconds on it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_FOREIGN = re.compile(r"(HW|IMGCTL|HUAWEICLOUD|GITHUB|GITLAB|CI|OS|TF)(_|$)|PG[A-Z]+$|.*_proxy$", re.IGNORECASE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where everything should be there, nothing may be left out in silence."""
    parser.addoption("--nothing-left-out", action="store_true", help="fail where a server or a library is missing")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which parts were left out for want of a server or a library; other skips are no news."""
    for reason, number in _left_out(terminalreporter).items():
        terminalreporter.line(f"{number} tests did not run: {reason.removeprefix('Skipped: ')}", yellow=True)
    for test in _unmarked(terminalreporter):
        terminalreporter.line(f"LEFT OUT EVERYWHERE, for want of the marker extra or sweep: {test}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail for what was left out, if that was asked for, or if nothing would ever run it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    # A worker of several has none.
    if reporter is None:
        return
    if _unmarked(reporter) or (session.config.getoption("nothing_left_out") and _left_out(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _left_out(reporter: Any) -> Counter[str]:
    return Counter(reason for _, reason in _skipped(reporter))


def _unmarked(reporter: Any) -> list[str]:
    """The tests that were left out and that .ci/run does not select where everything is there."""
    return [report.nodeid for report, _ in _skipped(reporter) if not {"extra", "sweep"} & report.keywords.keys()]


def _skipped(reporter: Any) -> list[tuple[Any, str]]:
    reasons = [(one, str(one.longrepr[2])) for one in reporter.stats.get("skipped", []) if one.longrepr]
    return [(report, reason) for report, reason in reasons if "left out" in reason]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an environment that says nothing about any cloud."""
    for name in list(os.environ):
        if _FOREIGN.match(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Nobody listens there: no test asks the metadata service of the machine that it runs on.
    monkeypatch.setenv("IMGCTL_ENDPOINT_METADATA", "http://127.0.0.1:1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def imgctl(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Imgctl:
    """imgctl in this process, as its console script runs it, but that it looks at a new build sooner."""
    monkeypatch.setattr(polling, "_SHORTEST", 0.06)

    def call(*arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            code = run(arguments)
        said = capfd.readouterr()
        return Ran(code, said.out, said.err)

    return call


@pytest.fixture
def start_cloud() -> Iterator[StartCloud]:
    """Starts simulators that end with the test."""
    with ExitStack() as stack:

        def start(*faults: str, servers: int = 3, build_time: float = 0.1, quota: int | None = None) -> Cloud:
            world = World.create(servers, build_time, quota=quota)
            return Cloud(stack.enter_context(serving(world, faults=faults)), world)

        yield start


@pytest.fixture
def write_manifest(folder: Path) -> WriteManifest:
    """Writes `imgctl.yaml`: so many servers of the world, or entries by name; for the real provider."""

    def write(servers: Mapping[str, str | dict[str, Any]] | None = None, **top: Any) -> Path:
        entries = servers if servers is not None else dict(zip(("office", "cad", "web"), SERVER_IDS, strict=True))
        manifest = {
            "version": 1,
            "vars": {"release": "1"},
            "defaults": {"image": {"name": "${server.name}-${var.release}"}},
            "image_servers": {
                name: {"server_id": entry} if isinstance(entry, str) else entry for name, entry in entries.items()
            },
            **top,
        }
        path = folder / "imgctl.yaml"
        path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
        return path

    return write

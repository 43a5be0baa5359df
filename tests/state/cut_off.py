"""Runs of imgctl whose backend, or whose own life, ends in the middle: what must come of it, in every backend.

Each function takes a `Runner`: an empty place on a server, a simulated cloud with three servers, and runs of imgctl.
All of them end the same way: every server is built exactly once, and every job is recorded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from reconciler.errors import StateLocked
from reconciler.state.store import read
from reconciler.state.writer import Writer
from tests.state.conformance import BOB
from tests.state.places import Place
from tests.support import Cloud

# In seconds: after which an unknown outcome may be settled, and after which a test has failed anyway.
QUIET_TIME = 0.9
_LONGEST = 90.0
_RUN = "import sys; from reconciler.cli.app import run; sys.exit(run(sys.argv[1:]))"
_ONE_AT_A_TIME = ("--max-requests", "1", "--max-in-flight", "1")


@dataclass
class Runner:
    """Starts imgctl as processes of their own, with one state and one cloud."""

    folder: Path
    place: Place
    cloud: Cloud

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run."""
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.place.home),
            "IMGCTL_STATE": self.place.url,
            "IMGCTL_ENDPOINT_METADATA": "http://127.0.0.1:1",
            **self.cloud.env,
            **self.place.env,
        }
        return subprocess.Popen(
            [sys.executable, "-c", f"{self.place.quick}\n{_RUN}", *arguments],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def applying(self) -> Iterator[subprocess.Popen[str]]:
        """An apply that asks for one build after the other, ended with the block if it has not ended."""
        run = self.begin("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), *_ONE_AT_A_TIME)
        try:
            yield run
        finally:
            run.kill()
            run.communicate()

    def run(self, *arguments: str) -> tuple[int, str]:
        """A run to its end: its exit code, and what it said."""
        run = self.begin(*arguments)
        said, _ = run.communicate(timeout=_LONGEST)
        return run.returncode, said


def killed_runner(runner: Runner, when: str) -> None:
    """The run is killed while the cloud keeps back a request, `before` it takes effect or `after`."""
    _hold(runner, "recreate-image", when)
    with runner.applying() as run:
        _until(lambda: _ask(runner, "hold")["held"] > 0, run)
        run.send_signal(signal.SIGKILL)
        run.wait(_LONGEST)
    _release(runner)
    runner.place.break_lock()
    _finish(runner)


def killed_server(runner: Runner, when: str) -> None:
    """The backend's server is killed in the middle of a run, and comes back after it."""
    kill = runner.place.kill_server
    assert kill is not None
    _without_backend(runner, when, kill, runner.place.start_server)


def partition(runner: Runner, when: str) -> None:
    """The way to the backend is cut in the middle of a run, and mended after it.

    `before` the request that the cloud keeps back takes effect, its intent being recorded; or `after`.
    """
    cut = runner.place.cut
    assert cut is not None
    _without_backend(runner, when, cut, runner.place.mend)


def partition_before_the_intent(runner: Runner) -> None:
    """The way is cut once the run holds the lock, and before it has recorded what it is about to do: no request."""
    cut = runner.place.cut
    assert cut is not None
    _hold(runner, "image-servers", "before")
    with runner.applying() as run:
        _until(lambda: _ask(runner, "hold")["held"] > 0, run)
        with pytest.raises(StateLocked):
            Writer(runner.place.client(), BOB)
        cut()
        _release(runner)
        said, _ = run.communicate(timeout=_LONGEST)
    assert run.returncode == 1, said
    assert runner.cloud.ledger["received"] == 0, said
    runner.place.mend()
    runner.place.break_lock()
    _finish(runner)


def _without_backend(runner: Runner, when: str, lose: Callable[[], None], restore: Callable[[], None]) -> None:
    _hold(runner, "recreate-image", when)
    with runner.applying() as run:
        _until(lambda: _ask(runner, "hold")["held"] > 0, run)
        lose()
        _release(runner)
        said, _ = run.communicate(timeout=_LONGEST)
    # The build that was accepted cannot be recorded: it is kept aside, and said; nothing else is asked for.
    assert run.returncode != 0, said
    ledger = runner.cloud.ledger
    assert ledger["received"] == len(ledger["builds"]) == 1, said
    job_id = ledger["builds"][0]["job_id"]
    kept = list(runner.folder.glob("*.emergency")) + list(runner.place.home.rglob("*.emergency"))
    assert [path for path in kept if job_id in path.read_text(encoding="utf-8")], said
    assert job_id in said
    restore()
    runner.place.break_lock()
    _finish(runner)
    assert not [path for path in kept if path.exists()]


def _finish(runner: Runner) -> None:
    """The next run does the rest, and each server was built once."""
    code, said = runner.run("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME))
    assert code == 0, said
    ledger = runner.cloud.ledger
    assert ledger["received"] == len(ledger["builds"]) == 3, said
    assert len({build["server_id"] for build in ledger["builds"]}) == 3
    recorded = read(runner.place.client())
    jobs = {build.job_id for record in recorded.servers.values() for build in record.builds}
    assert jobs == {build["job_id"] for build in ledger["builds"]}
    code, said = runner.run("plan", "--detailed-exitcode")
    assert code == 0, said


def _hold(runner: Runner, only: str, when: str) -> None:
    _ask(runner, "hold", only=only, when=when)


def _release(runner: Runner) -> None:
    _ask(runner, "release", all="true")


def _ask(runner: Runner, what: str, **fields: str) -> Any:
    """A call of the simulator's own interface: a question, or with fields an order."""
    content = json.dumps(fields).encode() if fields else None
    with urlopen(Request(f"{runner.cloud.url}/_simulator/{what}", content), timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def _until(condition: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    """Wait for something that is about to happen; the bound only ends what has failed already."""
    deadline = time.monotonic() + _LONGEST
    while not condition():
        if run.poll() is not None:
            raise AssertionError(f"the run has ended\n{run.communicate()[0]}")
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""A state on a server: the runner is killed around each request for it, the server is killed, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.simulator import World, serving
from reconciler.state.address import Credentials, HttpAddress
from reconciler.state.open import http_store
from reconciler.state.store import Store, read
from tests.crash.conftest import Visited
from tests.crash.harness import ONE_AT_A_TIME, QUIET_TIME, ROOT, Children, Pool, Violation, until
from tests.state.gitlab import PASSWORD, USERNAME, serving_states
from tests.support import Cloud

_KILLED = -9
_LOCKED = 5
_RUNS = 3
_KINDS = ("gitlab", "plain")


@dataclass
class Runner:
    """Runs of imgctl in a folder that goes away with each of them, against one cloud and one state."""

    folder: Path
    cloud: Cloud
    children: Children
    url: str
    expected: set[tuple[str, str]] = field(default_factory=set)
    _runs: int = 0

    def declare(self, release: str) -> None:
        names = {f"s{number}": server for number, server in enumerate(self.cloud.world.servers, start=1)}
        self.expected |= {(server, f"{name}-{release}") for name, server in names.items()}
        manifest = {
            "version": 1,
            "vars": {"release": release},
            "defaults": {"image": {"name": "${server.name}-${var.release}"}},
            "image_servers": {name: {"server_id": server} for name, server in names.items()},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "imgctl.yaml").write_text(json.dumps(manifest), encoding="utf-8")

    @property
    def store(self) -> Store:
        return http_store(HttpAddress.parse(self.url), Credentials(USERNAME, PASSWORD), self.folder)

    def begin(self, *arguments: str) -> None:
        self._runs += 1
        env = {
            "HOME": str(self.folder),
            "PATH": os.environ.get("PATH", ""),
            "IMGCTL_STATE": self.url,
            "IMGCTL_STATE_USERNAME": USERNAME,
            "IMGCTL_STATE_PASSWORD": PASSWORD,
            **self.cloud.env,
        }
        self.children.begin(
            arguments=list(arguments),
            folder=str(self.folder),
            env=env,
            output=str(self._output),
            state_pauses=[0.0, 0.05],
        )

    def end(self) -> tuple[int, str]:
        return self.children.end(), self._output.read_text()

    def run(self, *arguments: str) -> tuple[int, str]:
        self.begin(*arguments)
        return self.end()

    def apply(self) -> tuple[int, str]:
        return self.run("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), *ONE_AT_A_TIME)

    def finish(self) -> None:
        """Apply until everything is done; a lock that was left is taken away first, as a person would."""
        said = ""
        for _ in range(2 * _RUNS):
            status, output = self.apply()
            said += output
            if status == 0:
                return
            if status == _LOCKED:
                found = re.search(r"force-unlock (\S+)", output)
                if found is None:
                    raise Violation(f"it is not said how to unlock\n{output}")
                self.run("state", "force-unlock", found[1], "--auto-approve")
        raise Violation(f"the runs after the crash did not finish\n{said}")

    def agree(self) -> None:
        """State and cloud agree: each build asked for exactly once, every job and image recorded, nothing to do."""
        ledger, recorded = self.cloud.ledger, read(self.store)
        built = sorted((build["server_id"], build["name"]) for build in ledger["builds"])
        if built != sorted(self.expected) or ledger["received"] != len(built):
            raise Violation(f"built {built} by {ledger['received']} requests, expected {sorted(self.expected)}")
        known = {build.job_id for record in recorded.all_records for build in record.builds if build.job_id}
        if known != {build["job_id"] for build in ledger["builds"]}:
            raise Violation(f"the state has the jobs {known}, the cloud {ledger['builds']}")
        plan, output = self.run("plan", "--detailed-exitcode")
        if plan != 0:
            raise Violation(f"the next plan is not empty\n{output}")

    @property
    def _output(self) -> Path:
        return self.folder.with_name(f"output.{self._runs}")


@contextmanager
def new_runner(folder: Path, children: Children, url: str, servers: int = 2) -> Iterator[Runner]:
    world = World.create(servers, 0.05)
    with serving(world, faults=("accept-while-building=1",)) as cloud:
        runner = Runner(folder / "work", Cloud(cloud, world), children, url)
        runner.declare("1")
        yield runner


def _boundaries(folder: Path, children: Children, kind: str, *, rebuild: bool) -> list[str]:
    """Every request for the state that an undisturbed run makes, before and after, in order."""
    with serving_states() as gitlab, new_runner(folder, children, gitlab.address(plain=kind == "plain")) as runner:
        if rebuild:
            runner.finish()
            runner.declare("2")
        gitlab.watch = lambda when, method, name, _: seen.append(f"{when}:{method}:{_kind(name)}")
        seen: list[str] = []
        runner.finish()
        gitlab.watch = lambda *_: None
        runner.agree()
        return [f"{number}:{boundary}" for number, boundary in enumerate(seen, start=1)]


def _kind(name: str) -> str:
    return re.sub(r"-[0-9a-f]{16}", "-TOKEN", name)


def _visit(folder: Path, children: Children, kind: str, boundary: str, *, rebuild: bool) -> None:
    """Kill the runner there: before the request reaches the server, or after it took effect, without the answer."""
    number, when = boundary.split(":")[:2]
    try:
        with serving_states() as gitlab, new_runner(folder, children, gitlab.address(plain=kind == "plain")) as runner:
            if rebuild:
                runner.finish()
                runner.declare("2")
            counted = 0
            dead = threading.Event()

            def kill(*_: object) -> None:
                nonlocal counted
                counted += 1
                if counted == int(number):
                    children.kill()
                    dead.wait(30)
                    # What did not arrive before the kill never does.
                    gitlab.cut = when == "before"

            gitlab.watch = kill
            status, output = runner.apply()
            gitlab.watch = lambda *_: None
            dead.set()
            if status != _KILLED:
                raise Violation(f"it was never reached: the run ended with {status}\n{output}")
            until(lambda: not gitlab.busy)
            gitlab.cut = False
            runner.finish()
            runner.agree()
    except Violation as violation:
        raise Violation(f"{kind}, {boundary}: {violation}") from violation


@pytest.mark.sweep
@pytest.mark.parametrize("kind", _KINDS)
def test_a_sample_of_the_requests_loses_nothing(kind: str, pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        boundaries = _boundaries(tmp_path / "dry", children, kind, rebuild=False)
    # The journal's writes are where an intent and a job become durable.
    writes = [one for one in boundaries if one.endswith(":POST:images-journal")]
    sample = dict.fromkeys([*boundaries[3::17], *writes[1:8:2]])
    pool.visit(list(sample), lambda folder, children, one: _visit(folder, children, kind, one, rebuild=False), tmp_path)


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rebuild", [False, True], ids=["new", "rebuild"])
@pytest.mark.parametrize("kind", _KINDS)
def test_every_request_for_the_state(kind: str, rebuild: bool, pool: Pool, tmp_path: Path, visited: Visited) -> None:
    with pool.children() as children:
        boundaries = _boundaries(tmp_path / "dry", children, kind, rebuild=rebuild)
    pool.visit(boundaries, lambda folder, children, one: _visit(folder, children, kind, one, rebuild=rebuild), tmp_path)
    visited(f"SIGKILL, {kind} {'rebuild' if rebuild else 'new'}", boundaries, boundaries)


# The server dies


class StateServerProcess:
    """The server in a process of its own, which can be killed; it comes back at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.state.gitlab", str(self._folder), str(self.port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout is None or not self._process.stdout.readline().startswith("http"):
            raise RuntimeError("the server did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def state_server(tmp_path: Path) -> Iterator[StateServerProcess]:
    server = StateServerProcess(tmp_path / "states")
    yield server
    server.kill()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_server_is_killed_around_a_request_to_the_cloud(
    when: str, state_server: StateServerProcess, pool: Pool, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{state_server.port}/api/v4/projects/42/terraform/state/images"
    with pool.children() as children, new_runner(tmp_path, children, url, servers=3) as runner:
        _ask(runner, "POST", "hold", only="recreate-image", when=when)
        runner.begin("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), *ONE_AT_A_TIME)
        until(lambda: _ask(runner, "GET", "hold")["held"] == 1)
        state_server.kill()
        _ask(runner, "POST", "release")
        status, output = runner.end()
        assert status == 1, output
        # The one request that was under way, and no other.
        (build,) = runner.cloud.ledger["builds"]
        assert runner.cloud.ledger["received"] == 1
        (kept,) = runner.folder.glob("imgctl-*.emergency")
        assert build["job_id"] in kept.read_text()
        assert build["job_id"] in output
        state_server.start()
        runner.finish()
        runner.agree()
        assert not kept.exists()


def test_the_server_is_killed_while_builds_run(state_server: StateServerProcess, pool: Pool, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{state_server.port}/states/images"
    with pool.children() as children, new_runner(tmp_path, children, url, servers=3) as runner:
        assert runner.run("apply", "--auto-approve", "--no-wait")[0] == 0
        _ask(runner, "POST", "hold", only="GET", when="before")
        runner.begin("wait")
        until(lambda: _ask(runner, "GET", "hold")["held"] >= 1)
        state_server.kill()
        _ask(runner, "POST", "release")
        status, output = runner.end()
        assert status == 1, output
        state_server.start()
        runner.finish()
        runner.agree()


def _ask(runner: Runner, method: str, path: str, **body: object) -> Any:
    from urllib.request import Request, urlopen

    content = json.dumps(body).encode() if method == "POST" else None
    request = Request(f"{runner.cloud.url}/_simulator/{path}", content, method=method)
    with urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None

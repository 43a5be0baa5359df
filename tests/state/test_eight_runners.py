"""Eight runners on one fleet, killed at random: each server is built exactly once.

The runners are processes of imgctl that share a state in PostgreSQL, and a cloud that takes a second build of a server
as readily as the first one. Whoever is killed is followed by another one, with another selection, until all is done.
"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.model.record import BuildStatus
from reconciler.state.store import read
from tests.state.places import Place, Servers, postgres
from tests.support import Cloud, StartCloud, WriteManifest

_RUNNERS, _SERVERS = 8, 400
# How many are killed, and how many choose servers that others have too.
_MOST_KILLS, _ACROSS = 16, 0.3
_MOST_RUNS = 150
# In seconds. A request that a killed runner has sent is with the cloud at once: the quiet time is long beside that.
_BUILD_TIME, _QUIET_TIME = 0.5, 2.0
_LONGEST = 400.0
# The demonstration's own seed; the soak adds others.
_SEEDS = os.environ.get("IMGCTL_SOAK_SEEDS", "20261124").split(",")
_RUN = "import sys; from reconciler.cli.app import run; sys.exit(run(sys.argv[1:]))"
# Done; another run has some of it, or all of it; killed.
_EXPECTED = (0, 3, 5, -signal.SIGKILL)


@dataclass
class Runner:
    """A run of imgctl that is under way."""

    process: subprocess.Popen[bytes]
    selection: tuple[str, ...]
    output: Path
    # It is killed once it has said that so many builds have started: none yet, so many, or never.
    lasts: float

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def started(self) -> int:
        """How many builds it has said to have started."""
        return self.said.count(": build started")


@dataclass
class Fleet:
    """What the runners share, and what has become of them."""

    folder: Path
    place: Place
    cloud: Cloud
    chance: random.Random
    ended: list[tuple[Runner, int]] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    begun: int = 0
    rings: tuple[str, ...] = tuple(f"ring={number}" for number in range(_RUNNERS))

    @property
    def kills(self) -> int:
        return sum(code == -signal.SIGKILL for _, code in self.ended)

    def begin(self, taken: Collection[str]) -> Runner | None:
        selection = self._selection(taken)
        if selection is None:
            return None
        lasts = math.inf
        if self.begun < _MOST_KILLS:
            # Rarely before it has asked for anything: it is claiming its servers then, or planning.
            lasts = 0 if self.chance.random() < 0.2 else self.chance.randint(1, 25)
        self.begun += 1
        assert self.begun < _MOST_RUNS, "it does not come to an end"
        output = self.folder / f"output.{self.begun}"
        return Runner(self._start(output, "apply", "--auto-approve", *selection, *_APPLY), selection, output, lasts)

    def run(self, *arguments: str) -> tuple[int, str]:
        """A run to its end."""
        output = self.folder / "output.last"
        code = self._start(output, *arguments).wait(_LONGEST)
        return code, output.read_text(encoding="utf-8")

    def end(self, runner: Runner, code: int) -> None:
        self.ended.append((runner, code))
        assert code in _EXPECTED, f"{runner.selection} ended with {code}\n{runner.said[-3000:]}"
        if code == 0 and runner.selection[0] == "-l":
            self.done.add(runner.selection[1])
        # At once: a server that was built twice may keep all others from ending.
        assert not (twice := _twice(self.cloud.built)), twice

    @property
    def complete(self) -> bool:
        return self.done == set(self.rings)

    def _selection(self, taken: Collection[str]) -> tuple[str, ...] | None:
        """Mostly a ring that is not done yet and nobody has; now and then what lies across all of them."""
        across = [*(f"s{one}??" for one in range(4)), *(f"s??{one}" for one in range(10))]
        left = [ring for ring in self.rings if ring not in self.done and ring not in taken]
        if not left:
            return None
        if self.chance.random() < _ACROSS:
            return ("--target", self.chance.choice(across))
        return ("-l", self.chance.choice(left))

    def _start(self, output: Path, *arguments: str) -> subprocess.Popen[bytes]:
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.place.home),
            "IMGCTL_STATE": self.place.url,
            "IMGCTL_ENDPOINT_METADATA": "http://127.0.0.1:1",
            **self.cloud.env,
            **self.place.env,
        }
        with output.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-c", _RUN, *arguments], cwd=self.folder, env=env, stdout=said, stderr=said
            )


_APPLY = ("--quiet-time", str(_QUIET_TIME), "--max-in-flight", "10")


@pytest.fixture
def place(tmp_path: Path, servers: Servers) -> Iterator[Place]:
    with postgres(tmp_path, servers) as found:
        yield found


@pytest.mark.sweep
@pytest.mark.timeout(_LONGEST + 60)
@pytest.mark.parametrize("seed", _SEEDS)
def test_each_server_is_built_exactly_once(
    seed: str, place: Place, servers: Servers, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("accept-while-building=1", servers=_SERVERS, build_time=_BUILD_TIME)
    write_manifest(
        {
            f"s{number:03}": {"server_id": server_id, "labels": {"ring": str(number % _RUNNERS)}}
            for number, server_id in enumerate(cloud.world.servers)
        }
    )
    fleet = Fleet(folder, place, cloud, random.Random(seed))
    begun = time.monotonic()
    try:
        _work(fleet)
        seconds = time.monotonic() - begun
        _check(fleet, servers)
    except BaseException:
        print(f"seed {seed}: {_history(fleet)}")
        raise
    print(f"seed {seed}: {_history(fleet)}, {seconds:.0f} s")


def _work(fleet: Fleet) -> None:
    """Eight at a time, until every ring is done."""
    deadline = time.monotonic() + _LONGEST
    running: list[Runner] = []
    try:
        while running or not fleet.complete:
            assert time.monotonic() < deadline, "it does not come to an end"
            if len(running) < _RUNNERS and not fleet.complete:
                another = fleet.begin({runner.selection[1] for runner in running})
                running += [another] if another is not None else []
            for runner in running:
                _kill_in_time(runner)
            for runner in [one for one in running if one.process.poll() is not None]:
                running.remove(runner)
                fleet.end(runner, runner.process.returncode)
            time.sleep(0.01)
    finally:
        for runner in running:
            runner.process.kill()
            runner.process.wait()


def _kill_in_time(runner: Runner) -> None:
    """Kill it, if it has come far enough: in the middle of whatever it is doing at that moment."""
    if runner.lasts < math.inf and runner.output.stat().st_size and runner.started >= runner.lasts:
        runner.process.kill()


def _check(fleet: Fleet, servers: Servers) -> None:
    ledger, ids = fleet.cloud.ledger, sorted(fleet.cloud.world.servers)
    assert fleet.cloud.built == ids
    recorded = read(fleet.place.client())
    assert sorted(recorded.servers) == ids
    # Killed in the middle of a request, a runner may have sent its head without its body: nothing came of that, and
    # it was found out before the server was asked for again.
    without = [build for record in recorded.all_records for build in record.builds if not build.job_id]
    assert all(build.status is BuildStatus.REFUSED for build in without)
    assert _SERVERS <= ledger["received"] <= _SERVERS + len(without)
    # Every job is in one record, once, and it is that of its server.
    found = sorted(
        (record.server_id, build.job_id) for record in recorded.all_records for build in record.builds if build.job_id
    )
    assert found == sorted((build["server_id"], build["job_id"]) for build in ledger["builds"])
    held = {server_id: record.held.image_id for server_id, record in recorded.servers.items() if record.held}
    assert held == {server_id: server.image_id for server_id, server in fleet.cloud.world.servers.items()}
    code, said = fleet.run("plan", "--detailed-exitcode")
    assert code == 0, said
    # Whoever comes next clears up after the dead, and after itself.
    code, said = fleet.run("apply", "--auto-approve")
    assert code == 0, said
    with servers.postgres.connect() as connection:
        for table in ("imgctl_run", "imgctl_lease"):
            left = connection.execute(f"SELECT count(*) FROM {table} WHERE state = %s", [recorded_name(fleet)])
            assert left.fetchone() == (0,), table
    # It was no walk in the park: enough were killed, and their builds were taken up by others.
    assert fleet.kills >= _RUNNERS
    assert any("waiting for job" in runner.said for runner, _ in fleet.ended)


def recorded_name(fleet: Fleet) -> str:
    return fleet.place.url.rpartition("/")[2]


def _twice(built: Sequence[str]) -> list[str]:
    return [f"{server} was built {times} times" for server, times in Counter(built).items() if times > 1]


def _history(fleet: Fleet) -> str:
    codes = Counter(code for _, code in fleet.ended)
    said = [runner.said for runner, _ in fleet.ended]
    resumed = sum(text.count("waiting for job") for text in said)
    found = sum(text.count("found its build") for text in said)
    cut = sorted(runner.started for runner, code in fleet.ended if code == -signal.SIGKILL)
    return (
        f"{dict(codes)} runs by exit code, killed after {cut} builds, {resumed} builds taken up, {found} found; "
        f"{fleet.cloud.ledger['received']} requests"
    )

"""A bad day: answers fail, the gateway throttles, connections break after the request took effect, jobs fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from reconciler.model.record import BuildStatus
from reconciler.state.store import read
from tests.crash.conftest import Visited
from tests.crash.harness import Children, Pool, new_fleet

# Long enough to be left to the sweeps.
pytestmark = pytest.mark.sweep

_FAULTS = ("error-5xx=0.05", "throttle=0.05", "drop-after=0.02")
_RUNS = 5
_LONGEST = 600.0


def _soak(folder: Path, children: Children, servers: int, failing: float, quiet_time: float) -> None:
    """One successful or one reported failed build per server, none twice."""
    faults = (*_FAULTS, f"job-failed={failing}")
    with new_fleet(folder, children, servers=servers, faults=faults, build_time=2.0) as fleet:
        fleet.declare("1")
        names = {server: f"s{number}" for number, server in enumerate(fleet.world.servers, start=1)}
        left, said = list(names.values()), ""
        for _ in range(_RUNS):
            # Nobody asks for a build that failed a second time: only what has not come to an end goes on.
            targets = [] if len(left) == servers else [f"--target={name}" for name in left]
            # The quiet time sets the pace at which requests in doubt are looked into, too.
            fleet.begin("apply", "--auto-approve", "--quiet-time", str(quiet_time), "--max-in-flight", "0", *targets)
            said += fleet.end(_LONGEST).output
            records = read(fleet.state).servers
            done = {server for server, record in records.items() if record.attempt and record.attempt.job_id}
            done -= {server for server, record in records.items() if record.in_flight}
            left = [name for server, name in names.items() if server not in done]
            if not left:
                break
        ledger, recorded = fleet.ledger, read(fleet.state)
        built = Counter(build["server_id"] for build in ledger["builds"])
        assert set(built) == set(fleet.world.servers), said[-2000:]
        assert set(built.values()) == {1}, [server for server, count in built.items() if count > 1]
        jobs = {job.server_id: job for job in fleet.world.jobs}
        for server_id, record in recorded.servers.items():
            attempt, job = record.attempt, jobs[server_id]
            assert attempt is not None
            assert attempt.job_id == job.id
            if job.outcome == "SUCCESS":
                assert attempt.status is BuildStatus.SUCCEEDED
                assert record.held is not None
                assert record.held.image_id == job.image_id
            else:
                assert attempt.status is BuildStatus.FAILED
                assert attempt.error is not None
                assert attempt.error.code == job.error_code
                assert f"job {job.id} failed" in said


def test_sixty_servers_on_a_bad_day(pool: Pool, tmp_path: Path) -> None:
    with pool.children() as children:
        _soak(tmp_path, children, 60, 0.05, 3)


@pytest.mark.sweep
@pytest.mark.timeout(900)
def test_a_thousand_servers_on_a_bad_day(pool: Pool, tmp_path: Path, visited: Visited) -> None:
    with pool.children() as children:
        _soak(tmp_path, children, 1000, 0.01, 15)
    visited("soak, servers", ["1000"], ["1000"])

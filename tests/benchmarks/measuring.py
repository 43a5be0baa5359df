"""One cold process after the other: how long it takes, how much of a processor, how much memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMGCTL = str(Path(sys.executable).with_name("imgctl"))
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_LOOK_EVERY = 0.02
_PATIENCE = 30


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds by the clock, seconds of a processor, and its greatest size in bytes."""

    seconds: float
    cpu: float
    peak: float = 0.0

    @classmethod
    def median(cls, costs: Sequence[Cost]) -> Cost:
        """Each figure's median."""
        return cls(
            statistics.median(one.seconds for one in costs),
            statistics.median(one.cpu for one in costs),
            statistics.median(one.peak for one in costs),
        )


def environment(**more: str) -> dict[str, str]:
    """This process's environment as a user's: compiled modules are kept, and no variable names a cloud."""
    foreign = ("HW_", "IMGCTL_", "HUAWEICLOUD_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | more


def run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> tuple[Cost, str]:
    """Run a command to its end, which must be a good one: its cost, and what it printed."""
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=env or environment(), stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        out.seek(0)
        said = out.read().decode()
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _MAXRSS_UNIT), said


def in_turn(repeat: int, *ways: Callable[[], Cost]) -> list[Cost]:
    """The median cost of each way, after one run of each that warms caches: they alternate, so both see one machine."""
    for way in ways:
        way()
    runs = [[way() for way in ways] for _ in range(repeat)]
    return [Cost.median(costs) for costs in zip(*runs, strict=True)]


def imgctl(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Cost:
    """A cold imgctl, its start included."""
    return run([IMGCTL, *arguments], folder, env)[0]


def counted(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[Cost, int, str]:
    """A cold imgctl that counts its fsyncs: its cost, the count, and what it printed."""
    figures = folder / "figures.json"
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.benchmarks.counted", str(figures), *arguments]
    cost, said = run(command, folder, {**(env or environment()), **path})
    return cost, json.loads(figures.read_text("utf-8"))["syncs"], said


def terraform(folder: Path, *words: str) -> Cost:
    """A command of Terraform in a process of its own; only the command is timed, the memory is the process's."""
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.benchmarks.terraform", str(folder), *words]
    cost, said = run(command, folder, environment(**path))
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return Cost(figures["seconds"], figures["cpu"], cost.peak)


class Simulator:
    """A simulator over TCP in a process of its own. `cpu`: seconds of a processor that it took, once it has ended."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.cpu = 0.0

    @property
    def ledger(self) -> dict[str, Any]:
        """What reached it."""
        from urllib.request import urlopen

        with urlopen(f"{self.env['IMGCTL_ENDPOINT']}/_simulator/ledger", timeout=_PATIENCE) as answer:
            ledger: dict[str, Any] = json.load(answer)
        return ledger


@contextmanager
def simulator(folder: Path, servers: int, build_time: float) -> Iterator[Simulator]:
    """Serve a cloud of so many servers; it ends with the block."""
    variables = folder / "simulator.env"
    variables.unlink(missing_ok=True)
    command = [IMGCTL, "simulate", "--servers", str(servers), "--build-time", str(build_time)]
    command += ["--env-file", str(variables)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("listening"):
            raise SystemExit("the simulator did not start")
        begun = time.monotonic()
        while not variables.exists() and time.monotonic() - begun < _PATIENCE:
            time.sleep(_LOOK_EVERY)
        pairs = (line.partition("=") for line in variables.read_text("utf-8").splitlines() if "=" in line)
        served = Simulator(environment(**{name.split()[-1]: value.strip("'\"") for name, _, value in pairs}))
        yield served
    finally:
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.stdout is not None:
            process.stdout.close()
    served.cpu = usage.ru_utime + usage.ru_stime


def fsync_seconds(folder: Path, repeat: int = 50) -> float:
    """How long this disk takes to make 4 KiB durable, at the median."""
    taken = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(repeat):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)

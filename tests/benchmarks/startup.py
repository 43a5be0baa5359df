"""How long imgctl takes to answer: `python tests/benchmarks/startup.py`. Prints medians; asserts nothing.

Every figure is a cold process, its start included, on the machine that runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMGCTL = Path(sys.executable).with_name("imgctl")


def median_seconds(command: list[str], folder: Path, repeat: int) -> float:
    """The median wall-clock time of a command, which must succeed."""
    seconds = []
    for _ in range(repeat + 1):
        begun = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    # The first one warms the disk's cache.
    return statistics.median(seconds[1:])


def write_fleet(folder: Path, servers: int) -> None:
    """A manifest of so many servers, as people write it."""
    lines = [
        "version: 1",
        "region: ap-southeast-1",
        "project_id: a4da8115c9d8464ead3a38309130523f",
        'vars: {release: "2026.11"}',
        "defaults:",
        "  image:",
        "    name: ${server.name}-${var.release}",
        '    description: "Built from ${server.name}"',
        "image_servers:",
    ]
    for number in range(servers):
        lines += [
            f"  server-{number:05d}:",
            f'    server_id: "{600_000_000_000_000_000 + number}"',
            f"    labels: {{ring: ring-{number % 5}}}",
        ]
    (folder / "imgctl.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repeat = arguments.repeat
        figures["python -c pass"] = median_seconds([sys.executable, "-c", "pass"], folder, repeat)
        figures["imgctl --version"] = median_seconds([str(IMGCTL), "--version"], folder, repeat)
        for servers in (10, 1_000):
            write_fleet(folder, servers)
            command = [str(IMGCTL), "plan", "--no-refresh"]
            figures[f"plan --no-refresh, {servers} servers"] = median_seconds(command, folder, repeat)
    budgets = {
        "imgctl --version": 2.5 * figures["python -c pass"],
        "plan --no-refresh, 10 servers": 0.35,
        "plan --no-refresh, 1000 servers": 0.6,
    }
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, median of {arguments.repeat}")
    for what, seconds in figures.items():
        budget = f"   budget {budgets[what] * 1000:6.0f} ms" if what in budgets else ""
        print(f"{what:34} {seconds * 1000:7.1f} ms{budget}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

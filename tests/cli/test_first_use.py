"""What somebody sees who has never used imgctl: it fits the terminal, and what it tells them to type works."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.cli.app import COMMANDS
from reconciler.render.terminal import width
from reconciler.simulator import World
from tests.support import Imgctl


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_fits_into_eighty_columns(imgctl: Imgctl, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = imgctl(*arguments, "--help")
    assert ran.code == 0
    assert max(map(width, ran.out.splitlines())) < 80


def test_a_start_without_a_region_names_the_flag(imgctl: Imgctl) -> None:
    ran = imgctl("init", "--from-cloud")
    assert ran.code == 1
    assert "no region given" in ran.err
    assert "--region" in ran.err


@pytest.mark.parametrize("env_file", ["sim.env", "my env/sim.env", "{folder}/sim.env"])
def test_any_shell_takes_the_line_that_simulate_prints(
    imgctl: Imgctl, folder: Path, monkeypatch: pytest.MonkeyPatch, env_file: str
) -> None:
    path = Path(env_file.format(folder=folder))
    path.parent.mkdir(exist_ok=True)

    def serve(world: World, port: int, *, env_file: Path, on_listening: Callable[[str], None], **_: object) -> None:
        env_file.write_text("HW_REGION_NAME='here'\n")
        on_listening("http://127.0.0.1:1")

    monkeypatch.setattr("reconciler.simulator.serve", serve)
    ran = imgctl("simulate", "--env-file", str(path))
    assert ran.code == 0
    line = next(line for line in ran.err.splitlines() if line.startswith("set -a"))
    command = line.removesuffix("  points imgctl here")
    shell = subprocess.run(["sh", "-c", f"{command}; env"], capture_output=True, text=True, check=True)
    assert "HW_REGION_NAME=here" in shell.stdout.splitlines()

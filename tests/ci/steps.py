"""The shell of workflows, run as a runner would run it: their steps, with the environment that the YAML gives them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.ci.scripts import EXAMPLES

GITHUB = EXAMPLES / "ci/github"
_EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")
_PLAIN = re.compile(r"([a-z-]+)=(.*)")
# As actions/runner starts it where a step names `bash`, and where it names none.
_NAMED = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
_UNNAMED = ["bash", "-e"]


def read(path: Path) -> Any:
    """A file of YAML; `on` stays a word."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


@dataclass
class Job:
    """A job's runner: its folder, its environment, what its expressions stand for, and what its steps have said."""

    folder: Path
    env: dict[str, str]
    expressions: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""

    def value(self, text: str) -> str:
        """A text with its expressions, of which every one must be known."""
        return _EXPRESSION.sub(lambda found: self.expressions[found[1]], text)

    def run(self, step: Mapping[str, Any], env: Mapping[str, str] | None = None) -> int:
        """Run a step's shell; returns its exit code."""
        assert not _EXPRESSION.search(step["run"]), "an expression in a shell"
        temp = Path(self.env["RUNNER_TEMP"])
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
            (temp / name).touch()
        (temp / "GITHUB_OUTPUT").write_text("")
        file = temp / "step.sh"
        file.write_text(step["run"])
        ran = subprocess.run(
            [*(_NAMED if step.get("shell") == "bash" else _UNNAMED), str(file)],
            cwd=self.folder,
            env=self._environment({**(env or {}), **step.get("env", {})}, temp),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        self.log = ran.stdout + ran.stderr
        for line in (temp / "GITHUB_OUTPUT").read_text().splitlines():
            found = _PLAIN.fullmatch(line)
            assert found, line
            self.outputs[found[1]] = found[2]
        return ran.returncode

    def _environment(self, env: Mapping[str, str], temp: Path) -> dict[str, str]:
        base = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(temp),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(temp / "GITHUB_OUTPUT"),
            "GITHUB_STEP_SUMMARY": str(temp / "GITHUB_STEP_SUMMARY"),
            "IMGCTL_ENDPOINT_METADATA": "http://127.0.0.1:1",
        }
        return base | self.env | {name: self.value(text) for name, text in env.items()}

    @property
    def summary(self) -> str:
        return (Path(self.env["RUNNER_TEMP"]) / "GITHUB_STEP_SUMMARY").read_text()


def steps_of(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a job with a shell, without the one that installs imgctl."""
    steps: list[dict[str, Any]] = job["steps"]
    installs = [step for step in steps if step.get("name") == "Install imgctl"]
    assert all(step["run"] == 'python3 -m pip install --quiet "$IMGCTL_PACKAGE"' for step in installs)
    return [step for step in steps if "run" in step and step not in installs]

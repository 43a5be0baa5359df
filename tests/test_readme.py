"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from reconciler.cli.app import COMMANDS
from tests.support import Imgctl

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_quickstart_prints_what_the_readme_shows(imgctl: Imgctl, folder: Path) -> None:
    # The manifest alone: a reader who has run the command already has a state beside it.
    example = folder / "examples/quickstart/imgctl.yaml"
    example.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "examples/quickstart/imgctl.yaml", example)
    ran = imgctl("apply", "-f", "examples/quickstart", "--auto-approve")
    assert ran.code == 0, ran.err
    # The order in which builds end is the cloud's business, and how many seconds they take the machine's.
    shown, found = (re.sub(r"in \d+ s\b", "in N s", text) for text in (blocks("text")[0], ran.out))
    assert sorted(found.split("\n")) == sorted(shown.split("\n"))
    assert "No changes." in imgctl("apply", "-f", "examples/quickstart", "--auto-approve").out


def test_the_manifest_that_it_shows_is_valid(imgctl: Imgctl, folder: Path) -> None:
    (folder / "imgctl.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    ran = imgctl("validate")
    assert (ran.code, ran.out) == (0, "imgctl.yaml: valid, 2 image servers in 1 file.\n"), ran.err


def test_every_command_is_named() -> None:
    listed = re.search(r"`imgctl (\w+(?: \| \w+){5,})`", README)
    assert listed is not None
    assert sorted(listed[1].split(" | ")) == sorted(COMMANDS)


def test_the_starter_manifest_is_valid(imgctl: Imgctl) -> None:
    assert imgctl("init").code == 0
    assert imgctl("validate").code == 0
    assert imgctl("init").code == 1

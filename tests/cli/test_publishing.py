"""One plan in several formats: what goes to standard output, and what into files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest

SIMULATOR = {"provider": {"simulator": {"servers": 3, "build_time": 0}}}


def marker(text: str) -> Any:
    return json.loads(text.removeprefix("<!-- imgctl:plan ").partition(" -->\n")[0])


@pytest.fixture
def manifest(write_manifest: WriteManifest) -> Path:
    return write_manifest(**SIMULATOR)


@pytest.mark.usefixtures("manifest")
def test_each_format_into_its_file_and_the_text_for_the_log(imgctl: Imgctl, folder: Path) -> None:
    names = {
        "markdown": "plan.md",
        "json": "plan.json",
        "gitlab": "gitlab.json",
        "github": "github.txt",
        "text": "plan.txt",
    }
    ran = imgctl("plan", *(word for form, name in names.items() for word in ("--format", f"{form}={name}")))
    assert ran.code == 0, ran.err
    assert ran.out == (folder / "plan.txt").read_text()
    assert "Plan: 3 to add, 0 to change, 0 to destroy." in ran.out
    assert json.loads((folder / "gitlab.json").read_text()) == {"create": 3, "update": 0, "delete": 0}
    assert (folder / "github.txt").read_text().startswith("::notice title=imgctl plan::SIMULATED")
    text = (folder / "plan.md").read_text()
    assert "### SIMULATED: imgctl: 3 builds\n" in text
    assert marker(text)["plan"] == json.loads((folder / "plan.json").read_text())["plan_id"]
    for name in names.values():
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert {path.name for path in folder.iterdir()} == {*names.values(), "imgctl.yaml", "imgctl.state.json.world.json"}


@pytest.mark.usefixtures("manifest")
def test_a_format_without_a_file_is_printed_and_nothing_else(imgctl: Imgctl, folder: Path) -> None:
    printed = imgctl("plan", "--format", "json", "--format", "markdown=plan.md")
    assert printed.json["summary"]["build"] == 3
    assert imgctl("plan", "--format", "json").out == printed.out
    assert imgctl("plan", "--format", "markdown=-").out == (folder / "plan.md").read_text()
    assert imgctl("plan", "--format", "json=plan.json").out == imgctl("plan").out
    assert (folder / "plan.json").read_text() == printed.out


@pytest.mark.usefixtures("manifest")
def test_a_file_is_replaced_and_never_what_a_link_leads_to(imgctl: Imgctl, folder: Path) -> None:
    target = folder / "plan.json"
    target.write_text("old")
    target.chmod(0o644)
    assert imgctl("plan", "--format", "json=plan.json").code == 0
    assert json.loads(target.read_text())["summary"]["build"] == 3
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    (folder / "link.json").symlink_to("precious")
    ran = imgctl("plan", "--format", "json=link.json")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: link.json is not a regular file")
    assert not (folder / "precious").exists()


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (("text", "json"), "two formats would go to standard output"),
        (("markdown=-", "json"), "two formats would go to standard output"),
        (("json=a", "markdown=a"), "--format markdown cannot be written into a: another format goes there"),
        (
            ("json=a", "markdown=./sub/../a"),
            "--format markdown cannot be written into sub/../a: another format goes there",
        ),
        (("json=imgctl.yaml",), "--format json cannot be written into imgctl.yaml: imgctl keeps something else there"),
        (("json=vars.yaml",), "--format json cannot be written into vars.yaml: imgctl keeps something else there"),
        (
            ("json=imgctl.state.json.journal",),
            "--format json cannot be written into imgctl.state.json.journal: imgctl keeps something else there",
        ),
        (("json=nowhere/a",), "there is no folder nowhere"),
        (("json=sub",), "sub is not a regular file"),
        (("xml",), "'xml' is not one of text, json, markdown, gitlab, github."),
        (("json=",), "'json=' names no file."),
    ],
)
def test_outputs_that_cannot_be(
    imgctl: Imgctl, folder: Path, manifest: Path, outputs: tuple[str, ...], problem: str
) -> None:
    (folder / "sub").mkdir()
    (folder / "vars.yaml").write_text('release: "7"')
    before = manifest.read_text()
    ran = imgctl("plan", "--var-file", "vars.yaml", *(word for one in outputs for word in ("--format", one)))
    assert ran.code == 1
    assert problem in ran.err
    assert ran.out == ""
    assert manifest.read_text() == before
    # The simulated world is not even asked: nothing was planned.
    assert {path.name for path in folder.iterdir()} <= {"imgctl.yaml", "vars.yaml", "sub"}


@pytest.mark.usefixtures("manifest")
def test_a_file_that_cannot_be_written_leaves_what_was_there(
    imgctl: Imgctl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "plan.md").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = imgctl("plan", "--no-refresh", "--format", "markdown=plan.md")
    assert (ran.code, ran.out) == (1, "")
    assert "error: cannot write plan.md: No space left on device" in ran.err
    assert (folder / "plan.md").read_text() == "old"
    assert not list(folder.glob(".plan.md*"))


@pytest.mark.usefixtures("manifest")
@pytest.mark.parametrize("room", ["5999", "1000001", "many"])
def test_how_long_the_markdown_may_be(imgctl: Imgctl, room: str) -> None:
    ran = imgctl("plan", "--format", "markdown", "--max-chars", room)
    assert ran.code == 1
    assert "'--max-chars'" in ran.err


def test_a_smaller_comment_says_what_it_leaves_out(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest({f"desk-{i}": f"server-{i}" for i in range(100)}, region="ap-southeast-1")
    ran = imgctl("plan", "--no-refresh", "--format", "markdown", "--max-chars", "7000")
    assert ran.code == 0
    assert len(ran.out) <= 7000
    assert "**All 100 changes are listed;" in ran.out or "of the 100 changes are not in this comment" in ran.out


def test_the_comment_says_where_it_belongs_and_how_it_is_applied(
    imgctl: Imgctl, folder: Path, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: dict[str, Any] = {
        "office": {"server_id": SERVER_IDS[0], "labels": {"ring": "canary"}},
        "cad": SERVER_IDS[1],
    }
    write_manifest(servers, region="ap-southeast-1")
    home = folder / "images/prod"
    home.mkdir(parents=True)
    (folder / "imgctl.yaml").rename(home / "imgctl.yaml")
    (folder / ".git").mkdir()
    monkeypatch.setenv("IMGCTL_STATE", str(folder / "secret-place.json"))
    flags = ("-l", "ring=canary", "--var", "release=2 b", "--max-changes", "7", "--replace", "office")
    there = imgctl("plan", "--no-refresh", "-f", "images/prod", *flags, "--format", "markdown").out
    command = "imgctl apply -f images/prod --var 'release=2 b' -l ring=canary --replace office --max-changes 7"
    assert f"**Next:** review, merge, then `{command}`.\n" in there
    assert "### imgctl `images/prod`: 1 build\n" in there
    assert "- Only what `-l ring=canary` selects; the rest is left alone.\n" in there
    assert '- `var.release` is `"2 b"`, set from outside: `--var`\n' in there
    assert "secret-place" not in there
    place = next(line for line in there.splitlines() if line.startswith("| `+ build`")).split(" | ")[-1]
    assert place.startswith("`images/prod/imgctl.yaml:")
    # The same manifest, called from its own folder, is the same comment.
    monkeypatch.chdir(home)
    here = imgctl("plan", "--no-refresh", *flags, "--format", "markdown").out
    assert marker(here) == marker(there)
    assert f"| {place}" in here
    assert "`imgctl apply --var 'release=2 b' -l ring=canary" in here
    typed = imgctl("plan", "--no-refresh", "--state", "s.json", "--format", "markdown").out
    assert "`imgctl apply --state s.json`" in typed
    assert marker(typed)["key"] != marker(here)["key"]


def test_annotations_stand_on_the_lines_of_the_manifest(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud: Cloud = start_cloud()
    path = write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    manifest = json.loads(path.read_text())
    manifest["vars"]["release"] = "2"
    manifest["image_servers"]["cad"]["protect"] = True
    del manifest["image_servers"]["web"]
    path.write_text(json.dumps(manifest, indent=1))
    ran = imgctl("plan", "--format", "github", "--format", "gitlab=g.json", env=cloud.env)
    assert ran.code == 0
    line = 1 + path.read_text().split('"cad"')[0].count("\n")
    assert f"::error file=imgctl.yaml,line={line},col=" in ran.out
    assert "title=imgctl%3A cad%3A rebuild%2C gated::rebuild: name differs%0Agated: protected" in ran.out
    assert "::warning title=imgctl%3A web%3A forget::" in ran.out
    assert "::notice title=imgctl plan::Plan: 2 to add, 0 to change, 0 to destroy." in ran.out
    assert json.loads(Path("g.json").read_text()) == {"create": 2, "update": 0, "delete": 0}

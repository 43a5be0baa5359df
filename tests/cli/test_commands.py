"""The smaller commands, and the command line itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.cli.app import COMMANDS
from reconciler.simulator.faults import FAULT_KINDS
from reconciler.simulator.garbage import VARIANTS
from tests.support import SERVER_IDS, Imgctl, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS


def test_every_command_helps_in_one_screen_with_an_example(imgctl: Imgctl) -> None:
    for command in COMMANDS:
        ran = imgctl(command, "--help")
        assert ran.code == 0
        assert "Example" in ran.out
        assert len(ran.out.splitlines()) <= 50
        assert max(len(line) for line in ran.out.splitlines()) <= 100


def test_the_version(imgctl: Imgctl) -> None:
    assert imgctl("--version").out == f"imgctl {__version__}\n"
    script = subprocess.run([sys.executable, "-m", "reconciler", "--version"], capture_output=True, text=True)
    assert script.stdout == f"imgctl {__version__}\n"


def test_mistakes_on_the_command_line_are_errors_with_a_suggestion(imgctl: Imgctl) -> None:
    for arguments, said in (
        (("pln",), "Did you mean plan?"),
        (("plan", "--no-refrsh"), "--no-refresh"),
        (("plan", "--format", "yaml"), "json"),
        (("apply", "--max-in-flight", "-1"), "max-in-flight"),
        (("show",), "NAME"),
    ):
        ran = imgctl(*arguments)
        assert ran.code == 1, arguments
        assert said in ran.err


def test_selectors_that_match_nothing_are_errors(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest({"office": {"server_id": OFFICE, "labels": {"ring": "canary"}}, "cad": CAD})
    for arguments, said in (
        (("--target", "ofice"), "Did you mean office?"),
        (("--exclude", "x*"), "--exclude x*"),
        (("-l", "ring=broad"), "ring=canary"),
        (("-l", "ring"), "no label selector"),
        (("--replace", "cat"), "Did you mean cad?"),
        (("--allow", "nobody"), "--allow nobody"),
    ):
        ran = imgctl("plan", "--no-refresh", *arguments)
        assert ran.code == 1, arguments
        assert said in ran.err
    assert "Plan: 1 to add" in imgctl("plan", "--no-refresh", "-l", "ring=canary").out
    assert "Plan: 1 to add" in imgctl("plan", "--no-refresh", "-l", "ring!=canary").out
    assert "Plan: 1 to add" in imgctl("plan", "--no-refresh", "--target", "*", "--exclude", "c*").out


def test_what_apply_left_can_be_shown_and_handed_on(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "网页": WEB})
    env = cloud.env | {"GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "it/images", "GITHUB_SHA": "abc"}
    assert imgctl("apply", "--auto-approve", "--note", "patch day", env=env).code == 0
    images = imgctl("output", "--format", "json").json["image_ids"]
    assert list(images) == ["office", "网页"]
    assert imgctl("output", "office", "--raw").out == f"{images['office']}\n"
    assert imgctl("output", "office", "--format", "env").out == f"IMGCTL_IMAGE_OFFICE={images['office']}\n"
    assert f'"网页" = "{images["网页"]}"' in imgctl("output", "--format", "tfvars").out
    shown = imgctl("show", "office", "--format", "json").json
    assert shown["held"]["image_id"] == images["office"]
    context = shown["builds"][0]["context"]
    assert context["note"] == "patch day"
    assert context["run"] == "https://github.com/it/images/actions/runs/7"
    assert images["office"] in imgctl("show", OFFICE).out
    status = imgctl("status")
    assert re.search(r"网页 +held +网页-1", status.out)
    assert imgctl("output", "--raw").code == 1
    assert "Did you mean office?" in imgctl("show", "ofice").err
    write_manifest({"office": OFFICE, "网页": WEB, "cad": CAD})
    assert "never built" in imgctl("status", "--target", "cad").out
    assert imgctl("output", "cad").code == 1


def test_init_from_cloud_declares_what_exists_and_plans(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud(servers=25)
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "25 image servers declared" in ran.out
    text = (folder / "imgctl.yaml").read_text(encoding="utf-8")
    for server in cloud.world.servers.values():
        assert f'server_id: "{server.id}"' in text
        assert f"# {server.name}" in text
    assert "Plan: 25 to add" in imgctl("plan", env=cloud.env).out
    again = imgctl("init", "--from-cloud", env=cloud.env)
    assert again.code == 1
    assert "exists already" in again.err
    assert (folder / "imgctl.yaml").read_text(encoding="utf-8") == text


def test_the_plan_as_json(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    plan = imgctl("plan", "--no-refresh", "--format", "json").json
    assert plan["summary"]["build"] == 3
    change = plan["changes"][0]
    assert change["origin"]["file"] == "imgctl.yaml"
    assert {one["path"] for one in change["diff"]} == {"image.name"}
    # The same inputs give the same plan, to the byte.
    assert plan == imgctl("plan", "--no-refresh", "--format", "json").json


def test_requests_are_shown_with_their_ids_and_no_secret(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("plan", "-vv", env=cloud.env)
    assert re.search(r"GET /v1/\w+/image-servers\?limit=100&offset=0 -> 200 in \d+ ms request id \S+", ran.err)
    assert cloud.world.secret_key not in ran.err
    assert "Signature" not in ran.err


def test_validate_says_every_problem_with_its_place(imgctl: Imgctl, folder: Path) -> None:
    (folder / "imgctl.yaml").write_text(
        "version: 1\nregion: cn-nroth-4\nimage_servers:\n  a: {server_id: 697612196993040384, image: {nam: x}}\n",
        encoding="utf-8",
    )
    ran = imgctl("validate")
    assert ran.code == 1
    assert "imgctl.yaml:2:9: error:" in ran.err
    assert "cn-north-4" in ran.err
    assert '"697612196993040384"' in ran.err
    assert "name" in ran.err
    document = imgctl("validate", "--format", "json")
    assert document.code == 1
    assert document.json["valid"] is False
    assert {one["origin"]["line"] for one in document.json["diagnostics"]} == {2, 4}


def test_a_missing_manifest_says_what_to_do(imgctl: Imgctl) -> None:
    ran = imgctl("plan")
    assert ran.code == 1
    assert "imgctl init" in ran.err


def test_simulate_serves_until_it_is_told_to_stop(imgctl: Imgctl, folder: Path) -> None:
    command = [sys.executable, "-m", "reconciler", "simulate", "--servers", "2", "--build-time", "0.1"]
    child = subprocess.Popen(
        [*command, "--env-file", "sim.env"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\n", child.stdout.readline())
        assert (folder / "sim.env").stat().st_mode & 0o777 == 0o600
        env = dict(line.split("=", 1) for line in (folder / "sim.env").read_text().splitlines())
        assert imgctl("init", "--from-cloud", env=env).code == 0
        assert imgctl("apply", "--auto-approve", env=env).code == 0
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=20)
    assert child.returncode == 0


def test_simulate_lists_the_faults_that_there_are(imgctl: Imgctl) -> None:
    for text, texts in (("nonsense=1", FAULT_KINDS), ("garbage=1:nonsense", VARIANTS)):
        ran = imgctl("simulate", "--fault", text)
        assert ran.code == 1
        first, *listed = ran.err.splitlines()
        assert "'nonsense'; there are:" in first
        assert [line.split(maxsplit=1) for line in listed] == [[name, told] for name, told in texts.items()]


def test_a_reader_that_goes_away_is_no_error(folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest()
    command = f"{sys.executable} -m reconciler plan --no-refresh | head -c 5; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], cwd=folder, env=os.environ, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_chinese_names_survive_any_terminal(encoding: str, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest({"网页": WEB})
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", "plan", "--no-refresh"],
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert ran.returncode == 0
    assert ("网页" if encoding == "utf-8" else "\\u7f51") in ran.stdout.decode(encoding)


def test_the_schemas_are_in_the_wheel() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"schemas": "reconciler/schemas"}
    for schema in (root / "schemas").iterdir():
        assert json.loads(schema.read_text(encoding="utf-8"))["$schema"].endswith("2020-12/schema")

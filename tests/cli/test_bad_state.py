"""A state that must not be used: a clear error, exit 1, and not a byte changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support import Imgctl, StartCloud, WriteManifest

STATE = "imgctl.state.json"
GOOD = {
    "version": 1,
    "lineage": "0",
    "serial": 3,
    "bound_to": {"provider": "huaweicloud", "region": "ap-southeast-1", "project_id": "0" * 32},
    "servers": {},
    "retired": {},
}


@pytest.mark.parametrize("command", [("plan", "--no-refresh"), ("plan",), ("apply", "--auto-approve"), ("status",)])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (json.dumps(GOOD).encode()[:-20], "damaged or cut short"),
        (json.dumps(GOOD | {"version": 99}).encode(), "version 99"),
        (json.dumps(GOOD | {"serial": -1}).encode(), "serial"),
        (json.dumps(GOOD | {"servers": {"a": {"name": 5}}}).encode(), "servers/a/name: must be text"),
        (json.dumps(GOOD | {"servers": {"../a": {"name": "a"}}}).encode(), "servers/../a: this is no server id"),
        (json.dumps(GOOD | {"lineage": "\ud800"}).encode(), "lineage: must be text, and has half a character in it"),
        (json.dumps(GOOD | {"servers": {"a": {"name": "\udfff"}}}).encode(), "servers/a/name: must be text, and has"),
        (b"[" * 200_000, "nested too deeply"),
        (b"\x80\x81", "damaged or cut short"),
    ],
)
def test_a_damaged_state_is_an_error(
    command: tuple[str, ...],
    content: bytes,
    said: str,
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
) -> None:
    cloud = start_cloud()
    write_manifest()
    (folder / STATE).write_bytes(content)
    ran = imgctl(*command, env=cloud.env)
    assert ran.code == 1
    assert STATE in ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert (folder / STATE).read_bytes() == content
    assert cloud.ledger["received"] == 0


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"provider": "simulator"},
        {"region": "cn-north-4"},
        {"project_id": "f" * 32},
    ],
)
def test_a_state_bound_elsewhere_is_not_used(
    elsewhere: dict[str, str], imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    bound = {"provider": "huaweicloud", "region": cloud.world.region, "project_id": cloud.world.project_id}
    content = json.dumps(GOOD | {"bound_to": bound | elsewhere})
    (folder / STATE).write_text(content)
    for command in (("plan",), ("apply", "--auto-approve"), ("plan", "--no-refresh")):
        ran = imgctl(*command, env=cloud.env)
        assert ran.code == 1
        assert "this state belongs elsewhere" in ran.err
        assert next(iter(elsewhere.values())) in ran.err
    assert (folder / STATE).read_text() == content
    assert cloud.ledger["received"] == 0


def test_states_that_are_no_plain_files_are_refused(
    imgctl: Imgctl, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest()
    (folder / "real.json").write_text(json.dumps(GOOD))
    (folder / "link.json").symlink_to("real.json")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    for name, said in (
        ("link.json", "symbolic link"),
        ("folder.json", "folder.json"),
        ("pipe.json", "not a regular file"),
    ):
        ran = imgctl("plan", "--no-refresh", "--state", name)
        assert ran.code == 1
        assert said in ran.err


def test_a_document_without_its_journal_or_older_than_it_is_noticed(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", "--target", "office", env=cloud.env).code == 0
    old = (folder / STATE).read_bytes()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    (folder / STATE).write_bytes(old)
    rolled_back = imgctl("apply", "--auto-approve", env=cloud.env)
    assert rolled_back.code == 1
    assert "older than it is" in rolled_back.err
    (folder / STATE).unlink()
    missing = imgctl("apply", "--auto-approve", env=cloud.env)
    assert missing.code == 1
    assert "its document is missing" in missing.err
    assert cloud.ledger["received"] == 3


def test_the_pins_of_a_workflow_hold(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest(project_id="a" * 32, region="cn-north-4")
    for pin, value in (("IMGCTL_PROJECT_ID", "b" * 32), ("IMGCTL_PROVIDER", "simulator")):
        ran = imgctl("plan", "--no-refresh", env={pin: value})
        assert ran.code == 1
        assert pin in ran.err


def test_no_refresh_needs_no_credentials_and_no_place(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    ran = imgctl("plan", "--no-refresh")
    assert ran.code == 0, ran.err
    assert "Plan: 3 to add" in ran.out
    assert imgctl("plan", "--no-refresh", "--detailed-exitcode").code == 2
    refreshed = imgctl("plan")
    assert refreshed.code == 1
    assert "no region given" in refreshed.err


def test_the_writers_need_a_folder_that_they_can_write(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--state", "missing/state.json", env=cloud.env)
    assert ran.code == 1
    assert "Create the folder first" in ran.err
    assert cloud.ledger["received"] == 0

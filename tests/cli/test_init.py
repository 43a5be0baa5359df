"""init --from-cloud: a manifest and its records, so that the next plan has nothing to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateError
from reconciler.state.local import LocalState
from tests.support import SERVER_IDS, Imgctl, StartCloud, give_image, locked_state

OFFICE, CAD, WEB = SERVER_IDS


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def written(folder: Path) -> list[str]:
    """What is there but for the lock, which stays wherever a state was locked."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_images_are_recorded_and_the_rest_is_a_first_build(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud
) -> None:
    cloud = start_cloud()
    image_id = give_image(cloud.world, OFFICE, "Office 2026", 'pays ${bonus}, "all" of it \\ 全部')
    give_image(cloud.world, CAD, "镜像 1")
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 0, ran.err
    assert ran.out == (
        "imgctl.yaml: 3 image servers declared.\n"
        "imgctl.state.json: the images and builds of 2 of them recorded.\n"
        "The next plan: 2 unchanged, 1 build.\n"
        "\n"
        "Review the file, then: imgctl plan\n"
    )
    text = (folder / "imgctl.yaml").read_text(encoding="utf-8")
    assert 'image: {name: "Office 2026", description: "pays $${bonus}, \\"all\\" of it \\\\ 全部"}' in text
    held = state_of(folder)["servers"][OFFICE]["held"]
    assert (held["image_id"], held["spec"]["name"]) == (image_id, "Office 2026")
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    assert [(one["name"], one["action"]) for one in plan["changes"]] == [("web-template", "build")]
    assert plan["summary"]["gated"] == 0
    # Taken out of the manifest, the image is named by the defaults; nothing else ties the two together.
    assert oct((folder / "imgctl.state.json").stat().st_mode)[-3:] == "600"


def test_a_hundred_and_twenty_servers_cost_a_few_requests(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud(servers=120)
    for number, one in enumerate(list(cloud.world.servers)):
        if number % 2 == 0:
            give_image(cloud.world, one, f"镜像-{number}", f"第 {number} 号")
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "The next plan: 60 unchanged, 60 build." in ran.out
    assert sum(cloud.ledger["requests"].values()) == 3
    assert len(state_of(folder)["servers"]) == 60
    assert "60 unchanged" in imgctl("plan", env=cloud.env).out
    # Where no list shows Windows images, each is asked for by id.
    monkeypatch.setattr("reconciler.simulator.images._candidates", lambda call: [])
    assert imgctl("init", "--from-cloud", "-f", "other.yaml", "--state", "other.json", env=cloud.env).code == 0
    assert len(json.loads((folder / "other.json").read_text())["servers"]) == 60


def test_what_no_manifest_can_hold_is_protected_and_said(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud(servers=6)
    ids = list(cloud.world.servers)
    give_image(cloud.world, ids[0], "Win (gold)")
    give_image(cloud.world, ids[1], "same")
    give_image(cloud.world, ids[2], "same")
    give_image(cloud.world, ids[3], "described", "a <b>\nover lines")
    shared = give_image(cloud.world, ids[4], "shared")
    cloud.world.servers[ids[5]].image_id = shared
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 3
    text = (folder / "imgctl.yaml").read_text(encoding="utf-8")
    assert ran.out.count("\n  ") == text.count("\n    # ")
    assert 'the image name "Win (gold)" has "(" as character 5, which no manifest can declare.' in ran.out
    assert "Its image has the name of another one here" in ran.out
    assert "shows its image too: imgctl import NAME --image-id" in ran.out
    assert imgctl("validate").code == 0
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    # Whatever is not as it was held waits for a person: nothing is built or edited by the next apply.
    assert plan["summary"]["unchanged"] == 1
    assert all(change["gated"] for change in plan["changes"])
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 6
    assert cloud.ledger["received"] == 0
    assert imgctl("show", "office-template", "--format", "json").json["held"]["image_name"] == "Win (gold)"


def test_a_screen_of_problems_is_shown_and_the_file_has_them_all(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud
) -> None:
    cloud = start_cloud(servers=40)
    for one in cloud.world.servers.values():
        one.status = "BUILDING"
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.out.count("It is BUILDING") == 30
    assert "\n  and 10 more\n" in ran.out
    assert (folder / "imgctl.yaml").read_text(encoding="utf-8").count("    # It is BUILDING") == 40


def test_no_default_name_is_that_of_an_image(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "cad-template-1")
    give_image(cloud.world, WEB, "cad-template-2")
    assert imgctl("init", "--from-cloud", env=cloud.env).code == 0
    assert 'release: "3"' in (folder / "imgctl.yaml").read_text()
    assert imgctl("validate").code == 0


def test_deleted_images_and_unrecorded_builds_stay_gated(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    gone = give_image(cloud.world, OFFICE, "office-1")
    cloud.world.images.delete(cloud.world.images.get(gone))  # type: ignore[arg-type]
    give_image(cloud.world, CAD, "cad-1")
    cloud.world.servers[CAD].status = cloud.world.servers[WEB].status = "BUILDING"
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 3
    assert (
        "web-template: It is BUILDING, and that build is not recorded: imgctl import NAME --job-id JOB_ID." in ran.out
    )
    assert f"office-template: Its image is not recorded: image {gone} is gone from IMS" in ran.out
    assert "cad-template: Its image is not recorded: it is BUILDING" in ran.out
    assert written(folder) == ["imgctl.yaml"]
    assert imgctl("plan", "--format", "json", env=cloud.env).json["summary"]["gated"] == 2


@pytest.mark.parametrize("where", ["imgctl.yaml", "imgctl.state.json", "kept/elsewhere.json"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(imgctl: Imgctl, folder: Path, start_cloud: StartCloud, where: str, kind: str) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "office-1")
    (folder / "kept").mkdir()
    state = ("--state", "kept/elsewhere.json")
    if where == "imgctl.yaml":
        (folder / "origin").write_text("mine")
    else:
        assert imgctl("init", "--from-cloud", "-f", "first.yaml", "--state", "origin", env=cloud.env).code == 0
    os.symlink(folder / "origin", folder / where) if kind == "link" else os.rename("origin", where)
    kept = (folder / where).read_bytes()
    before = written(folder)
    ran = imgctl("init", "--from-cloud", *(state if where.startswith("kept") else ()), env=cloud.env)
    assert ran.code == 1
    assert "exists already" in ran.err or "symbolic link" in ran.err
    assert written(folder) == before
    assert (folder / where).read_bytes() == kept


def test_imgctl_state_says_where_the_records_go(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "office-1")
    (folder / "kept").mkdir()
    env = cloud.env | {"IMGCTL_STATE": str(folder / "kept/fleet.json")}
    assert imgctl("init", "--from-cloud", env=env).code == 0
    assert "fleet.json" in written(folder / "kept")
    assert written(folder) == ["imgctl.yaml", "kept"]
    assert "1 unchanged" in imgctl("plan", env=env).out
    (folder / "east").mkdir()
    elsewhere = ("-f", "east/imgctl.yaml", "--state", "kept/my fleet.json")
    ran = imgctl("init", "--from-cloud", *elsewhere, env=env)
    assert ran.out.endswith("then: imgctl plan -f east/imgctl.yaml --state 'kept/my fleet.json'\n")
    missing = cloud.env | {"IMGCTL_STATE": str(folder / "nowhere/fleet.json")}
    refused = imgctl("init", "--from-cloud", "-f", "other.yaml", env=missing)
    assert refused.code == 1
    assert "Create the folder first" in refused.err
    assert not (folder / "other.yaml").exists()


def test_a_locked_state_changes_nothing(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    with locked_state(folder / "imgctl.state.json"):
        ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 5
    assert written(folder) == []


def test_a_state_that_cannot_be_written_leaves_a_manifest_that_is_safe(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "office-1")

    def full(self: LocalState, content: bytes) -> None:
        raise StateError("cannot write the state: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(LocalState, "replace_document", full)
        ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 1
    assert "imgctl.yaml is written. Once the state can be: imgctl import --all -f imgctl.yaml" in ran.err
    # As after a crash between the two: nothing would be built unasked, and import --all makes up for it.
    assert imgctl("plan", "--format", "json", env=cloud.env).json["summary"]["gated"] == 1
    assert imgctl("import", "--all", env=cloud.env).code == 0
    assert "1 unchanged" in imgctl("plan", env=cloud.env).out


def test_a_pinned_workflow_writes_nothing(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "office-1")
    ran = imgctl("init", "--from-cloud", env=cloud.env | {"IMGCTL_PROVIDER": "simulator"})
    assert ran.code == 1
    assert "IMGCTL_PROVIDER" in ran.err
    assert written(folder) == []


def test_a_look_up_that_fails_writes_nothing(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.simulator.images._candidates", lambda call: [])
    cloud = start_cloud("forbidden=1@/v2/images")
    give_image(cloud.world, OFFICE, "office-1")
    ran = imgctl("init", "--from-cloud", env=cloud.env)
    assert ran.code == 1
    assert "1 of 1 images could not be looked up: GlanceShowImage" in ran.err
    assert written(folder) == []


@pytest.mark.parametrize("where", ["east/imgctl.yaml", "the east/a/imgctl.yaml", "file/imgctl.yaml"])
def test_a_folder_that_is_not_there_is_said_before_anything_is_asked(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, where: str
) -> None:
    cloud = start_cloud()
    (folder / "file").write_text("")
    for flags in ((), ("--from-cloud",)):
        ran = imgctl("init", *flags, "-f", where, env=cloud.env)
        assert ran.code == 1
        assert f"there is no folder {Path(where).parent}" in ran.err
    shown = imgctl("init", "-f", where).err
    assert "mkdir -p 'the east/a'" in shown or "the east" not in where
    assert written(folder) == ["file"]
    assert not cloud.ledger["requests"]


def test_an_interrupted_start_leaves_nothing_behind(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    give_image(cloud.world, OFFICE, "office-1")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("reconciler.cli.starting.load_inputs", interrupted)
        assert imgctl("init", "--from-cloud", env=cloud.env).code == 130
    assert written(folder) == []
    assert imgctl("init", "--from-cloud", env=cloud.env).code == 0


def test_the_starter_needs_no_state(imgctl: Imgctl, folder: Path) -> None:
    (folder / "imgctl.state.json").write_text("{}")
    assert imgctl("init", "--region", "cn-north-4").code == 0
    assert "region: cn-north-4" in (folder / "imgctl.yaml").read_text()
    assert imgctl("init").code == 1
    assert imgctl("init", "--from-cloud", "--from-tfstate", "x").code == 1

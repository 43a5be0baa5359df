"""import --all: a fleet's images handed over at once, and every reason not to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Imgctl, Ran, StartCloud, WriteManifest, give_image, locked_state
from tests.tfstates import image as terraform_image
from tests.tfstates import resource, tfstate

OFFICE, CAD, WEB = SERVER_IDS


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def line_of(ran: Ran, name: str) -> str:
    return next(line for line in ran.out.splitlines() if line.split()[:1] == [name])


def test_every_image_is_recorded_and_the_next_plan_has_no_changes(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    images = {
        name: give_image(cloud.world, one, f"{name}-1")
        for name, one in zip(("office", "cad", "web"), SERVER_IDS, strict=True)
    }
    dry = imgctl("import", "--all", "--dry-run", env=cloud.env)
    assert dry.code == 0
    assert "3 images would be recorded, 0 servers skipped. Nothing was changed (--dry-run)." in dry.out
    assert sorted(path.name for path in folder.iterdir()) == ["imgctl.yaml"]
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0, ran.err
    # But for the last line they say the same.
    assert ran.out.splitlines()[:-1] == dry.out.splitlines()[:-1]
    for name, image_id in images.items():
        assert line_of(ran, name).split() == [name, f"{name}-1", image_id, "unchanged"]
    assert "No changes." in imgctl("plan", env=cloud.env).out
    # All of it is one decision for each server, and binds the state.
    state = state_of(folder)
    assert state["serial"] == 4
    assert state["bound_to"]["project_id"] == cloud.world.project_id
    assert all(one["attempt"]["adopted"] for one in state["servers"].values())
    again = imgctl("import", "--all", env=cloud.env)
    assert again.code == 0
    assert "0 images recorded, 3 servers skipped." in again.out
    assert "it holds image" in line_of(again, "cad")
    assert state_of(folder) == state
    assert cloud.ledger["received"] == 0


def test_what_the_next_plan_says_is_what_it_says(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": {"server_id": CAD, "protect": True}, "网页": WEB})
    give_image(cloud.world, OFFICE, "office-1", "of another kind")
    give_image(cloud.world, CAD, "cad-0")
    give_image(cloud.world, WEB, "网页-1")
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0
    assert "update: only the description differs" in line_of(ran, "office")
    assert "rebuild: name differs; protected" in line_of(ran, "cad")
    assert line_of(ran, "网页").endswith("unchanged")
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    assert {one["name"]: one["action"] for one in plan["changes"]} == {"office": "update", "cad": "rebuild"}


def test_selectors_choose_and_everything_else_stays_out(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "labels": {"ring": "canary"}}, "cad": CAD, "web": WEB})
    for name, one in zip(("office", "cad", "web"), SERVER_IDS, strict=True):
        give_image(cloud.world, one, f"{name}-1")
    assert imgctl("import", "--all", "-l", "ring=canary", env=cloud.env).code == 0
    assert list(state_of(folder)["servers"]) == [OFFICE]
    ran = imgctl("import", "--all", "--target", "*", "--exclude", "w*", env=cloud.env)
    assert "web" not in ran.out
    assert sorted(state_of(folder)["servers"]) == sorted([OFFICE, CAD])
    assert "Did you mean cad?" in imgctl("import", "--all", "--target", "cat", env=cloud.env).err


def test_every_reason_to_leave_a_server_is_said(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=12)
    others = list(cloud.world.servers)[3:]
    names = ("busy", "busy2", "deleted", "hidden", "twin1", "twin2", "saving", "running", "fine")
    write_manifest(
        {"office": OFFICE, "cad": CAD, "missing": "0-no-such-server", **dict(zip(names, others, strict=True))}
    )
    world = cloud.world
    ids = dict(zip(names, others, strict=True))
    world.servers[ids["busy"]].status = "BUILDING"
    give_image(world, ids["busy2"], "busy2-1")
    world.servers[ids["busy2"]].status = "BUILDING"
    gone = give_image(world, ids["deleted"], "deleted-1")
    world.images.delete(world.images.get(gone))  # type: ignore[arg-type]
    give_image(world, ids["hidden"], "hidden-1")
    twin = give_image(world, ids["twin1"], "twin-1")
    world.servers[ids["twin2"]].image_id = twin
    saving = give_image(world, ids["saving"], "saving-1")
    world.images.get(saving).status = "saving"  # type: ignore[union-attr]
    give_image(world, CAD, "cad-1")
    assert imgctl("import", "--all", "--target", "cad", env=cloud.env).code == 0
    give_image(world, ids["fine"], "fine-1")

    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 3
    for name, reason in {
        "office": "it shows no image",
        "cad": "it holds image",
        "missing": "no image server of this project has the id 0-no-such-server",
        "busy": "BUILDING, and that build is not recorded: imgctl import busy --job-id JOB_ID",
        "busy2": "BUILDING, and that build is not recorded",
        "deleted": f"image {gone} is gone from IMS: look at it in the console; --allow deleted builds a new one",
        "twin1": f"shows its image too: imgctl import NAME --image-id {twin} for the one that made it",
        "twin2": "shows its image too",
        "saving": f"image {saving} is saving",
        "running": "it shows no image",
    }.items():
        assert reason in line_of(ran, name), name
    assert "2 images recorded, 10 servers skipped." in ran.out
    recorded = {one["name"] for one in state_of(folder)["servers"].values()}
    assert recorded == {"cad", "hidden", "fine"}
    again = imgctl("import", "--all", env=cloud.env)
    assert again.code == 3
    assert "0 images recorded, 12 servers skipped." in again.out


def test_a_build_of_ours_in_flight_is_left_alone(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=60)
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0
    assert "in flight: imgctl wait" in line_of(ran, "office")


def test_an_image_that_another_record_has_is_left_to_a_person(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": CAD})
    image_id = give_image(cloud.world, OFFICE, "office-1")
    assert imgctl("import", "office", "--image-id", image_id, env=cloud.env).code == 0
    cloud.world.servers[OFFICE].image_id = ""
    cloud.world.servers[CAD].image_id = image_id
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 3
    assert f"image {image_id} is recorded already, as a build of office" in line_of(ran, "cad")


def test_a_forgotten_server_comes_back_by_apply_and_names_stay_unique(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": CAD})
    for name, one in (("office", OFFICE), ("cad", CAD), ("web", WEB)):
        give_image(cloud.world, one, f"{name}-1")
    assert imgctl("import", "--all", env=cloud.env).code == 0
    assert imgctl("state", "rm", "cad").code == 0
    # The name `office` now belongs to another server, and the records do not know that yet.
    write_manifest({"office": WEB, "bureau": OFFICE, "cad": CAD})
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 3
    assert "returns at the next apply (it was forgotten)" in line_of(ran, "cad")
    assert f"another server by this name, {OFFICE}: imgctl apply moves it first" in line_of(ran, "office")
    single = imgctl("import", "office", "--image-id", cloud.world.servers[WEB].image_id, env=cloud.env)
    assert single.code == 1
    assert "another server by the name office" in single.err


def test_newer_images_of_somebody_else_are_pointed_out(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    give_image(cloud.world, OFFICE, "office-1")
    assert imgctl("import", "--all", env=cloud.env).code == 0
    newer = give_image(cloud.world, OFFICE, "office-by-hand", day=9)
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0
    assert f"and shows {newer}: imgctl import office --image-id {newer}" in line_of(ran, "office")


def test_a_server_that_shows_a_job_for_an_image(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.05)
    write_manifest({"office": OFFICE, "cad": CAD})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    office = cloud.ledger["builds"][0]["job_id"]
    for path in folder.glob("imgctl.state.json*"):
        path.unlink()
    image_id = cloud.world.servers[OFFICE].image_id
    cloud.world.servers[OFFICE].image_id = office
    as_image = imgctl("import", "office", "--image-id", office, env=cloud.env)
    assert as_image.code == 1
    assert f"{office} is no image but an image job, which is SUCCESS" in as_image.err
    assert f"--job-id {office}, or --image-id {image_id}, which it has made" in as_image.err
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0, ran.out
    attempt = state_of(folder)["servers"][OFFICE]["attempt"]
    assert (attempt["image_id"], attempt["job_id"]) == (image_id, office)
    assert "No changes." in imgctl("plan", env=cloud.env).out


def test_an_id_that_nobody_knows(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud(build_time=60)
    write_manifest({"office": OFFICE, "cad": CAD})
    ran = imgctl("import", "office", "--image-id", "702364883651395584", env=cloud.env)
    assert ran.code == 1
    assert "IMS knows no image 702364883651395584, and it is no image job either" in ran.err
    assert imgctl("apply", "--auto-approve", "--no-wait", "--target", "cad", env=cloud.env).code == 0
    job_id = cloud.ledger["builds"][0]["job_id"]
    cloud.world.servers[OFFICE].image_id = job_id
    listed = imgctl("import", "--all", "--target", "office", env=cloud.env)
    assert listed.code == 3
    assert f"{job_id} is no image but an image job, which is RUNNING: imgctl import office --job-id" in listed.out


def test_a_hundred_and_twenty_servers_cost_a_few_requests(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=120)
    ids = list(cloud.world.servers)
    write_manifest({f"镜像-{number}": one for number, one in enumerate(ids)})
    for number, one in enumerate(ids):
        give_image(cloud.world, one, f"镜像-{number}-1")
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "120 images recorded" in ran.out
    assert len(state_of(folder)["servers"]) == 120
    # Two pages of servers and one list of images.
    assert sum(cloud.ledger["requests"].values()) == 3
    assert "No changes." in imgctl("plan", env=cloud.env).out


def test_images_that_the_list_hides_are_found_by_id(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On some sites no Windows image can be listed (facts 1.13).
    monkeypatch.setattr("reconciler.simulator.images._candidates", lambda call: [])
    cloud = start_cloud()
    write_manifest()
    for name, one in zip(("office", "cad", "web"), SERVER_IDS, strict=True):
        give_image(cloud.world, one, f"{name}-1")
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 0, ran.out
    assert "3 images recorded" in ran.out


def test_what_could_not_be_looked_up_is_not_taken_for_gone(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.simulator.images._candidates", lambda call: [])
    cloud = start_cloud("forbidden=1@/v2/images")
    write_manifest({"office": OFFICE})
    give_image(cloud.world, OFFICE, "office-1")
    ran = imgctl("import", "--all", env=cloud.env)
    assert ran.code == 3
    assert "could not be looked up: GlanceShowImage" in line_of(ran, "office")
    assert "0 images recorded" in ran.out


def test_against_the_embedded_simulator(imgctl: Imgctl, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest(provider={"simulator": {"servers": 3, "build_time": 0.05}})
    assert imgctl("apply", "--auto-approve").code == 0
    for path in folder.glob("imgctl.state.json*"):
        if "world" not in path.name:
            path.unlink()
    ran = imgctl("import", "--all")
    assert ran.code == 0
    assert "SIMULATED" in ran.err
    assert "3 images recorded" in ran.out
    assert "No changes." in imgctl("plan").out


def test_a_locked_state_refuses_and_a_dry_run_does_not_care(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    give_image(cloud.world, OFFICE, "office-1")
    with locked_state(folder / "imgctl.state.json"):
        refused = imgctl("import", "--all", env=cloud.env)
        assert refused.code == 5
        assert "is locked by" in refused.err
        assert imgctl("import", "--all", "--dry-run", env=cloud.env).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--all", "office"), "--all takes no NAME"),
        (("--all", "--job-id", "1"), "--all takes no NAME"),
        ((), "name the server to import for"),
        (("office", "--image-id", "x", "--dry-run"), "go with --all"),
        (("office", "--image-id", "x", "--target", "y"), "go with --all"),
    ],
)
def test_command_lines_that_cannot_be(imgctl: Imgctl, arguments: tuple[str, ...], said: str) -> None:
    ran = imgctl("import", *arguments)
    assert ran.code == 1
    assert said in ran.err


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("gold", "active", "is no private image of this project but a public one"),
        ("shared", "active", "is no private image of this project but a shared one"),
        ("private", "killed", "is killed"),
        ("private", "saving", "is saving"),
    ],
)
def test_what_cannot_be_held_is_recorded_by_no_way(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    kind: str,
    status: str,
    said: str,
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    image_id = give_image(cloud.world, OFFICE, "office-1")
    image = cloud.world.images.get(image_id)
    assert image is not None
    image.kind, image.status = kind, status
    single = imgctl("import", "office", "--image-id", image_id, env=cloud.env)
    assert single.code == 1
    assert f"image {image_id} {said}: it cannot be held" in single.err
    listed = imgctl("import", "--all", env=cloud.env)
    assert listed.code == 3
    assert said in line_of(listed, "office")
    (folder / "terraform.tfstate").write_text(tfstate(resource("office", terraform_image(image_id, OFFICE))))
    for start in (("--from-cloud",), ("--from-tfstate", "terraform.tfstate")):
        (folder / "imgctl.yaml").unlink()
        ran = imgctl("init", *start, env=cloud.env)
        assert ran.code == 3
        assert said in ran.out
        # The server shows an image that is not recorded: nothing is built before a person has decided.
        assert imgctl("plan", "--target", "office*", "--format", "json", env=cloud.env).json["summary"]["gated"] == 1
    assert not (folder / "imgctl.state.json").exists()


@pytest.mark.parametrize("status", ["RUNNING", "SUCCESS"])
@pytest.mark.parametrize("kind", ["CREATE_SERVER", "DELETE_IMAGE"])
def test_a_job_that_makes_no_image_is_not_taken_for_a_build(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    kind: str,
) -> None:
    cloud = start_cloud(build_time=0.01 if status == "SUCCESS" else 60)
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    if status == "SUCCESS":
        cloud.wait_for_builds()
    for path in folder.glob("imgctl.state.json*"):
        path.unlink()
    job_id = cloud.ledger["builds"][0]["job_id"]
    cloud.world.servers[OFFICE].image_id = ""
    cloud.world.servers[OFFICE].status = "ACTIVE"
    monkeypatch.setattr("reconciler.simulator.jobs.BUILD_JOB", kind)
    as_job = imgctl("import", "office", "--job-id", job_id, env=cloud.env)
    assert as_job.code == 1
    assert f"job {job_id} makes no image" in as_job.err
    as_image = imgctl("import", "office", "--image-id", job_id, env=cloud.env)
    assert as_image.code == 1
    assert f"{job_id} is no image but a job that makes none" in as_image.err
    (folder / "imgctl.yaml").unlink()
    (folder / "terraform.tfstate").write_text(tfstate(resource("office", terraform_image(job_id, OFFICE))))
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 3
    assert f"{job_id} is no image but a job that makes none; nothing is recorded of it." in ran.out
    # Nobody waits for it.
    assert "No build is in flight." in imgctl("wait", env=cloud.env).out

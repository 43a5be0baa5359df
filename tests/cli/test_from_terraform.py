"""init --from-tfstate: what Terraform holds goes over to imgctl, and Terraform lets go of it."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, give_image, locked_state
from tests.tfstates import SECRET, image, instance, resource, tfstate

OFFICE, CAD, WEB = SERVER_IDS
KIND = "huaweicloud_workspace_app_image"
SERVER_KIND = "huaweicloud_workspace_app_image_server"


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def build(imgctl: Imgctl, cloud: Cloud, folder: Path, write_manifest: WriteManifest, *faults: str) -> dict[str, str]:
    """A build of every server that is not imgctl's any more; the job of each server."""
    write_manifest()
    cloud.faults(*faults)
    imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env)
    cloud.faults()
    for path in folder.iterdir():
        path.unlink()
    return {one["server_id"]: one["job_id"] for one in cloud.ledger["builds"]}


def test_images_are_taken_over_and_terraform_is_told_to_let_go(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud
) -> None:
    cloud = start_cloud()
    office = give_image(cloud.world, OFFICE, "办公 2026", "pays ${bonus}")
    cad = give_image(cloud.world, CAD, "cad-2026")
    (folder / "terraform.tfstate").write_text(
        tfstate(
            resource("this", image(office, OFFICE, "office"), image(cad, CAD, "cad"), module='module.images["eu"]'),
            resource("web", instance({"id": WEB, "name": "web"}), kind=SERVER_KIND),
        )
    )
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(
        "imgctl.yaml: 2 image servers declared.\n"
        "imgctl.state.json: the images and builds of 2 of them recorded.\n"
        "The next plan: No changes.\n"
    )
    assert f"  from = module.images.{KIND}.this\n  lifecycle {{\n    destroy = false\n" in ran.out
    command = shlex.split(ran.out[ran.out.index("terraform state rm") :].replace("\\\n", ""))
    addresses = [f'module.images["eu"].{KIND}.this["{key}"]' for key in ("office", "cad")]
    assert command == ["terraform", "state", "rm", *addresses]
    text = (folder / "imgctl.yaml").read_text(encoding="utf-8")
    assert f'    # Terraform: {addresses[0]}\n    server_id: "{OFFICE}"\n' in text
    assert f"# Not declared, since Terraform makes no image of it: {SERVER_KIND}.web ({WEB}).\n" in text
    assert "region: ap-southeast-1" in text
    assert "No changes." in imgctl("plan", env=cloud.env).out
    shown = imgctl("show", "images-eu-office", "--format", "json").json
    assert (shown["held"]["image_id"], shown["held"]["description"]) == (office, "pays ${bonus}")
    assert shown["builds"][0]["context"]["note"] == f"from Terraform: {addresses[0]}"
    assert cloud.ledger["received"] == 0
    everything = ran.out + ran.err + text + (folder / "imgctl.state.json").read_text()
    assert SECRET not in everything


def test_a_pipe_is_read_too(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    office = give_image(cloud.world, OFFICE, "office-1")
    text = tfstate(resource("office", image(office, OFFICE)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    ran = imgctl("init", "--from-tfstate", "-", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "No changes." in imgctl("plan", env=cloud.env).out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input is not JSON" in imgctl("init", "--from-tfstate", "-", "-f", "x.yaml", env=cloud.env).err


def test_ids_that_are_jobs_are_looked_up(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    # What the provider leaves behind when a create fails, times out, or meets a job that WAITS (facts 7.2).
    cloud = start_cloud(build_time=0.05)
    jobs = build(imgctl, cloud, folder, write_manifest)
    cloud.world.build_time = 60
    state = tfstate(*(resource(name, image(jobs[one], one, status="tainted")) for name, one in NAMED))
    (folder / "terraform.tfstate").write_text(state)
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "No changes." in imgctl("plan", env=cloud.env).out
    held = {name: imgctl("show", name, "--format", "json").json["held"] for name, _ in NAMED}
    assert {one["job_id"] for one in held.values()} == set(jobs.values())
    assert held["office"]["image_id"] == cloud.world.servers[OFFICE].image_id


NAMED = (("office", OFFICE), ("cad", CAD), ("web", WEB))


def test_a_job_that_runs_is_waited_for_and_one_that_failed_is_said(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.6)
    jobs = build(imgctl, cloud, folder, write_manifest)
    running = tfstate(resource("office", image(jobs[OFFICE], OFFICE, status="tainted")))
    (folder / "terraform.tfstate").write_text(running)
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 0, ran.out + ran.err
    assert "The next plan: 0 unchanged, 1 resume." in ran.out
    assert imgctl("wait", env=cloud.env).code == 0
    assert "No changes." in imgctl("plan", env=cloud.env).out
    assert 'image: {name: "office-1"}' in (folder / "imgctl.yaml").read_text()


def test_a_job_that_failed_is_recorded_and_nothing_is_held(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.01)
    jobs = build(imgctl, cloud, folder, write_manifest, "job-failed=1")
    older = give_image(cloud.world, CAD, "cad-old")
    (folder / "terraform.tfstate").write_text(
        tfstate(
            resource("office", image(jobs[OFFICE], OFFICE, status="tainted")),
            # A failed replacement leaves the object that it was to replace.
            resource("cad", image(jobs[CAD], CAD, status="tainted"), image(older, CAD, deposed="0123abcd")),
        )
    )
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 3
    assert f"office: {KIND}.office: its build failed: WKS." in ran.out
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    (change,) = plan["changes"]
    assert (change["name"], change["action"]) == ("office", "build")
    assert "the last build failed" in change["reasons"][0]
    assert imgctl("show", "cad", "--format", "json").json["held"]["image_id"] == older
    assert ran.out.count(f"{KIND}.cad") == 3


def test_of_several_images_the_one_that_the_server_shows_is_held(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud
) -> None:
    cloud = start_cloud()
    first = give_image(cloud.world, OFFICE, "office-1", day=1)
    shown = give_image(cloud.world, OFFICE, "office-2", day=2)
    newest = give_image(cloud.world, OFFICE, "office-3", day=3, show=False)
    cads = [give_image(cloud.world, CAD, f"cad-{day}", day=day, show=False) for day in (5, 9, 7)]
    (folder / "a.tfstate").write_text(tfstate(resource("office", image(newest, OFFICE), image(first, OFFICE, 1))))
    (folder / "b.tfstate").write_text(
        tfstate(
            resource("office", image(shown, OFFICE)),
            resource("cad", *(image(one, CAD, number) for number, one in enumerate(cads))),
        )
    )
    ran = imgctl("init", "--from-tfstate", "a.tfstate", "--from-tfstate", "b.tfstate", env=cloud.env)
    assert ran.code == 0, ran.out + ran.err
    office = imgctl("show", "office", "--format", "json").json
    assert office["held"]["image_id"] == shown
    assert {one["image_id"] for one in office["builds"]} == {first, shown, newest}
    assert imgctl("show", "cad-0", "--format", "json").json["held"]["image_id"] == cads[1]
    # Each state is told what is its own.
    a, b = ran.out.split("\na.tfstate:\n")[1].split("\nb.tfstate:\n")
    assert "cad" not in a
    assert f"'{KIND}.cad[2]'" in b


def test_what_is_gone_or_claimed_twice_is_said(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    gone = give_image(cloud.world, OFFICE, "office-1")
    cloud.world.images.delete(cloud.world.images.get(gone))  # type: ignore[arg-type]
    twice = give_image(cloud.world, CAD, "cad-1", show=False)
    lost = give_image(cloud.world, CAD, "lost-1", show=False)
    (folder / "terraform.tfstate").write_text(
        tfstate(
            resource("office", image(gone, OFFICE)),
            resource("cad", image(twice, CAD)),
            resource("web", image(twice, WEB)),
            resource("lost", image(lost, "0-no-such-server")),
            resource("bad", image("", WEB, 0)),
        )
    )
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 3
    assert f"office: {KIND}.office: image {gone} is gone from IMS; nothing is recorded of it." in ran.out
    assert f"cad: {KIND}.cad: another server claims image {twice} too" in ran.out
    assert "lost: No image server of this project has the id 0-no-such-server." in ran.out
    assert f"Left out: {KIND}.bad[0] has no id that could be one." in ran.out
    assert imgctl("validate").code == 0
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    assert {one["name"]: bool(one["gated"]) for one in plan["changes"]} == {"office": True, "cad": False, "web": False}


@pytest.mark.parametrize("flag", [None, "ap-southeast-1"])
def test_one_region_at_a_time(imgctl: Imgctl, folder: Path, start_cloud: StartCloud, flag: str | None) -> None:
    cloud = start_cloud()
    office = give_image(cloud.world, OFFICE, "office-1")
    (folder / "terraform.tfstate").write_text(
        tfstate(resource("all", image(office, OFFICE, 0), image("i9", "s9", 1, region="cn-north-4")))
    )
    arguments = () if flag is None else ("--region", flag)
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", *arguments, env=cloud.env)
    if flag is None:
        assert ran.code == 1
        assert "several regions: ap-southeast-1 (1), cn-north-4 (1)" in ran.err
        assert "--region REGION" in ran.err
        assert written(folder) == ["terraform.tfstate"]
        return
    assert ran.code == 0, ran.err
    assert "Left out: 1 of another region." in ran.out
    # A removed block is for a whole resource: half of this one belongs to another region.
    assert "removed {" not in ran.out
    assert f"terraform state rm \\\n  '{KIND}.all[0]'\n" in ran.out
    other = imgctl("init", "--from-tfstate", "terraform.tfstate", "--region", "tr-west-1", env=cloud.env)
    assert other.code == 1


def test_the_states_region_wins_over_the_environments(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    office = give_image(cloud.world, OFFICE, "office-1")
    (folder / "terraform.tfstate").write_text(tfstate(resource("office", image(office, OFFICE))))
    env = cloud.env | {"HW_REGION_NAME": "cn-north-4"}
    assert imgctl("init", "--from-tfstate", "terraform.tfstate", env=env).code == 0
    assert "region: ap-southeast-1" in (folder / "imgctl.yaml").read_text()
    (folder / "none.tfstate").write_text(tfstate(resource("office", image(office, OFFICE, region=None))))
    ran = imgctl("init", "--from-tfstate", "none.tfstate", "-f", "n.yaml", "--state", "n.json", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "region: ap-southeast-1" in (folder / "n.yaml").read_text()


def test_another_project_is_noticed(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    (folder / "terraform.tfstate").write_text(tfstate(resource("office", image("i1", "s1"))))
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 1
    assert "none of the image servers of the Terraform state is in project" in ran.err
    assert "HW_PROJECT_ID" in ran.err
    assert written(folder) == ["terraform.tfstate"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "is not JSON"),
        (tfstate(), "there is no huaweicloud_workspace_app_image in x.tfstate"),
        (tfstate(resource("a", image("", "s1"))), f"{KIND}.a has no id that could be one"),
        (tfstate(version=3), "Terraform 0.11 or older"),
    ],
)
def test_states_that_are_none(imgctl: Imgctl, folder: Path, content: str | None, said: str) -> None:
    if content is not None:
        (folder / "x.tfstate").write_text(content)
    before = written(folder)
    ran = imgctl("init", "--from-tfstate", "x.tfstate")
    assert ran.code == 1
    assert said in ran.err
    assert SECRET not in ran.err
    assert written(folder) == before


def test_existing_files_and_locks_change_nothing(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud()
    office = give_image(cloud.world, OFFICE, "office-1")
    (folder / "terraform.tfstate").write_text(tfstate(resource("office", image(office, OFFICE))))
    with locked_state(folder / "imgctl.state.json"):
        assert imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env).code == 5
    assert written(folder) == ["terraform.tfstate"]
    assert imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env).code == 0
    for arguments in ((), ("-f", "other.yaml")):
        ran = imgctl("init", "--from-tfstate", "terraform.tfstate", *arguments, env=cloud.env)
        assert ran.code == 1
        assert "exists already" in ran.err


def test_a_hundred_and_twenty_images(imgctl: Imgctl, folder: Path, start_cloud: StartCloud) -> None:
    cloud = start_cloud(servers=120)
    images = [
        image(give_image(cloud.world, one, f"镜像 {number}"), one, number)
        for number, one in enumerate(cloud.world.servers)
    ]
    (folder / "terraform.tfstate").write_text(tfstate(resource("fleet", *images)))
    ran = imgctl("init", "--from-tfstate", "terraform.tfstate", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "The next plan: No changes." in ran.out
    assert len(state_of(folder)["servers"]) == 120
    assert sum(cloud.ledger["requests"].values()) == 3

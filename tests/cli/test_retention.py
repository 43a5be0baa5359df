"""keep_images, and the quota: what apply deletes, when, and how a queue moves on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.cloud.client import CloudClient
from reconciler.errors import NotFound
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS
ALL = {"office": OFFICE, "cad": CAD, "web": WEB}


def builds_of(folder: Path, server_id: str = OFFICE) -> list[Any]:
    record = json.loads((folder / "imgctl.state.json").read_text())["servers"][server_id]
    return [*record.get("history", []), record["attempt"]]


def names(cloud: Cloud) -> list[str]:
    return sorted(image.name for image in cloud.world.images if image.kind == "private")


def release(imgctl: Imgctl, cloud: Cloud, number: int, *flags: str, code: int = 0) -> str:
    ran = imgctl("apply", "--auto-approve", "--var", f"release={number}", *flags, env=cloud.env)
    assert ran.code == code, ran.out + ran.err
    return ran.out


def test_the_oldest_image_goes_once_its_successor_is_built(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 2}})
    for number in (1, 2):
        assert "prune" not in release(imgctl, cloud, number)
    oldest = builds_of(folder)[0]["image_id"]
    plan = imgctl("plan", "--var", "release=3", env=cloud.env)
    assert "Plan: 1 to add, 0 to change, 1 to destroy." in plan.out
    assert f"image {oldest} of" in plan.out
    said = release(imgctl, cloud, 3)
    assert f"office: pruned (image {oldest} (office-1) deleted)" in said
    assert said.index("office: built image") < said.index("office: pruned")
    assert "Apply complete! 1 rebuilt, 1 pruned" in said
    assert names(cloud) == ["office-2", "office-3"]
    first = builds_of(folder)[0]
    assert first["deleted_at"]
    plan_id = imgctl("history", "--format", "json").json[-1]["plan_id"]
    assert first["pruned_by"] == plan_id
    assert "(pruned 20" in imgctl("history").out
    assert "No changes." in imgctl("plan", "--var", "release=3", env=cloud.env).out


def test_nothing_goes_without_being_asked_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    for number in range(1, 5):
        release(imgctl, cloud, number)
    assert len(names(cloud)) == 4
    assert not any("DELETE" in operation for operation in cloud.ledger["requests"])


def test_nothing_goes_where_the_build_fails(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    cloud.faults("job-failed=1")
    said = release(imgctl, cloud, 2, code=3)
    assert "its build has not succeeded, so nothing is pruned" in said
    assert names(cloud) == ["office-1"]


def test_nothing_goes_that_somebody_protects_or_uses_meanwhile(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud()
    write_manifest({name: {"server_id": server_id, "keep_images": 1} for name, server_id in ALL.items()})
    release(imgctl, cloud, 1)
    protected, shown = (builds_of(folder, server_id)[0]["image_id"] for server_id in (OFFICE, CAD))

    def approve(*_: object) -> bool:
        image = cloud.world.images.get(protected)
        assert image is not None
        image.protected = True
        cloud.world.servers[WEB].image_id = shown
        return True

    monkeypatch.setattr("reconciler.cli.console.Console.confirm", approve)
    monkeypatch.setattr("reconciler.cli.console.Console.interactive", True)
    ran = imgctl("apply", "--var", "release=2", "--target", "office", "--target", "cad", env=cloud.env)
    assert ran.code == 3
    assert "2 rebuilt, 2 not started" in ran.out
    assert f"image {protected} is protected in IMS" in ran.out
    assert f"image server {WEB} shows image {shown}" in ran.out
    assert {"office-1", "cad-1"} <= set(names(cloud))


def test_an_adopted_image_stays(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    job = cloud.build_elsewhere(OFFICE, "by hand")
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    assert imgctl("import", "office", "--image-id", job.image_id, env=cloud.env).code == 0
    for number in (1, 2):
        release(imgctl, cloud, number)
    assert names(cloud) == ["by hand", "office-2"]


def test_a_forgotten_servers_images_stay(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}, "cad": CAD})
    release(imgctl, cloud, 1)
    write_manifest({"cad": {"server_id": CAD, "keep_images": 1}})
    release(imgctl, cloud, 2)
    assert names(cloud) == ["cad-2", "office-1"]


@pytest.mark.parametrize("flags", [[], ["--max-prunes", "0"]])
def test_more_prunes_than_allowed_hold_everything_back(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, flags: list[str]
) -> None:
    cloud = start_cloud()
    limits = {} if flags else {"limits": {"max_prunes": 0}}
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}}, **limits)
    release(imgctl, cloud, 1)
    ran = imgctl("apply", "--auto-approve", "--var", "release=2", *flags, env=cloud.env)
    assert ran.code == 6
    assert "1 prune, and max_prunes is 0" in ran.out
    assert names(cloud) == ["office-1"]
    release(imgctl, cloud, 2, *flags, "--allow", "office")
    assert names(cloud) == ["office-2"]


@pytest.mark.parametrize("fault", ["drop-after=1@DELETE*1", "error-5xx=1@DELETE*1", "throttle=1:0.1@DELETE*2"])
def test_a_deletion_of_which_nobody_knows_is_looked_at(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest, fault: str
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    cloud.faults(fault)
    release(imgctl, cloud, 2)
    assert names(cloud) == ["office-2"]
    assert builds_of(folder)[0]["deleted_at"]


def test_an_image_that_was_deleted_by_hand_is_recorded_as_gone(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 5}})
    for number in (1, 2):
        release(imgctl, cloud, number)
    first = cloud.world.images.get(builds_of(folder)[0]["image_id"])
    assert first is not None
    cloud.world.images.delete(first)
    release(imgctl, cloud, 3)
    assert builds_of(folder)[0]["deleted_at"]
    assert "pruned_by" not in builds_of(folder)[0]
    # And is not looked for any more.
    before = cloud.ledger["requests"].get("GET /v2/images/{image_id}", 0)
    imgctl("plan", env=cloud.env)
    assert cloud.ledger["requests"].get("GET /v2/images/{image_id}", 0) == before


def test_builds_beyond_the_quota_are_not_started_and_the_rest_is(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=2)
    write_manifest()
    plan = imgctl("plan", env=cloud.env)
    assert "no place in the quota of private images: 0 of 2 are used, and 2 other builds come first" in plan.out
    assert "Private images: 0 of 2 in the quota now, 2 afterwards." in plan.out
    said = release(imgctl, cloud, 1, code=3)
    assert "2 built, 1 not started" in said
    assert cloud.ledger["received"] == 2
    assert imgctl("apply", "--auto-approve", "--strict", env=cloud.env).code in (3, 6)


def test_a_queue_moves_on_as_prunes_give_places_back(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=4)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    plan = imgctl("plan", "--var", "release=2", env=cloud.env)
    assert "3 in the quota now" not in plan.out
    assert "Private images: 3 of 4 in the quota now, 3 afterwards.\n2 of the builds wait for places" in plan.out
    said = release(imgctl, cloud, 2)
    assert "3 rebuilt, 3 pruned" in said
    assert names(cloud) == ["cad-2", "office-2", "web-2"]
    # Never more images than the quota allows: none of the builds has failed for that.
    assert "IMG.0015" not in said


def test_a_failed_build_gives_its_place_to_the_next(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=4)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    cloud.faults("job-failed=1*1")
    said = release(imgctl, cloud, 2, code=3)
    assert "2 rebuilt, 2 pruned, 1 failed, 1 not started" in said


def test_places_that_others_take_meanwhile_send_the_rest_of_the_line_away(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=4)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    # Nothing can be deleted: no place comes back, and nobody waits for ever.
    cloud.faults("forbidden=1@DELETE")
    said = release(imgctl, cloud, 2, code=3)
    assert "no place in the quota of private images" in said
    assert "1 rebuilt" in said
    assert cloud.ledger["received"] == 4


def test_without_waiting_only_what_has_a_place_is_submitted(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=4, build_time=0.3)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    said = release(imgctl, cloud, 2, "--no-wait", code=3)
    assert "1 running" in said
    assert "until a build has ended and its prune has given one back" in said
    # The next apply takes up the build, prunes after it, and goes on with the others.
    assert "1 resumed" in release(imgctl, cloud, 2)
    assert names(cloud) == ["cad-2", "office-2", "web-2"]


def test_an_image_that_somebody_else_deletes_first_is_gone_all_the_same(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    real = CloudClient.delete_image

    async def too_late(client: CloudClient, image_id: str) -> None:
        await real(client, image_id)
        raise NotFound("no such image", operation="DeleteImage", status=404, code="IMG.0027")

    monkeypatch.setattr(CloudClient, "delete_image", too_late)
    release(imgctl, cloud, 2)
    assert builds_of(folder)[0]["deleted_at"]


@pytest.mark.parametrize("answered", [True, False])
def test_an_interrupt_during_a_deletion_hears_its_answer_but_waits_for_no_brake(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
    answered: bool,
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    oldest = builds_of(folder)[0]["image_id"]
    real = CloudClient.delete_image

    async def interrupted(client: CloudClient, image_id: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0 if answered else 3600)
        await real(client, image_id)

    monkeypatch.setattr(CloudClient, "delete_image", interrupted)
    if not answered:
        monkeypatch.setattr("reconciler.execution.images._ANSWER_SECONDS", 0.05)
    said = release(imgctl, cloud, 2, code=130)
    if answered:
        assert f"pruned (image {oldest} (office-1) deleted)" in said
        assert builds_of(folder)[0]["deleted_at"]
        return
    # Never "not started": nobody knows whether the request has left.
    assert f"the run was stopped while IMS was asked to delete image {oldest}: the next plan tells" in said
    assert "1 rebuilt, 1 failed" in said
    assert names(cloud) == ["office-1", "office-2"]


def test_a_deletion_whose_outcome_cannot_be_seen_says_that_it_was_asked_for(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    oldest = builds_of(folder)[0]["image_id"]
    real = CloudClient.delete_image

    async def then_dark(client: CloudClient, image_id: str) -> None:
        await real(client, image_id)
        cloud.faults("forbidden=1@GET /v2")

    with monkeypatch.context() as patch:
        patch.setattr(CloudClient, "delete_image", then_dark)
        said = release(imgctl, cloud, 2, code=3)
    assert f"IMS was asked to delete image {oldest}: " in said
    cloud.faults()
    # The next apply that has something to do finds it gone, and asks for it no more.
    release(imgctl, cloud, 3)
    assert cloud.ledger["requests"]["DELETE /v2/images/{image_id}"] == 2
    assert builds_of(folder)[0]["deleted_at"]


def test_builds_that_are_left_out_keep_their_places_in_the_quota(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=5)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    cloud.world.build_time = 3600
    release(imgctl, cloud, 2, "--no-wait", "--target", "web")
    cloud.world.build_time = 0.1
    plan = imgctl("plan", "--var", "release=2", "--exclude", "web", env=cloud.env)
    assert "1 build is in flight on servers that the selectors leave out" in plan.out
    assert "Private images: 3 of 5 in the quota now, 4 afterwards.\n1 of the builds waits for places" in plan.out
    said = release(imgctl, cloud, 2, "--exclude", "web")
    assert "2 rebuilt, 2 pruned" in said
    assert "IMG.0015" not in said


def test_a_build_that_has_ended_is_recorded_without_waiting(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": CAD})
    release(imgctl, cloud, 1, "--no-wait")
    cloud.wait_for_builds()
    assert "its end will be recorded" in imgctl("plan", env=cloud.env).out
    looks = cloud.ledger["requests"]["GET /v1/{project_id}/image-server-jobs/{job_id}"]
    assert "2 resumed" in release(imgctl, cloud, 1, "--no-wait")
    # What the plan was made of is not asked for again.
    assert cloud.ledger["requests"]["GET /v1/{project_id}/image-server-jobs/{job_id}"] == looks + 2
    assert "No changes." in imgctl("plan", env=cloud.env).out


def test_prunes_that_are_not_due_yet_leave_nothing_undone(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    said = release(imgctl, cloud, 2, "--no-wait")
    assert "Apply complete! 1 running, 1 not started" in said
    assert "its build is in flight: the apply that records its image prunes" in said
    assert "imgctl apply  does so too, and prunes what they replace." in said
    assert "1 resumed, 1 pruned" in release(imgctl, cloud, 2)
    assert names(cloud) == ["office-2"]


def test_nothing_goes_while_the_new_image_is_not_to_be_seen(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    release(imgctl, cloud, 1)
    # The job succeeds, yet IMS has nothing: the old image is the last one.
    monkeypatch.setattr(cloud.world.images, "add", lambda image: None)
    monkeypatch.setattr("reconciler.execution.images._SHOWN_SECONDS", 0.1)
    said = release(imgctl, cloud, 2, code=3)
    assert "does not show itself in IMS, so nothing is pruned" in said
    assert names(cloud) == ["office-1"]


def test_an_image_that_is_found_gone_is_recorded_though_nothing_else_changes(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 2}})
    for number in (1, 2):
        release(imgctl, cloud, number)
    # As after a run that was cut off between a deletion and its record.
    oldest = cloud.world.images.get(builds_of(folder)[0]["image_id"])
    assert oldest is not None
    cloud.world.images.delete(oldest)
    assert "No changes." in release(imgctl, cloud, 2)
    assert builds_of(folder)[0]["deleted_at"]
    before = cloud.ledger["requests"]["GET /v2/images/{image_id}"]
    assert "No changes." in release(imgctl, cloud, 2)
    assert cloud.ledger["requests"]["GET /v2/images/{image_id}"] == before


def test_what_a_forgotten_server_held_is_not_looked_for(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": CAD})
    release(imgctl, cloud, 1)
    held = cloud.world.images.get(builds_of(folder)[0]["image_id"])
    write_manifest({"cad": CAD})
    release(imgctl, cloud, 1)
    assert held is not None
    cloud.world.images.delete(held)
    assert "No changes." in release(imgctl, cloud, 1)
    assert "GET /v2/images/{image_id}" not in cloud.ledger["requests"]
    # Declared again, it is: the plan says what will follow.
    write_manifest({"office": OFFICE, "cad": CAD})
    assert "rebuild follows at the next apply" in imgctl("plan", env=cloud.env).out


def test_a_line_for_places_ends_with_the_timeout(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(quota=4)
    write_manifest(ALL, defaults={"image": {"name": "${server.name}-${var.release}"}, "keep_images": 1})
    release(imgctl, cloud, 1)
    cloud.world.build_time = 3600
    said = release(imgctl, cloud, 2, "--timeout", "1", code=7)
    assert "1 running, 5 not started" in said
    assert "imgctl apply continues with what was not started." in said
    assert cloud.ledger["received"] == 4

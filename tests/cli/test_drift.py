"""The cloud changes behind imgctl's back: what plan says of it, and what apply makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.cloud.client import CloudClient
from reconciler.simulator import images as simulated_images
from reconciler.simulator.records import Image
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS
DESCRIBED = {"office": {"server_id": OFFICE, "image": {"description": "for the office"}}}


def record_of(folder: Path, server_id: str = OFFICE) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())["servers"][server_id]


def held_image(cloud: Cloud, folder: Path, server_id: str = OFFICE) -> Image:
    image = cloud.world.images.get(record_of(folder, server_id)["held"]["image_id"])
    assert image is not None
    return image


@pytest.fixture
def office(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> Cloud:
    """A cloud in which the image of `office` is built and described."""
    cloud = start_cloud()
    write_manifest(DESCRIBED)
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert "No changes." in imgctl("plan", env=cloud.env).out
    return cloud


def test_a_deleted_image_is_built_anew(imgctl: Imgctl, folder: Path, office: Cloud) -> None:
    office.world.images.delete(held_image(office, folder))
    plan = imgctl("plan", env=office.env)
    assert "the held image is gone from IMS" in plan.out
    assert "Plan: 1 to add, 0 to change, 0 to destroy." in plan.out
    assert imgctl("apply", "--auto-approve", env=office.env).code == 0
    assert len(office.ledger["builds"]) == 2
    assert "No changes." in imgctl("plan", env=office.env).out
    assert held_image(office, folder).name == "office-1"


def test_an_edited_image_is_edited_back_without_a_build(imgctl: Imgctl, folder: Path, office: Cloud) -> None:
    image = held_image(office, folder)
    office.world.images.rename(image, "somebody's")
    image.description = None
    plan = imgctl("plan", env=office.env)
    assert "renamed in IMS, described otherwise in IMS" in plan.out
    assert '"somebody\'s" -> "office-1"' in plan.out
    assert "Plan: 0 to add, 1 to change, 0 to destroy." in plan.out
    ran = imgctl("apply", "--auto-approve", env=office.env)
    assert ran.code == 0
    assert "office: updated (name and description in IMS)" in ran.out
    edited = held_image(office, folder)
    assert (edited.name, edited.description) == ("office-1", "for the office")
    assert len(office.ledger["builds"]) == 1
    assert "No changes." in imgctl("plan", env=office.env).out


@pytest.mark.parametrize(
    "fault",
    [
        "drop-after=1@PATCH*1",
        "drop-before=1@PATCH*1",
        "error-5xx=1@PATCH*2",
        "throttle=1:0.1@PATCH*1",
    ],
)
def test_an_edit_of_which_nobody_knows_is_looked_at_before_it_is_sent_again(
    imgctl: Imgctl, folder: Path, office: Cloud, fault: str
) -> None:
    office.world.images.rename(held_image(office, folder), "other")
    office.faults(fault)
    assert imgctl("apply", "--auto-approve", env=office.env).code == 0
    assert held_image(office, folder).name == "office-1"
    assert "No changes." in imgctl("plan", env=office.env).out


def test_an_edit_that_is_refused_is_a_failure_and_leaves_the_record(
    imgctl: Imgctl, folder: Path, office: Cloud, write_manifest: WriteManifest
) -> None:
    office.faults("forbidden=1@PATCH")
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "another"}}})
    ran = imgctl("apply", "--auto-approve", env=office.env)
    assert ran.code == 3
    assert "IMG.0026" in ran.out
    assert record_of(folder)["held"]["spec"]["description"] == "for the office"


def test_an_image_that_is_not_active_waits(imgctl: Imgctl, folder: Path, office: Cloud) -> None:
    image = held_image(office, folder)
    office.world.images.rename(image, "other")
    image.status = "saving"
    ran = imgctl("apply", "--auto-approve", env=office.env)
    assert ran.code == 3
    assert "IMS edits active images only" in ran.out


def test_an_image_that_vanishes_between_plan_and_edit_is_a_failure(
    imgctl: Imgctl, folder: Path, office: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = held_image(office, folder)
    office.world.images.rename(image, "other")

    def approve(*_: object) -> bool:
        office.world.images.delete(image)
        return True

    monkeypatch.setattr("reconciler.cli.console.Console.confirm", approve)
    monkeypatch.setattr("reconciler.cli.console.Console.interactive", True)
    ran = imgctl("apply", env=office.env)
    assert ran.code == 3
    assert "is gone: the next plan builds it anew" in ran.out
    assert "the held image is gone" in imgctl("plan", env=office.env).out


def test_somebody_elses_build_is_told_with_the_command_that_takes_it_over(
    imgctl: Imgctl, folder: Path, office: Cloud
) -> None:
    held = record_of(folder)["held"]["image_id"]
    job = office.build_elsewhere(OFFICE, "by hand")
    plan = imgctl("plan", env=office.env)
    assert "No changes." in plan.out
    assert f"imgctl import office --image-id {job.image_id}" in plan.out
    assert imgctl("import", "office", "--image-id", job.image_id, env=office.env).code == 0
    assert record_of(folder)["held"]["image_id"] == job.image_id != held


def test_a_server_that_is_gone_is_said_and_costs_nothing(imgctl: Imgctl, office: Cloud) -> None:
    del office.world.servers[OFFICE]
    plan = imgctl("plan", "--detailed-exitcode", env=office.env)
    assert plan.code == 0
    assert "caution: the image server of office is gone" in plan.out


@pytest.mark.parametrize("hidden", ["forbidden=1@GET /v2/", "forbidden=1@cloudimages"])
def test_images_that_cannot_be_looked_at_cause_nothing(
    imgctl: Imgctl, folder: Path, office: Cloud, hidden: str
) -> None:
    office.world.images.delete(held_image(office, folder))
    office.faults(hidden)
    plan = imgctl("plan", "--detailed-exitcode", env=office.env)
    assert plan.code == 0, plan.out
    assert "No changes." in plan.out
    assert "could not be looked at" in plan.out


def test_refresh_only_records_what_happened_while_nobody_watched(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.2)
    write_manifest({"office": OFFICE, "cad": CAD, "web": WEB})
    assert imgctl("apply", "--auto-approve", "--target", "office", "--target", "cad", env=cloud.env).code == 0
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    cloud.wait_for_builds()
    cloud.world.images.delete(held_image(cloud, folder, OFFICE))
    cloud.world.images.rename(held_image(cloud, folder, CAD), "other")
    plan = imgctl("plan", "--refresh-only", env=cloud.env)
    assert "1 resume, 2 refresh" in plan.out
    assert "Plan: 0 to add, 0 to change, 0 to destroy." in plan.out
    received = cloud.ledger["received"]
    ran = imgctl("apply", "--refresh-only", "--auto-approve", env=cloud.env)
    assert ran.code == 0, ran.out + ran.err
    assert "1 resumed, 2 refreshed" in ran.out
    assert cloud.ledger["received"] == received
    assert "held" not in record_of(folder, OFFICE)
    assert record_of(folder, OFFICE)["attempt"]["deleted_at"]
    assert record_of(folder, CAD)["held"]["spec"]["name"] == "other"
    assert record_of(folder, WEB)["attempt"]["status"] == "succeeded"
    again = imgctl("plan", "--refresh-only", env=cloud.env)
    assert "No changes. The records say what the cloud shows." in again.out
    # What was taken in is what the next plan compares with.
    after = imgctl("plan", env=cloud.env)
    assert "nothing is held" in after.out
    assert '"other" -> "cad-1"' in after.out


def test_refresh_only_contradicts_no_refresh_and_replace(imgctl: Imgctl, office: Cloud) -> None:
    for flags in (["--no-refresh"], ["--replace", "office"]):
        ran = imgctl("plan", "--refresh-only", *flags, env=office.env)
        assert ran.code == 1
        assert "--refresh-only" in ran.err


def test_the_figure_that_verbose_prints_counts_every_request(imgctl: Imgctl, office: Cloud) -> None:
    before = sum(office.ledger["requests"].values())
    ran = imgctl("apply", "--auto-approve", "--replace", "office", "-v", env=office.env)
    sent = sum(office.ledger["requests"].values()) - before
    assert f"{sent} requests in all, {sent:.2f} for each build." in ran.out


def test_blanks_around_a_description_are_no_difference(
    imgctl: Imgctl, folder: Path, office: Cloud, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The API takes them; an IMS that does not keep them must not be edited again and again.
    trimmed = simulated_images._valid_description
    monkeypatch.setattr(simulated_images, "_valid_description", lambda value: trimmed(value).strip())
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "another  "}}})
    assert imgctl("apply", "--auto-approve", env=office.env).code == 0
    assert held_image(office, folder).description == "another"
    assert office.ledger["requests"]["PATCH /v2/cloudimages/{image_id}"] == 1
    assert "No changes." in imgctl("plan", env=office.env).out
    assert "No changes." in imgctl("plan", "--refresh-only", env=office.env).out


def test_an_interrupt_during_an_edit_never_says_that_it_was_not_started(
    imgctl: Imgctl, folder: Path, office: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = held_image(office, folder)
    office.world.images.rename(image, "other")

    async def braked(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(3600)

    monkeypatch.setattr(CloudClient, "edit_image", braked)
    monkeypatch.setattr("reconciler.execution.images._ANSWER_SECONDS", 0.05)
    ran = imgctl("apply", "--auto-approve", env=office.env)
    assert ran.code == 130
    assert f"the run was stopped while IMS was asked to edit image {image.id}: the next plan tells" in ran.out

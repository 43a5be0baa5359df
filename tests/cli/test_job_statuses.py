"""What a job and its sub job may say while they run: only the job's own end decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Imgctl, StartCloud, WriteManifest

OFFICE = SERVER_IDS[0]


def record_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())["servers"][OFFICE]


@pytest.mark.parametrize("fault", ["job-waiting=1:0.4", "job-unknown-status=1:0.4", "job-abnormal=1:0.4"])
def test_a_build_that_dawdles_is_waited_for(
    fault: str, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault, build_time=0.2)
    write_manifest({"office": OFFICE})
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    (build,) = cloud.ledger["builds"]
    record = record_of(folder)
    assert (record["attempt"]["status"], record["attempt"]["job_id"]) == ("succeeded", build["job_id"])
    assert record["held"]["image_id"] == cloud.world.servers[OFFICE].image_id
    assert "No changes" in imgctl("plan", env=cloud.env).out


@pytest.mark.parametrize(("status", "told"), [("rollback", "rolled back"), ("aborting", "cancelled")])
def test_a_build_that_is_called_off_fails_with_what_the_job_says(
    status: str, told: str, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(f"job-{status}=1:0.4@recreate-image*1", build_time=0.2)
    write_manifest({"office": OFFICE})
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 3, (ran.out, ran.err)
    assert "1 failed" in ran.out
    assert told in ran.out
    attempt = record_of(folder)["attempt"]
    assert (attempt["status"], attempt["job_id"]) == ("failed", cloud.ledger["builds"][0]["job_id"])
    assert attempt["error"]["code"] == "WKS.00211401"
    assert told in attempt["error"]["message"]
    # It is over: the next run begins a new one.
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == [OFFICE, OFFICE]


@pytest.mark.parametrize(
    "fault", ["job-waiting=1:60", "job-unknown-status=1:60", "job-abnormal=1", "job-rollback=1:60", "job-aborting=1:60"]
)
def test_a_build_that_has_not_ended_is_in_flight_whatever_its_status(
    fault: str, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault, build_time=0.1)
    write_manifest({"office": OFFICE})
    for command in (("apply", "--auto-approve"), ("wait",), ("apply", "--auto-approve")):
        ran = imgctl(*command, "--timeout", "0.4", env=cloud.env)
        assert ran.code == 7, (ran.out, ran.err)
        assert "1 running" in ran.out
    assert record_of(folder)["attempt"]["status"] == "running"
    assert cloud.built == [OFFICE]


def test_a_job_that_ends_while_its_sub_job_looks_as_if_it_ran(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    # The next process finds the end of a job whose sub job was last seen in trouble.
    cloud = start_cloud("job-rollback=1:0.5", build_time=0.1)
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--timeout", "0.2", env=cloud.env).code == 7
    ran = imgctl("wait", env=cloud.env)
    assert ran.code == 3, (ran.out, ran.err)
    assert record_of(folder)["attempt"]["status"] == "failed"

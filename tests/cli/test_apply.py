"""apply and wait, as a user calls them, against the simulator over TCP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def test_three_images_are_built_recorded_and_then_there_is_nothing_to_do(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    first = imgctl("apply", "--auto-approve", env=cloud.env)
    assert first.code == 0, first.err
    assert "Plan: 3 to add, 0 to change, 0 to destroy." in first.out
    assert "Apply complete! 3 built" in first.out
    state = state_of(folder)
    assert sorted(cloud.built) == sorted(SERVER_IDS)
    for build in cloud.ledger["builds"]:
        record = state["servers"][build["server_id"]]
        assert record["attempt"]["job_id"] == build["job_id"]
        assert f"job {build['job_id']}" in first.out
        assert cloud.world.images.get(record["held"]["image_id"]) is not None
    assert state["bound_to"] == {
        "provider": "huaweicloud",
        "region": cloud.world.region,
        "project_id": cloud.world.project_id,
    }
    again = imgctl("apply", "--auto-approve", env=cloud.env)
    assert (again.code, "No changes." in again.out) == (0, True)
    assert cloud.ledger["received"] == 3


def test_a_changed_name_rebuilds_and_keeps_the_history(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    ran = imgctl("apply", "--auto-approve", "--var", "release=2", "--target", "cad", env=cloud.env)
    assert ran.code == 0
    assert '"cad-1" -> "cad-2"' in ran.out
    assert "var.release" in ran.out
    record = state_of(folder)["servers"][CAD]
    assert record["held"]["spec"]["name"] == "cad-2"
    assert [build["spec"]["name"] for build in record["history"]] == ["cad-1"]
    assert len(cloud.ledger["builds"]) == 4


def test_only_a_changed_description_edits_the_image_in_place(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "for the office"}}})
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0
    assert "Plan: 0 to add, 1 to change, 0 to destroy." in ran.out
    held = state_of(folder)["servers"][OFFICE]["held"]
    assert held["spec"]["description"] == "for the office"
    image = cloud.world.images.get(held["image_id"])
    assert image is not None
    assert image.description == "for the office"
    assert len(cloud.ledger["builds"]) == 1
    assert "No changes." in imgctl("plan", env=cloud.env).out


def test_moving_and_forgetting_build_nothing(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    image = {"image": {"name": "fixed-one"}}
    other = {"image": {"name": "fixed-two"}}
    write_manifest({"one": {"server_id": OFFICE, **image}, "two": {"server_id": CAD, **other}, "web": WEB})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    write_manifest({"two": {"server_id": OFFICE, **image}, "one": {"server_id": CAD, **other}})
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0, ran.err
    assert "2 move, 1 forget" in ran.out
    state = state_of(folder)
    assert {key: record["name"] for key, record in state["servers"].items()} == {OFFICE: "two", CAD: "one"}
    assert state["retired"][WEB]["held"]["image_id"]
    assert len(cloud.ledger["builds"]) == 3
    # A forgotten server that is declared again gets its record back, not a build.
    write_manifest({"two": {"server_id": OFFICE, **image}, "one": {"server_id": CAD, **other}, "web": WEB})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert state_of(folder)["servers"][WEB]["held"]["image_id"] == state["retired"][WEB]["held"]["image_id"]
    assert len(cloud.ledger["builds"]) == 3


def test_no_wait_leaves_the_builds_running_and_wait_records_them(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.4)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env)
    assert ran.code == 0
    assert {record["attempt"]["status"] for record in state_of(folder)["servers"].values()} == {"running"}
    status = imgctl("status", "--refresh", "--format", "json", env=cloud.env)
    assert {row["job_status"] for row in status.json} <= {"RUNNING", "SUCCESS"}
    waited = imgctl("wait", env=cloud.env)
    assert waited.code == 0, waited.err
    assert all(record["held"] for record in state_of(folder)["servers"].values())
    assert cloud.ledger["received"] == 3
    assert "No build is in flight." in imgctl("wait", env=cloud.env).out


def test_no_wait_starts_no_more_than_may_be_in_flight(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.3)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--no-wait", "--max-in-flight", "2", env=cloud.env)
    assert ran.code == 3
    assert "as many builds are in flight as --max-in-flight allows (2)" in ran.out
    assert cloud.ledger["received"] == 2


def test_the_timeout_leaves_with_7_and_the_next_apply_resumes(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=1.0)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--timeout", "0.3", env=cloud.env)
    assert ran.code == 7
    assert "imgctl wait" in ran.out
    plan = imgctl("plan", "--format", "json", env=cloud.env).json
    assert {change["action"] for change in plan["changes"]} == {"resume"}
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.ledger["received"] == 3
    assert all(record["held"] for record in state_of(folder)["servers"].values())


def test_builds_in_flight_are_bounded_but_all_are_built(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=12, build_time=0.05)
    write_manifest({f"s{number}": server for number, server in enumerate(cloud.world.servers)})
    ran = imgctl("apply", "--auto-approve", "--max-in-flight", "2", env=cloud.env)
    assert ran.code == 0, ran.err
    builds = list(cloud.world.jobs)
    assert len(builds) == 12
    for build in builds:
        at = build.began_at
        together = [other for other in builds if other.began_at <= at and other.ends_at and at < other.ends_at]
        assert len(together) <= 2


def test_a_hundred_builds_share_their_polls(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=100, build_time=2.0)
    write_manifest({f"s{number}": server for number, server in enumerate(cloud.world.servers)})
    ran = imgctl("apply", "--auto-approve", "--max-in-flight", "0", env=cloud.env)
    assert ran.code == 0, ran.err
    assert len(cloud.built) == 100
    requests = cloud.ledger["requests"]
    lists = requests["GET /v1/{project_id}/image-server-sub-jobs"]
    assert lists <= 40
    # Each job is asked for by itself once, when it has left the list of running ones.
    assert requests["GET /v1/{project_id}/image-server-jobs/{job_id}"] == 100
    assert len({record["held"]["image_id"] for record in state_of(folder)["servers"].values()}) == 100


def test_where_the_job_list_is_refused_every_job_is_asked_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("refuse-job-list=1")
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0


@pytest.mark.parametrize(
    "fault",
    [
        "throttle=0.3:0.05",
        "error-5xx=1@GET*4",
        "drop-before=1@GET*3",
        "drop-after=1@GET*3",
        "job-waiting=1:0.2",
        "job-abnormal=1:0.2",
        "blank-resource-name=1",
        "lag=1:0.3",
    ],
)
def test_a_cloud_that_misbehaves_builds_each_image_once_all_the_same(
    fault: str, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == sorted(SERVER_IDS)
    assert all(record["held"] for record in state_of(folder)["servers"].values())


@pytest.mark.parametrize(
    ("fault", "received"),
    [
        # The connection was lost after the request took effect: its job is found, nothing is sent again.
        ("drop-after=1@recreate-image*2", 3),
        # A gateway gave up, and the request took effect a little later.
        ("late-effect=1:0.2*2", 3),
        # It was lost before it took effect: sent again once it has left no trace for the quiet time.
        ("drop-before=1@recreate-image*2", 5),
        ("error-5xx=1@recreate-image*2", 5),
    ],
)
def test_a_request_in_doubt_is_reconciled_before_it_is_sent_again(
    fault: str, received: int, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault, "accept-while-building=1", build_time=0.6)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--quiet-time", "0.8", env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert "outcome unknown" in ran.out
    assert cloud.built == sorted(SERVER_IDS)
    assert cloud.ledger["received"] == received
    assert all(record["held"] for record in state_of(folder)["servers"].values())


def test_a_failed_build_is_reported_and_the_rest_goes_on(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("job-failed=1*1")
    write_manifest()
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 3
    assert "Apply incomplete. 2 built, 1 failed" in ran.out
    failed = [one["attempt"] for one in state_of(folder)["servers"].values() if one["attempt"]["status"] == "failed"]
    assert len(failed) == 1
    assert failed[0]["error"]["code"]
    assert failed[0]["error"]["message"] in ran.out
    plan = imgctl("plan", env=cloud.env)
    assert "the last build failed" in plan.out
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert len(cloud.ledger["builds"]) == 4


def test_after_three_failures_a_person_must_ask_again(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("job-failed=1*3")
    write_manifest({"office": OFFICE})
    for _ in range(3):
        assert imgctl("apply", "--auto-approve", env=cloud.env).code == 3
    blocked = imgctl("apply", "--auto-approve", env=cloud.env)
    assert blocked.code == 3
    assert "3 builds of this declaration have failed" in blocked.out
    assert cloud.ledger["received"] == 3
    assert imgctl("apply", "--auto-approve", "--replace", "office", env=cloud.env).code == 0


def test_a_busy_server_waits_for_another_day_and_strict_refuses(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    cloud.world.servers[CAD].status = "ERROR"
    write_manifest()
    strict = imgctl("apply", "--auto-approve", "--strict", env=cloud.env)
    assert strict.code == 6
    assert cloud.ledger["received"] == 0
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 3
    assert "2 built, 1 not started" in ran.out
    assert "the server is in ERROR" in ran.out
    assert cloud.built == sorted([OFFICE, WEB])


def test_an_unrecorded_image_gates_the_build_until_it_is_allowed(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    for path in folder.glob("imgctl.state.json*"):
        path.unlink()
    gated = imgctl("apply", "--auto-approve", env=cloud.env)
    assert gated.code == 6
    assert "no state was found, yet 3 of the declared servers already show an image" in gated.out
    assert cloud.ledger["received"] == 3
    assert not (folder / "imgctl.state.json").exists()
    ran = imgctl("apply", "--auto-approve", "--target", "cad", "--allow", "cad", env=cloud.env)
    assert ran.code == 0
    assert cloud.built == sorted([*SERVER_IDS, CAD])


def test_protected_servers_are_rebuilt_and_forgotten_only_when_allowed(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "protect": True}, "cad": CAD})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert imgctl("apply", "--auto-approve", "--var", "release=2", env=cloud.env).code == 6
    assert len(cloud.built) == 2
    assert imgctl("apply", "--auto-approve", "--var", "release=2", "--allow", "office", env=cloud.env).code == 0
    # The protection is recorded: a pull request that deletes the whole entry does not get around it.
    write_manifest({"cad": CAD}, vars={"release": "2"})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 6
    loosened = imgctl("plan", env=cloud.env)
    assert "protected" in loosened.out


def test_a_protection_counts_from_the_apply_on_that_finds_nothing_else(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE, "cad": CAD})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    write_manifest({"office": {"server_id": OFFICE, "protect": True}, "cad": CAD}, limits={"max_changes": 5})
    assert "No changes." in imgctl("apply", "--auto-approve", env=cloud.env).out
    assert state_of(folder)["servers"][OFFICE]["protect"] is True
    assert state_of(folder)["limits"] == {"max_changes": 5}
    write_manifest({"cad": CAD})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 6
    assert imgctl("apply", "--auto-approve", "--allow", "office", env=cloud.env).code == 0
    # It comes back as it went.
    write_manifest({"office": {"server_id": OFFICE, "protect": True}, "cad": CAD})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert state_of(folder)["servers"][OFFICE]["protect"] is True


def test_nobody_to_ask_is_not_a_yes(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("apply", env=cloud.env)
    assert ran.code == 6
    assert "--auto-approve" in ran.err
    assert cloud.ledger["received"] == 0


def test_a_refused_permission_names_the_action_and_its_dependencies(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("plan", env=cloud.env | {"HW_PROJECT_ID": "0" * 32})
    assert ran.code == 1
    assert "403" in ran.err
    assert "workspace:imageServer:list" in ran.err
    assert "request id" in ran.err


def test_wrong_keys_end_the_run_at_once(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("apply", "--auto-approve", env=cloud.env | {"HW_SECRET_KEY": "not-the-secret"})
    assert ran.code == 1
    assert "401" in ran.err
    assert "HW_ACCESS_KEY" in ran.err
    assert "not-the-secret" not in ran.out + ran.err
    assert sum(cloud.ledger["requests"].values()) <= 3


def test_a_password_gets_a_token_and_the_project(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    world = cloud.world
    env = {
        "HW_REGION_NAME": world.region,
        "HW_USER_NAME": world.user_name,
        "HW_USER_PASSWORD": world.password,
        "HW_DOMAIN_NAME": world.domain_name,
        "IMGCTL_ENDPOINT": cloud.url,
    }
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    assert cloud.ledger["requests"]["POST /v3/auth/tokens"] == 1


def test_the_project_is_found_through_iam(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    env = {name: value for name, value in cloud.env.items() if name != "HW_PROJECT_ID"}
    assert imgctl("apply", "--auto-approve", env=env).code == 0


def test_an_id_of_another_kind_is_explained(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    server = cloud.world.servers[CAD]
    write_manifest({"by-aps-id": server.aps_server_id, "by-ecs-id": server.instance_id})
    ran = imgctl("plan", env=cloud.env)
    assert ran.out.count(f"use its id: {CAD}") == 2


def test_the_holder_of_the_lock_is_named(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=20)
    write_manifest({"office": OFFICE})
    first = _background(folder, cloud, "apply", "--auto-approve")
    try:
        _until(lambda: cloud.ledger["received"] == 1)
        second = imgctl("apply", "--auto-approve", env=cloud.env)
        assert second.code == 5
        assert f"process {first.pid}" in second.err
        assert "for apply" in second.err
        # Planning takes no lock.
        assert imgctl("plan", env=cloud.env).code == 0
    finally:
        first.kill()
        first.communicate()
    assert imgctl("plan", "--detailed-exitcode", env=cloud.env).code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_submitting_and_loses_nothing(
    number: signal.Signals, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=1.5)
    write_manifest()
    child = _background(folder, cloud, "apply", "--auto-approve", "--max-in-flight", "2")
    _until(lambda: cloud.ledger["received"] == 2)
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130, (out, err)
    assert "stopping" in err
    assert "2 running, 1 not started" in out
    cloud.world.build_time = 0.1
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == sorted(SERVER_IDS)


def test_a_second_signal_leaves_at_once_without_damage(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("latency=2@recreate-image", build_time=0.2)
    write_manifest({"office": OFFICE})
    child = _background(folder, cloud, "apply", "--auto-approve")
    _until(lambda: cloud.ledger["received"] == 1)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    assert "once more to leave at once" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "build started" not in out
    cloud.faults()
    # The quiet time sets the pace of the looks; it is longer than what the request may still take.
    ran = imgctl("apply", "--auto-approve", "--quiet-time", "10", env=cloud.env)
    assert ran.code == 0, ran.out
    assert len(cloud.built) == 1
    assert len(cloud.ledger["builds"]) == 1


@pytest.mark.parametrize("command", [("wait",), ("apply", "--auto-approve")])
def test_a_build_is_resumed_whatever_became_of_the_manifest(
    command: tuple[str, ...], imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.4)
    write_manifest()
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    # Meanwhile: one declaration changed, one server renamed, one no longer declared.
    write_manifest({"office": {"server_id": OFFICE, "image": {"name": "office-next"}}, "atelier": CAD})
    plan = imgctl("plan", env=cloud.env)
    for follows in ("rebuild follows", "move follows", "forget follows"):
        assert follows in plan.out
    ran = imgctl(*command, env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert all(record["held"] for record in state_of(folder)["servers"].values())
    assert cloud.ledger["received"] == 3
    then = imgctl("plan", "--format", "json", env=cloud.env).json
    assert {change["server_id"]: change["action"] for change in then["changes"]} == {
        OFFICE: "rebuild",
        CAD: "move",
        WEB: "forget",
    }


def _background(folder: Path, cloud: Cloud, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", *arguments],
        cwd=folder,
        env=os.environ | cloud.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for something that is about to happen; the bound only ends a test that has failed already."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Hard days: outputs that go away, clouds that stall, texts that are none. Nothing hangs, nothing is lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.cloud.client import CloudClient
from reconciler.errors import CloudError, NotFound, OutcomeUnknown, RequestNotSent, ServiceFailed
from reconciler.execution import readings
from reconciler.model.observed import ObservedServer
from reconciler.state.local import LocalState
from reconciler.state.open import local_store
from tests.support import SERVER_IDS, Imgctl, StartCloud, WriteManifest

OFFICE, CAD, WEB = SERVER_IDS


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def shell(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = command.replace("IMGCTL", f"{sys.executable} -m reconciler")
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("command", ["IMGCTL apply --auto-approve | head -1", "IMGCTL apply --auto-approve | head -7"])
def test_a_reader_that_goes_away_loses_no_job(
    command: str, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=0.3)
    write_manifest()
    ran = shell(f"{command}; exit ${{PIPESTATUS[0]}}", folder, cloud.env)
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    recorded = {one["attempt"]["job_id"] for one in state_of(folder)["servers"].values()} if cloud.built else set()
    assert recorded == {build["job_id"] for build in cloud.ledger["builds"]}
    assert ran.returncode == 0


def test_a_full_disk_below_stdout_is_an_error_and_not_a_crash(
    folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = shell("IMGCTL apply --auto-approve > /dev/full", folder, cloud.env)
    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "Exception ignored" not in ran.stderr
    assert cloud.ledger["received"] == 0


def test_a_note_that_is_no_text_is_recorded_as_well_as_it_can_be(
    folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    ran = shell("IMGCTL apply --auto-approve --note $'bad\\xffnote'", folder, cloud.env)
    assert ran.returncode == 0, ran.stderr
    assert state_of(folder)["servers"][OFFICE]["attempt"]["context"]["note"] == "bad?note"


def test_a_fault_of_our_own_while_writing_ends_the_run_instead_of_hanging_it(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", "--target", "office", env=cloud.env).code == 0

    def broken(self: LocalState, frame: bytes) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(LocalState, "append", broken)
        ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 1
    assert "RuntimeError: a bug" in ran.err
    assert "2 not started" in ran.out
    assert cloud.ledger["received"] == 1
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0


@pytest.mark.parametrize("fault", ["throttle=1:60@recreate-image", "throttle=1:60@GET", "error-5xx=1@GET"])
def test_the_timeout_holds_while_the_cloud_stalls(
    fault: str, imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--timeout", "1", env=cloud.env)
    assert ran.code == 7, (ran.out, ran.err)
    assert "build started" not in ran.out
    if "throttle" in fault:
        assert "the cloud asks to slow down: nothing is sent for 6" in ran.err
    cloud.faults()
    # What was refused is not in doubt: the next run does not have to find anything out.
    plan = imgctl("plan", env=cloud.env).out
    assert plan.count("first build") + plan.count("was not started") == 3
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == sorted(SERVER_IDS)


@pytest.mark.parametrize("failure", [OutcomeUnknown, ServiceFailed, RequestNotSent, NotFound])
def test_a_server_that_cannot_be_looked_at_again_is_not_started(
    failure: type[CloudError],
    imgctl: Imgctl,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud(build_time=0.6)
    write_manifest()
    real, looks = CloudClient.list_servers, 0

    async def once(self: CloudClient) -> list[ObservedServer]:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise failure("the list did not come", operation="ListImageServers")
        return await real(self)

    with monkeypatch.context() as patch:
        # Old after a blink, so that the second build in the queue looks again.
        patch.setattr(readings, "FRESH_SECONDS", 0.5)
        patch.setattr(CloudClient, "list_servers", once)
        ran = imgctl("apply", "--auto-approve", "--max-in-flight", "1", env=cloud.env)
    assert ran.code == 3, (ran.out, ran.err)
    assert "1 built, 2 not started" in ran.out
    assert ran.out.count("the list did not come") == 2
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == sorted(SERVER_IDS)


def test_jobs_that_may_not_be_read_end_the_waiting_and_name_the_right(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("refuse-job-list=1", "forbidden=1@image-server-jobs", build_time=0.2)
    write_manifest()
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 1
    assert "workspace:images:getImageJob" in ran.err
    assert "3 running" in ran.out


def test_control_c_at_the_question_leaves_at_once(
    folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply"],
        cwd=folder,
        env=os.environ | cloud.env,
        stdin=side,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    os.close(side)
    assert child.stderr is not None
    said = b""
    while b"Only yes is accepted" not in said:
        said += os.read(child.stderr.fileno(), 1024)
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    os.close(terminal)
    assert child.returncode == 130
    assert cloud.ledger["received"] == 0


def test_simulated_runs_say_so_everywhere(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest(provider={"simulator": {"servers": 3, "build_time": 0.1}})
    for arguments in (
        ("plan",),
        ("apply", "--auto-approve"),
        ("wait",),
        ("status",),
        ("show", "office"),
        ("output",),
        ("history",),
        ("state", "list"),
    ):
        ran = imgctl(*arguments)
        assert ran.code == 0
        assert "SIMULATED" in ran.out + ran.err, arguments


def test_proxies_that_cannot_be_used_do_not_matter_on_this_machine(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    for proxy in ("socks5://127.0.0.1:9", "http://127.0.0.1:9"):
        env = cloud.env | {"ALL_PROXY": proxy, "HTTP_PROXY": proxy, "https_proxy": proxy}
        assert imgctl("plan", env=env).code == 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "0"])
def test_a_timeout_is_a_number_of_seconds(seconds: str, imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    assert imgctl("apply", "--auto-approve", "--timeout", seconds).code == 1


def test_output_of_a_server_that_was_never_built_says_so(imgctl: Imgctl, write_manifest: WriteManifest) -> None:
    write_manifest()
    assert "cad holds no image yet" in imgctl("output", "cad").err
    assert "nothing is recorded of nobody" in imgctl("output", "nobody").err


def test_a_terminal_that_goes_away_stops_the_submitting(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=8, build_time=0.4)
    write_manifest({f"s{number}": server for number, server in enumerate(cloud.world.servers)})
    terminal, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "--auto-approve", "--max-in-flight", "1"],
        cwd=folder,
        env=os.environ | cloud.env,
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    said = b""
    while b"build started" not in said:
        said += os.read(terminal, 1024)
    os.close(terminal)
    child.send_signal(signal.SIGHUP)
    assert child.wait(timeout=30) == 130
    received = cloud.ledger["received"]
    assert received < 8
    cloud.world.build_time = 0.1
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == sorted(cloud.world.servers)


@pytest.mark.parametrize("fault", ["latency=0.01", "throttle=1:6@recreate-image*1"])
def test_a_log_that_nobody_reads_loses_no_job(
    fault: str, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault)
    write_manifest({"office": OFFICE})
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "reconciler", "apply", "--auto-approve", "-vv", "--timeout", "3"],
        cwd=folder,
        env=os.environ | cloud.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=writing,
        timeout=60,
    )
    os.close(writing)
    assert ran.returncode == (7 if "throttle" in fault else 0)
    status = state_of(folder)["servers"][OFFICE]["attempt"]["status"]
    assert status == ("refused" if "throttle" in fault else "succeeded")


def test_stdout_that_is_closed_is_no_reason_to_fail(
    folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = shell("IMGCTL apply --auto-approve >&-", folder, cloud.env)
    assert (ran.returncode, "Traceback" in ran.stderr) == (0, False)
    assert cloud.built == sorted(SERVER_IDS)


@pytest.mark.parametrize("variable", ["LOGNAME", "GITHUB_ACTOR"])
def test_a_name_that_is_no_text_does_not_matter(
    variable: str, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = shell(f"{variable}=$'\\xff' IMGCTL apply --auto-approve", folder, cloud.env | {"HOME": "/dev/null"})
    assert ran.returncode == 0, ran.stderr


def test_two_servers_never_build_an_image_of_one_name_at_the_same_time(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("drop-before=1@recreate-image*1")
    write_manifest({"cad": {"server_id": CAD, "image": {"name": "workstation"}}})
    assert imgctl("apply", "--auto-approve", "--timeout", "0.5", env=cloud.env).code == 7
    write_manifest({"cad-new": {"server_id": OFFICE, "image": {"name": "workstation"}}})
    plan = imgctl("plan", env=cloud.env)
    assert "a build of cad in flight makes an image of the same name" in plan.out
    ran = imgctl("apply", "--auto-approve", "--quiet-time", "0.5", env=cloud.env)
    assert ran.code == 3, ran.out
    assert cloud.built == []
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == [OFFICE]


@pytest.mark.parametrize("fault", ["refuse-job-list=1", "forbidden=1@image-server-sub-jobs"])
def test_in_doubt_without_the_list_of_jobs_a_person_is_asked(
    fault: str, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(fault, "drop-before=1@recreate-image*1")
    write_manifest({"office": OFFICE})
    ran = imgctl("apply", "--auto-approve", "--quiet-time", "1", env=cloud.env)
    assert ran.code == 3, ran.out
    assert "1 unclear" in ran.out
    assert "ListImageSubJobs" in ran.out
    assert "imgctl state settle NAME --not-issued" in ran.out
    assert imgctl("state", "settle", "office", "--not-issued").code == 0
    cloud.faults()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0


def test_a_job_that_the_cloud_does_not_know_any_more_can_be_settled(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud, another = start_cloud(build_time=30), start_cloud()
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    # The same project, without its past.
    assert imgctl("wait", "--timeout", "1", env=another.env).code == 7
    assert imgctl("state", "settle", "office", "--failed").code == 0
    assert imgctl("apply", "--auto-approve", env=another.env).code == 0


def test_an_import_never_changes_what_a_build_in_flight_asked_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    foreign = cloud.ledger["builds"][0]["job_id"]
    for path in Path().glob("imgctl.state.json*"):
        path.unlink()
    cloud.faults("drop-before=1@recreate-image")
    write_manifest({"cad": CAD})
    assert imgctl("apply", "--auto-approve", "--timeout", "0.5", env=cloud.env).code == 7
    ran = imgctl("import", "cad", "--job-id", foreign, env=cloud.env)
    assert ran.code == 1
    assert "makes 'cad-1'; this is 'office-1'" in ran.err


def test_a_lock_file_that_is_removed_in_the_middle_ends_the_run(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=1.0)
    write_manifest()
    child = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "--auto-approve", "--max-in-flight", "1"],
        cwd=folder,
        env=os.environ | cloud.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while "build started" not in child.stdout.readline():
        assert child.poll() is None
    (folder / "imgctl.state.json.lock").unlink()
    _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "was removed or replaced" in said
    assert cloud.ledger["received"] == 1
    cloud.world.build_time = 0.1
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert cloud.built == sorted(SERVER_IDS)


def test_an_emergency_is_found_by_any_spelling_and_never_thrown_away_unread(
    imgctl: Imgctl, folder: Path, write_manifest: WriteManifest
) -> None:
    write_manifest(provider={"simulator": {"servers": 3, "build_time": 0.1}})
    assert imgctl("apply", "--auto-approve").code == 0
    lineage = state_of(folder)["lineage"]
    foreign = {"lineage": lineage, "server_id": OFFICE, "attempt_id": "of-another-day", "job_id": "424242"}
    left = folder / "imgctl.state.json.emergency"
    left.write_text(json.dumps(foreign) + "\n")
    ran = imgctl("apply", "--auto-approve", "--var", "release=2")
    assert ran.code == 0
    assert "holds job IDs that this state does not know" in ran.err
    assert left.exists()
    home = Path(os.environ["HOME"])
    (folder / "sub").mkdir()
    spellings = {
        local_store(path, home).emergencies.places[1]
        for path in (Path("imgctl.state.json"), folder / "imgctl.state.json", Path("sub/../imgctl.state.json"))
    }
    assert len(spellings) == 1

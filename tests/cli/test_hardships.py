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

from reconciler.state.local import LocalState
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

"""state, history, import: the records corrected by hand, under the same lock and journal as an apply."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.state import files
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, crossed

OFFICE, CAD, WEB = SERVER_IDS


def state_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())


def put_in_doubt(imgctl: Imgctl, cloud: Cloud, *faults: str) -> None:
    """Leave `office` with a request whose outcome nobody knows."""
    cloud.faults(*faults)
    ran = imgctl("apply", "--auto-approve", "--timeout", "0.3", env=cloud.env)
    assert ran.code == 7, ran.out
    cloud.faults()


def test_rm_retires_and_mv_renames(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert imgctl("state", "rm", "cad").code == 0
    assert imgctl("state", "mv", "office", "bureau").code == 0
    assert imgctl("state", "mv", "web", "bureau").code == 1
    state = state_of(folder)
    assert state["retired"][CAD]["held"]["image_id"]
    assert state["servers"][OFFICE]["name"] == "bureau"
    listed = imgctl("state", "list").out
    assert "forgotten" in listed
    assert imgctl("state", "show", CAD, "--format", "json").json["retired_at"]
    assert imgctl("state", "rm", "nobody").code == 1
    plan = imgctl("plan", env=cloud.env)
    assert "2 move" in plan.out, plan.out


def test_rm_refuses_what_is_in_flight(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud(build_time=0.5)
    write_manifest({"office": OFFICE})
    assert imgctl("apply", "--auto-approve", "--no-wait", env=cloud.env).code == 0
    ran = imgctl("state", "rm", "office")
    assert ran.code == 1
    assert "in flight" in ran.err
    assert "it is job" in imgctl("state", "settle", "office", "--not-issued").err
    assert imgctl("wait", env=cloud.env).code == 0
    assert imgctl("state", "rm", "office").code == 0


def test_a_request_in_doubt_is_settled_by_a_person(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    put_in_doubt(imgctl, cloud, "drop-before=1@recreate-image")
    assert "in doubt" in imgctl("status").out
    assert imgctl("state", "settle", "office").code == 1
    assert imgctl("state", "settle", "office", "--not-issued").code == 0
    attempt = state_of(folder)["servers"][OFFICE]["attempt"]
    assert (attempt["status"], "settled by" in attempt["error"]["message"]) == ("refused", True)
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert len(cloud.built) == 1


def test_wait_finds_out_but_never_sends(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    put_in_doubt(imgctl, cloud, "drop-before=1@recreate-image")
    received = cloud.ledger["received"]
    ran = imgctl("wait", "--quiet-time", "0.3", env=cloud.env)
    assert ran.code == 3
    assert "the earlier request was not issued" in ran.out
    assert cloud.ledger["received"] == received
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    assert len(cloud.built) == 1


def test_a_request_in_doubt_is_settled_by_its_job(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": OFFICE})
    # The answer is lost, and nothing shows the build for longer than the run looks.
    put_in_doubt(imgctl, cloud, "lag=1:0.8", "drop-after=1@recreate-image")
    job_id = cloud.ledger["builds"][0]["job_id"]
    assert imgctl("import", "office", "--job-id", "123", env=cloud.env).code == 1
    for _ in range(20):
        if imgctl("import", "office", "--job-id", job_id, env=cloud.env).code == 0:
            break
        time.sleep(0.1)
    assert state_of(folder)["servers"][OFFICE]["attempt"]["job_id"] == job_id
    assert imgctl("wait", env=cloud.env).code == 0
    assert "No changes." in imgctl("plan", env=cloud.env).out
    assert cloud.ledger["received"] == 1


def test_an_image_of_somebody_else_is_adopted(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    image = imgctl("output", "office", "--raw").out.strip()
    for path in folder.glob("imgctl.state.json*"):
        path.unlink()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 6
    as_image = imgctl("import", "office", "--image-id", cloud.ledger["builds"][0]["job_id"], env=cloud.env)
    assert as_image.code == 1
    assert "--job-id" in as_image.err
    assert imgctl("import", "office", "--image-id", image, env=cloud.env).code == 0
    for name, build in zip(("office", "cad", "web"), cloud.ledger["builds"], strict=True):
        if name != "office":
            assert imgctl("import", name, "--job-id", build["job_id"], env=cloud.env).code == 0
    assert "No changes." in imgctl("plan", env=cloud.env).out
    assert all(one["attempt"]["adopted"] for one in state_of(folder)["servers"].values())
    again = imgctl("import", "cad", "--image-id", image, env=cloud.env)
    assert "recorded already, as a build of office" in again.err
    assert imgctl("import", "nobody", "--image-id", image, env=cloud.env).code == 1
    assert imgctl("import", "office", env=cloud.env).code == 1


def test_the_history_answers_an_auditor(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    write_manifest()
    env = cloud.env | {"CI_JOB_URL": "https://gitlab.example/job/9", "CI_MERGE_REQUEST_IID": "12"}
    assert imgctl("apply", "--auto-approve", "--note", "=HYPERLINK()", env=env).code == 0
    assert imgctl("apply", "--auto-approve", "--var", "release=2", "--target", "cad", env=env).code == 0
    every = imgctl("history", "--format", "json").json
    assert [row["image_name"] for row in every][-1] == "cad-2"
    assert len(every) == 4
    build = every[0]
    for selector in (("--image", build["image_id"]), ("--job", build["job_id"])):
        assert imgctl("history", *selector, "--format", "json").json == [build]
    assert len(imgctl("history", "cad", "--format", "json").json) == 2
    assert build["context"]["pull_request"] == "12"
    rows = list(csv.DictReader(io.StringIO(imgctl("history", "--format", "csv").out)))
    assert rows[0]["run"] == "https://gitlab.example/job/9"
    # A note must not become a formula in the auditor's spreadsheet.
    assert rows[0]["note"] == "'=HYPERLINK()"
    assert "cad-2" in imgctl("history", "--since", "1h").out
    assert imgctl("history", "--since", "2999-01-01").out == "No build is recorded.\n"
    assert imgctl("history", "--since", "soon").code == 1
    assert imgctl("history", "nobody").code == 1


def test_lock_timeout_waits_for_the_other_run(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(build_time=1.0)
    write_manifest({"office": OFFICE, "cad": CAD})
    other = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "--auto-approve", "--target", "office"],
        cwd=folder,
        env=os.environ | cloud.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    while "build started" not in other.stdout.readline():
        assert other.poll() is None
    assert imgctl("state", "mv", "office", "x").code == 5
    waited = imgctl("apply", "--auto-approve", "--lock-timeout", "30", env=cloud.env)
    other.communicate(timeout=30)
    assert waited.code == 0, waited.err
    assert "waiting up to 30 s" in waited.err
    assert cloud.built == sorted([OFFICE, CAD])


@pytest.mark.parametrize(
    ("operation", "code"),
    crossed(["write", "sync", "create", "rename", "sync_folder"], [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO]),
)
def test_whatever_write_fails_no_build_is_lost_or_issued_twice(
    operation: str,
    code: int,
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud("accept-while-building=1", build_time=0.02)
    write_manifest({"office": OFFICE, "cad": CAD})
    real = getattr(files, operation)
    # The disk fails at the n-th call and ever after; once a run needs fewer calls, every one of them has failed.
    for healthy in range(30):
        calls, built = 0, len(cloud.ledger["builds"])

        def failing(*arguments: Any, healthy: int = healthy) -> Any:
            nonlocal calls
            calls += 1
            if calls > healthy:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(files, operation, failing)
            ran = imgctl("apply", "--auto-approve", "--max-requests", "1", "--var", f"release={healthy}", env=cloud.env)
        assert "Traceback" not in ran.err
        for build in cloud.ledger["builds"][built:]:
            # Said, whatever became of the disk.
            assert build["job_id"] in ran.out
        after = imgctl("apply", "--auto-approve", "--quiet-time", "0.1", "--var", f"release={healthy}", env=cloud.env)
        assert after.code == 0, (healthy, after.out, after.err)
        names = [build["name"] for build in cloud.ledger["builds"]]
        assert sorted(name for name in names if name.endswith(f"-{healthy}")) == sorted(
            f"{name}-{healthy}" for name in ("office", "cad")
        )
        recorded = {record["attempt"]["job_id"] for record in state_of(folder)["servers"].values()}
        assert recorded == {build["job_id"] for build in cloud.ledger["builds"][-2:]}
        if ran.code == 0 and calls <= healthy:
            break
    else:
        raise AssertionError("a run never got through")


def test_a_job_id_that_the_disk_refuses_is_kept_elsewhere(
    imgctl: Imgctl,
    folder: Path,
    start_cloud: StartCloud,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = start_cloud(build_time=0.5)
    write_manifest({"office": OFFICE})
    real = files.write

    def full(descriptor: int, content: bytes) -> None:
        # The folder's disk takes nothing that names a job.
        if b'"job_id"' in content and os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder)):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 1
    job_id = cloud.ledger["builds"][0]["job_id"]
    assert f"job {job_id}" in ran.out
    assert "No space left on device" in ran.err
    assert "though the state could not be written" in ran.out
    kept = list(Path(os.environ["HOME"]).glob(".local/state/imgctl/*.emergency"))
    assert len(kept) == 1
    assert str(kept[0]) in ran.err
    assert kept[0].stat().st_mode & 0o777 == 0o600
    waited = imgctl("wait", env=cloud.env)
    assert waited.code == 0, waited.err
    assert state_of(folder)["servers"][OFFICE]["attempt"]["job_id"] == job_id
    assert not kept[0].exists()
    assert cloud.ledger["received"] == 1

"""`apply` and `wait` with `--format ndjson`: one object a line on standard output, and nothing else there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.render.test_events_json import parsed
from tests.support import Imgctl, StartCloud, WriteManifest


def _lines(text: str) -> list[dict[str, Any]]:
    return [parsed(line) for line in text.split("\n")[:-1]]


def test_an_apply_in_lines(imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest) -> None:
    cloud = start_cloud()
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--format", "ndjson", env=cloud.env)
    assert ran.code == 0, ran.err
    lines = _lines(ran.out)
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "plan"
    assert kinds[-1] == "outcome"
    ids = {line["job_id"] for line in lines if line["type"] == "job_known"}
    assert ids == {build["job_id"] for build in cloud.ledger["builds"]}
    assert {line["job_id"] for line in lines if line["type"] == "build_succeeded"} == ids
    assert lines[-1]["complete"]
    assert lines[-1]["plan_id"] == lines[0]["plan"]["plan_id"]
    assert {result["result"] for result in lines[-1]["results"]} == {"done"}
    again = imgctl("apply", "--auto-approve", "--format", "ndjson", env=cloud.env)
    assert [line["type"] for line in _lines(again.out)] == ["plan"]


def test_a_saved_plan_and_a_wait_in_lines(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path
) -> None:
    cloud = start_cloud()
    write_manifest()
    plan = str(folder.parent / "release.plan")
    assert imgctl("plan", "--out", plan, env=cloud.env).code == 0
    left = imgctl("apply", plan, "--no-wait", "--format", "ndjson", env=cloud.env)
    assert left.code == 0, left.err
    assert {result["result"] for result in _lines(left.out)[-1]["results"]} == {"running"}
    waited = _lines(imgctl("wait", "--format", "ndjson", env=cloud.env).out)
    assert {line["type"] for line in waited} == {"job_resumed", "build_succeeded", "outcome"}
    nothing = _lines(imgctl("wait", "--format", "ndjson", env=cloud.env).out)
    assert [line["type"] for line in nothing] == ["nothing_to_do"]
    done = imgctl("apply", plan, "--format", "ndjson", env=cloud.env)
    assert [line["type"] for line in _lines(done.out)] == ["nothing_to_do"]


def test_what_fails_is_told_and_stdout_stays_clean(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud("job-failed=1")
    write_manifest()
    asked = imgctl("apply", "--format", "ndjson", env=cloud.env)
    assert asked.code == 6
    assert [line["type"] for line in _lines(asked.out)] == ["plan"]
    assert "nobody can be asked" in asked.err
    ran = imgctl("apply", "--auto-approve", "--format", "ndjson", env=cloud.env)
    assert ran.code == 3
    lines = _lines(ran.out)
    assert {line["error"]["code"] for line in lines if line["type"] == "build_failed"}
    assert {result["result"] for result in lines[-1]["results"]} == {"failed"}

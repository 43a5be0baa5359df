"""Secrets that imgctl is given, and everything that it writes on a whole day."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.state.gitlab import PASSWORD, USERNAME, serving_states
from tests.support import Imgctl, StartCloud, WriteManifest

OUTPUTS = ("--format", "markdown=plan.md", "--format", "json=plan.json", "--format", "github=notes", "--format", "text")


def test_no_secret_is_in_anything_that_is_written(
    imgctl: Imgctl, folder: Path, write_manifest: WriteManifest, start_cloud: StartCloud
) -> None:
    cloud = start_cloud()
    with serving_states() as gitlab:
        place = {"IMGCTL_STATE": f"{gitlab.url}/api/v4/projects/42/terraform/state/images"}
        env = {**cloud.env, **place, "IMGCTL_STATE_USERNAME": USERNAME, "IMGCTL_STATE_PASSWORD": PASSWORD}
        write_manifest()
        said = [imgctl("doctor", env=env), imgctl("plan", "-vv", "--out", "saved.plan", *OUTPUTS, env=env)]
        said += [imgctl("apply", "saved.plan", "-vv", "--note", "a day", env=env)]
        said += [imgctl(*words, env=env) for words in (("history",), ("status",), ("output",), ("state", "pull"))]
        assert [ran.code for ran in said[1:]] == [0] * 6
        # A refusal is another way for them to come out.
        said += [imgctl("plan", "-vv", env=env | {"HW_SECRET_KEY": cloud.world.secret_key[::-1]})]
        said += [imgctl("plan", "-vv", env=env | {"IMGCTL_STATE_PASSWORD": PASSWORD[::-1]})]
        assert [ran.code for ran in said[-2:]] == [1, 1]
    written = "".join(ran.out + ran.err for ran in said)
    written += "".join(path.read_text("latin-1") for path in folder.parent.rglob("*") if path.is_file())
    assert "office-1" in written
    basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    assert basic not in written
    for secret in (cloud.world.secret_key, PASSWORD):
        assert secret not in written
        assert secret[::-1] not in written

"""What was handed over is never deleted, whichever way it came; and no image is taken for what it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, give_image
from tests.tfstates import image, resource, tfstate

OFFICE, CAD, WEB = SERVER_IDS


def names(cloud: Cloud) -> set[str]:
    return {one.name for one in cloud.world.images if one.kind == "private"}


def attempt_of(folder: Path) -> Any:
    return json.loads((folder / "imgctl.state.json").read_text())["servers"][OFFICE]["attempt"]


def in_doubt(imgctl: Imgctl, cloud: Cloud) -> None:
    """A request of which nobody knows whether it took effect."""
    cloud.faults("drop-before=1@recreate-image*1")
    ran = imgctl("apply", "--auto-approve", "--var", "release=1", "--timeout", "0.5", env=cloud.env)
    assert ran.code == 7, ran.out + ran.err
    cloud.faults()


def release_until_pruned(imgctl: Imgctl, cloud: Cloud) -> None:
    for number in range(2, 5):
        ran = imgctl("apply", "--auto-approve", "--var", f"release={number}", env=cloud.env)
        assert ran.code == 0, ran.out + ran.err


@pytest.mark.parametrize("way", ["from-cloud", "from-tfstate", "import", "import --all"])
def test_adopted_images_outlive_every_retention(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest, way: str
) -> None:
    cloud = start_cloud(servers=1)
    handed_over = [give_image(cloud.world, OFFICE, f"by-hand-{day}", day=day) for day in (1, 2, 3)]
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    if way.startswith("import"):
        each = [["office", "--image-id", one] for one in handed_over]
        for arguments in each if way == "import" else [["--all"]]:
            assert imgctl("import", *arguments, env=cloud.env).code == 0
    else:
        (folder / "imgctl.yaml").unlink()
        images = (image(one, OFFICE, number) for number, one in enumerate(handed_over))
        (folder / "terraform.tfstate").write_text(tfstate(resource("office", *images)))
        flags = ("--from-cloud",) if way == "from-cloud" else ("--from-tfstate", "terraform.tfstate")
        assert imgctl("init", *flags, env=cloud.env).code == 0
        assert "No changes." in imgctl("plan", env=cloud.env).out
        # Patch day, with a retention: a record moves to the name that the manifest has.
        write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
        assert imgctl("apply", "--auto-approve", "--target", "office", env=cloud.env).code == 0
    release_until_pruned(imgctl, cloud)
    assert names(cloud) == {"by-hand-1", "by-hand-2", "by-hand-3", "office-4"}


def test_an_image_that_settles_a_request_is_an_adopted_one(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=1)
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}})
    in_doubt(imgctl, cloud)
    # Somebody else's build of the same name, taken for ours.
    job = cloud.build_elsewhere(OFFICE, "office-1")
    assert imgctl("import", "office", "--image-id", job.image_id, env=cloud.env).code == 0
    attempt = attempt_of(folder)
    assert (attempt["status"], attempt["image_id"], attempt["adopted"]) == ("succeeded", job.image_id, True)
    release_until_pruned(imgctl, cloud)
    assert names(cloud) == {"office-1", "office-4"}


def test_what_is_older_than_a_request_settles_nothing(
    imgctl: Imgctl, folder: Path, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(servers=1)
    write_manifest({"office": OFFICE})
    older = give_image(cloud.world, OFFICE, "office-1", day=1, show=False)
    in_doubt(imgctl, cloud)
    ran = imgctl("import", "office", "--image-id", older, env=cloud.env)
    assert ran.code == 1
    assert f"image {older} was made before that, on 2026-01-01 08:00" in ran.err
    assert "imgctl state settle" in ran.err
    assert attempt_of(folder)["status"] in ("intent", "unknown")

"""A state that somebody else has written: what reaches the cloud, the screen and the comment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest, give_image

OFFICE = SERVER_IDS[0]
Run = Callable[..., Ran]
HOSTILE = "\x1b[2J\u202eevil\r\n::error::x <img src=x> @everyone"


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    return start_cloud()


@pytest.fixture
def run(imgctl: Imgctl, cloud: Cloud) -> Run:
    def call(*arguments: str, code: int = 0) -> Ran:
        ran = imgctl(*arguments, env=cloud.env)
        assert ran.code == code, ran.out + ran.err
        return ran

    return call


def replaced(found: Any, old: str, new: str) -> Any:
    """The document with one text for another, wherever it stands as a value."""
    if isinstance(found, dict):
        return {key: replaced(value, old, new) for key, value in found.items()}
    if isinstance(found, list):
        return [replaced(value, old, new) for value in found]
    return new if found == old else found


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "imgctl.state.json"
    before = json.loads(path.read_text())
    after = replaced(before, old, new)
    assert after != before
    path.write_text(json.dumps(after))


@pytest.mark.parametrize("bad", ["../../../v3/users", "a/b", "a?b=c", "..", "", "x" * 129, "évil"])
@pytest.mark.parametrize("command", [("plan",), ("apply", "--auto-approve"), ("status",)])
def test_what_is_no_id_is_refused_before_anything_is_sent(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest, command: tuple[str, ...], bad: str
) -> None:
    write_manifest({"office": OFFICE})
    run("apply", "--auto-approve")
    held = json.loads(run("show", "office", "--format", "json").out)["held"]["image_id"]
    rewrite(folder, held, bad)
    before = cloud.ledger["requests"]
    assert "imgctl.state.json" in run(*command, code=1).err
    assert cloud.ledger["requests"] == before


def test_its_texts_steer_neither_a_screen_nor_a_comment(run: Run, folder: Path, write_manifest: WriteManifest) -> None:
    write_manifest({"office": OFFICE})
    run("apply", "--auto-approve", "--note", "a-note")
    rewrite(folder, "a-note", HOSTILE)
    rewrite(folder, "office-1", HOSTILE)
    for command in (("plan", "-v"), ("status",), ("show", "office"), ("history",), ("plan", "--format", "github")):
        said = run(*command)
        text = said.out + said.err
        assert "evil" in text or command == ("plan", "--format", "github")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not [line for line in text.splitlines() if line.startswith("::error::x")]


def test_images_that_it_claims_can_be_deleted_unless_a_flag_forbids_it(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    """Why nobody may write a state but those who may delete images."""
    theirs = give_image(cloud.world, OFFICE, "of-somebody-else", show=False)
    for release in ("1", "2"):
        write_manifest({"office": OFFICE}, vars={"release": release})
        run("apply", "--auto-approve")
    servers = json.loads((folder / "imgctl.state.json").read_text())["servers"]
    oldest = servers[OFFICE]["history"][0]["image_id"]
    rewrite(folder, oldest, theirs)
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}}, vars={"release": "3"})
    comment = run("plan", "--format", "markdown").out
    assert "> [!CAUTION]" in comment
    assert theirs in comment
    run("apply", "--auto-approve", "--max-prunes", "0", code=6)
    assert cloud.world.images.get(theirs) is not None
    run("apply", "--auto-approve")
    assert cloud.world.images.get(theirs) is None

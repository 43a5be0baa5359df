"""What the guides show is what a reader gets: their imgctl commands, in their order, against a simulated cloud."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.state.gitlab import PASSWORD, USERNAME, serving_states
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, give_image
from tests.tfstates import image, resource, tfstate

DOCS = Path(__file__).parents[1] / "docs"
OFFICE, CAD, WEB = SERVER_IDS
IMAGES = {
    OFFICE: "43d660c5-e093-4c25-93e5-56997328f62d",
    CAD: "d114980c-2b18-4977-9b6c-7b5e7646f4bd",
    WEB: "4c6b4923-e581-41d1-b22d-740aecec53d6",
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shown(guide: str) -> Iterator[tuple[list[str], str | None]]:
    """Each imgctl command of a guide's sh blocks, with the text block behind it where one follows at once."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "sh":
            continue
        follows = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
        for line in block[2].splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["imgctl"]:
                yield words[1:], after[2] if follows and after is not None else None


def follow(guide: str, imgctl: Imgctl, cloud: Cloud) -> list[str]:
    """Run a guide; returns the commands that were run."""
    ran = []
    for arguments, expected in shown(guide):
        # What a shell would put into a file is compared here.
        words = arguments[: arguments.index(">")] if ">" in arguments else arguments
        result = imgctl(*words, env=cloud.env)
        assert result.code == 0, (arguments, result.out, result.err)
        if expected is not None:
            assert result.out == expected, arguments
        ran.append(arguments[0])
    return ran


def manifest_of(guide: str) -> str:
    """The part of a manifest that a guide shows."""
    text = (DOCS / guide).read_text(encoding="utf-8")
    return next(block[2] for block in _BLOCK.finditer(text) if block[1] == "yaml")


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    return start_cloud()


def test_the_guide_from_terraform(imgctl: Imgctl, folder: Path, cloud: Cloud) -> None:
    for server_id, name in ((OFFICE, "office"), (CAD, "cad"), (WEB, "web")):
        give_image(cloud.world, server_id, f"{name}-2026.10", "October patch day", image_id=IMAGES[server_id])
    (folder / "terraform.tfstate").write_text(
        tfstate(
            resource("office", image(IMAGES[OFFICE], OFFICE)),
            resource("fleet", image(IMAGES[CAD], CAD, "cad"), image(IMAGES[WEB], WEB, "web")),
        )
    )
    assert follow("from-terraform.md", imgctl, cloud) == ["init", "plan", "output"]
    assert manifest_of("from-terraform.md") in (folder / "imgctl.yaml").read_text(encoding="utf-8")


def test_the_guide_from_the_console(imgctl: Imgctl, folder: Path, cloud: Cloud) -> None:
    for server_id, name in ((OFFICE, "office"), (CAD, "cad")):
        give_image(cloud.world, server_id, f"{name}-2026.10", image_id=IMAGES[server_id])
    servers = {"office": OFFICE, "cad": CAD, "web": WEB}
    (folder / "mine").mkdir()
    (folder / "mine/imgctl.yaml").write_text(
        json.dumps(
            {
                "version": 1,
                "defaults": {"image": {"name": "${server.name}-2026.10"}},
                "image_servers": {name: {"server_id": one} for name, one in servers.items()},
            }
        )
    )
    give_image(cloud.world, WEB, "web-2026.10", image_id=IMAGES[WEB], show=False)
    ran = follow("from-the-console.md", imgctl, cloud)
    assert ran == ["init", "plan", "import", "import", "import", "plan"]
    assert manifest_of("from-the-console.md") in (folder / "imgctl.yaml").read_text(encoding="utf-8")


def test_the_page_on_shared_state(imgctl: Imgctl, write_manifest: WriteManifest, cloud: Cloud) -> None:
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    credentials = {"IMGCTL_STATE_USERNAME": USERNAME, "IMGCTL_STATE_PASSWORD": PASSWORD}
    with serving_states() as gitlab:
        commands = [
            [word.replace("https://gitlab.example.com", gitlab.url) for word in words]
            for words, _ in shown("shared-state.md")
        ]
        assert [words[:2] for words in commands] == [["state", "migrate"], ["plan", "--state"]]
        moved, planned = (imgctl(*words, env=cloud.env | credentials) for words in commands)
    assert moved.code == 0, moved.err
    assert "No changes." in planned.out
    page = (DOCS / "shared-state.md").read_text(encoding="utf-8")
    workflows = [yaml.safe_load(block[2]) for block in _BLOCK.finditer(page) if block[1] == "yaml"]
    scripts = [workflows[0]["plan"]["script"], workflows[0]["apply"]["script"], workflows[1]["jobs"]["apply"]["steps"]]
    assert all("imgctl " in str(script) for script in scripts)

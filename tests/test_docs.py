"""What the pages show is what a reader gets: commands that run, options that exist, links and figures that hold."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from reconciler.cli.app import COMMANDS
from reconciler.cli.app import imgctl as program
from reconciler.cli.plan_files import LARGEST_PLAN
from reconciler.cloud.bodies import LARGEST_BODY
from reconciler.cloud.denials import MOST_DENIALS
from reconciler.cloud.retry import RetryPolicy
from reconciler.cloud.sending import LONGEST_EXCHANGE, MAX_REQUESTS, TIMEOUT
from reconciler.execution.run import Settings
from reconciler.planning.places import CONCURRENT_IMAGE_TASKS
from tests.state.gitlab import PASSWORD, USERNAME, serving_states
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest, give_image
from tests.tfstates import image, resource, tfstate

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
OFFICE, CAD, WEB = SERVER_IDS
IMAGES = {
    OFFICE: "43d660c5-e093-4c25-93e5-56997328f62d",
    CAD: "d114980c-2b18-4977-9b6c-7b5e7646f4bd",
    WEB: "4c6b4923-e581-41d1-b22d-740aecec53d6",
}
# What a line of a shell may have before and after a command: no more than the pages use.
_BETWEEN_COMMANDS = re.compile(r"\|\|?|&&?|;")
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


def test_the_page_on_saved_plans(imgctl: Imgctl, write_manifest: WriteManifest, cloud: Cloud) -> None:
    write_manifest({"office": OFFICE, "cad": CAD}, vars={"release": "2026.11"})
    assert follow("saved-plans.md", imgctl, cloud) == ["plan", "show", "apply", "apply", "plan"]
    page = " ".join((DOCS / "saved-plans.md").read_text(encoding="utf-8").split())
    assert f"larger than {LARGEST_PLAN >> 20} MiB" in page


def commands_of(page: Path) -> Iterator[list[str]]:
    """Every imgctl command of a page: in its blocks for a shell, and between backticks."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in _BLOCK.finditer(text) if block[1] in ("sh", "console") for line in block[2].splitlines()]
    lines += re.findall(r"`(imgctl [^`|]+)`", _BLOCK.sub("", text))
    for line in lines:
        for part in _BETWEEN_COMMANDS.split(line.removeprefix("$ ")):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                # An operator inside of quotes: not one of imgctl's commands.
                continue
            if words[:1] == ["imgctl"] and len(words) > 1:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    found = list(commands_of(page))
    assert found
    for words in found:
        check_command(words)


def check_command(words: list[str]) -> None:
    context = click.Context(program)
    name, rest = words[0], words[1:]
    assert name in COMMANDS, words
    command = program.get_command(context, name)
    if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command, rest = command.get_command(context, rest[0]), rest[1:]
    assert command is not None, words
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    flags = [word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"]
    assert set(flags) <= known | {"--help"}, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        found = page.parent / target if target else page
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings]


def test_the_page_on_the_cloud_has_the_figures_that_hold() -> None:
    text = " ".join((DOCS / "the-cloud.md").read_text(encoding="utf-8").split())
    policy, settings = RetryPolicy(), Settings()
    words = {3: "three", 6: "Six", 20: "twenty", 2: "two", 5: "five"}
    for said in (
        f"{words[policy.attempts]} attempts, {words[policy.throttled_attempts]} for 429",
        f"at most {words[int(policy.longest_wait / 60)]} minutes.",
        f"Where neither says anything, {words[int(policy.throttled_base)]} seconds and more",
        f"double up to {policy.cap:g} s, with full jitter",
        f"after {words[MOST_DENIALS]} refused ones in a row nothing more is sent",
        f"(`--max-requests`, {MAX_REQUESTS})",
        f"made within {TIMEOUT.connect:g} s, an answer begin within {TIMEOUT.read:g} s",
        f"complete within {words[int(LONGEST_EXCHANGE / 60)]} minutes.",
        f"Answers of more than {LARGEST_BODY // 1024**2} MiB",
        f"Not more than {CONCURRENT_IMAGE_TASKS} builds are in flight",
        f"After {words[int(settings.patience / 3600)]} hours a build is *unclear*",
    ):
        assert said in text
    assert settings.max_in_flight == CONCURRENT_IMAGE_TASKS


def test_what_the_page_on_the_cloud_declares_is_valid(imgctl: Imgctl, folder: Path) -> None:
    manifest = yaml.safe_load(manifest_of("the-cloud.md"))
    manifest |= {"version": 1, "region": "ap-southeast-1", "limits": {"max_prunes": 5, "max_in_flight": 10}}
    manifest["image_servers"] = {"office": {"server_id": OFFICE, "image": {"name": "office-1"}}}
    (folder / "imgctl.yaml").write_text(json.dumps(manifest))
    assert imgctl("validate").code == 0


def test_the_commands_of_patch_day_rebuild_what_init_has_found(imgctl: Imgctl, folder: Path, cloud: Cloud) -> None:
    for server_id, name in ((OFFICE, "office"), (CAD, "cad"), (WEB, "web")):
        give_image(cloud.world, server_id, f"{name}-2026.11", "November", image_id=IMAGES[server_id])
    assert imgctl("init", "--from-cloud", env=cloud.env).code == 0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    edits = re.findall(r"sed -i '[^']*' imgctl\.yaml", readme)
    assert len(edits) == 2
    for edit in edits:
        subprocess.run(["sh", "-c", edit], check=True)
    assert "3 rebuild; about 24 min" in imgctl("plan", env=cloud.env).out
    block = next(block[2] for block in _BLOCK.finditer(readme) if block[1] == "sh" and "the first ring" in block[2])
    applies = [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("imgctl apply")]
    said = [imgctl(*words, "--auto-approve", env=cloud.env) for words in applies]
    assert [ran.code for ran in said] == [0, 0]
    assert "1 rebuilt" in said[0].out
    assert "2 rebuilt" in said[1].out
    names = {"office-template-2026.12", "cad-template-2026.12", "web-template-2026.12"}
    assert {one["name"] for one in cloud.ledger["builds"]} == names
    # What was found is still there: nothing is deleted by a rebuild.
    assert all(cloud.world.images.get(image_id) for image_id in IMAGES.values())


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


@pytest.mark.parametrize("page", sorted(DOCS.glob("shared-state*.md")), ids=lambda page: page.name)
def test_every_recipe_calls_imgctl_with_options_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = [
        line for block in _BLOCK.finditer(text) if block[1] == "yaml" for line in strings(yaml.safe_load(block[2]))
    ]
    units = [line for block in _BLOCK.finditer(text) if block[1] == "ini" for line in block[2].splitlines()]
    lines += [line.rpartition("/bin/")[2] for line in units if line.startswith("ExecStart=")]
    recipes = [shlex.split(line)[1:] for line in lines if line.startswith("imgctl ")]
    for words in recipes:
        check_command(words)
    assert len(recipes) == (6 if page.name == "shared-state.md" else 0)


def strings(found: Any) -> Iterator[str]:
    """Every text in a part of a workflow."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict | list):
        for each in found.values() if isinstance(found, dict) else found:
            yield from strings(each)

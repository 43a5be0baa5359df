"""A plan file that somebody else has written, well formed in every respect: made with another manifest or state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest, give_image

OFFICE, CAD, WEB = SERVER_IDS
Run = Callable[..., Ran]


@pytest.fixture
def cloud(start_cloud: StartCloud) -> Cloud:
    return start_cloud(servers=4)


@pytest.fixture
def run(imgctl: Imgctl, cloud: Cloud) -> Run:
    def call(*arguments: str, code: int = 0) -> Ran:
        ran = imgctl(*arguments, env=cloud.env)
        assert ran.code == code, ran.out + ran.err
        return ran

    return call


def other_server(cloud: Cloud) -> str:
    return next(one for one in cloud.world.servers if one not in SERVER_IDS)


@pytest.mark.parametrize(
    "declared",
    [
        lambda cloud: {"office": {"server_id": OFFICE, "image": {"name": "something-else"}}},
        lambda cloud: {"office": {"server_id": other_server(cloud)}},
        lambda cloud: {"office": OFFICE, "payroll": other_server(cloud)},
        lambda cloud: {"payroll": {"server_id": OFFICE}},
        lambda cloud: {"office": {"server_id": OFFICE, "triggers": {"again": "1"}}},
    ],
    ids=["another image", "another server", "one more server", "another name", "another trigger"],
)
def test_it_builds_nothing_that_is_not_declared(
    run: Run, cloud: Cloud, write_manifest: WriteManifest, declared: Callable[[Cloud], dict[str, Any]]
) -> None:
    write_manifest(declared(cloud))
    run("plan", "--out", "forged.plan")
    write_manifest({"office": OFFICE, "cad": CAD})
    said = run("apply", "forged.plan", "--auto-approve", code=4).err
    assert "forged.plan is stale" in said
    assert cloud.ledger["received"] == 0


def test_it_deletes_and_forgets_nothing_that_is_declared(
    run: Run, cloud: Cloud, folder: Path, write_manifest: WriteManifest
) -> None:
    for release in ("1", "2"):
        write_manifest(vars={"release": release})
        run("apply", "--auto-approve")
    write_manifest({"office": {"server_id": OFFICE, "keep_images": 1}}, vars={"release": "3"})
    run("plan", "--out", "forged.plan")
    write_manifest(vars={"release": "3"})
    said = run("apply", "forged.plan", code=4).err
    assert "cad" in said
    assert cloud.ledger["received"] == 6
    assert not [one for one in cloud.ledger["requests"] if one.startswith("DELETE")]


def test_it_opens_no_gate_of_a_server_that_nobody_recorded(
    run: Run, cloud: Cloud, write_manifest: WriteManifest
) -> None:
    write_manifest({"office": OFFICE})
    run("plan", "--out", "forged.plan", "--allow", "office", "--max-changes", "1000")
    give_image(cloud.world, OFFICE, "of-somebody-else")
    run("apply", "forged.plan", code=6)
    assert cloud.ledger["received"] == 0


def test_what_it_can_do_the_flags_of_a_workflow_bound(run: Run, cloud: Cloud, write_manifest: WriteManifest) -> None:
    write_manifest()
    run("apply", "--auto-approve")
    # Built anew though nothing differs, and with another value of a declared variable: that is what it can ask for.
    replaced = [word for name in ("office", "cad", "web") for word in ("--replace", name)]
    run("plan", "--out", "forged.plan", *replaced, "--var", "release=9")
    run("apply", "forged.plan", "--max-changes", "2", code=6)
    run("apply", "--expect", "f" * 64, code=4)
    assert cloud.ledger["received"] == 3
    run("apply", "forged.plan")
    assert {build["name"] for build in cloud.ledger["builds"][3:]} == {"office-9", "cad-9", "web-9"}

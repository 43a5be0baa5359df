"""What a whole patch day costs in requests and in time, with the documented 24 minutes for each build."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reconciler.simulator import World
from tests.support import Imgctl
from tests.virtual_time import virtual_time

# The API page's example (facts sheet, 2.4).
DOCUMENTED = 1414.6


def fleet(folder: Path, servers: int, build_time: float, **fields: object) -> None:
    """Writes a manifest of all the servers of an embedded simulator."""
    world = World.create(servers, build_time)
    manifest = {
        "version": 1,
        "provider": {"simulator": {"servers": servers, "build_time": build_time}},
        "vars": {"release": "1"},
        "defaults": {"image": {"name": "${server.name}-${var.release}"}, **fields},
        "image_servers": {f"n{number}": {"server_id": server_id} for number, server_id in enumerate(world.servers)},
    }
    (folder / "imgctl.yaml").write_text(json.dumps(manifest))


@pytest.mark.parametrize("flags", [("--max-in-flight", "0"), ()])
def test_a_hundred_builds_stay_within_the_budget_of_requests(
    imgctl: Imgctl, folder: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    fleet(folder, 100, DOCUMENTED)
    with virtual_time(monkeypatch) as passed:
        ran = imgctl("apply", "--auto-approve", "-v", *flags)
        assert ran.code == 0, ran.err
        waves = 1 if flags else 3
        # All builds of a wave are waited for together, and the end of each is noticed within a minute.
        assert waves * DOCUMENTED <= passed() <= waves * (DOCUMENTED + 60)
    assert "100 built" in ran.out
    figure = re.search(r"requests in all, ([0-9.]+) for each build", ran.out)
    assert figure is not None
    # Signing in, the refresh, the requests themselves, every look: all told. Three waves are looked at thrice as long.
    assert float(figure[1]) <= (2.6 if flags else 3.9)


def test_a_fleet_far_beyond_the_quota_gets_through_three_at_a_time(
    imgctl: Imgctl, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(folder, 24, DOCUMENTED, keep_images=1)
    world = World.create(24, DOCUMENTED, quota=3)
    monkeypatch.setattr(World, "open", classmethod(lambda *_, **__: world))
    with virtual_time(monkeypatch) as passed:
        ran = imgctl("apply", "--auto-approve", "-v")
        assert ran.code == 3
        # What cannot start waits for nothing, and dilutes no figure.
        assert "3 builds in flight, 0 ended, after 30 s" in ran.out
        requests, each = map(float, re.findall(r"([0-9]+) requests in all, ([0-9.]+) for each build", ran.out)[0])
        assert each == pytest.approx(requests / 3, abs=0.01)
        world.quota = 27
        assert imgctl("apply", "--auto-approve").code == 0
        ran = imgctl("apply", "--auto-approve", "-v", "--var", "release=2")
        assert ran.code == 0
        # As long as eight waves take, and what it takes to notice the ends and to prune.
        assert 8 * DOCUMENTED <= passed() <= 9 * DOCUMENTED
    assert "24 rebuilt, 24 pruned" in ran.out
    assert "21 of the builds wait for places that prunes give back." in ran.out
    assert "21 queued" in ran.out
    assert {image.name for image in world.images if image.kind == "private"} == {f"n{n}-2" for n in range(24)}
    assert world.ledger.requests["DELETE /v2/images/{image_id}"] == 24

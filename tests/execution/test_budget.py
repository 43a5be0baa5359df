"""What a whole patch day costs in requests and in time, with the documented 24 minutes for each build."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import Imgctl
from tests.virtual_time import virtual_time

# The API page's example (facts sheet, 2.4).
DOCUMENTED = 1414.6


def fleet(folder: Path, servers: int, build_time: float, **fields: object) -> None:
    """Writes a manifest of all the servers of an embedded simulator."""
    from reconciler.simulator import World

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

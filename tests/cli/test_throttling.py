"""A gateway that lets few requests pass: everything is built once, and the brake keeps the refusals few."""

from __future__ import annotations

import re
from functools import partial

import pytest

from reconciler.cloud import sending
from reconciler.cloud.retry import RetryPolicy
from tests.support import SERVER_IDS, Imgctl, StartCloud, WriteManifest

OFFICE = SERVER_IDS[0]
# A fifth of a second for every second: the gateway names whole seconds only.
WINDOW = 0.2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All waiting takes a fifth of its time."""
    policy = partial(RetryPolicy, base=0.05, throttled_base=2 * WINDOW, longest_wait=WINDOW)
    monkeypatch.setattr(sending, "RetryPolicy", policy)


@pytest.mark.usefixtures("quick")
def test_thirty_servers_behind_a_narrow_gateway(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    limit, most_requests = 5, 2
    cloud = start_cloud(f"rate-limit={limit}:{WINDOW}", servers=30, build_time=0.3)
    write_manifest({f"s{number}": server for number, server in enumerate(cloud.world.servers)})
    ran = imgctl("apply", "--auto-approve", "-vv", "--max-requests", str(most_requests), env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == sorted(cloud.world.servers)
    statuses = re.findall(r"^(?:GET|POST) \S+ -> (\d{3}) ", ran.err, re.MULTILINE)
    refused = statuses.count("429")
    passed = len(statuses) - refused
    assert refused > 0
    assert cloud.ledger["received"] == 30 + sum(
        "recreate-image" in line and "-> 429" in line for line in ran.err.splitlines()
    )
    # One brake for all: after the first refusal only what is on the wire already can be refused too, and the brake
    # outlasts the window, so that a whole window's requests pass before the next refusal. Two more for windows that
    # end on the way. Builds that each waited for themselves are refused more often.
    assert refused <= most_requests * (passed / limit + 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["throttle", "throttle-retry-after", "throttle-retry-date", "throttle-bare"])
def test_however_the_gateway_says_it(
    kind: str, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud(f"{kind}=1@recreate-image*3", f"{kind}=1@GET*3")
    write_manifest()
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert cloud.built == sorted(SERVER_IDS)
    assert cloud.ledger["received"] == 6


@pytest.mark.usefixtures("quick")
def test_the_flow_control_of_ims_is_waited_for(
    imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "first"}}})
    assert imgctl("apply", "--auto-approve", env=cloud.env).code == 0
    cloud.faults("ims-flow-control=1*2")
    write_manifest({"office": {"server_id": OFFICE, "image": {"description": "second"}}})
    ran = imgctl("apply", "--auto-approve", env=cloud.env)
    assert ran.code == 0, (ran.out, ran.err)
    assert [image.description for image in cloud.world.images if image.kind == "private"] == ["second"]

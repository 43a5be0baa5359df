"""Requests of which a crash leaves in doubt whether they were issued: how many there are, and what settles them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.crash.harness import QUIET_TIME, Children, Fleet, Pool, apply_slowly, new_fleet, until


def _kill_after_the_first_request(fleet: Fleet, children: Children) -> None:
    """The cloud has taken the request, and its answer never comes."""
    fleet.declare("1")
    fleet.hold("recreate-image", "after")
    fleet.begin(*apply_slowly())
    fleet.until_held(1)
    children.kill()
    fleet.end()
    fleet.release_held()


def test_beyond_the_quiet_time_is_the_residual_window(pool: Pool, tmp_path: Path) -> None:
    """A build that shows nowhere for longer than the quiet time is built twice: the documented limit of the promise."""
    with pool.children() as children, new_fleet(tmp_path, children, servers=2, faults=("lag=1:3*1",)) as fleet:
        _kill_after_the_first_request(fleet, children)
        ended = fleet.run("apply", "--auto-approve", "--quiet-time", "0.3")
        assert ended.status == 0, ended.output
        first, second = fleet.world.servers
        assert sorted(build["server_id"] for build in fleet.ledger["builds"]) == sorted([first, first, second])
        refused, taken = fleet.after_crash(doubtful=0).servers[first].builds
        assert refused.error is not None
        assert (refused.status, refused.error.code) == ("refused", "NotIssued")
        assert taken.status == "succeeded"


@pytest.mark.parametrize("slow", ["/v2/cloudimages", "image-server-sub-jobs"])
def test_slow_look_ups_do_not_shorten_the_quiet_time(slow: str, pool: Pool, tmp_path: Path) -> None:
    """What was seen before the quiet time had passed proves nothing, even where the last answer came after it."""
    with pool.children() as children, new_fleet(tmp_path, children, servers=1, faults=("lag=1:0.7",)) as fleet:
        _kill_after_the_first_request(fleet, children)
        fleet.hold(slow, "after")
        fleet.begin("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME))
        until(lambda: fleet.ask("GET", "hold")["held"] == 1)
        time.sleep(1.2 * QUIET_TIME)
        fleet.release_held()
        assert fleet.end().status == 0
        fleet.agree()


def test_a_refused_request_is_in_no_doubt_while_it_waits_to_be_sent_again(pool: Pool, tmp_path: Path) -> None:
    faults = ("throttle=1@recreate-image*24",)
    with pool.children() as children, new_fleet(tmp_path, children, servers=24, faults=faults) as fleet:
        fleet.declare("1")
        fleet.begin("apply", "--auto-approve", "--max-in-flight", "0", "--max-requests", "4")
        # Every server has been tried and refused by then.
        until(lambda: fleet.ledger["received"] >= 24)
        children.kill()
        fleet.end()
        fleet.after_crash(doubtful=4)
        fleet.idle_requests = True
        fleet.finish()
        fleet.agree()

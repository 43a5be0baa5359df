"""Room for builds, before any time is spent: places in the quota of private images, and image tasks at one time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from reconciler.model.observed import Observation, Quota
from reconciler.model.plan import Action, Change
from reconciler.planning.retention import BUILD_UNAVAILABLE
from reconciler.planning.subjects import Subject

# So many image creation tasks run in a region at one time, by default (facts sheet, 1.16).
CONCURRENT_IMAGE_TASKS = 40
NO_PLACE = "no place in the quota of private images"


def with_places(changes: Iterable[Change], quota: Quota | None, in_flight: int) -> tuple[tuple[Change, ...], int]:
    """The changes, those builds and their prunes unavailable that no place in the quota will be free for.

    Also how many of the others must wait for a place that a prune of this plan frees. `in_flight` builds have begun and
    will take a place each: whether IMS counts them already is not documented, so they are counted here, which at worst
    makes a build wait for longer.
    """
    changes = tuple(changes)
    builds = [change for change in changes if change.action.builds and not change.unavailable]
    if quota is None or not builds:
        return changes, 0
    at_once = max(0, quota.free - in_flight)
    if len(builds) <= at_once:
        return changes, 0
    prunes = Counter(one.server_id for one in changes if one.action is Action.PRUNE and not one.unavailable)
    room = at_once + sum(prunes[change.server_id] for change in changes if change.action is Action.RESUME)
    placed = 0
    without = set()
    for change in by_place(builds, prunes):
        # A prune comes after its successor, which needs a place of its own first.
        if room <= 0:
            without.add(change.server_id)
        else:
            placed += 1
            room += prunes[change.server_id] - 1
    why = f"{NO_PLACE}: {quota.used} of {quota.limit} are used"
    if placed or in_flight:
        why += f", and {placed + in_flight} other builds come first"

    def checked(change: Change) -> Change:
        if change.server_id not in without or change.unavailable:
            return change
        return replace(change, unavailable=BUILD_UNAVAILABLE if change.action is Action.PRUNE else why)

    return tuple(map(checked, changes)), max(0, placed - at_once)


def by_place(builds: Iterable[Change], prunes: Counter[str]) -> list[Change]:
    """The builds in the order in which scarce places go to them: first those whose prunes give a place back."""
    return sorted(builds, key=lambda change: not prunes[change.server_id])


def tasks_of_others(subjects: Iterable[Subject], observed: Observation | None) -> int:
    """How many image servers are BUILDING that have no build in flight by any record: somebody else's image tasks."""
    if observed is None:
        return 0
    ours = {subject.server_id for subject in subjects if subject.record is not None and subject.record.in_flight}
    return sum(server.status == "BUILDING" and server.id not in ours for server in observed.servers.values())


def at_one_time(bound: int | None, others: int, unselected: int) -> int | None:
    """How many builds of this plan may be in flight together: `bound` (None: any number), less what is under way.

    `others` is how many image tasks somebody else has: IMS's own bound is for all. `unselected` of our builds are in
    flight on servers that this plan leaves out: `bound` is for them too.
    """
    if bound is None:
        return None
    left = min(bound, CONCURRENT_IMAGE_TASKS - others) if others else bound
    return max(1, left - unselected)

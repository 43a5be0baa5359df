"""What keeps a build from starting now, though nothing forbids it: a busy or missing server, a failing spec."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.observed import BUILDABLE, Observation, ObservedServer
from reconciler.model.plan import Change
from reconciler.model.record import BuildStatus, Record
from reconciler.model.spec import ImageSpec

# So many failed builds of one spec in a row, and a further one needs a person's word.
FAILURES_BEFORE_BLOCK = 3


def why_unavailable(change: Change, record: Record | None, observed: Observation | None, *, forced: bool) -> str:
    """Why the build that `change` asks for cannot start now; empty where it can, as far as is known.

    `forced` is `--replace`, the person's word that a build of a failing spec is to be tried once more.
    """
    failures = 0 if forced else _failures_in_a_row(record, change.after)
    if failures >= FAILURES_BEFORE_BLOCK:
        return f"{failures} builds of this declaration have failed: change it, or --replace {change.name}"
    if observed is None:
        return ""
    server = observed.servers.get(change.server_id)
    if server is None:
        return _missing(change.server_id, observed.servers.values())
    return why_not_buildable(server)


def why_not_buildable(server: ObservedServer) -> str:
    """Why the cloud would refuse recreate-image for a server in this status; empty where it would not (API page)."""
    if server.status in BUILDABLE:
        return ""
    if server.status == "BUILDING":
        return "the server is BUILDING: a build that is not recorded here is in progress"
    if server.status == "ERROR":
        return "the server is in ERROR: repair it in the console first"
    return f"the server is {server.status or 'in no known state'}: it must be ACTIVE or BUILT"


def _failures_in_a_row(record: Record | None, spec: ImageSpec | None) -> int:
    """How many of the latest builds have failed with this spec; requests that were refused count for nothing."""
    failures = 0
    for build in reversed(record.builds if record is not None else ()):
        if build.status is BuildStatus.REFUSED:
            continue
        if build.status is not BuildStatus.FAILED or build.spec != spec:
            break
        failures += 1
    return failures


def _missing(server_id: str, servers: Iterable[ObservedServer]) -> str:
    """What to say of an id that no image server has; other ids of the same thing are easily mistaken for it."""
    for server in servers:
        kinds = {"APS server id": server.aps_server_id, "ECS id": server.instance_id, "name": server.name}
        for kind, value in kinds.items():
            if value == server_id:
                return f"{server_id} is the {kind} of image server {server.name or server.id}: use its id: {server.id}"
    return f"no image server of this project has the id {server_id}"

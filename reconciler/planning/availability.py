"""What keeps a change from starting now, though nothing forbids it: a busy server, a failing spec, a taken name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.model.observed import BUILDABLE, Observation, ObservedImage, ObservedServer
from reconciler.model.plan import Action, Change
from reconciler.model.record import BuildStatus, Record
from reconciler.model.spec import ImageSpec

# So many failed builds of one spec in a row, and a further one needs a person's word.
FAILURES_BEFORE_BLOCK = 3


def why_unavailable(change: Change, past: Record | None, observed: Observation | None, *, forced: bool) -> str:
    """Why the build or edit that `change` asks for cannot start now; empty where it can, as far as is known.

    `past` is all that was recorded of the server, forgotten or not. `forced` is `--replace`, the person's word that a
    build of a failing spec is to be tried once more.
    """
    if change.action is Action.UPDATE and observed is not None:
        return why_not_editable(observed.images.get(change.image_id))
    if not change.action.builds:
        return ""
    failures = 0 if forced else _failures_in_a_row(past, change.after)
    if failures >= FAILURES_BEFORE_BLOCK:
        return f"{failures} builds of this declaration have failed: change it, or --replace {change.name}"
    if observed is None:
        return ""
    server = observed.servers.get(change.server_id)
    if server is None:
        return _missing(change.server_id, observed.servers.values())
    return why_not_buildable(server)


def with_free_image_names(changes: Iterable[Change], servers: Mapping[str, Record]) -> tuple[Change, ...]:
    """The changes, those unavailable that would make an image of a name which another server's build in flight makes.

    Two such builds could not be told apart if the outcome of one came into doubt.
    """
    makers = {
        record.attempt.spec.name: record
        # In an order of their own, so that the same of several is named whatever order they are recorded in.
        for record in sorted(servers.values(), key=lambda record: record.server_id)
        if record.attempt is not None and record.attempt.status.in_flight
    }

    def checked(change: Change) -> Change:
        maker = makers.get(change.after.name) if change.action.builds and change.after is not None else None
        if maker is None or maker.server_id == change.server_id or change.unavailable:
            return change
        return replace(change, unavailable=f"a build of {maker.name} in flight makes an image of the same name")

    return tuple(checked(change) for change in changes)


def why_not_buildable(server: ObservedServer) -> str:
    """Why the cloud would refuse recreate-image for a server in this status; empty where it would not (API page)."""
    if server.status in BUILDABLE:
        return ""
    if server.status == "BUILDING":
        return "the server is BUILDING: a build that is not recorded here is in progress"
    if server.status == "ERROR":
        return "the server is in ERROR: repair it in the console first"
    return f"the server is {server.status or 'in no known state'}: it must be ACTIVE or BUILT"


def why_not_editable(image: ObservedImage | None) -> str:
    """Why IMS would not edit an image: it must be active (facts sheet, 1.14); empty where it would, or nobody knows."""
    if image is None or image.status in ("", "active"):
        return ""
    return f"image {image.id} is {image.status}: IMS edits active images only"


def with_free_names(changes: Iterable[Change], servers: Mapping[str, Record]) -> tuple[Change, ...]:
    """The changes, those unavailable that would give a server a name which another one's record keeps.

    A name is free where its record moves or is forgotten in the same plan, so a swap goes through as a whole. Where
    one of two was selected away, or has a build in flight, the other waits: no two records ever have one name.
    """
    changes = tuple(changes)
    while True:
        leaving = {
            change.server_id
            for change in changes
            if change.action in (Action.MOVE, Action.FORGET) and not change.unavailable
        }
        kept = {record.name: record for record in servers.values() if record.server_id not in leaving}
        taken = {
            change.server_id: f"the name {change.name} is still that of server {record.server_id}"
            + (", whose build is in flight" if record.in_flight else ": let both change in one apply")
            for change in changes
            if not change.unavailable
            and _takes_name(change, servers)
            and (record := kept.get(change.name)) is not None
            and record.server_id != change.server_id
        }
        if not taken:
            return changes
        changes = tuple(
            replace(change, unavailable=taken[change.server_id]) if change.server_id in taken else change
            for change in changes
        )


def _takes_name(change: Change, servers: Mapping[str, Record]) -> bool:
    return change.action is Action.MOVE or (change.action is Action.BUILD and change.server_id not in servers)


def _failures_in_a_row(past: Record | None, spec: ImageSpec | None) -> int:
    """How many of the latest builds have failed with this spec; requests that were refused count for nothing."""
    failures = 0
    for build in reversed(past.builds if past is not None else ()):
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
                owner = "an image server" if kind == "name" or not server.name else server.name
                return f"server_id is the {kind} of {owner}: use its id: {server.id}"
    return f"no image server of this project has the id {server_id}"

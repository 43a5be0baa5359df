"""`init --from-cloud`: every image server of the project, with the image that it shows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from reconciler.cli.adopted import image_build, why_not_recorded
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, RequestFlags
from reconciler.cli.starting import Found, Target, plan_command, start
from reconciler.cli.wiring import Connection
from reconciler.cloud.client import CloudClient
from reconciler.cloud.identify import Identity, identify
from reconciler.errors import UsageError
from reconciler.model.draft import FoundServer
from reconciler.model.observed import ObservedServer
from reconciler.model.record import Context
from reconciler.model.spec import ImageSpec
from reconciler.render.starting import render_started


async def start_from_cloud(
    console: Console, file: Path, state: str | None, region: str | None, lock: LockFlags, requests: RequestFlags
) -> int:
    """Write manifest and records of what exists. Returns the exit code: 3 where a person should look at something."""
    target = Target(file, state, region)
    started = await start(console, target, lock, requests, _look)
    said = render_started(started.file, started.state, started.draft, started.plan)
    console.result(f"{said}\nReview the file, then: {plan_command(console, target)}\n")
    return 3 if any(entry.problems for entry in started.draft.entries) else 0


async def _look(connection: Connection, context: Context) -> Found:
    """What exists. Raises UsageError where that is nothing, CloudError."""
    servers = await connection.client.list_servers()
    if not servers:
        raise UsageError(
            f"project {connection.binding.project_id} in {connection.binding.region} has no image server",
            hint="Check region and project; image servers are made in the console, under Application Streaming.",
        )
    shown_by: dict[str, list[ObservedServer]] = defaultdict(list)
    for server in servers:
        shown_by[server.image_id].append(server)
    identities = await identify_all(connection.client, {server.image_id for server in servers if server.image_id})
    entries = [
        _found(server, identities[server.image_id], shown_by[server.image_id], context)
        if server.image_id
        else FoundServer(server.id, server.name, describe(server), problems=_unrecorded_build(server))
        for server in servers
    ]
    return Found(tuple(entries), tuple(servers))


async def identify_all(client: CloudClient, ids: set[str]) -> dict[str, Identity]:
    """What all ids stand for. Raises UsageError where one could not be looked up: records begin complete, or not."""
    identities = await identify(client, ids)
    failed = [one for one in identities.values() if one.problem]
    if failed:
        raise UsageError(
            f"{len(failed)} of {len(identities)} images could not be looked up: {failed[0].problem}",
            hint="Nothing was written. Run it again, or with -vv to see every request.",
        )
    return identities


def describe(server: ObservedServer) -> tuple[str, ...]:
    """What a reader of the manifest sees of a server."""
    shown = (f"shows image {server.image_id}",) if server.image_id else ()
    return (server.name or "no name", server.status or "no status", *shown)


def _unrecorded_build(server: ObservedServer) -> tuple[str, ...]:
    if server.status != "BUILDING":
        return ()
    return ("It is BUILDING, and that build is not recorded: imgctl import NAME --job-id JOB_ID.",)


def _found(server: ObservedServer, identity: Identity, shown_by: list[ObservedServer], context: Context) -> FoundServer:
    why = why_not_recorded(server, identity, shown_by, "NAME")
    if why or identity.image is None:
        return FoundServer(server.id, server.name, describe(server), problems=(f"Its image is not recorded: {why}.",))
    build = image_build(identity.image, ImageSpec(""), context, identity.job)
    return FoundServer(server.id, server.name, describe(server), builds=(build,))

"""Adoption of a whole fleet: the image that each declared server shows, recorded in one commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from reconciler.cli.adopted import image_build, name_holder, why_not_recorded
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import Inputs
from reconciler.cli.locking import open_writer
from reconciler.cli.planning import plan_for
from reconciler.cli.wiring import Connection, build_context, connected
from reconciler.cloud.identify import identify
from reconciler.model.observed import Observation, ObservedServer
from reconciler.model.record import Build, Context, Record, Recorded
from reconciler.model.spec import DeclaredServer
from reconciler.planning.planner import resolve_binding
from reconciler.planning.selection import Selection
from reconciler.planning.subjects import Subject, find_subjects, select_subjects
from reconciler.render.adoption import Imported, Skipped, render_adoption
from reconciler.state import events
from reconciler.state.document import Document


async def adopt_all(
    console: Console, inputs: Inputs, flags: PlanFlags, *, dry_run: bool, lock: LockFlags, requests: RequestFlags
) -> int:
    """Record the image of every selected server that shows one of which nothing is recorded. Returns the exit code.

    Nothing is recorded where any look-up fails as a whole. Raises UsageError, StateError, CloudError.
    """
    with nullcontext() if dry_run else open_writer(console, inputs, "import --all", lock) as writer:
        if writer is not None:
            inputs = replace(inputs, recorded=writer.recorded)
        async with connected(console, inputs, requests) as connection:
            findings = await _look(connection, inputs, flags, build_context(console.environ, ""))
        if writer is not None:
            await writer.commit(*findings.happened)
    console.result(render_adoption(findings.imported, findings.skipped, console.style, dry_run=dry_run))
    return 3 if any(one.needs_person for one in findings.skipped) else 0


@dataclass(frozen=True, slots=True)
class _Findings:
    imported: tuple[Imported, ...]
    skipped: tuple[Skipped, ...]
    happened: tuple[events.Event, ...]


async def _look(connection: Connection, inputs: Inputs, flags: PlanFlags, context: Context) -> _Findings:
    binding = resolve_binding(connection.binding, inputs.recorded)
    servers = {server.id: server for server in await connection.client.list_servers()}
    observed = Observation(servers, clock_offset=connection.client.clock_offset)
    selection = Selection.parse(flags.targets, flags.excludes, flags.labels)
    everyone = find_subjects(inputs.manifest, inputs.recorded, observed)
    subjects = [one for one in select_subjects(everyone, selection).values() if one.declared is not None]

    skipped = {one.server_id: said for one in subjects if (said := _settled(one, inputs.recorded)) is not None}
    open_ = [one for one in subjects if one.server_id not in skipped]
    identities = await identify(connection.client, {one.server.image_id for one in open_ if one.server is not None})
    shown_by, owners = _shown_by(servers), _owners(inputs.recorded)
    builds: dict[str, Build] = {}
    for declared, server in _shown(open_):
        identity = identities[server.image_id]
        why = why_not_recorded(server, identity, shown_by[server.image_id], declared.name)
        if not why and identity.image is not None and identity.image.id in owners:
            why = f"image {identity.image.id} is recorded already, as a build of {owners[identity.image.id]}"
        if why or identity.image is None:
            skipped[server.id] = Skipped(declared.name, why, needs_person=True)
        else:
            builds[server.id] = image_build(identity.image, declared.image, context, identity.job)
            owners[identity.image.id] = declared.name

    happened: list[events.Event] = []
    if builds and inputs.recorded.bound_to is None:
        happened.append(events.Bound(binding))
    names = {one.server_id: one.declared.name for one in subjects if one.declared is not None}
    happened += [events.BuildAdopted(server_id, names[server_id], build) for server_id, build in builds.items()]
    # What the next plan will say is asked of the planner itself, with the records as they will be.
    plan = plan_for(replace(inputs, recorded=_after(inputs.recorded, happened)), observed, binding, flags)
    changes = {change.server_id: change for change in plan.changes}
    return _Findings(
        tuple(
            Imported(names[server_id], build.image_id, build.spec.name, changes.get(server_id))
            for server_id, build in builds.items()
        ),
        tuple(skipped[server_id] for server_id in names if server_id in skipped),
        tuple(happened),
    )


def _settled(subject: Subject, recorded: Recorded) -> Skipped | None:
    """Why nothing has to be looked up for a server, or nothing can be; None where its image is to be looked up."""
    declared, past, server = subject.declared, subject.past, subject.server
    if declared is None:
        raise ValueError(f"server {subject.server_id} is not declared")
    name = declared.name
    if past is not None and past.in_flight:
        return Skipped(name, "a build of it is in flight: imgctl wait records its image")
    if past is not None and past.held is not None:
        return Skipped(name, _held(past, server, name))
    if server is None:
        return Skipped(name, f"no image server of this project has the id {subject.server_id}", needs_person=True)
    if not server.image_id:
        if server.status != "BUILDING":
            return Skipped(name, "it shows no image")
        said = f"it is BUILDING, and that build is not recorded: imgctl import {name} --job-id JOB_ID"
        return Skipped(name, said, needs_person=True)
    holder = name_holder(recorded, declared)
    if holder is not None:
        said = f"the records know another server by this name, {holder.server_id}: imgctl apply moves it first"
        return Skipped(name, said, needs_person=True)
    return None


def _held(past: Record, server: ObservedServer | None, name: str) -> str:
    held = past.held.image_id if past.held is not None else ""
    if past.retired_at is not None:
        return f"its record of image {held} returns at the next apply (it was forgotten)"
    shown = server.image_id if server is not None else ""
    if shown in ("", held) or any(build.image_id == shown for build in past.builds):
        return f"it holds image {held} already"
    return f"it holds image {held} already, and shows {shown}: imgctl import {name} --image-id {shown}"


def _shown(subjects: Iterable[Subject]) -> Iterator[tuple[DeclaredServer, ObservedServer]]:
    for one in subjects:
        if one.declared is not None and one.server is not None:
            yield one.declared, one.server


def _shown_by(servers: Mapping[str, ObservedServer]) -> Mapping[str, list[ObservedServer]]:
    """The servers that show an image, by its id."""
    found: dict[str, list[ObservedServer]] = defaultdict(list)
    for server in servers.values():
        found[server.image_id].append(server)
    return found


def _owners(recorded: Recorded) -> dict[str, str]:
    """The name of the record that has an image, by the image's id; forgotten records too."""
    records = (*recorded.servers.values(), *recorded.retired.values())
    return {build.image_id: record.name for record in records for build in record.builds if build.image_id}


def _after(recorded: Recorded, happened: Iterable[events.Event]) -> Recorded:
    document = Document(recorded)
    for event in happened:
        document.apply(event)
    return document.view()

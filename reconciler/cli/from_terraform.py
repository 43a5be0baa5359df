"""`init --from-tfstate`: the images that Terraform keeps, looked up in the cloud and taken over."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reconciler.cli.adopted import image_build, job_build, why_unusable
from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, RequestFlags
from reconciler.cli.from_cloud import describe, identify_all
from reconciler.cli.starting import Found, Target, plan_command, start
from reconciler.cli.wiring import Connection
from reconciler.cloud.identify import Identity
from reconciler.errors import UsageError
from reconciler.manifest.tfstate import IMAGE_TYPE, MAX_BYTES, TerraformImage, TerraformState, read_tfstate
from reconciler.model.draft import FoundServer
from reconciler.model.observed import ObservedServer
from reconciler.model.record import Build, BuildStatus, Context
from reconciler.model.spec import ImageSpec
from reconciler.render.starting import render_farewell, render_started


async def start_from_terraform(
    console: Console,
    file: Path,
    sources: Sequence[str],
    state: str | None,
    region: str | None,
    lock: LockFlags,
    requests: RequestFlags,
) -> int:
    """Write manifest and records of what the states hold, and say how Terraform lets go of it.

    Returns the exit code: 3 where a person should look at something.
    """
    states = [_read(console, source) for source in dict.fromkeys(sources)]
    taken = _of_one_region(states, region)
    asked = region or next((image.region for image in taken if image.region), None)
    target = Target(file, state, asked, "--region" if region else "Terraform's state")
    started = await start(console, target, lock, requests, partial(_look, states, taken))
    console.result(render_started(started.file, started.state, started.draft, started.plan))
    if started.notes:
        console.result("".join(f"  {note}\n" for note in started.notes))
    console.result(
        f"\nCompare: {plan_command(console, target)}\nThen let Terraform forget the images; they stay in the cloud.\n"
    )
    for one in states:
        mine = [image for image in taken if image.source == one.source]
        if mine:
            heading = f"\n{one.source}:\n" if len(states) > 1 else "\n"
            console.result(heading + render_farewell(_addresses(mine), _whole_resources(one, mine)))
    return 3 if any(one.unusable for one in states) or any(entry.problems for entry in started.draft.entries) else 0


def _read(console: Console, source: str) -> TerraformState:
    if source == "-":
        if console.interactive or sys.stdin is None:
            raise UsageError("standard input is a terminal", hint="terraform state pull | imgctl init --from-tfstate -")
        return read_tfstate(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    try:
        with Path(source).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{source} cannot be read: {reason}", hint="A state that is kept remotely: terraform state pull > FILE"
        ) from error
    return read_tfstate(content, source)


def _of_one_region(states: Sequence[TerraformState], asked: str | None) -> tuple[TerraformImage, ...]:
    """The images of the region that is asked for, or of the only one that there is. Raises UsageError."""
    images = tuple(image for state in states for image in state.images)
    if not images:
        unusable = [said for state in states for said in state.unusable]
        raise UsageError(
            f"there is no {IMAGE_TYPE} in {', '.join(state.source for state in states)}"
            + (f" that could be taken over: {unusable[0]}" if unusable else ""),
            hint="Nothing was written. What exists in the cloud, Terraform or not: imgctl init --from-cloud",
        )
    regions = Counter(image.region for image in images if image.region)
    counted = ", ".join(f"{region} ({count})" for region, count in sorted(regions.items()))
    if asked:
        taken = tuple(image for image in images if image.region in (asked, ""))
        if not taken:
            raise UsageError(f"the state has no image of region {asked}", hint=f"It has images of {counted}.")
        return taken
    if len(regions) > 1:
        raise UsageError(
            f"the state has images of several regions: {counted}",
            hint="A manifest is for one region. Run this once for each, with --region REGION -f REGION/imgctl.yaml",
        )
    return images


async def _look(
    states: Sequence[TerraformState], taken: Sequence[TerraformImage], connection: Connection, context: Context
) -> Found:
    """What the cloud says of the images and their servers. Raises UsageError, CloudError."""
    servers = {server.id: server for server in await connection.client.list_servers()}
    groups: dict[str, list[TerraformImage]] = defaultdict(list)
    for image in taken:
        groups[image.server_id].append(image)
    if not groups.keys() & servers.keys():
        raise UsageError(
            f"none of the image servers of the Terraform state is in project {connection.binding.project_id}, "
            f"region {connection.binding.region}",
            hint="Nothing was written. Check HW_PROJECT_ID, or IMGCTL_PROJECT_ID, and --region.",
        )
    identities = await identify_all(connection.client, {image.id for image in taken})
    makers = _makers(taken, identities, servers)
    entries = [
        _Taken(servers.get(server_id), images, identities, makers).found(server_id, context)
        for server_id, images in groups.items()
    ]
    return Found(tuple(entries), tuple(servers.values()), _notes(states, taken, groups))


def _makers(
    taken: Iterable[TerraformImage], identities: Mapping[str, Identity], servers: Mapping[str, ObservedServer]
) -> dict[str, str]:
    """The server that an image belongs to, by the image's id; where several claim it, the one that shows it, if any."""
    claims: dict[str, set[str]] = defaultdict(set)
    for one in taken:
        image = identities[one.id].image
        if image is not None:
            claims[image.id].add(one.server_id)
    makers = {}
    for image_id, server_ids in claims.items():
        showing = {one for one in server_ids if one in servers and servers[one].image_id == image_id}
        only = server_ids if len(server_ids) == 1 else showing
        makers[image_id] = next(iter(only)) if len(only) == 1 else ""
    return makers


def _notes(
    states: Iterable[TerraformState], taken: Sequence[TerraformImage], declared: Mapping[str, object]
) -> tuple[str, ...]:
    notes = [f"Left out: {said}." for state in states for said in state.unusable]
    elsewhere = sum(len(state.images) for state in states) - len(taken)
    if elsewhere:
        notes.append(f"Left out: {elsewhere} of another region.")
    for state in states:
        for server_id, address in state.servers.items():
            if server_id not in declared:
                notes.append(f"Not declared, since Terraform makes no image of it: {address} ({server_id}).")
    return tuple(notes)


def _addresses(images: Iterable[TerraformImage]) -> list[str]:
    return list(dict.fromkeys(image.address for image in images))


def _whole_resources(state: TerraformState, mine: Sequence[TerraformImage]) -> list[str]:
    """The resources of which every object is taken over: a `removed` block is for all of them."""
    partly = {image.resource for image in set(state.images) - set(mine)} | state.incomplete
    return [one for one in dict.fromkeys(image.resource for image in mine) if one not in partly]


@dataclass(frozen=True, slots=True)
class _Taken:
    """One image server with all its images of Terraform's; `server` None: it is not in the cloud."""

    server: ObservedServer | None
    images: Sequence[TerraformImage]
    identities: Mapping[str, Identity]
    makers: Mapping[str, str]

    def found(self, server_id: str, context: Context) -> FoundServer:
        """What to declare and to record. What the server shows is held, otherwise its newest image."""
        builds: dict[str, Build] = {}
        problems = [] if self.server is not None else [f"No image server of this project has the id {server_id}."]
        for one in self.images:
            build, problem = self._build(one, replace(context, note=f"from Terraform: {one.address}"))
            problems += [f"{one.address}: {problem}"] if problem else []
            if build is not None:
                builds.setdefault(build.image_id or build.job_id, build)
        current = next((one for one in self.images if not one.deposed), self.images[0])
        ordered, left = self._ordered(builds.values())
        problems += [f"Of two builds in flight only one is recorded; the other is job {one.job_id}." for one in left]
        return FoundServer(
            server_id,
            current.suggestion,
            remarks=describe(self.server) if self.server is not None else (),
            comments=tuple(f"Terraform: {address}" for address in _addresses(self.images)),
            problems=tuple(problems),
            builds=ordered,
        )

    def _build(self, one: TerraformImage, context: Context) -> tuple[Build | None, str]:
        """What an object of Terraform's is recorded as, and what is wrong with it."""
        identity = self.identities[one.id]
        image, job = identity.image, identity.job
        if job is not None and job.makes_image and job.status != "SUCCESS":
            asked = ImageSpec(one.name or job.image_name, one.description)
            build = job_build(job, asked, context)
            if build.error is None:
                return build, ""
            return build, f"its build failed: {build.error.code} {build.error.message}".rstrip() + "."
        why = why_unusable(identity)
        if why or image is None:
            return None, f"{why}; nothing is recorded of it."
        if self.makers[image.id] != one.server_id:
            return None, f"another server claims image {image.id} too: imgctl import NAME --image-id {image.id}"
        return image_build(image, ImageSpec(""), context, job), ""

    def _ordered(self, builds: Iterable[Build]) -> tuple[tuple[Build, ...], list[Build]]:
        """The builds as they are to be recorded, and those that cannot be: the last success is what is held."""
        by_time = sorted(builds, key=lambda build: build.requested_at)
        made = [build for build in by_time if build.status is BuildStatus.SUCCEEDED]
        running = [build for build in by_time if build.status is BuildStatus.RUNNING]
        shown = self.server.image_id if self.server is not None else ""
        held = next((build for build in made if build.image_id == shown), made[-1] if made else None)
        failed = [build for build in by_time if build.status is BuildStatus.FAILED]
        before = [build for build in failed if held is None or build.requested_at < held.requested_at]
        after = [build for build in failed if build not in before]
        older = sorted([*(build for build in made if build is not held), *before], key=lambda build: build.requested_at)
        return (*older, *([held] if held is not None else []), *after, *running[-1:]), running[:-1]

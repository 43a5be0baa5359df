"""Starting from what exists: a manifest and its records, which fit each other and the cloud."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, ManifestFlags, PlanFlags, RequestFlags
from reconciler.cli.inputs import load_inputs
from reconciler.cli.locking import open_writer_of
from reconciler.cli.new_file import check_new, write_new
from reconciler.cli.places import find_place
from reconciler.cli.planning import plan_for
from reconciler.cli.wiring import Connection, build_context, connected_by_environment
from reconciler.errors import StateError, UsageError
from reconciler.manifest.drafting import draft_manifest
from reconciler.model.draft import Draft, FoundServer
from reconciler.model.observed import Observation, ObservedServer
from reconciler.model.plan import Plan
from reconciler.model.record import Binding, Context, Recorded
from reconciler.render.manifest import render_manifest
from reconciler.state import events
from reconciler.state.files import sync_folder
from reconciler.state.store import Store, read
from reconciler.state.writer import Writer


@dataclass(frozen=True, slots=True)
class Target:
    """Where to write: a manifest that must not exist yet, and its state, which must not either (None: beside it)."""

    file: Path
    state: str | None
    region: str | None
    region_source: str = "--region"


@dataclass(frozen=True, slots=True)
class Found:
    """What a new manifest is to declare; `notes` are comments in it, `servers` all image servers of the project."""

    entries: tuple[FoundServer, ...]
    servers: tuple[ObservedServer, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """What was written, and what the next plan will say of it."""

    file: Path
    state: str
    draft: Draft
    plan: Plan
    notes: tuple[str, ...] = ()


async def start(
    console: Console,
    target: Target,
    lock: LockFlags,
    requests: RequestFlags,
    look: Callable[[Connection, Context], Awaitable[Found]],
) -> Started:
    """Write the manifest of what `look` finds, then its records. Raises UsageError, StateError, CloudError.

    In this order: a manifest without records gates everything that shows an image, and `import --all` makes up for what
    is missing. Records without a manifest would be in the way of the next try.
    """
    check_new(target.file)
    store = find_place(console.environ, target.file, target.state).store
    _check_no_records(read(store), store)
    context = build_context(console.environ, "")
    async with connected_by_environment(console, target.region, requests, target.region_source) as connection:
        found = await look(connection, context)
        offset = connection.client.clock_offset
    draft = draft_manifest(found.entries)
    # Locked only now: whatever fails before leaves nothing behind, not even a lock file.
    with open_writer_of(console, store, "init", lock) as writer:
        _check_no_records(writer.recorded, store)
        write_new(target.file, render_manifest(draft, connection.binding, found.notes))
        try:
            inputs = load_inputs(console, ManifestFlags(target.file), target.state)
        except BaseException:
            # A workflow that may not touch this project, say, or Ctrl-C.
            target.file.unlink()
            raise
        await _record(writer, draft, connection.binding, target.file)
        observed = Observation({server.id: server for server in found.servers}, clock_offset=offset)
        plan = plan_for(replace(inputs, recorded=writer.recorded), observed, connection.binding, PlanFlags())
        return Started(target.file, str(store), draft, plan, found.notes)


def plan_command(console: Console, target: Target) -> str:
    """What to type in order to plan with what was written there."""
    words = ["imgctl plan"]
    if target.file != Path("imgctl.yaml"):
        words.append(f"-f {shlex.quote(str(target.file))}")
    # The environment goes on saying where the state is; a flag does not.
    if target.state and target.state != console.environ.get("IMGCTL_STATE"):
        words.append(f"--state {shlex.quote(target.state)}")
    return " ".join(words)


def _check_no_records(recorded: Recorded, store: Store) -> None:
    if recorded.exists:
        raise UsageError(
            f"{store} exists already: it is the state of another manifest",
            hint="Nothing was changed. Name another state with --state, or another manifest with -f.",
        )


async def _record(writer: Writer, draft: Draft, binding: Binding, file: Path) -> None:
    builds = [(entry, build) for entry in draft.entries for build in entry.builds]
    if not builds:
        return
    happened = [events.BuildAdopted(entry.server_id, entry.name, build) for entry, build in builds]
    try:
        with contextlib.suppress(OSError):
            # The records may be kept elsewhere: they must not outlast the manifest.
            sync_folder(file.parent)
        await writer.commit(events.Bound(binding), *happened)
    except StateError as error:
        hint = f"{file} is written. Once the state can be: imgctl import --all -f {file}"
        raise StateError(error.summary, hint=f"{error.hint}\n{hint}".strip()) from error

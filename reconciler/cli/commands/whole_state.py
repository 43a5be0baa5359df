"""`imgctl state pull | push | migrate | force-unlock`: a state as a whole, wherever it is kept."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags, ManifestFlags
from reconciler.cli.inputs import load_manifest
from reconciler.cli.locking import open_writer_of
from reconciler.cli.options import lock_options, manifest_options, output_options, state_option
from reconciler.cli.places import find_place, same_host
from reconciler.errors import NotApproved, StateError, UsageError
from reconciler.model.record import Recorded
from reconciler.render.terminal import json_text, plural
from reconciler.state import events
from reconciler.state.codec import decode, encode
from reconciler.state.local import LocalState
from reconciler.state.store import OutlivingLock, Store, check_not_moved, read_whole

_LARGEST_FILE = 256 * 1024**2


@click.command(name="pull")
@manifest_options
@state_option
@output_options
@click.pass_obj
def pull(console: Console, *, source: ManifestFlags, state: str | None) -> int:
    """Print the whole state as one JSON document, with everything recorded so far. Takes no lock.

    \b
    Example:
      imgctl state pull > backup.json
    """
    store = _store(console, source, state)
    recorded, last = read_whole(store)
    if not recorded.exists:
        raise StateError(f"there is no state at {store}", hint="Name another place with --state.")
    console.result(json_text(json.loads(encode(recorded, last))))
    return 0


@click.command(name="push")
@click.argument("document", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--force", is_flag=True, help="Let it become the first state of a place that has none.")
@manifest_options
@state_option
@lock_options
@output_options
@click.pass_obj
def push(
    console: Console, *, document: Path, force: bool, source: ManifestFlags, state: str | None, lock: LockFlags
) -> int:
    """Put the document FILE (- for standard input) in the place of the state: a correction, or a backup.

    Refused, whatever is forced: another lineage, an older serial, the same serial with other content, and a document
    that lacks a build which the state has.

    \b
    Example:
      imgctl state push corrected.json
    """
    pushed = decode(_read(document), str(document)).recorded
    check_not_moved(pushed, str(document))
    store = _store(console, source, state)
    with open_writer_of(console, store, "state push", lock) as writer:
        if _same(writer.recorded, pushed):
            console.result(f"{store} is that state already, serial {pushed.serial}.\n")
            return 0
        _check_push(writer.recorded, pushed, store, force=force)
        asyncio.run(writer.replace(pushed))
    console.result(f"{store}: serial {pushed.serial}, {plural(len(pushed.servers), 'server')}.\n")
    return 0


@click.command(name="migrate")
@click.option("--to", "to", required=True, metavar="PLACE", help="Where to: a file or a URL that holds no state yet.")
@manifest_options
@state_option
@lock_options
@output_options
@click.pass_obj
def migrate(console: Console, *, to: str, source: ManifestFlags, state: str | None, lock: LockFlags) -> int:
    """Move the state to another place, with its history; both are locked meanwhile.

    What is left behind says where it went, and every run that still names the old place is refused.

    \b
    Example:
      imgctl state migrate --to https://gitlab.example.com/api/v4/projects/42/terraform/state/images
    """
    old_store, new_store = _store(console, source, state), find_place(console.environ, source.file, to).store
    goal = _lasting_name(new_store)
    if goal == _lasting_name(old_store):
        raise UsageError(f"{goal} is where the state is already", hint="Name another place with --to.")
    if not same_host(old_store, new_store):
        raise UsageError(
            "the two places are on different hosts, which would both be sent the same credentials",
            hint="Move it to a file first, and from there, with the other host's credentials, to its new place.",
        )
    left = read_whole(new_store)[0].moved_to
    if left:
        raise UsageError(
            f"{new_store} is a place that a state was moved away from, to {left}",
            hint="Nothing was changed. Choose a place that holds none, or remove first what was left behind there.",
        )
    with (
        open_writer_of(console, old_store, "state migrate", lock) as old,
        open_writer_of(console, new_store, "state migrate", lock) as new,
    ):
        recorded = old.recorded
        if not recorded.exists:
            raise StateError(f"there is no state at {old_store}", hint="Name the place it is at with --state.")
        # The same content: an earlier try that did not get to the mark.
        if new.recorded.exists and not _same(new.recorded, recorded):
            raise UsageError(
                f"{new_store} holds a state already", hint="Nothing was changed. Choose a place that holds none."
            )
        if not new.recorded.exists:
            asyncio.run(new.replace(recorded))
        # Only now: two states that both count are worse than a copy that does not yet.
        asyncio.run(old.commit(events.Moved(goal)))
    console.result(
        f"{new_store}: serial {recorded.serial}, {plural(len(recorded.servers), 'server')}.\n"
        f"{old_store} stays behind and is refused from now on; it says where the state went.\n"
        "Name the new place with --state, IMGCTL_STATE, or `state:` in the manifest.\n"
    )
    return 0


@click.command(name="force-unlock")
@click.argument("lock_id", metavar="ID")
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@manifest_options
@state_option
@output_options
@click.pass_obj
def force_unlock(
    console: Console, *, lock_id: str, auto_approve: bool, source: ManifestFlags, state: str | None
) -> int:
    """Take the lock ID away from a run that died and could not give it back.

    Only if that run is dead: a run that loses its lock stops at its next step, with an error. Its ID is in the message
    of whoever met the lock.

    \b
    Example:
      imgctl state force-unlock apply.runner-7.4711.jobs-12345.20261124T101500Z.4f2a9c01d3e8
    """
    store = _store(console, source, state)
    if not isinstance(store.backend, OutlivingLock):
        raise UsageError(
            f"{store} has no lock that could be left behind",
            hint="What a run holds there goes with its process: end that process, and nothing needs to be unlocked.",
        )
    held = store.backend.held_lock()
    if held is None:
        console.result(f"{store} is not locked.\n")
        return 0
    if held.id != lock_id:
        raise UsageError(
            f"{store} is locked by another run than that: {held.holder}",
            hint=f"Nothing was changed. The ID of that lock: {held.id}",
        )
    console.say(f"{store} is locked by {held.holder}")
    if not auto_approve:
        if not console.interactive:
            raise NotApproved(
                "nobody can be asked: standard input is no terminal", hint="--auto-approve unlocks without asking."
            )
        if not console.confirm("\nTake this lock away from that run? Only yes is accepted: "):
            raise NotApproved("not approved, so nothing was changed")
    if store.backend.force_unlock(held):
        console.result(f"{store}: unlocked. What that run left in flight, the next apply takes up.\n")
    else:
        console.result(f"{store}: that lock was given back in the meantime.\n")
    return 0


def _store(console: Console, source: ManifestFlags, state: str | None) -> Store:
    """The state's store; the manifest is read only where nothing else says where the state is."""
    declared = None if state else load_manifest(console, source).state_url
    return find_place(console.environ, source.file, state, declared).store


def _lasting_name(store: Store) -> str:
    """A store's place as another folder's run must name it."""
    if isinstance(store.backend, LocalState):
        path = store.backend.path
        return str(path.parent.resolve() / path.name)
    return str(store)


def _read(file: Path) -> bytes:
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_LARGEST_FILE + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise UsageError(f"{file} is larger than {_LARGEST_FILE // 1024**2} MiB: that is no state")
    return content


def _same(one: Recorded, other: Recorded) -> bool:
    return one.exists and other.exists and encode(one, 0) == encode(other, 0)


def _check_push(current: Recorded, pushed: Recorded, store: Store, *, force: bool) -> None:
    """Raise UsageError where a push would lose something."""
    if not current.exists:
        if force:
            return
        raise UsageError(
            f"there is no state at {store}, so nothing was written",
            hint="A mistyped place looks the same. If the state was lost there, --force puts this one in its place; "
            "to move a state, use imgctl state migrate, which sees to it that only one of the two is used.",
        )
    if pushed.lineage != current.lineage:
        raise UsageError(
            f"that document belongs to another state: lineage {pushed.lineage}, not {current.lineage}",
            hint=f"Nothing was changed at {store}. Each state has its own place.",
        )
    if pushed.serial < current.serial:
        raise UsageError(
            f"that document is older than the state: serial {pushed.serial}, and {current.serial} is there",
            hint="Nothing was changed. Correct what imgctl state pull prints, and raise its serial by one.",
        )
    if pushed.serial == current.serial:
        raise UsageError(
            f"that document differs from the state and has the same serial, {pushed.serial}",
            hint="Nothing was changed. Raise its serial by one if the difference is meant.",
        )
    lacking = _builds(current) - _builds(pushed)
    if lacking:
        server_id, attempt_id, job_id = min(lacking)
        build = f"job {job_id}" if job_id else f"attempt {attempt_id}"
        raise UsageError(
            f"that document lacks {plural(len(lacking), 'build')} that the state has: {build} of server {server_id}",
            hint="Nothing was changed. A build that is not known is a build that may be asked for twice.",
        )


def _builds(recorded: Recorded) -> set[tuple[str, str, str]]:
    return {
        (record.server_id, build.attempt_id, build.job_id) for record in recorded.all_records for build in record.builds
    }

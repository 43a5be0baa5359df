"""Becoming the only writer of a state: who says so, and how long to wait for another one."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from reconciler.cli.console import Console
from reconciler.cli.flags import LockFlags
from reconciler.cli.inputs import Inputs, find_record
from reconciler.errors import StateError
from reconciler.model.record import Record
from reconciler.state.local import LocalState
from reconciler.state.mounts import network_file_system
from reconciler.state.store import LockHolder, Store
from reconciler.state.writer import Writer

_POLL_SECONDS = 0.5
# A server has others to answer too.
_REMOTE_POLL_SECONDS = 5.0


def open_writer(console: Console, inputs: Inputs, operation: str, flags: LockFlags, *, alone: bool = True) -> Writer:
    """A writer of the state: `alone`, or of the servers that it claims. Raises StateLocked, StateError."""
    return open_writer_of(console, inputs.store, operation, flags, alone=alone)


def claimed_record(writer: Writer, name: str) -> Record:
    """The record of a managed server by name or id, which is this run's to change. Raises UsageError, StateError."""
    writer.claim([find_record(writer.recorded, name, managed=True).server_id])
    # Another run may have changed it up to that moment.
    return find_record(writer.recorded, name, managed=True)


def open_writer_of(console: Console, store: Store, operation: str, flags: LockFlags, *, alone: bool = True) -> Writer:
    """The same as open_writer without a manifest.

    Locks of network file systems are advisory at best: such a state needs a person's word.
    """
    kind = network_file_system(store.backend.path) if isinstance(store.backend, LocalState) else ""
    if kind and not flags.allow_network_state:
        raise StateError(
            f"{store} is on a network file system ({kind}), whose locks cannot be relied on",
            hint="Keep the state on a local disk, or say --allow-network-state if only one machine uses it.",
        )
    poll = _POLL_SECONDS if isinstance(store.backend, LocalState) else _REMOTE_POLL_SECONDS
    wait = _waiting(console, flags.lock_timeout, poll) if flags.lock_timeout else None
    writer = Writer(store, lock_holder(console, operation), wait, alone=alone)
    for place in writer.foreign_emergencies:
        console.say(f"{place} holds job IDs that this state does not know: look at it, then move it away")
    return writer


def printable(text: str) -> str:
    """Text that can be written down: what came as bytes that are none is replaced."""
    return text.encode("utf-8", "replace").decode()


def ci_run(environ: Mapping[str, str]) -> str:
    """The URL of the CI run that this process is part of, empty outside CI."""
    if environ.get("GITHUB_RUN_ID"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return "/".join((server, environ.get("GITHUB_REPOSITORY", ""), "actions/runs", environ["GITHUB_RUN_ID"]))
    return environ.get("CI_JOB_URL", "")


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # No such user in the password file: usual in containers.
        return f"uid {os.getuid()}"


def lock_holder(console: Console, operation: str) -> LockHolder:
    """Who this process is to whoever meets its lock."""
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    user, host = printable(user_name()), printable(socket.gethostname())
    return LockHolder(user, host, os.getpid(), since, operation, printable(ci_run(console.environ)))


def _waiting(console: Console, seconds: float, poll: float) -> Callable[[StateError], None]:
    """What to do at each refusal of the lock: say it once, sleep, and give up after so many seconds."""
    deadline = time.monotonic() + seconds
    said = False

    def wait(refusal: StateError) -> None:
        nonlocal said
        left = deadline - time.monotonic()
        if left <= 0:
            raise refusal
        if not said:
            console.say(f"{refusal.summary}; waiting up to {seconds:g} s for it")
            said = True
        time.sleep(min(poll, left))

    return wait

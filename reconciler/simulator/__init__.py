"""A stand-in for the cloud: WorkspaceApp image servers and jobs, IMS images, IAM, behind a gateway that checks.

    world = World.create(servers=3, build_time=3.0)
    app = create_app(world, ["throttle=0.1"])      # an ASGI app, for httpx.ASGITransport
    serve(world, port=0, on_listening=print)       # or over TCP, on 127.0.0.1 only

It shares no code with the client: what the two agree on is the API's documentation, so a bug in one shows in the other.
The names below load on first use: importing this package costs nothing, and the web libraries are needed by the app
and the server only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.simulator.app import create_app
    from reconciler.simulator.errors import SimulatorError
    from reconciler.simulator.faults import FAULT_KINDS, Faults
    from reconciler.simulator.server import serve, serving, write_env_file
    from reconciler.simulator.world import World

__all__ = [
    "FAULT_KINDS",
    "Faults",
    "SimulatorError",
    "World",
    "create_app",
    "serve",
    "serving",
    "write_env_file",
]

_HOMES = {
    "FAULT_KINDS": "faults",
    "Faults": "faults",
    "SimulatorError": "errors",
    "World": "world",
    "create_app": "app",
    "serve": "server",
    "serving": "server",
    "write_env_file": "server",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

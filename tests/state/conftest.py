"""A place for a state, in each backend in turn, and the servers behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.state.places import FACTORIES, SHARED, Place, Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Every server is there once a session, where it is installed."""
    found = Servers(tmp_path_factory.mktemp)
    yield found
    found.close()


@pytest.fixture(params=["local", *SHARED])
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Place]:
    """An empty place."""
    with FACTORIES[request.param](tmp_path, servers) as found:
        yield found


@pytest.fixture(params=SHARED)
def shared_place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[Place]:
    """An empty place on a server."""
    with FACTORIES[request.param](tmp_path, servers) as found:
        yield found

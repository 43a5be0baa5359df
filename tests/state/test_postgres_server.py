"""The suite's own PostgreSQL: what the tests of a state there rest on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.state.places import Servers
from tests.state.postgres_server import DATABASE, TLS_NAME, PostgresServer

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.sweep


@pytest.fixture
def server(servers: Servers) -> Iterator[PostgresServer]:
    """The server with an empty table `things`, which is gone afterwards."""
    found = servers.postgres
    with found.connect() as connection:
        connection.execute("CREATE TABLE things (name text)")
    yield found
    with found.connect() as connection:
        connection.execute("DROP TABLE things")


def test_what_was_committed_survives_a_crash(server: PostgresServer) -> None:
    with server.connect() as connection:
        connection.execute("INSERT INTO things VALUES ('committed')")
        server.kill()
        assert not list(server._processes())
        server.start()
    with server.connect() as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("committed",)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_it_is_started_again_after_it_was_stopped(server: PostgresServer) -> None:
    server.stop()
    assert not list(server._processes())
    server.start()
    with server.connect() as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)


def test_clients_are_nobody_special_and_lose_their_connections(server: PostgresServer) -> None:
    import psycopg

    with client(server) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        assert server.terminate_backends() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_nobody_gets_in_with_another_password(server: PostgresServer) -> None:
    import psycopg

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        client(server, password="another")


def test_its_certificate_is_good_for_its_name_and_no_other(server: PostgresServer) -> None:
    import psycopg

    verified = {"hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": str(server.certificate)}
    with client(server, host=TLS_NAME, **verified) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        client(server, host="elsewhere.example.com", **verified)


def test_it_ends_with_whoever_started_it(servers: Servers) -> None:
    assert servers.postgres is not None
    script = (
        "import os, signal\n"
        "from tests.state.postgres_server import PostgresServer\n"
        "server = PostgresServer()\n"
        "server.create()\n"
        "print(server.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    folder = Path(ran.stdout.strip())
    assert folder.name.startswith("imgctl-postgres-"), ran.stderr
    deadline = time.monotonic() + 60
    # The folder goes last, when the server has ended.
    while folder.exists():
        assert time.monotonic() < deadline, "the server is left behind"
        time.sleep(0.05)
    assert not [each for each in Path("/proc").glob("[0-9]*/cwd") if str(folder) in _target(each)]


def client(server: PostgresServer, **more: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection as a client has it."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    return psycopg.connect(make_conninfo(**{**_of_a_client(server), **more}))


def _of_a_client(server: PostgresServer) -> dict[str, str]:
    at = {"host": "127.0.0.1", "port": str(server.port), "dbname": DATABASE}
    return {**at, "user": server.env["PGUSER"], "password": server.env["PGPASSWORD"]}


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""

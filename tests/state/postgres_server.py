"""PostgreSQL on this machine, as Debian packages it: a cluster of the suite's own, in one folder.

It keeps its data as anybody's server would: fsync stays on, passwords are asked for, TLS is offered. It does not run as
root, so where the tests do it runs as another user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

DATABASE, USERNAME, _ADMIN = "images", "conformance", "postgres"
# The name in the server's certificate. PGHOSTADDR leads there, since no name server knows it.
TLS_NAME = "states.example.com"
# Nobody waits longer than this, in seconds, for a server that does not come up or does not go.
_LONGEST = 60.0
_SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = on
shared_buffers = 32MB
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
"""
# Ends the server and removes the folder when its standard input ends: when the tests say so, or however they end.
_WATCH = 'cat; "$0" stop --pgdata "$1/data" --mode immediate; cd /; rm -rf "$1"'


def programs() -> Path | None:
    """The folder of the server's programs, where they are installed: those in PATH, or Debian's newest."""
    in_path = shutil.which("initdb")
    found = [Path(in_path).resolve().parent] if in_path is not None else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    return next((each for each in found if all((each / name).is_file() for name in ("initdb", "postgres"))), None)


class PostgresServer:
    """A server that can be killed, and started again with what it had. `env` is what a client of it needs."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        # Not below the suite's own folder, which nobody but its owner may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="imgctl-postgres-"))
        self._user = _server_user()
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._admin_password, password = secrets.token_urlsafe(), secrets.token_urlsafe()
        self.env = {"PGUSER": USERNAME, "PGPASSWORD": password}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._watch = self._popen(
            "/bin/sh", "-c", _WATCH, self._programs / "pg_ctl", self.folder, stdin=subprocess.PIPE
        )

    @property
    def certificate(self) -> Path:
        """The server's certificate, which has signed itself."""
        return self.folder / "server.crt"

    def url(self, name: str, port: int | None = None, host: str = "127.0.0.1") -> str:
        """What --state says for a state of this name; `port` is that of a wire in between."""
        return f"postgresql://{host}:{port or self.port}/{DATABASE}/{name}"

    def create(self) -> None:
        """Make the cluster, and in it a database whose owner is nobody special; it runs from then on."""
        self._make_cluster()
        self._run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                  "-days", "2", "-subj", f"/CN={TLS_NAME}", "-addext", f"subjectAltName=DNS:{TLS_NAME}",
                  "-keyout", self.folder / "server.key", "-out", self.certificate)  # fmt: skip
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(_SETTINGS.format(port=self.port, folder=self.folder))
        self.start()
        with self.connect(database="postgres") as connection:
            # Made of letters, digits, '-' and '_'.
            connection.execute(f"CREATE ROLE {USERNAME} LOGIN PASSWORD '{self.env['PGPASSWORD']}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USERNAME}")

    def start(self) -> None:
        """Start it with what it had, and wait until it answers."""
        self._process = self._popen(self._programs / "postgres", "-D", self._data)
        deadline = time.monotonic() + _LONGEST
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self._log()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Take it away with all of its processes, as a crash would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(_LONGEST)
        self._process = None
        deadline = time.monotonic() + _LONGEST
        # What it had started before; none of it may live when the data are opened again.
        while left := list(self._processes()):
            for each in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of PostgreSQL do not end: {left}")
            time.sleep(0.01)
        # Its process number may be somebody else's by the time that it is looked at.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it in order; its clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_LONGEST)
            self._process = None

    def close(self) -> None:
        """End it however it goes, and remove what it had."""
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait(_LONGEST)
        if self._process is not None:
            self._process.wait(_LONGEST)

    def terminate_backends(self) -> int:
        """End the connections of all clients but those of an administrator; returns how many there were."""
        where = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> current_user"
        deadline = time.monotonic() + _LONGEST
        with self.connect(database="postgres") as connection:
            ended: int = connection.execute(f"SELECT pg_terminate_backend(pid) {where}").rowcount
            while connection.execute(f"SELECT {where} LIMIT 1").fetchone() is not None:
                assert time.monotonic() < deadline, "a connection does not end"
                time.sleep(0.01)
        return ended

    def connect(self, database: str = DATABASE) -> psycopg.Connection[Any]:
        """A connection of an administrator, each statement of which is a transaction."""
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=_ADMIN,
            password=self._admin_password,
            connect_timeout=5,
            autocommit=True,
        )

    def _make_cluster(self) -> None:
        password = self.folder / "password"
        password.touch(0o600)
        password.write_text(self._admin_password, encoding="ascii")
        if self._user is not None:
            shutil.chown(password, self._user)
        self._run(
            self._programs / "initdb",
            f"--pgdata={self._data}",
            f"--username={_ADMIN}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        password.unlink()

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect(database="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _processes(self) -> Iterator[int]:
        """Every process that works in the folder of the data, as all of the server's do; none without /proc."""
        for each in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if each.readlink() == self._data:
                    yield int(each.parent.name)

    def _run(self, *command: str | Path) -> None:
        if self._popen(*command).wait(_LONGEST) != 0:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{self._log()}")

    def _popen(self, *command: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """A process in a session of its own: what interrupts the tests does not reach it."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                # Nothing of the environment: libpq's variables would count, for the server too.
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=self.folder,
                stdin=stdin,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )

    def _log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]


def _server_user() -> str | None:
    """Whose processes the server's are; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    return "postgres" if any(each.pw_name == "postgres" for each in pwd.getpwall()) else "nobody"


def _version(folder: Path) -> float:
    return float(folder.parent.name) if re.fullmatch(r"\d+(\.\d+)?", folder.parent.name) else 0.0

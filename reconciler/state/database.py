"""The connection to a PostgreSQL server that keeps a state, and what goes wrong with it in words.

What a session holds dies with its connection, so a connection is never made anew behind a session's back. Everything on
it is bounded in time: a server that does not answer must look like one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reconciler.errors import StateError
from reconciler.state.address import Credentials, DatabasePlace

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# In seconds: to connect, and for whatever is asked; the server's own bound is shorter, so that its word comes first.
_CONNECT: Final = 10
# Where Debian's server listens, and most others.
_SOCKETS: Final = "/var/run/postgresql"
_LONGEST = 75.0
# Where an idle connection is not kept up nobody would learn that it is gone, and a lease would outlive its owner.
_KEPT_UP: Final = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
# What holds for a session, as far as the server's version knows it. A run may be idle for as long as a build takes.
_SESSION: Final = {
    # What is decided on one statement's look is checked again by the next.
    "default_transaction_isolation": "read committed",
    "idle_session_timeout": "0",
    # A run that is stopped in the middle of a transaction is thrown out before those that wait for it give up.
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "30s",
    "statement_timeout": "60s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30s",
}
_SETTLE: Final = """
    SELECT set_config(s.name, coalesce(w.value, s.setting), false)
    FROM pg_settings s LEFT JOIN unnest(%s::text[], %s::text[]) AS w (name, value) USING (name)
    WHERE w.name IS NOT NULL
"""
# A commit is durable when it returns: whatever the database's own default is. remote_apply is more than that.
_DURABLE: Final = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply'
"""
# What servers say to whoever is not let in, unless they say it in another language.
_REFUSALS: Final = (
    (re.compile(r"authentication failed|no password supplied"), "28P01"),
    (re.compile(r'pg_hba\.conf|role ".*" (does not exist|is not permitted)'), "28000"),
    (re.compile(r'database ".*" does not exist'), "3D000"),
)


class Database:
    """A database by its place: it opens connections. `environ` has libpq's own variables."""

    def __init__(self, place: DatabasePlace, credentials: Credentials | None, environ: Mapping[str, str]) -> None:
        self.place = place
        self._credentials = credentials
        self._environ = environ

    def __str__(self) -> str:
        return str(self.place)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection for a look. Raises StateError."""
        connection = self.connect()
        try:
            with self.asking(connection):
                yield connection
        finally:
            connection.close()

    def connect(self) -> Connection:
        """A connection on which each statement is a transaction of its own. Raises StateError."""
        try:
            import psycopg
        except ImportError as error:
            raise StateError(
                "a state in PostgreSQL needs the library psycopg, which is not installed",
                hint="pip install 'imgctl[postgres]'",
            ) from error
        try:
            connection = psycopg.connect(autocommit=True, **self._parameters())
        except psycopg.Error as error:
            raise self._translated(error) from error
        try:
            with self.asking(connection):
                connection.execute(_SETTLE, [list(_SESSION), list(_SESSION.values())])
                connection.execute(_DURABLE)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def asking(self, connection: Connection) -> Iterator[None]:
        """Ask within the bound, and raise what goes wrong as StateError. A connection that was too slow is no more."""
        import psycopg

        timer = threading.Timer(_LONGEST, _cut, [connection])
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            raise self._translated(error) from error
        except (ValueError, RecursionError) as error:
            # JSON that the database takes, and Python does not: too deep, or a number of thousands of digits.
            raise StateError(f"what the database at {self.place} holds cannot be read: {error}") from error
        finally:
            timer.cancel()

    def _parameters(self) -> dict[str, Any]:
        place, environ = self.place, self._environ
        parameters = {
            **_where(place, environ),
            "port": place.port,
            "dbname": place.database,
            "user": self._credentials.username if self._credentials else environ.get("PGUSER"),
            "password": self._credentials.password if self._credentials else environ.get("PGPASSWORD"),
            "passfile": environ.get("PGPASSFILE"),
            "connect_timeout": _CONNECT,
            "application_name": "imgctl",
            "client_encoding": "utf8",
            # A standby is behind, and a plan that was made of it would lie.
            "target_session_attrs": "read-write",
            "gssencmode": "disable",
            **_KEPT_UP,
        }
        if place.is_local:
            parameters["sslmode"] = environ.get("PGSSLMODE")
            parameters["sslrootcert"] = environ.get("PGSSLROOTCERT")
        else:
            # Whatever the environment says of it: nothing goes to a host that has not shown who it is.
            parameters["sslmode"] = "verify-full"
            parameters["sslrootcert"] = environ.get("PGSSLROOTCERT") or environ.get("SSL_CERT_FILE") or _authorities()
        return {key: value for key, value in parameters.items() if value not in (None, "")}

    def _translated(self, error: psycopg.Error) -> StateError:
        """What went wrong in words; no part of it is the statement, or a value in it."""
        import psycopg

        said = " ".join(str(error).split())[:300]
        said = "".join(character if character.isprintable() else "?" for character in said)
        # What keeps a connection from being made has no code, only the server's words.
        code = error.sqlstate or next((code for words, code in _REFUSALS if words.search(said)), "")
        if code.startswith("28"):
            hint = "Set PGUSER and PGPASSWORD, or IMGCTL_STATE_USERNAME and IMGCTL_STATE_PASSWORD."
        elif code == "3D000":
            hint = "Create the database first, or name another one in the state's URL."
        elif isinstance(error, psycopg.errors.InsufficientPrivilege):
            hint = "The first run creates tables; every run needs SELECT, INSERT, UPDATE and DELETE on them."
        elif "certificate" in said or "SSL" in said:
            hint = "TLS is required, with a certificate of that name: PGSSLROOTCERT names who may have signed it."
        elif isinstance(error, psycopg.OperationalError):
            hint = "Once the server answers, run the command again: what was recorded before is safe."
        else:
            hint = ""
        return StateError(f"the database at {self.place} does not do it: {said or type(error).__name__}", hint=hint)


def _cut(connection: Connection) -> None:
    """End a connection that somebody waits on, from beside."""
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as beside:
        beside.shutdown(socket.SHUT_RDWR)


def _where(place: DatabasePlace, environ: Mapping[str, str]) -> dict[str, str]:
    """Host and address, said in full: libpq takes from PGHOST and PGHOSTADDR what is not said, and they lead elsewhere.

    An address leads to a host whose certificate proves its name, so the environment may say it.
    """
    if not place.host:
        elsewhere = next((name for name in ("PGHOSTADDR", "PGSERVICE") if environ.get(name)), "")
        if elsewhere:
            raise StateError(
                f"the state is behind this machine's socket, and {elsewhere} may lead elsewhere",
                hint=f"Unset {elsewhere}, or name the host in the state's URL.",
            )
        folder = environ.get("PGHOST", "")
        return {"host": folder if folder.startswith("/") else _SOCKETS}
    if place.is_local:
        return {"host": place.host, "hostaddr": "127.0.0.1" if place.host == "localhost" else place.host}
    return {"host": place.host, "hostaddr": environ.get("PGHOSTADDR", "")}


def _authorities() -> str:
    """The file of those that this machine trusts; libpq's own word for it where there is none."""
    found = ssl.get_default_verify_paths().cafile
    return found if found and Path(found).is_file() else "system"

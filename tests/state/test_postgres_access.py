"""A state in PostgreSQL: how it is reached and by whom, what is refused there, and what damaged rows come to."""

from __future__ import annotations

import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.errors import StateError
from reconciler.state import database
from reconciler.state.address import Credentials, DatabasePlace
from reconciler.state.open import database_store
from reconciler.state.store import Store, read
from reconciler.state.writer import Writer
from tests.state import places
from tests.state.conformance import ALICE, BOB, adopted, commit, intended, submitted
from tests.state.places import Place, Servers
from tests.state.postgres_server import DATABASE, TLS_NAME, PostgresServer
from tests.support import SERVER_IDS, Cloud, Imgctl, Ran, StartCloud, WriteManifest

pytestmark = pytest.mark.sweep

# Nobody listens at that address (RFC 5737).
_ELSEWHERE = "203.0.113.1"


@pytest.fixture
def place(tmp_path: Path, servers: Servers) -> Iterator[Place]:
    with places.postgres(tmp_path, servers) as found:
        yield found


@pytest.fixture
def server(servers: Servers) -> PostgresServer:
    return servers.postgres


@pytest.fixture
def cloud(start_cloud: StartCloud, write_manifest: WriteManifest) -> Cloud:
    write_manifest()
    return start_cloud()


@pytest.fixture
def env(cloud: Cloud, place: Place) -> dict[str, str]:
    return {**cloud.env, **place.env, "IMGCTL_STATE": place.url}


def name_of(place: Place) -> str:
    return place.url.rpartition("/")[2]


def look(imgctl: Imgctl, env: dict[str, str], **more: str) -> Ran:
    """The cheapest command that reads the state."""
    return imgctl("plan", "--no-refresh", env={**env, **more})


def refused(ran: Ran, env: dict[str, str]) -> str:
    """What a command said that was refused: a sentence, without the password."""
    assert ran.code == 1, ran.out + ran.err
    said = ran.out + ran.err
    assert "error:" in said
    assert "internal error" not in said
    assert "Traceback" not in said
    assert env["PGPASSWORD"] not in said
    return ran.err


# Roles


@contextmanager
def role(server: PostgresServer, rights: str, tables: str) -> Iterator[dict[str, str]]:
    """Another role of the server, and the environment that goes with it."""
    name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(16)
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        connection.execute(f"GRANT {rights} ON {tables} TO {name}")
        try:
            yield {"PGUSER": name, "PGPASSWORD": password}
        finally:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")


def test_the_grants_of_the_page_are_enough_and_needed(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], server: PostgresServer
) -> None:
    assert imgctl("apply", "--auto-approve", "--target", "office", env=env).code == 0
    page = (Path(__file__).parents[2] / "docs/shared-state-postgres.md").read_text(encoding="utf-8")
    grants = [line for line in page.replace("\n  ON", " ON").splitlines() if line.startswith("GRANT")]
    apply, plan = (grant.removeprefix("GRANT ").split(" TO ")[0].split(" ON ") for grant in grants)
    with role(server, *plan) as reader, role(server, *apply) as writer:
        plan_only = env | reader
        assert "2 to add" in imgctl("plan", env=plan_only).out
        for command in (("apply", "--auto-approve"), ("state", "rm", "office")):
            said = refused(imgctl(*command, env=plan_only), plan_only)
            assert "permission denied" in said
            assert "every run needs SELECT, INSERT, UPDATE and DELETE" in said
        assert cloud.built == [SERVER_IDS[0]]
        ran = imgctl("apply", "--auto-approve", env=env | writer)
        assert ran.code == 0, ran.err
    assert cloud.built == sorted(SERVER_IDS)


@contextmanager
def other_database(server: PostgresServer, *settings: str) -> Iterator[str]:
    """An empty database that is an administrator's own; gives the URL of a state there."""
    name = f"other_{secrets.token_hex(6)}"
    with server.connect(database="postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
        for setting in settings:
            connection.execute(f"ALTER DATABASE {name} SET {setting}")
        try:
            yield f"postgresql://127.0.0.1:{server.port}/{name}/images"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_role_that_may_not_make_tables_is_told_so(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], server: PostgresServer
) -> None:
    with other_database(server) as url:
        assert "3 to add" in imgctl("plan", env=env | {"IMGCTL_STATE": url}).out
        said = refused(imgctl("apply", "--auto-approve", env=env | {"IMGCTL_STATE": url}), env)
    assert "The first run creates tables" in said
    assert cloud.ledger["received"] == 0


# Servers that are refused


def test_a_server_that_does_not_sync_is_refused_to_whoever_writes(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], server: PostgresServer
) -> None:
    with server.connect(database="postgres") as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        try:
            connection.execute("SELECT pg_reload_conf()")
            _until_fsync_is("off", server)
            assert imgctl("plan", env=env).code == 0
            said = refused(imgctl("apply", "--auto-approve", env=env), env)
        finally:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("SELECT pg_reload_conf()")
            _until_fsync_is("on", server)
    assert "fsync is off" in said
    assert cloud.ledger["received"] == 0


def _until_fsync_is(value: str, server: PostgresServer) -> None:
    deadline = time.monotonic() + 60
    while True:
        with server.connect() as connection:
            if connection.execute("SHOW fsync").fetchone() == (value,):
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_commits_are_durable_whatever_the_database_has_as_its_default(server: PostgresServer, place: Place) -> None:
    with server.connect(database="postgres") as connection:
        connection.execute(f"ALTER DATABASE {DATABASE} SET synchronous_commit = off")
        try:
            with Writer(place.client(), ALICE) as writer:
                shown = writer._session._connection.execute("SHOW synchronous_commit")  # type: ignore[attr-defined]
                assert shown.fetchone() == ("on",)
        finally:
            connection.execute(f"ALTER DATABASE {DATABASE} RESET synchronous_commit")


def test_a_pooler_is_refused(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers for the server, with a process number of its own."""
    import psycopg

    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)
    said = refused(imgctl("apply", "--auto-approve", env=env), env)
    assert "there is a pooler before the database" in said
    assert cloud.ledger["received"] == 0


def test_a_database_that_only_reads_is_refused(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], server: PostgresServer
) -> None:
    """As a standby does."""
    with other_database(server, "default_transaction_read_only = on") as url:
        for command in (("plan",), ("apply", "--auto-approve")):
            assert "read-only" in refused(imgctl(*command, env=env | {"IMGCTL_STATE": url}), env)
    assert cloud.ledger["received"] == 0


# Who, and where


def test_what_keeps_out_is_said_with_what_to_do(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], server: PostgresServer, place: Place
) -> None:
    wrong = secrets.token_hex(16)
    said = refused(look(imgctl, env, PGPASSWORD=wrong), {"PGPASSWORD": wrong})
    assert "password authentication failed" in said
    assert "Set PGUSER and PGPASSWORD" in said
    nobody = refused(look(imgctl, env, PGPASSWORD=""), env | {"PGPASSWORD": wrong})
    assert "no password supplied" in nobody
    assert "Set PGUSER and PGPASSWORD" in nobody
    missing = place.url.replace(f"/{DATABASE}/", "/nowhere/")
    assert "Create the database first" in refused(look(imgctl, env, IMGCTL_STATE=missing), env)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    closed = f"postgresql://127.0.0.1:{port}/{DATABASE}/images"
    assert "Once the server answers" in refused(look(imgctl, env, IMGCTL_STATE=closed), env)
    pair = {"IMGCTL_STATE_USERNAME": env["PGUSER"], "IMGCTL_STATE_PASSWORD": wrong}
    assert "password authentication failed" in refused(look(imgctl, env, **pair), {"PGPASSWORD": wrong})
    half = refused(look(imgctl, env, IMGCTL_STATE_PASSWORD=wrong), {"PGPASSWORD": wrong})
    assert "IMGCTL_STATE_USERNAME is not" in half


def test_our_own_variables_come_before_those_of_libpq(imgctl: Imgctl, env: dict[str, str]) -> None:
    ours = {"IMGCTL_STATE_USERNAME": env["PGUSER"], "IMGCTL_STATE_PASSWORD": env["PGPASSWORD"]}
    ran = look(imgctl, env, PGUSER="nobody", PGPASSWORD="hunter2", **ours)
    assert ran.code == 0, ran.err


def test_a_password_file_serves(imgctl: Imgctl, env: dict[str, str], place: Place, folder: Path) -> None:
    passwords = folder / "passwords"
    passwords.touch(0o600)
    passwords.write_text(f"127.0.0.1:*:*:{env['PGUSER']}:{env['PGPASSWORD']}\n", encoding="ascii")
    ran = look(imgctl, env, PGPASSWORD="", PGPASSFILE=str(passwords))
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("//", "//me:hunter2@"), "has a user or a password in it"),
        (("//", "//me@"), "has a user or a password in it"),
        (("/images-", "/images-?password=hunter2&x="), "has a query or a fragment in it"),
        (("/images-", "/images-#"), "has a query or a fragment in it"),
        ((f"/{DATABASE}/", "/"), "does not end in a database and a name"),
        ((f"/{DATABASE}/", f"/{DATABASE}/deeper/"), "does not end in a database and a name"),
        ((f"/{DATABASE}/", "/host=elsewhere/"), "does not end in a database and a name"),
        (("127.0.0.1", "a_b"), "names no PostgreSQL server"),
        (("127.0.0.1", "one,two"), "names no PostgreSQL server"),
    ],
)
def test_urls_that_name_more_or_less_than_a_place_are_refused(
    change: tuple[str, str], said: str, imgctl: Imgctl, env: dict[str, str], place: Place
) -> None:
    found = refused(look(imgctl, env, IMGCTL_STATE=place.url.replace(*change, 1)), env)
    assert said in found
    assert "hunter2" not in found


def test_a_host_that_only_the_manifest_names_is_not_asked(
    imgctl: Imgctl, env: dict[str, str], write_manifest: WriteManifest, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    del env["IMGCTL_STATE"]
    host = DatabasePlace.parse(place.url).place
    write_manifest(state={"url": place.url})
    with monkeypatch.context() as patch:
        patch.setattr(database.Database, "connect", None)
        for command in (("plan",), ("apply", "--auto-approve"), ("state", "pull"), ("state", "migrate", "--to", "x")):
            assert f"IMGCTL_STATE_HOST={host}" in refused(imgctl(*command, env=env), env)
        elsewhere = refused(look(imgctl, env, IMGCTL_STATE_HOST="db.example.com"), env)
        assert "IMGCTL_STATE_HOST allows only db.example.com" in elsewhere
    assert look(imgctl, env, IMGCTL_STATE_HOST=host).code == 0
    write_manifest(state={"url": place.url.replace("postgresql:", "postgres:")})
    assert look(imgctl, env, IMGCTL_STATE_HOST=host).code == 0


def test_the_environment_leads_nowhere_else(imgctl: Imgctl, env: dict[str, str], folder: Path) -> None:
    services = folder / "services"
    services.write_text(f"[other]\nhost={_ELSEWHERE}\nhostaddr={_ELSEWHERE}\nport=1\ndbname=x\nuser=x\npassword=x\n")
    variables = {
        "PGHOST": _ELSEWHERE,
        "PGHOSTADDR": _ELSEWHERE,
        "PGPORT": "1",
        "PGDATABASE": "x",
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(services),
        "PGTARGETSESSIONATTRS": "any",
    }
    ran = look(imgctl, env, **variables)
    assert ran.code == 0, ran.err
    socket_url = f"postgresql:///{DATABASE}/images"
    for name in ("PGHOSTADDR", "PGSERVICE"):
        said = refused(look(imgctl, env, IMGCTL_STATE=socket_url, **{name: variables[name]}), env)
        assert f"{name} may lead elsewhere" in said


def test_no_password_is_shown_or_kept(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], place: Place, folder: Path, server: PostgresServer
) -> None:
    said = ""
    for command in (
        ("apply", "--auto-approve", "-vv"),
        ("plan", "-vv"),
        ("state", "pull"),
        ("status",),
        ("history",),
        ("doctor",),
        ("state", "force-unlock", "x"),
    ):
        ran = imgctl(*command, env=env | {"IMGCTL_TRACEBACK": "1"})
        said += ran.out + ran.err
    credentials = Credentials("me", env["PGPASSWORD"])
    store = database_store(DatabasePlace.parse(place.url), credentials, env, folder)
    said += repr((credentials, store, store.backend, store.backend.__dict__.get("database")))
    with server.connect() as connection:
        for table in ("imgctl_state", "imgctl_record", "imgctl_frame", "imgctl_run", "imgctl_lease"):
            said += str(connection.execute(f"SELECT t::text FROM {table} t").fetchall())
    assert place.url in said
    assert env["PGPASSWORD"] not in said


# TLS


def secured(server: PostgresServer, folder: Path, **more: str) -> Store:
    """A state at the name of the server's certificate, where no name server leads."""
    environ = {**server.env, "PGHOSTADDR": "127.0.0.1", **more}
    return database_store(DatabasePlace.parse(server.url("tls", host=TLS_NAME)), None, environ, folder)


@pytest.mark.parametrize("mode", ["", "disable", "prefer"])
def test_a_connection_to_another_host_is_encrypted_and_verified(
    mode: str, server: PostgresServer, tmp_path: Path
) -> None:
    store = secured(server, tmp_path, PGSSLMODE=mode, PGSSLROOTCERT=str(server.certificate))
    with Writer(store, ALICE, alone=False) as writer:
        process = writer._session._connection.info.backend_pid  # type: ignore[attr-defined]
        with server.connect() as connection:
            found = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = %s", [process]).fetchone()
        assert found == (True,)


@pytest.mark.parametrize("mode", ["", "disable", "require", "allow"])
def test_a_certificate_that_nobody_vouches_for_is_refused(mode: str, server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(StateError) as raised:
        read(secured(server, tmp_path, PGSSLMODE=mode))
    assert TLS_NAME in raised.value.summary
    assert "certificate" in raised.value.summary
    assert "PGSSLROOTCERT names who may have signed it" in raised.value.hint
    assert server.env["PGPASSWORD"] not in f"{raised.value.summary} {raised.value.hint}"


def test_a_certificate_for_another_name_is_refused(server: PostgresServer, tmp_path: Path) -> None:
    environ = {**server.env, "PGHOSTADDR": "127.0.0.1", "PGSSLROOTCERT": str(server.certificate)}
    other = DatabasePlace.parse(server.url("tls", host="elsewhere.example.com"))
    with pytest.raises(StateError, match="does not match host name"):
        read(database_store(other, None, environ, tmp_path))


def test_a_certificate_file_of_the_system_serves(server: PostgresServer, tmp_path: Path) -> None:
    store = secured(server, tmp_path, SSL_CERT_FILE=str(server.certificate))
    with Writer(store, ALICE, alone=False):
        pass


# A server that says nothing


def test_who_only_reads_ends_too_where_the_server_stops_answering(
    place: Place, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    import psycopg

    with Writer(place.client(), ALICE) as writer:
        commit(writer, intended("one"))
    monkeypatch.setattr(database, "_LONGEST", 0.2)
    connect = psycopg.connect
    stopped: list[int] = []

    def connect_and_stop(*arguments: object, **parameters: object) -> object:
        connection = connect(*arguments, **parameters)  # type: ignore[arg-type]
        stopped.append(connection.info.backend_pid)
        os.kill(stopped[0], signal.SIGSTOP)
        return connection

    monkeypatch.setattr(psycopg, "connect", connect_and_stop)
    try:
        with pytest.raises(StateError, match="the database at"):
            read(place.client())
    finally:
        os.kill(stopped[0], signal.SIGCONT)


# Rows that somebody has laid hands on


def change(server: PostgresServer, place: Place, statement: str) -> None:
    """Somebody lays hands on the state's rows."""
    with server.connect() as connection:
        assert connection.execute(statement, {"state": name_of(place)}).rowcount > 0


_RECORD = "UPDATE imgctl_record SET record = {} WHERE state = %(state)s"
_STATE = "UPDATE imgctl_state SET {} WHERE name = %(state)s"


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        (_RECORD.format("'[]'"), "/servers/one: must be an object"),
        (_RECORD.format("'null'"), "/servers/one"),
        (_RECORD.format("(record::jsonb - 'name')::json"), "/servers/one/name: is missing"),
        (
            _RECORD.format("jsonb_set(record::jsonb, '{attempt,status}', '\"odd\"')::json"),
            "/servers/one/attempt/status",
        ),
        (
            _RECORD.format("jsonb_set(record::jsonb, '{attempt,job_id}', '\"a/b\"')::json"),
            "/servers/one/attempt/job_id",
        ),
        (_RECORD.format("(repeat('[', 3000) || repeat(']', 3000))::json"), "cannot be read"),
        (_RECORD.format("('{\"name\": ' || repeat('9', 5000) || '}')::json"), "cannot be read"),
        (_STATE.format("settings = '[]'"), "the settings: must be an object"),
        (_STATE.format("settings = 'null'"), "the settings: must be an object"),
        (_STATE.format("settings = '{\"limits\": 7}'"), "/limits"),
        (_STATE.format('settings = \'{"bound_to": {"provider": 1}}\''), "/bound_to"),
        (_STATE.format("settings = '{\"version\": 9}'"), "version 9"),
        (_STATE.format("version = 2"), "version 2; this imgctl reads up to version 1"),
        (_STATE.format("version = 0"), "its version is 0"),
    ],
)
def test_a_damaged_row_is_an_error_that_names_the_field(
    statement: str, where: str, imgctl: Imgctl, env: dict[str, str], place: Place, server: PostgresServer
) -> None:
    with Writer(place.client(), ALICE) as writer:
        commit(writer, adopted("one"))
    change(server, place, statement)
    said = refused(look(imgctl, env), env)
    assert where in said
    assert place.url in said or "cannot be read" in said
    for alone in (True, False):
        with pytest.raises(StateError):
            Writer(place.client(), BOB, alone=alone)


def test_a_newer_state_is_written_by_nobody(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], place: Place, server: PostgresServer
) -> None:
    with Writer(place.client(), ALICE):
        # Begun by a newer imgctl, and empty so far.
        change(server, place, _STATE.format("version = 2"))
    said = refused(imgctl("apply", "--auto-approve", env=env), env)
    assert "version 2" in said
    assert "Use the imgctl that wrote it" in said
    assert cloud.ledger["received"] == 0


def _frame(server: PostgresServer, place: Place) -> None:
    change(server, place, "UPDATE imgctl_frame SET patch = '[]' WHERE state = %(state)s AND number = 2")


def _frame_field(server: PostgresServer, place: Place) -> None:
    odd = '{"serial": 2, "servers": {"two": {"name": 7}}}'
    change(server, place, f"UPDATE imgctl_frame SET patch = '{odd}' WHERE state = %(state)s AND number = 2")


def _state(server: PostgresServer, place: Place) -> None:
    for table in ("record", "frame", "lease", "run"):
        change(server, place, f"DELETE FROM imgctl_{table} WHERE state = %(state)s")
    change(server, place, "DELETE FROM imgctl_state WHERE name = %(state)s")


def _lineage(server: PostgresServer, place: Place) -> None:
    change(server, place, _STATE.format("lineage = 'another', number = number + 1"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_frame, "a frame: must be an object"),
        (_frame_field, "a frame/servers/two"),
        (_state, "has been removed"),
        (_lineage, "has become another one"),
    ],
)
def test_what_is_damaged_under_a_run_ends_it_and_keeps_its_job(
    damage: Callable[[PostgresServer, Place], None], said: str, place: Place, server: PostgresServer
) -> None:
    alice, bob = (Writer(place.client(), holder, alone=False) for holder in (ALICE, BOB))
    alice.claim(["one"])
    bob.claim(["two"])
    commit(alice, intended("one"))
    commit(bob, intended("two"))
    damage(server, place)
    with pytest.raises(StateError) as raised:
        commit(alice, submitted("one"))
    assert said in raised.value.summary
    assert "j-one" in raised.value.hint
    for writer in (alice, bob):
        writer.__exit__(None, None, None)


@pytest.mark.parametrize("holder", ["[]", "7", "null", "{}", '{"who": {"x": []}, "pid": "\\u001b[31m"}'])
def test_a_holder_that_cannot_be_read_is_still_refused_with_a_sentence(
    holder: str, imgctl: Imgctl, env: dict[str, str], place: Place, server: PostgresServer
) -> None:
    with Writer(place.client(), ALICE, alone=False) as alice:
        alice.claim(SERVER_IDS)
        change(server, place, f"UPDATE imgctl_run SET holder = '{holder}' WHERE state = %(state)s")
        for command in (("apply", "--auto-approve"), ("import", "--all")):
            ran = imgctl(*command, env=env)
            assert ran.code == 5, ran.err
            assert "\x1b" not in ran.err
            assert "internal error" not in ran.err

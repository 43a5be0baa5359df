"""Several runs on one state in PostgreSQL: who may write what, and what each learns of the others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateError, StateLocked
from reconciler.model.record import Binding, BuildStatus, Recorded
from reconciler.model.spec import Limits
from reconciler.simulator.records import BuildRequest, Fate
from reconciler.state import database, events, postgres
from reconciler.state.postgres import PostgresSession
from reconciler.state.store import LockHolder, read
from reconciler.state.writer import Writer
from tests.state import places
from tests.state.conformance import ALICE, AT, BOB, adopted, commit, intended, noted, submitted
from tests.state.places import Place, Servers
from tests.state.postgres_server import PostgresServer
from tests.support import SERVER_IDS, Cloud, Imgctl, StartCloud, WriteManifest

pytestmark = pytest.mark.sweep

OFFICE, CAD, WEB = SERVER_IDS
CAROL = LockHolder("carol", "runner-3", 33, "2026-01-02T03:04:07Z", "apply", "https://ci.example/jobs/7")
# Nobody waits longer than this, in seconds, for what has failed already.
_LONGEST = 60.0


@pytest.fixture
def place(tmp_path: Path, servers: Servers) -> Iterator[Place]:
    with places.postgres(tmp_path, servers) as found:
        yield found


@pytest.fixture
def server(servers: Servers) -> PostgresServer:
    return servers.postgres


@pytest.fixture
def join(place: Place) -> Iterator[Callable[..., Writer]]:
    """Begins runs that write beside others; those that a test leaves behind end with it."""
    with ExitStack() as stack:

        def begin(holder: LockHolder = ALICE, *server_ids: str, wait: Any = None) -> Writer:
            writer = Writer(place.client(), holder, wait, alone=False)
            stack.callback(writer.__exit__, None, None, None)
            if server_ids:
                assert writer.claim(server_ids) == {}
            return writer

        yield begin


def session(writer: Writer) -> PostgresSession:
    assert isinstance(writer._session, PostgresSession)
    return writer._session


def process_of(writer: Writer) -> int:
    """The server's process that serves a run."""
    return session(writer)._connection.info.backend_pid


def until_gone(server: PostgresServer, process: int) -> None:
    """Wait until the server has noticed that a connection has ended."""
    deadline = time.monotonic() + _LONGEST
    with server.connect() as connection:
        while connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [process]).fetchone() is not None:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def rows(server: PostgresServer, place: Place, table: str) -> list[tuple[Any, ...]]:
    """What a table has of this state."""
    key = "name" if table == "imgctl_state" else "state"
    with server.connect() as connection:
        return connection.execute(f"SELECT * FROM {table} WHERE {key} = %s", [name_of(place)]).fetchall()


def change(server: PostgresServer, place: Place, statement: str) -> None:
    """Somebody lays hands on the state's rows."""
    with server.connect() as connection:
        assert connection.execute(statement, {"state": name_of(place)}).rowcount > 0


def name_of(place: Place) -> str:
    return place.url.rpartition("/")[2]


def ended(server_id: str, image_id: str) -> events.BuildEnded:
    return events.BuildEnded(server_id, f"a-{server_id}", BuildStatus.SUCCEEDED, AT, image_id=image_id)


def attempt(recorded: Recorded, server_id: str) -> tuple[BuildStatus, str]:
    record = recorded.servers[server_id]
    assert record.attempt is not None
    return record.attempt.status, record.attempt.job_id


# Leases


def test_two_runs_write_their_own_servers_at_the_same_time(place: Place, join: Callable[..., Writer]) -> None:
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    commit(alice, intended("one"))
    commit(bob, intended("two"))
    commit(bob, submitted("two"))
    commit(alice, submitted("one"))
    found = read(place.client())
    assert {server_id: attempt(found, server_id) for server_id in found.servers} == {
        "one": (BuildStatus.RUNNING, "j-one"),
        "two": (BuildStatus.RUNNING, "j-two"),
    }
    assert found.serial == 4


def test_what_another_run_has_is_refused_by_its_name(place: Place, join: Callable[..., Writer]) -> None:
    carol, bob = join(CAROL, "one", "two"), join(BOB)
    assert bob.claim(["one", "three"]) == {"one": str(CAROL)}
    assert (bob.holds("one"), bob.holds("three")) == (False, True)
    with pytest.raises(StateLocked) as raised:
        bob.claim(["one", "two"])
    for part in (
        "carol",
        "runner-3",
        "process 33",
        "since 2026-01-02T03:04:07Z",
        "for apply",
        "https://ci.example/jobs/7",
    ):
        assert part in raised.value.summary
    with pytest.raises(StateError, match="not this run's to write"):
        commit(bob, intended("one"))
    with pytest.raises(StateError, match="not this run's to write"):
        commit(bob, events.GuardsNoted(Limits(), (("two", True),)))
    assert not read(place.client()).exists
    commit(carol, intended("one"))
    # That nobody could write it was no failure of the writing.
    commit(bob, intended("three"))
    assert set(read(place.client()).servers) == {"one", "three"}


def test_what_is_not_needed_is_free_for_others(join: Callable[..., Writer]) -> None:
    alice, bob = join(ALICE, "one", "two", "three"), join(BOB)
    alice.release_all_but(["two"])
    assert bob.claim(["one", "two", "three"]) == {"two": str(ALICE)}
    with pytest.raises(StateError, match="not this run's to write"):
        commit(alice, intended("one"))
    assert alice.claim(["one", "two", "four"]) == {"one": str(BOB)}


def _leaves(writer: Writer, server: PostgresServer) -> None:
    del server
    writer.__exit__(None, None, None)


def _loses_its_connection(writer: Writer, server: PostgresServer) -> None:
    del server
    session(writer)._connection.close()


def _is_terminated(writer: Writer, server: PostgresServer) -> None:
    with server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [process_of(writer)])


@pytest.mark.parametrize("goes", [_leaves, _loses_its_connection, _is_terminated])
def test_the_leases_of_a_run_end_with_its_connection(
    goes: Callable[[Writer, PostgresServer], None], place: Place, server: PostgresServer, join: Callable[..., Writer]
) -> None:
    alice = Writer(place.client(), ALICE, alone=False)
    assert alice.claim(["one", "two"]) == {}
    commit(alice, intended("one"))
    bob = join(BOB)
    process = process_of(alice)
    goes(alice, server)
    until_gone(server, process)
    assert bob.claim(["one", "three"]) == {}
    assert attempt(bob.recorded, "one") == (BuildStatus.INTENT, "")
    commit(bob, submitted("one"))
    # All that the dead run had is buried, and nothing that the other one has.
    assert {row[1] for row in rows(server, place, "imgctl_lease")} == {"one", "three"}
    assert [row[2]["who"] for row in rows(server, place, "imgctl_run")] == ["bob"]
    # What is left of it writes nothing, whatever it believes to hold.
    if goes is not _leaves:
        with pytest.raises(StateError):
            commit(alice, submitted("one"))
    assert attempt(read(place.client()), "one") == (BuildStatus.RUNNING, "j-one")


def test_the_leases_of_a_killed_process_are_free(place: Place, server: PostgresServer) -> None:
    script = (
        "import os, sys\n"
        "from reconciler.state.address import DatabasePlace\n"
        "from reconciler.state.open import database_store\n"
        "from reconciler.state.writer import Writer\n"
        "from tests.state.conformance import ALICE\n"
        "from pathlib import Path\n"
        "store = database_store(DatabasePlace.parse(sys.argv[1]), None, os.environ, Path(sys.argv[2]))\n"
        "writer = Writer(store, ALICE, alone=False)\n"
        "writer.claim(['one'])\n"
        "print(writer._session._connection.info.backend_pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, place.url, str(place.home)],
        cwd=Path(__file__).parents[2],
        env={"PATH": "", **place.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    backend = int(process.stdout.readline())
    with Writer(place.client(), BOB, alone=False) as bob:
        with pytest.raises(StateLocked, match="alice"):
            bob.claim(["one"])
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=_LONGEST)
        until_gone(server, backend)
        assert bob.claim(["one"]) == {}
    assert rows(server, place, "imgctl_run") == rows(server, place, "imgctl_lease") == []


def test_who_wants_it_alone_and_who_shares_it_keep_each_other_out(
    place: Place, server: PostgresServer, join: Callable[..., Writer]
) -> None:
    with Writer(place.client(), ALICE), pytest.raises(StateLocked, match="alice"):
        Writer(place.client(), BOB, alone=False)
    alice, bob = join(ALICE), join(BOB, "two")
    with pytest.raises(StateLocked) as raised:
        Writer(place.client(), CAROL)
    assert "alice" in raised.value.summary
    assert "bob" in raised.value.summary
    for writer in (alice, bob):
        process = process_of(writer)
        session(writer)._connection.close()
        until_gone(server, process)
    with Writer(place.client(), CAROL) as alone:
        # The rows of the dead keep nobody out.
        commit(alone, intended("two"))
        assert [row[2]["who"] for row in rows(server, place, "imgctl_run")] == ["carol"]
        assert rows(server, place, "imgctl_lease") == []


def test_who_waits_for_a_server_gets_it_and_what_was_recorded_of_it(place: Place, join: Callable[..., Writer]) -> None:
    alice = Writer(place.client(), ALICE, alone=False)
    alice.claim(["one"])
    refusals: list[str] = []
    asked = threading.Event()

    def wait(refusal: StateError) -> None:
        refusals.append(refusal.summary)
        asked.set()
        time.sleep(0.005)

    bob = join(BOB, wait=wait)
    thread = threading.Thread(target=bob.claim, args=(["one", "two"],))
    thread.start()
    assert asked.wait(_LONGEST)
    # While it waits it keeps nothing from anybody.
    assert alice.claim(["two"]) == {}
    commit(alice, intended("one"))
    alice.__exit__(None, None, None)
    thread.join(_LONGEST)
    assert bob.holds("one")
    assert bob.holds("two")
    assert attempt(bob.recorded, "one") == (BuildStatus.INTENT, "")
    assert all("alice on runner-1" in refusal for refusal in refusals)


def test_two_that_wait_for_each_other_both_end(join: Callable[..., Writer]) -> None:
    tries = 5

    def patience() -> Callable[[StateError], None]:
        left = tries

        def wait(refusal: StateError) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise refusal
            time.sleep(0.01)

        return wait

    alice, bob = join(ALICE, "one", wait=patience()), join(BOB, "two", wait=patience())
    outcomes: dict[str, object] = {}

    def claim(name: str, writer: Writer, server_id: str, free: str) -> None:
        outcomes[name] = dict(writer.claim([server_id, free]))

    threads = [
        threading.Thread(target=claim, args=("alice", alice, "two", "three")),
        threading.Thread(target=claim, args=("bob", bob, "one", "four")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONGEST)
    assert outcomes == {"alice": {"two": str(BOB)}, "bob": {"one": str(ALICE)}}
    commit(alice, intended("one"), intended("three"))
    commit(bob, intended("two"), intended("four"))


def test_many_that_want_everything_each_get_it_in_turn(place: Place) -> None:
    """Whoever comes clears up after whoever was cut off, all of them at the same time."""
    problems: list[BaseException] = []

    def work(number: int) -> None:
        holder = LockHolder(f"run{number}", "host", number, "2026-01-02T03:04:05Z", "apply")
        try:
            for turn in range(4):
                writer = Writer(place.client(), holder, lambda refusal: time.sleep(0.002), alone=False)
                writer.claim(["one", "two", "three"])
                commit(writer, adopted("one"), noted(turn))
                if turn % 2:
                    writer.__exit__(None, None, None)
                else:
                    session(writer)._connection.close()
        except Exception as error:  # noqa: BLE001 - whatever it is
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONGEST)
    assert problems == []
    assert read(place.client()).serial == 6 * 4 * 2


def test_a_run_that_stops_in_the_middle_of_a_transaction_holds_nobody_up(
    join: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    assert int(database._SESSION["idle_in_transaction_session_timeout"][:-1]) < int(
        database._SESSION["lock_timeout"][:-1]
    )
    monkeypatch.setitem(database._SESSION, "idle_in_transaction_session_timeout", "200ms")
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    session(alice)._connection.execute("BEGIN")
    session(alice)._head(lock=True)
    commit(bob, intended("two"))
    with pytest.raises(StateError):
        commit(alice, intended("one"))
    assert set(read(place.client()).servers) == {"two"}


# What others have written


def test_what_others_have_recorded_shows_after_a_commit_a_claim_and_on_request(join: Callable[..., Writer]) -> None:
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    commit(bob, adopted("two"), events.Retired("two", AT))
    assert not list(alice.recorded.all_records)
    commit(alice, intended("one"))
    assert "two" in alice.recorded.retired
    assert alice.recorded.serial == 3
    commit(alice, submitted("one"))
    assert bob.claim(["three"]) == {}
    assert attempt(bob.recorded, "one") == (BuildStatus.RUNNING, "j-one")
    assert bob.recorded.serial == 4
    commit(alice, ended("one", "i-one"))
    asyncio.run(bob.catch_up())
    assert attempt(bob.recorded, "one") == (BuildStatus.SUCCEEDED, "j-one")
    assert bob.recorded == alice.recorded


@pytest.mark.parametrize("frames", [1, 3, 1000])
def test_a_run_that_slept_through_the_frames_of_others_keeps_what_it_knows_of_its_own(
    frames: int, place: Place, join: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch, server: PostgresServer
) -> None:
    monkeypatch.setattr(postgres, "_FRAMES", frames)
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    commit(alice, intended("one"))
    commit(bob, adopted("two"), noted(1))
    for number in range(6):
        commit(bob, events.Renamed("two", f"name-{number}"))
    assert len(rows(server, place, "imgctl_frame")) == min(frames, 8)
    # The commit that finds the frames of others gone reads the state as it was before it.
    commit(alice, submitted("one"))
    assert attempt(alice.recorded, "one") == (BuildStatus.RUNNING, "j-one")
    commit(alice, ended("one", "i-one"))
    assert alice.recorded.servers["two"].name == "name-5"
    found = read(place.client())
    assert attempt(found, "one") == (BuildStatus.SUCCEEDED, "j-one")
    assert found.serial == alice.recorded.serial == 11
    assert (found.servers, found.limits) == (dict(alice.recorded.servers), Limits(1))


def _binding(region: str) -> Binding:
    return Binding("huaweicloud", region, "a4da8115c9d8464ead3a38309130523f")


def test_two_runs_bind_a_state_once(place: Place, join: Callable[..., Writer]) -> None:
    alice, bob, carol = join(ALICE, "one"), join(BOB, "two"), join(CAROL, "three")
    commit(alice, events.Bound(_binding("ap-southeast-1")), intended("one"))
    commit(carol, events.Bound(_binding("ap-southeast-1")), intended("three"))
    with pytest.raises(StateError, match=r"another run has bound the state at .* region ap-southeast-1"):
        commit(bob, events.Bound(_binding("eu-west-101")), intended("two"))
    found = read(place.client())
    assert found.bound_to == _binding("ap-southeast-1")
    assert set(found.servers) == {"one", "three"}


def test_what_two_runs_settle_of_the_whole_state_is_the_same_for_both(
    place: Place, join: Callable[..., Writer]
) -> None:
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    commit(alice, events.Bound(_binding("ap-southeast-1")), events.GuardsNoted(Limits(3), (), "postgresql:///a/b"))
    # It had not seen that: of what it says nothing stays as it is.
    commit(bob, events.GuardsNoted(Limits(5)))
    found = read(place.client())
    assert (found.bound_to, found.limits, found.state_url) == (
        _binding("ap-southeast-1"),
        Limits(5),
        "postgresql:///a/b",
    )
    assert (bob.recorded.bound_to, bob.recorded.limits, bob.recorded.state_url) == (
        found.bound_to,
        found.limits,
        found.state_url,
    )
    # A step of a build decides nothing of the whole, however old what it knows of it is.
    commit(alice, intended("one"))
    assert alice.recorded.limits == read(place.client()).limits == Limits(5)
    commit(bob, events.GuardsNoted(Limits(7)))
    commit(alice, submitted("one"))
    assert alice.recorded.limits == read(place.client()).limits == Limits(7)
    assert alice.recorded.serial == read(place.client()).serial == 6


def test_two_runs_that_begin_a_state_begin_one_state(place: Place, join: Callable[..., Writer]) -> None:
    alice, bob = join(ALICE, "one"), join(BOB, "two")
    assert not read(place.client()).exists
    commit(bob, intended("two"))
    commit(alice, intended("one"))
    assert alice.recorded.lineage == bob.recorded.lineage == read(place.client()).lineage != ""


# Emergencies


def test_runs_of_one_machine_that_lose_the_database_together_lose_no_job(
    place: Place, join: Callable[..., Writer]
) -> None:
    alice = Writer(place.client(), ALICE, alone=False)
    bob = Writer(place.client(), BOB, alone=False)
    for writer, server_id in ((alice, "one"), (bob, "two")):
        writer.claim([server_id])
        commit(writer, intended(server_id))
    assert place.cut is not None
    place.cut()
    failures: list[StateError] = []

    def fail(writer: Writer, server_id: str) -> None:
        try:
            commit(writer, submitted(server_id))
        except StateError as error:
            failures.append(error)
        writer.__exit__(None, None, None)

    threads = [threading.Thread(target=fail, args=one) for one in ((alice, "one"), (bob, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONGEST)
    assert len(failures) == 2
    assert all("the next apply or wait takes it in" in failure.hint for failure in failures)
    (kept,) = place.home.glob("*.emergency")
    assert {"j-one", "j-two"} == {line.split('"job_id": "')[1].split('"')[0] for line in kept.read_text().splitlines()}
    place.mend()
    carol = Writer(place.client(), CAROL, lambda refusal: time.sleep(0.01), alone=False)
    carol.claim(["one"])
    assert attempt(carol.recorded, "one") == (BuildStatus.RUNNING, "j-one")
    assert attempt(carol.recorded, "two") == (BuildStatus.INTENT, "")
    # The other one stays for whoever may write it, without a word.
    assert kept.exists()
    assert carol.foreign_emergencies == []
    dave = join(BOB, wait=lambda refusal: time.sleep(0.01))
    dave.claim(["two"])
    assert attempt(dave.recorded, "two") == (BuildStatus.RUNNING, "j-two")
    assert not kept.exists()
    carol.__exit__(None, None, None)


def test_a_server_that_stops_answering_is_given_up_and_the_job_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, join: Callable[..., Writer], server: PostgresServer
) -> None:
    alice = Writer(place.client(), ALICE, alone=False)
    alice.claim(["one"])
    commit(alice, intended("one"))
    monkeypatch.setattr(database, "_LONGEST", 0.2)
    backend = process_of(alice)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(StateError) as raised:
            commit(alice, submitted("one"))
    finally:
        os.kill(backend, signal.SIGCONT)
    assert "j-one" in raised.value.hint
    (kept,) = place.home.glob("*.emergency")
    assert "j-one" in kept.read_text()
    alice.__exit__(None, None, None)
    monkeypatch.undo()
    until_gone(server, backend)
    with Writer(place.client(), BOB, alone=False) as bob:
        bob.claim(["one"])
        # The server may have recorded it all the same, once it went on.
        assert attempt(bob.recorded, "one") == (BuildStatus.RUNNING, "j-one")
    assert not kept.exists()


# Through the command line


@pytest.fixture
def cloud(start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path) -> Cloud:
    write_manifest()
    return start_cloud("accept-while-building=1")


@pytest.fixture
def env(cloud: Cloud, place: Place) -> dict[str, str]:
    return {**cloud.env, **place.env, "IMGCTL_STATE": place.url}


def test_what_another_run_has_is_unavailable_and_the_rest_is_done(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], join: Callable[..., Writer]
) -> None:
    carol = join(CAROL, OFFICE)
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 3, ran.err
    assert f"another run has this server: {CAROL}" in ran.out
    assert cloud.built == sorted([CAD, WEB])
    strict = imgctl("apply", "--auto-approve", "--strict", "--var", "release=2", env=env)
    assert strict.code == 6
    assert cloud.built == sorted([CAD, WEB])
    carol.release_all_but([])
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    assert cloud.built == sorted(SERVER_IDS)
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0


def test_where_another_run_has_all_of_it_nothing_is_done(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], join: Callable[..., Writer]
) -> None:
    join(CAROL, OFFICE, CAD)
    for seconds in ("0", "0.1"):
        ran = imgctl("apply", "--auto-approve", "--exclude", "web", "--lock-timeout", seconds, env=env)
        assert ran.code == 5
        assert str(CAROL) in ran.err
        assert "--lock-timeout" in ran.err
    assert cloud.ledger["received"] == 0


def test_a_server_that_another_run_has_gates_nothing(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], join: Callable[..., Writer], write_manifest: WriteManifest
) -> None:
    assert imgctl("apply", "--auto-approve", "--target", "cad", env=env).code == 0
    write_manifest({"office": OFFICE, "cad": {"server_id": CAD, "protect": True}, "web": WEB}, vars={"release": "2"})
    # Its build has ended in the cloud, and that run has not recorded it yet.
    cloud.build_elsewhere(OFFICE, "office-2")
    carol = join(CAROL, OFFICE, CAD)
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 3, ran.out + ran.err
    assert "gated" not in ran.out
    assert cloud.built == sorted([OFFICE, CAD, WEB])
    carol.release_all_but([])
    alone = imgctl("apply", "--auto-approve", env=env)
    assert alone.code == 6
    assert "2 changes gated" in alone.err


def test_a_server_that_another_run_begins_to_record_meanwhile_is_left_to_it(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in nobody's manifest but theirs: forgetting it would take a lease."""
    claim = PostgresSession.claim

    def record_elsewhere() -> None:
        with Writer(place.client(), CAROL, alone=False) as carol:
            carol.claim(["elsewhere"])
            commit(carol, adopted("elsewhere"))

    def while_claiming(self: PostgresSession, server_ids: Any) -> Any:
        monkeypatch.setattr(PostgresSession, "claim", claim)
        thread = threading.Thread(target=record_elsewhere)
        thread.start()
        thread.join(_LONGEST)
        return claim(self, server_ids)

    monkeypatch.setattr(PostgresSession, "claim", while_claiming)
    ran = imgctl("apply", "--auto-approve", env=env)
    assert ran.code == 3, ran.err
    assert "recorded that server just now" in ran.out
    assert cloud.built == sorted(SERVER_IDS)
    assert "elsewhere" in read(place.client()).servers


def test_corrections_of_one_server_go_through_while_another_one_is_built(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], join: Callable[..., Writer], place: Place
) -> None:
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    carol = join(CAROL, OFFICE)
    commit(carol, intended(OFFICE))
    for command in (("mv", OFFICE, "bureau"), ("rm", OFFICE), ("settle", OFFICE, "--not-issued")):
        refused = imgctl("state", *command, env=env)
        assert refused.code == 5, refused.err
        assert str(CAROL) in refused.err
    assert imgctl("wait", "--target", "office", env=env).code == 5
    held = imgctl("output", "web", "--raw", env=env).out.strip()
    for step in ("state mv cad draughts", "state rm draughts", "state rm web", "wait --target web"):
        ran = imgctl(*step.split(), env=env)
        assert ran.code == 0, (step, ran.err)
    job = cloud.build_elsewhere(WEB, "web-1")
    assert imgctl("import", "web", "--job-id", job.id, env=env).code == 0
    assert imgctl("output", "web", "--raw", env=env).out.strip() not in ("", held)
    with Writer(place.client(), BOB, alone=False) as bob:
        bob.claim([WEB])
        commit(bob, intended(WEB))
    assert imgctl("state", "settle", WEB, "--not-issued", env=env).code == 0
    # What concerns the whole state needs it alone.
    for whole in ("state migrate --to here.json", "import --all"):
        refused = imgctl(*whole.split(), env=env)
        assert refused.code == 5, refused.err
        assert str(CAROL) in refused.err
    commit(carol, submitted(OFFICE))
    assert attempt(read(place.client()), OFFICE) == (BuildStatus.RUNNING, f"j-{OFFICE}")


def test_a_job_that_another_run_has_recorded_meanwhile_leaves_nobody_in_doubt(
    imgctl: Imgctl,
    cloud: Cloud,
    env: dict[str, str],
    join: Callable[..., Writer],
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that does not say whose it is may be the one in doubt, as long as no record claims it."""
    # Where the state belongs, and its guards, are recorded: the run has nothing of its own to commit.
    assert imgctl("apply", "--auto-approve", "--target", "web", env=env).code == 0
    with Writer(place.client(), BOB, alone=False) as bob:
        bob.claim([CAD])
        commit(bob, intended(CAD))
    carol = join(CAROL, OFFICE)
    commit(carol, intended(OFFICE))
    fate = Fate(stuck=True, blank_name=True)
    job = cloud.world.build(BuildRequest(OFFICE, f"{OFFICE}-1"), fate, cloud.world.now())
    release = Writer.release_all_but

    def record_job() -> None:
        commit(carol, events.BuildSubmitted(OFFICE, f"a-{OFFICE}", job.id))

    def after_planning(self: Writer, server_ids: Any) -> None:
        release(self, server_ids)
        thread = threading.Thread(target=record_job)
        thread.start()
        thread.join(_LONGEST)

    monkeypatch.setattr(Writer, "release_all_but", after_planning)
    # The bound only ends what has failed already.
    ran = imgctl("apply", "--auto-approve", "--target", CAD, "--quiet-time", "0.3", "--timeout", str(_LONGEST), env=env)
    # By now the declaration asks for another image than that request did.
    assert ran.code == 3, ran.out + ran.err
    assert "the earlier request was not issued" in ran.out
    found = read(place.client())
    assert attempt(found, CAD) == (BuildStatus.REFUSED, "")
    assert attempt(found, OFFICE) == (BuildStatus.RUNNING, job.id)
    assert cloud.built == sorted([WEB, OFFICE])


def test_nothing_needs_to_be_unlocked_by_force(
    imgctl: Imgctl, env: dict[str, str], join: Callable[..., Writer], place: Place
) -> None:
    join(CAROL, OFFICE)
    ran = imgctl("state", "force-unlock", "anything", "--auto-approve", env=env)
    assert ran.code == 1
    assert f"{place.url} has no lock that could be left behind" in ran.err
    assert "end that process" in ran.err
    assert "local" not in ran.err


def test_a_state_moves_between_a_file_and_the_database(
    imgctl: Imgctl, cloud: Cloud, env: dict[str, str], folder: Path, place: Place, join: Callable[..., Writer]
) -> None:
    file = folder / "moved.json"
    local = {**env, "IMGCTL_STATE": str(file)}
    assert imgctl("apply", "--auto-approve", env=local).code == 0
    history = imgctl("state", "pull", env=local).json
    moved = imgctl("state", "migrate", "--to", place.url, env=local)
    assert moved.code == 0, moved.err
    assert place.url in imgctl("plan", env=local).err
    assert _content(imgctl("state", "pull", env=env).json) == _content(history)
    assert imgctl("plan", "--detailed-exitcode", env=env).code == 0
    # A correction, which is refused while anybody writes.
    corrected = imgctl("state", "pull", env=env).json
    corrected["serial"] += 1
    corrected["servers"][OFFICE]["name"] = "bureau"
    (folder / "corrected.json").write_text(json.dumps(corrected))
    carol = join(CAROL, WEB)
    refused = imgctl("state", "push", "corrected.json", env=env)
    assert refused.code == 5
    assert str(CAROL) in refused.err
    carol.__exit__(None, None, None)
    pushed = imgctl("state", "push", "corrected.json", env=env)
    assert pushed.code == 0, pushed.err
    assert read(place.client()).servers[OFFICE].name == "bureau"
    assert "is that state already" in imgctl("state", "push", "corrected.json", env=env).out
    back = imgctl("state", "migrate", "--to", "back.json", env=env)
    assert back.code == 0, back.err
    left = imgctl("plan", env=env)
    assert left.code == 1
    assert "back.json" in left.err
    at_last = imgctl("state", "pull", env={**env, "IMGCTL_STATE": "back.json"}).json
    assert _content(at_last) == _content(corrected)
    assert cloud.built == sorted(SERVER_IDS)


def _content(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "folded"}

"""What every backend must do, whatever a state is kept in: see places.FACTORIES."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from reconciler.errors import StateError, StateLocked
from reconciler.model.record import BuildStatus, Recorded
from reconciler.model.spec import Limits
from reconciler.state import journal, journal_session
from reconciler.state.codec import encode
from reconciler.state.journaled import Journaled
from reconciler.state.store import read, read_whole
from reconciler.state.writer import Writer
from tests.state import strategies
from tests.state.conformance import (
    ALICE,
    BOB,
    adopted,
    commit,
    commit_at_once,
    intended,
    journaled_backend,
    noted,
    submitted,
)
from tests.state.model import Store as Model
from tests.state.model import check
from tests.state.places import FACTORIES, SHARED, Place, Servers

# Reading and writing


def test_what_was_never_written_is_not_there(place: Place) -> None:
    assert read(place.client()) == Recorded()
    assert read_whole(place.client()) == (Recorded(), 0)


def test_what_is_committed_is_read_by_others(place: Place) -> None:
    with Writer(place.client(), ALICE) as writing:
        commit(writing, intended("one"), noted(3))
        seen = read(place.client())
        assert seen.exists
        assert seen.serial == 2
        assert seen.limits == Limits(3)
        commit(writing, submitted("one"))
        after = read(place.client())
        attempt = after.servers["one"].attempt
        assert attempt is not None
        assert (attempt.status, attempt.job_id) == (BuildStatus.RUNNING, "j-one")
    assert read(place.client()) == after


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=strategies.states().map(lambda state: replace(state, moved_to="")))
def test_any_state_comes_back_as_it_was(place: Place, state: Recorded) -> None:
    with Writer(place.client(), ALICE) as writing:
        asyncio.run(writing.replace(state))
    found, number = read_whole(place.client())
    assert found == state
    assert read_whole(place.client()) == (found, number)


def test_frames_are_read_in_their_order_and_gone_after_a_fold(place: Place) -> None:
    if not isinstance(place.client().backend, Journaled):
        pytest.skip("this backend has no journal")
    backend = journaled_backend(place.client())
    head = journal.encode_header(journal.Header("l", 0))
    frames = [journal.encode_frame("l", number, {"serial": number}) for number in range(1, 41)]
    with backend.lock(ALICE):
        backend.replace_document(encode(Recorded(lineage="l", exists=True), 0))
        backend.replace_journal(head)
        for number, frame in enumerate(frames, start=1):
            backend.append(frame)
            assert journaled_backend(place.client()).read_journal() == head + b"".join(frames[:number])
        backend.replace_journal(head)
        assert journaled_backend(place.client()).read_journal() == head
        backend.append(frames[0])
    with backend.lock(BOB):
        backend.append(frames[1])
        backend.append(frames[2])
    assert journaled_backend(place.client()).read_journal() == head + b"".join(frames[:3])


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.timeout(300)
def test_it_agrees_with_a_model(name: str, servers: Servers) -> None:
    """For local files see tests/crash/test_store_model.py."""

    def new_place(folder: Path) -> AbstractContextManager[Place]:
        return FACTORIES[name](folder, servers)

    with new_place(Path()):
        pass  # skips, where the server is not installed
    check(partial(Model, new_place), examples=5)


def test_a_reader_sees_one_moment_during_writes_and_folds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit moves two records and the limits together; a reader must never see one without the others."""
    monkeypatch.setattr(journal_session, "_FOLD_BEYOND", 2000)
    commits = 40
    ended = threading.Event()
    problems: list[str] = []
    moments = [0, 0]

    def look(slot: int) -> None:
        client, latest = place.client(), 0
        while not ended.is_set():
            try:
                seen = read(client)
            except StateError as error:
                problems.append(f"{error.summary}")
                return
            number = seen.limits.max_changes or 0
            names = {server: record.name for server, record in seen.servers.items()}
            if seen.exists and names != {"one": f"one-{number}", "two": f"two-{number}"}:
                problems.append(f"at {number}: {names}")
            if number < latest:
                problems.append(f"{number} after {latest}")
            latest = number
            moments[slot] += 1

    from reconciler.state.events import Renamed

    with Writer(place.client(), ALICE) as writing:
        first = [adopted("one"), adopted("two")]
        commit(writing, *first, Renamed("one", "one-0"), Renamed("two", "two-0"), noted(0))
        threads = [threading.Thread(target=look, args=(slot,)) for slot in range(2)]
        for thread in threads:
            thread.start()
        try:
            number = 0
            # Until both have looked often enough; the bound only ends what has failed already.
            while number < commits or (min(moments) < 5 and not problems and number < 100 * commits):
                number += 1
                commit(writing, Renamed("one", f"one-{number}"), Renamed("two", f"two-{number}"), noted(number))
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert not problems, problems[:3]
    assert min(moments) >= 5


@pytest.mark.parametrize(
    "damage",
    [
        "a frame is missing",
        "the first frame is missing",
        "a frame is another",
        "the document is missing",
        "the head is damaged",
    ],
)
def test_what_is_damaged_is_an_error_and_not_a_guess(damage: str, place: Place) -> None:
    if damage not in place.damages:
        pytest.skip("this backend cannot have it")
    writing = Writer(place.client(), ALICE)
    for number in range(6):
        commit(writing, noted(number))
    place.abandon(writing)
    place.break_lock()
    assert read(place.client()).serial == 6
    place.damages[damage]()
    with pytest.raises(StateError) as raised:
        read(place.client())
    assert "journal" in raised.value.summary
    assert "backup" in raised.value.hint
    with pytest.raises(StateError):
        Writer(place.client(), BOB)
    place.break_lock()
    with pytest.raises(StateError):
        read(place.client())


# One writer


def test_the_second_client_is_refused_and_told_who_holds_the_lock(place: Place) -> None:
    with Writer(place.client(), ALICE) as writing:
        with pytest.raises(StateLocked) as raised:
            Writer(place.client(), BOB)
        # Some servers know their users by other names; the machine is told everywhere.
        assert ALICE.host in raised.value.summary
        commit(writing, noted(1))
    with Writer(place.client(), BOB) as writing:
        commit(writing, noted(2))
    assert read(place.client()).serial == 2


def test_who_waits_gets_in_once_the_lock_is_given_back(place: Place) -> None:
    refused = threading.Event()
    got_in: list[int] = []

    def wait(refusal: StateError) -> None:
        assert ALICE.host in refusal.summary
        refused.set()
        time.sleep(0.01)

    def second() -> None:
        with Writer(place.client(), BOB, wait) as writing:
            got_in.append(writing.recorded.serial)

    thread = threading.Thread(target=second)
    with Writer(place.client(), ALICE) as writing:
        thread.start()
        assert refused.wait(30)
        commit(writing, noted(1))
    thread.join(30)
    assert got_in == [1]


def test_of_many_that_come_at_once_one_gets_in(place: Place) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def run() -> None:
        nonlocal inside, most
        with Writer(place.client(), ALICE, lambda refusal: time.sleep(0.01)) as writing:
            with guard:
                inside += 1
                most = max(most, inside)
            commit(writing, noted(writing.recorded.serial + 1))
            with guard:
                inside -= 1

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    seen = read(place.client())
    assert (seen.serial, seen.limits.max_changes) == (6, 6)


def test_a_run_that_was_killed_leaves_what_it_committed(place: Place) -> None:
    writing = Writer(place.client(), ALICE)
    commit(writing, intended("one"))
    commit(writing, submitted("one"))
    place.abandon(writing)
    place.break_lock()
    with Writer(place.client(), BOB) as writing:
        attempt = writing.recorded.servers["one"].attempt
        assert attempt is not None
        assert attempt.job_id == "j-one"


def _first(old: Writer) -> None:
    del old


def _later(old: Writer) -> None:
    commit(old, noted(1))
    commit(old, noted(2))


@pytest.mark.parametrize("before", [_first, _later])
@pytest.mark.parametrize("successor", ["has written nothing", "has written", "has folded", "has come and gone"])
def test_a_writer_that_lost_its_lock_makes_nothing_durable_that_its_successor_has_not_seen(
    before: Callable[[Writer], None], successor: str, shared_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shared_place
    if place.take_lock_away is None:
        pytest.skip("no lock of this backend is lost before its owner ends")
    with Writer(place.client(), ALICE) as earlier:
        commit(earlier, adopted("zero"))
    old = Writer(place.client(), ALICE)
    before(old)
    place.take_lock_away()
    new = Writer(place.client(), BOB)
    seen = new.recorded.serial
    if successor != "has written nothing":
        monkeypatch.setattr(journal_session, "_FOLD_BEYOND", 0 if successor == "has folded" else 1 << 20)
        commit(new, intended("new"))
        commit(new, submitted("new"))
    if successor == "has come and gone":
        new.__exit__(None, None, None)
    for event in (intended("old"), noted(9)):
        with pytest.raises(StateError):
            commit(old, event)
    old.__exit__(None, None, None)
    if successor != "has come and gone":
        # It may have been disturbed, and then it ends; it must not go on beside what it has not seen.
        with suppress(StateError):
            commit(new, noted(7))
        new.__exit__(None, None, None)
    with Writer(place.client(), ALICE) as last:
        commit(last, noted(8))
    found = read(place.client())
    assert found.limits == Limits(8)
    assert found.servers["zero"].held is not None
    if successor != "has written nothing":
        attempt = found.servers["new"].attempt
        assert attempt is not None
        assert attempt.job_id == "j-new"
        assert "old" not in found.servers
        assert found.serial >= seen + 2


def test_nothing_recorded_is_nothing_changed(place: Place) -> None:
    with Writer(place.client(), ALICE):
        pass
    assert not read(place.client()).exists
    with Writer(place.client(), ALICE) as writing:
        commit(writing, noted(1))
    before = read(place.client()), place.raw()
    with Writer(place.client(), ALICE) as writing:
        asyncio.run(writing.commit())
    assert before == (read(place.client()), place.raw())


def test_a_reader_keeps_what_it_has_read(place: Place) -> None:
    with Writer(place.client(), ALICE) as writing:
        commit(writing, intended("one"))
        seen = read(place.client())
        copied = Recorded(
            lineage=seen.lineage,
            serial=seen.serial,
            bound_to=seen.bound_to,
            servers=dict(seen.servers),
            retired=dict(seen.retired),
            limits=seen.limits,
            exists=True,
        )
        commit(writing, submitted("one"), noted(5))
        assert seen == copied
        assert read(place.client()) != copied


# Sizes, and what they cost


def test_ten_thousand_records(place: Place) -> None:
    with Writer(place.client(), ALICE) as writing:
        commit(writing, *(adopted(f"s{number:05}", padding=400) for number in range(10_000)))
        commit(writing, noted(1))
    found = read(place.client())
    assert len(found.servers) == 10_000
    assert found.serial == 10_001
    assert found.servers["s09999"].held is not None


def test_an_event_costs_the_same_whatever_the_fleet(place: Place) -> None:
    spent = {}
    for size in (10, 2000):
        with Writer(place.client(), ALICE) as writing:
            commit(writing, *(adopted(f"s{number:05}", padding=400) for number in range(size)))
            commit(writing, intended(f"first-{size}"))
            before = place.cost()
            for number in range(10):
                commit(writing, intended(f"new-{size}-{number}"))
            spent[size] = place.cost() - before
    assert spent[10].exchanges >= 10
    assert spent[2000].exchanges == spent[10].exchanges
    assert spent[2000].bytes <= 1.2 * spent[10].bytes


def test_two_hundred_commits_at_once_share_their_writes(place: Place) -> None:
    with Writer(place.client(), ALICE) as writing:
        commit(writing, noted(1))
        commit(writing, noted(2))
        one = place.cost()
        commit(writing, noted(3))
        one = place.cost() - one
        many = place.cost()
        outcomes = commit_at_once(writing, [intended(f"s{number}") for number in range(200)])
        many = place.cost() - many
        assert outcomes == [None] * 200
        assert len(read(place.client()).servers) == 200
    assert many.exchanges <= 5 * one.exchanges


# Emergencies


def test_job_ids_that_could_not_be_recorded_are_taken_in_by_the_next_writer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.client()
    with Writer(store, ALICE) as writing:
        commit(writing, intended("one"), intended("two"))
        with monkeypatch.context() as patch:
            place.breaking(writing, patch)
            with pytest.raises(StateError) as raised:
                commit(writing, submitted("one"))
            assert "emergency" in raised.value.hint
            with pytest.raises(StateError):
                commit(writing, submitted("two"))
        # The first failure was the end of all writing.
        with pytest.raises(StateError):
            commit(writing, noted(1))
    assert list(place.home.glob("*.emergency"))
    with Writer(place.client(), BOB) as writing:
        for server in ("one", "two"):
            attempt = writing.recorded.servers[server].attempt
            assert attempt is not None
            assert (attempt.status, attempt.job_id) == (BuildStatus.RUNNING, f"j-{server}")
    assert not list(place.home.glob("*.emergency"))
    assert read(place.client()).serial == 4

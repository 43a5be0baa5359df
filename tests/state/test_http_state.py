"""The state on a server: the protocol, its lock, and what must never become durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateError, StateLocked, UsageError
from reconciler.model.record import Binding, Build, BuildStatus
from reconciler.model.spec import ImageSpec
from reconciler.state import events, http, http_state, journal_session
from reconciler.state.address import Credentials, HttpAddress
from reconciler.state.http_state import HttpState
from reconciler.state.lock_record import held_lock, new_record
from reconciler.state.open import http_store
from reconciler.state.store import LockHolder, OutlivingLock, Store, read, read_whole
from reconciler.state.writer import Writer
from tests.state.conformance import journaled_backend, session_of
from tests.state.gitlab import PASSWORD, USERNAME, GitLab, Stored, serving_states

HOLDER = LockHolder("alice", "runner-7", 4711, "2026-11-24T10:15:00Z", "apply", "https://gitlab.example/g/p/-/jobs/123")
OTHER = LockHolder("bob", "laptop", 17, "2026-11-24T11:00:00Z", "state rm")
_AT = datetime(2026, 11, 24, 10, 15, tzinfo=UTC)
_JOURNAL = "images-journal"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with serving_states() as server:
        yield server


@pytest.fixture(params=["gitlab", "plain"])
def url(request: pytest.FixtureRequest, gitlab: GitLab) -> str:
    """The address of a state at both kinds of server."""
    return gitlab.address(plain=request.param == "plain")


def store_at(url: str, folder: Path, password: str = PASSWORD) -> Store:
    return http_store(HttpAddress.parse(url), Credentials(USERNAME, password, "the test"), folder)


def intent(server_id: str, attempt: str = "1") -> events.BuildIntended:
    spec = ImageSpec(f"image-of-{server_id}", "")
    return events.BuildIntended(
        server_id, server_id, Build(f"{server_id}-{attempt}", spec, BuildStatus.INTENT, _AT, "ACTIVE")
    )


def submitted(server_id: str, attempt: str = "1") -> events.BuildSubmitted:
    return events.BuildSubmitted(server_id, f"{server_id}-{attempt}", f"job-{server_id}-{attempt}")


def commit(open_writer: Writer, *happened: events.Event) -> None:
    asyncio.run(open_writer.commit(*happened))


def begun(store: Store, *servers: str) -> None:
    """A state with an attempt in flight of each server, and an empty journal."""
    with Writer(store, HOLDER) as first:
        commit(first, events.Bound(Binding("simulator", "r", "p")), *map(intent, servers))


# What is stored


def test_what_is_committed_is_read_by_others_at_once(url: str, tmp_path: Path) -> None:
    assert not read(store_at(url, tmp_path)).exists
    with Writer(store_at(url, tmp_path), HOLDER) as first:
        for server in ("one", "two", "three"):
            commit(first, intent(server))
            assert server in read(store_at(url, tmp_path)).servers
        commit(first, submitted("two"))
        seen = read(store_at(url, tmp_path))
        assert seen.servers["two"].attempt == first.recorded.servers["two"].attempt
    again = read(store_at(url, tmp_path))
    assert again == replace(first.recorded, servers=again.servers, retired=again.retired)
    assert dict(first.recorded.servers) == again.servers


def test_the_journal_grows_in_segments_and_a_fold_removes_them(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_state, "SEGMENT", 600)
    store = store_at(gitlab.address(), tmp_path)
    with Writer(store, HOLDER) as first:
        commit(first, intent("s0"))
        for number in range(1, 12):
            commit(first, intent(f"s{number}"))
        segments = {name for name in gitlab.states if name.startswith(f"{_JOURNAL}-")}
        assert len(segments) >= 3
        assert len(read(store_at(gitlab.address(), tmp_path)).servers) == 12
        # Whoever comes after a kill finds all of it.
        gitlab.states["images"].lock.clear()
    with Writer(store_at(gitlab.address(), tmp_path), OTHER) as second:
        assert len(second.recorded.servers) == 12
    assert set(gitlab.states) == {"images", _JOURNAL}
    assert not any(state.lock for state in gitlab.states.values())


def test_a_reader_that_meets_a_fold_reads_again(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_state, "SEGMENT", 300)
    with Writer(store_at(gitlab.address(), tmp_path), HOLDER) as first:
        for number in range(6):
            commit(first, intent(f"s{number}"))
        folded: list[bool] = []

        def fold_under_the_reader(when: str, method: str, name: str, _: bytes) -> None:
            # The journal's end is read; the segments that it names are gone when they are asked for.
            if when == "after" and method == "GET" and name == _JOURNAL and not folded:
                folded.append(True)
                document = json.loads(gitlab.states["images"].latest or b"")
                recorded, last = first.recorded, session_of(first)._number
                from reconciler.state.codec import encode
                from reconciler.state.journal import Header, encode_header

                document |= {"serial": document["serial"] + 1, "document": json.loads(encode(recorded, last))}
                end = gitlab.document(_JOURNAL)
                end |= {"serial": end["serial"] + 1, "previous": ""}
                end["text"] = encode_header(Header(recorded.lineage, last)).decode()
                gitlab.states["images"].versions[document["serial"]] = json.dumps(document).encode()
                gitlab.states[_JOURNAL].versions[end["serial"]] = json.dumps(end).encode()
                for segment in [one for one in gitlab.states if one.startswith(f"{_JOURNAL}-")]:
                    del gitlab.states[segment]

        gitlab.watch = fold_under_the_reader
        assert len(read(store_at(gitlab.address(), tmp_path)).servers) == 6
        gitlab.states["images"].lock.clear()


def test_segments_stay_where_removing_is_not_allowed(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_state, "SEGMENT", 300)
    gitlab.deletes = False
    store = store_at(gitlab.address(), tmp_path)
    with Writer(store, HOLDER) as first:
        for number in range(6):
            commit(first, intent(f"s{number}"))
    asked = [one for one in gitlab.requests if one.method == "DELETE" and one.name.startswith(f"{_JOURNAL}-")]
    # It is not asked again for each of them.
    assert len(asked) == 1
    assert len(read(store).servers) == 6


def test_every_stored_document_raises_the_serial_by_one(gitlab: GitLab, tmp_path: Path) -> None:
    store = store_at(gitlab.address(), tmp_path)
    begun(store, "one")
    with Writer(store, HOLDER) as second:
        commit(second, submitted("one"))
    for name in ("images", _JOURNAL):
        serials = sorted(gitlab.states[name].versions)
        assert serials == list(range(1, len(serials) + 1))
    recorded, last = read_whole(store)
    assert recorded.servers["one"].attempt is not None
    assert last == 1


def test_a_terraform_state_of_that_name_is_left_alone(gitlab: GitLab, tmp_path: Path) -> None:
    store = store_at(gitlab.address(), tmp_path)
    content = json.dumps({"version": 4, "terraform_version": "1.9.0", "serial": 3, "lineage": "x"}).encode()
    begun(store, "one")
    gitlab.states["images"].versions[99] = content
    with pytest.raises(StateError, match="something else than imgctl's state"):
        read(store)
    with pytest.raises(StateError, match="something else than imgctl's state"):
        Writer(store, HOLDER)
    assert gitlab.states["images"].latest == content
    assert not gitlab.states["images"].lock


# The lock


def test_two_clients_at_the_lock(url: str, tmp_path: Path) -> None:
    with Writer(store_at(url, tmp_path), HOLDER), pytest.raises(StateLocked) as refused:
        Writer(store_at(url, tmp_path), OTHER)
    assert "runner-7" in refused.value.summary
    assert "for apply" in refused.value.summary
    assert "run jobs 123" in refused.value.summary or "run https://gitlab.example/g/p/-/jobs/123" in str(refused.value)
    assert "force-unlock apply.runner-7.4711.jobs-123.20261124T101500Z." in refused.value.hint
    with Writer(store_at(url, tmp_path), OTHER):
        pass


def test_whoever_waits_gets_the_lock_when_it_is_given_back(url: str, tmp_path: Path) -> None:
    first = Writer(store_at(url, tmp_path), HOLDER)
    refusals: list[StateError] = []

    def wait(refusal: StateError) -> None:
        refusals.append(refusal)
        first.__exit__(None, None, None)

    with Writer(store_at(url, tmp_path), OTHER, wait) as second:
        commit(second, intent("one"))
    assert len(refusals) == 1


def test_a_lock_whose_answer_is_lost_is_ours(gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.fault("POST", "images/lock", "after")
    gitlab.fault("POST", f"{_JOURNAL}/lock", "after", times=2)
    with Writer(store_at(gitlab.address(), tmp_path), HOLDER) as first:
        commit(first, intent("one"))
    assert not any(state.lock for state in gitlab.states.values())


def test_a_lock_that_is_given_up_is_not_left_behind(gitlab: GitLab, tmp_path: Path) -> None:
    begun(store_at(gitlab.address(), tmp_path), "one")
    gitlab.fault("POST", f"{_JOURNAL}/lock", "after", times=4)
    with pytest.raises(StateError, match="cannot lock"):
        Writer(store_at(gitlab.address(), tmp_path), HOLDER)
    assert not any(state.lock for state in gitlab.states.values())


def test_a_lock_that_cannot_be_given_back_is_said(gitlab: GitLab, tmp_path: Path) -> None:
    first = Writer(store_at(gitlab.address(), tmp_path), HOLDER)
    commit(first, intent("one"))
    gitlab.cut = True
    with pytest.raises(StateError, match="could not be given back") as stays, first:
        pass
    assert f"force-unlock {gitlab.states['images'].lock['ID']}" in stays.value.hint
    gitlab.cut = False
    backend = store_at(gitlab.address(), tmp_path).backend
    assert isinstance(backend, OutlivingLock)
    held = backend.held_lock()
    assert held is not None
    assert backend.force_unlock(held)
    assert backend.held_lock() is None
    assert not backend.force_unlock(held)
    assert not any(state.lock for state in gitlab.states.values())


@pytest.mark.parametrize("keeps_all", [True, False])
def test_a_lock_says_who_since_when_and_for_what(keeps_all: bool) -> None:
    record = new_record(HOLDER, "/states/images")
    # GitLab answers what it does not keep with the asker's own.
    told: dict[str, object] = dict(record)
    if not keeps_all:
        told |= {"Operation": "mine", "Info": "mine", "Who": "project_42_bot", "Created": "2026-11-24T10:15:01.000Z"}
    lock = held_lock(told, _AT + timedelta(minutes=42, seconds=5), keeps_all=keeps_all)
    assert lock.id == record["ID"]
    assert "42 minutes ago" in lock.holder
    assert "on runner-7 (process 4711)" in lock.holder
    assert "for apply" in lock.holder
    assert "mine" not in lock.holder
    assert len(record["ID"]) <= 255
    assert new_record(HOLDER, "")["ID"] != record["ID"]


def test_a_strangers_lock_is_shown_without_what_could_steer_a_terminal() -> None:
    told: dict[str, object] = {"ID": "x\x1b[31m", "Who": "a\nb\x07", "Created": 7, "Operation": ["no text"]}
    lock = held_lock(told, _AT, keeps_all=True)
    assert (lock.id, lock.holder) == ("x[31m", "a b")


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_lock_from_beyond_the_calendar_is_a_lock_all_the_same(created: str) -> None:
    assert held_lock({"ID": "x", "Who": "a", "Created": created}, _AT, keeps_all=True).holder == "a"


def test_a_strangers_lock_is_named_so_that_a_shell_runs_none_of_it(gitlab: GitLab, tmp_path: Path) -> None:
    store = store_at(gitlab.address(plain=True), tmp_path)
    begun(store, "one")
    gitlab.states["images-lock"].lock = {"ID": "x; reboot", "Who": "a"}
    with pytest.raises(StateLocked) as refused:
        Writer(store, HOLDER)
    assert "force-unlock 'x; reboot'" in refused.value.hint


# Fencing: a writer whose lock was taken away, and that lives on


def _mutex(gitlab: GitLab) -> Stored:
    """What is locked by the writer, and by nobody between two runs."""
    return gitlab.states.get("images-lock") or gitlab.states["images"]


def _unlocked(url: str, tmp_path: Path) -> None:
    backend = store_at(url, tmp_path).backend
    assert isinstance(backend, HttpState)
    held = backend.held_lock()
    assert held is not None
    assert backend.force_unlock(held)


def test_who_was_unlocked_writes_nothing_any_more(gitlab: GitLab, tmp_path: Path) -> None:
    old = Writer(store_at(gitlab.address(), tmp_path), HOLDER)
    commit(old, intent("one"))
    _unlocked(gitlab.address(), tmp_path)
    # Nobody has come in yet, and GitLab refuses it all the same.
    with pytest.raises(StateError, match="cannot write"):
        commit(old, intent("two"))
    with pytest.raises(StateError):
        commit(old, intent("three"))
    assert set(read(store_at(gitlab.address(), tmp_path)).servers) == {"one"}


def test_what_the_old_writer_makes_durable_the_new_one_has_read(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    old = Writer(store_at(url, tmp_path), HOLDER)
    commit(old, intent("one"))
    # Only the writer's own lock is gone, as where the second request of force-unlock did not arrive.
    _mutex(gitlab).lock = {}
    commit(old, intent("two"))
    with Writer(store_at(url, tmp_path), OTHER) as new:
        assert set(new.recorded.servers) == {"one", "two"}
        with pytest.raises(StateError, match="cannot write"):
            commit(old, intent("three"))
        commit(new, intent("three", "new"))
    # It has seen that it is the old one, and does not even try again.
    with pytest.raises(StateError, match="cannot write"):
        commit(old, intent("four"))
    seen = read(store_at(url, tmp_path))
    assert set(seen.servers) == {"one", "two", "three"}
    assert seen.servers["three"].attempt is not None
    assert seen.servers["three"].attempt.attempt_id == "three-new"


def test_the_old_writer_cannot_fold_over_the_new_ones_state(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    begun(store_at(url, tmp_path), "zero")
    old = Writer(store_at(url, tmp_path), HOLDER)
    commit(old, intent("one"))
    _unlocked(url, tmp_path)
    new = Writer(store_at(url, tmp_path), OTHER)
    commit(new, intent("two"))
    # Its end: the fold is refused, and so is giving back a lock that is another's.
    old.__exit__(None, None, None)
    assert _mutex(gitlab).lock["ID"].startswith("state-rm.laptop.")
    commit(new, intent("three"))
    new.__exit__(None, None, None)
    assert set(read(store_at(url, tmp_path)).servers) == {"zero", "one", "two", "three"}


def test_a_write_that_slept_through_the_whole_run_of_the_next_one_is_refused(url: str, tmp_path: Path) -> None:
    begun(store_at(url, tmp_path), "zero")
    old = Writer(store_at(url, tmp_path), HOLDER)
    commit(old, intent("one"))
    _unlocked(url, tmp_path)
    with Writer(store_at(url, tmp_path), OTHER) as new:
        commit(new, intent("two"))
    # Nobody holds the lock now.
    with pytest.raises(StateError, match="cannot write"):
        commit(old, intent("three"))
    assert set(read(store_at(url, tmp_path)).servers) == {"zero", "one", "two"}


def test_a_fold_that_slept_through_the_whole_run_of_the_next_one_is_refused(url: str, tmp_path: Path) -> None:
    begun(store_at(url, tmp_path), "zero")
    old = Writer(store_at(url, tmp_path), HOLDER)
    commit(old, intent("one"))
    _unlocked(url, tmp_path)
    with Writer(store_at(url, tmp_path), OTHER) as new:
        commit(new, intent("two"))
    old.__exit__(None, None, None)
    assert set(read(store_at(url, tmp_path)).servers) == {"zero", "one", "two"}


@pytest.mark.parametrize("lands", ["before the successor's write", "after the successor's write"])
def test_a_late_write_that_gets_past_the_lock_meets_the_serial(lands: str, gitlab: GitLab, tmp_path: Path) -> None:
    """GitLab compares the lock and stores the version in two steps: here a write stands between them."""
    begun(store_at(gitlab.address(), tmp_path), "zero")
    old = Writer(store_at(gitlab.address(), tmp_path), HOLDER)
    new: list[Writer] = []

    def take_over_meanwhile(when: str, method: str, name: str, body: bytes) -> None:
        if when == "before" and method == "POST" and name == _JOURNAL and b"old-one" in body and not new:
            # As the server sees it: the lock was compared, and is another's when the version is stored.
            for state in gitlab.states.values():
                state.lock = {}
            gitlab.compares = False
            new.append(writer_in_another_thread(gitlab, tmp_path, lands))

    gitlab.watch = take_over_meanwhile
    ours = intent("old-one")
    if lands.startswith("before"):
        commit(old, ours)
    else:
        with pytest.raises(StateError):
            commit(old, ours)
    gitlab.compares = True
    successor = new[0]
    assert "old-one" not in successor.recorded.servers
    if lands.startswith("before"):
        # Its intent is durable: whoever has not read it writes nothing.
        with pytest.raises(StateError, match="cannot write"):
            commit(successor, intent("new-one"))
        successor._session.end(None)
        assert set(read(store_at(gitlab.address(), tmp_path)).servers) == {"zero", "old-one"}
    else:
        commit(successor, intent("new-two"))
        successor.__exit__(None, None, None)
        assert set(read(store_at(gitlab.address(), tmp_path)).servers) == {"zero", "new-one", "new-two"}


def writer_in_another_thread(gitlab: GitLab, tmp_path: Path, lands: str) -> Writer:
    """A successor that opens while the server's own thread is busy: over a second server on the same states."""
    beside = GitLab()
    beside.states = gitlab.states
    with serving_states(beside):
        successor = Writer(store_at(beside.address(), tmp_path), OTHER)
        if lands.startswith("after"):
            _in_thread(lambda: commit(successor, intent("new-one")))
    backend, its_own = store_at(gitlab.address(), tmp_path).backend, session_of(successor)._backend
    assert isinstance(its_own, HttpState)
    assert isinstance(backend, HttpState)
    its_own._server = backend._server
    return successor


def _in_thread(work: Any) -> None:
    from threading import Thread

    thread = Thread(target=work)
    thread.start()
    thread.join()


def test_a_server_that_does_not_compare_lock_ids_is_refused(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    gitlab.compares = False
    with (
        pytest.raises(StateError, match="cannot keep a state safely") as refused,
        Writer(store_at(url, tmp_path), HOLDER) as first,
    ):
        commit(first, intent("one"))
    assert "compares the ID" in refused.value.hint
    assert not read(store_at(url, tmp_path)).exists


def test_nothing_is_written_without_the_lock(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    begun(store_at(url, tmp_path), "one")
    before = len(gitlab.written)
    with pytest.raises(StateError, match="not locked by this run"):
        journaled_backend(store_at(url, tmp_path)).append(b"frame\n")
    assert len(gitlab.written) == before


# Answers that do not come


def test_a_write_whose_answer_is_lost_is_read_back(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    with Writer(store_at(url, tmp_path), HOLDER) as first:
        commit(first, intent("one"))
        gitlab.fault("POST", _JOURNAL, "after")
        commit(first, intent("two"))
    assert set(read(store_at(url, tmp_path)).servers) == {"one", "two"}


@pytest.mark.parametrize("kind", ["before", "late", 500, 502, 503])
def test_gitlab_takes_a_repeated_write_once(kind: str | int, gitlab: GitLab, tmp_path: Path) -> None:
    with Writer(store_at(gitlab.address(), tmp_path), HOLDER) as first:
        commit(first, intent("one"))
        gitlab.fault("POST", _JOURNAL, kind, times=2)
        commit(first, intent("two"))
        commit(first, submitted("two"))
    assert set(read(store_at(gitlab.address(), tmp_path)).servers) == {"one", "two"}
    serials = sorted(gitlab.states[_JOURNAL].versions)
    assert serials == list(range(1, len(serials) + 1))


@pytest.mark.parametrize("kind", ["before", 500, 504])
def test_elsewhere_a_write_that_is_not_there_ends_all_writing(kind: str | int, gitlab: GitLab, tmp_path: Path) -> None:
    """Such a server may let it take effect later, over what was written since."""
    store = store_at(gitlab.address(plain=True), tmp_path)
    with Writer(store, HOLDER) as first:
        commit(first, intent("one"))
        gitlab.fault("POST", _JOURNAL, kind)
        with pytest.raises(StateError, match="cannot write"):
            commit(first, intent("two"))
        asked = len(gitlab.requests)
        with pytest.raises(StateError, match="cannot write"):
            commit(first, intent("three"))
        assert len(gitlab.requests) == asked


def test_the_job_of_a_write_that_cannot_be_confirmed_goes_to_the_emergency_file(gitlab: GitLab, tmp_path: Path) -> None:
    first = Writer(store_at(gitlab.address(), tmp_path), HOLDER)
    commit(first, intent("one"))
    gitlab.cut = True
    with pytest.raises(StateError, match="nor can it be found out") as lost:
        commit(first, submitted("one"))
    assert "job-one-1" in lost.value.hint
    with pytest.raises(StateError, match="could not be given back"):
        first.__exit__(None, None, None)
    gitlab.cut = False
    (kept,) = tmp_path.glob("imgctl-*.emergency")
    assert "job-one-1" in kept.read_text()
    _unlocked(gitlab.address(), tmp_path)
    with Writer(store_at(gitlab.address(), tmp_path), OTHER) as second:
        attempt = second.recorded.servers["one"].attempt
        assert attempt is not None
        assert attempt.job_id == "job-one-1"
    assert not kept.exists()


@pytest.mark.parametrize("kind", ["before", "after", 429, 500, 502, 503, 504])
def test_a_read_is_repeated(kind: str | int, url: str, tmp_path: Path, gitlab: GitLab) -> None:
    begun(store_at(url, tmp_path), "one")
    gitlab.fault("GET", "images", kind, times=2)
    gitlab.fault("GET", _JOURNAL, kind, times=2)
    assert set(read(store_at(url, tmp_path)).servers) == {"one"}


def test_a_server_that_stays_away_is_an_error_never_an_empty_state(url: str, tmp_path: Path, gitlab: GitLab) -> None:
    begun(store_at(url, tmp_path), "one")
    gitlab.cut = True
    with pytest.raises(StateError, match="cannot read"):
        read(store_at(url, tmp_path))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "IMGCTL|the test"),
        (403, "Developer"),
        (302, "redirect is not followed"),
        (418, "418"),
        (599, "no known status"),
    ],
)
def test_what_a_server_refuses_is_said(status: int, words: str, gitlab: GitLab, tmp_path: Path) -> None:
    gitlab.fault("GET", _JOURNAL, status, times=9)
    with pytest.raises(StateError) as refused:
        read(store_at(gitlab.address(), tmp_path))
    assert any(word in f"{refused.value.summary} {refused.value.hint}" for word in words.split("|"))
    assert PASSWORD not in f"{refused.value.summary} {refused.value.hint}"


def test_a_project_that_may_not_be_seen_is_not_an_empty_state(gitlab: GitLab, tmp_path: Path) -> None:
    elsewhere = gitlab.address().replace("/42/", "/43/")
    with pytest.raises(StateError, match="Project Not Found"):
        read(store_at(elsewhere, tmp_path))


def test_wrong_credentials_are_said_and_not_repeated(gitlab: GitLab, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="401 Unauthorized") as refused:
        read(store_at(gitlab.address(), tmp_path, password="guessed"))
    assert "the test" in refused.value.hint
    assert "guessed" not in repr(Credentials("u", "guessed")) + refused.value.summary + refused.value.hint
    assert len(gitlab.requests) == 1


def test_a_body_that_never_ends_is_not_read_to_its_end(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(store_at(gitlab.address(), tmp_path), "one")
    monkeypatch.setattr(http, "LARGEST_BODY", 50)
    with pytest.raises(StateError, match="larger than"):
        read(store_at(gitlab.address(), tmp_path))


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"[" * 100_000, b'"text"'])
def test_what_is_no_object_is_damage(content: bytes, gitlab: GitLab, tmp_path: Path) -> None:
    begun(store_at(gitlab.address(), tmp_path), "one")
    gitlab.states[_JOURNAL].versions[99] = content
    with pytest.raises(StateError, match="no JSON object"):
        read(store_at(gitlab.address(), tmp_path))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("images", {"imgctl": "document", "document": {"half": "\ud800"}}),
        (_JOURNAL, {"imgctl": "journal", "previous": "", "text": "\ud800"}),
        (_JOURNAL, {"imgctl": "journal", "previous": "../\0", "text": ""}),
    ],
)
def test_what_no_imgctl_writes_is_damage(name: str, fields: dict[str, Any], gitlab: GitLab, tmp_path: Path) -> None:
    begun(store_at(gitlab.address(), tmp_path), "one")
    gitlab.states[name].versions[99] = json.dumps({"serial": 99, **fields}).encode()
    with pytest.raises(StateError, match="something else than imgctl's state"):
        read(store_at(gitlab.address(), tmp_path))


# What it costs


def _cost(gitlab: GitLab, folder: Path, servers: int) -> list[tuple[str, str, int, int]]:
    """The requests of forty events in a row, one at a time, in a fleet of that size."""
    name = f"fleet-{servers}"
    store = store_at(gitlab.address(name), folder)
    with Writer(store, HOLDER) as first:
        # Names of one length, so that their number is all that differs.
        commit(first, *(intent(f"s{number:05}") for number in range(servers)))
        gitlab.requests.clear()
        for number in range(40):
            commit(first, submitted(f"s{number % 10:05}") if number < 10 else intent(f"t{number:05}"))
        return [(one.method, one.name.replace(name, ""), one.sent, one.received) for one in gitlab.requests]


def test_an_event_costs_the_same_in_a_fleet_of_any_size(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_state, "SEGMENT", 4000)
    small, large = (_cost(gitlab, tmp_path, servers) for servers in (10, 1000))
    tokenless = [[(method, "-" in name[9:], received) for method, name, _, received in cost] for cost in (small, large)]
    assert tokenless[0] == tokenless[1]
    for cost in (small, large):
        assert {method for method, *_ in cost} == {"POST"}
        assert len(cost) < 40 * 1.4
        # The serial of the state takes a few digits more in the larger fleet: that is all that differs.
        assert max(sent for *_, sent, _ in cost) < 4000 * 1.2
    assert abs(sum(sent for *_, sent, _ in small) - sum(sent for *_, sent, _ in large)) < 0.02 * sum(
        sent for *_, sent, _ in small
    )


def test_events_at_the_same_time_share_their_request(gitlab: GitLab, tmp_path: Path) -> None:
    async def all_at_once(first: Writer) -> None:
        await asyncio.gather(*(first.commit(intent(f"s{number}")) for number in range(50)))

    with Writer(store_at(gitlab.address(), tmp_path), HOLDER) as first:
        commit(first, events.Bound(Binding("simulator", "r", "p")))
        before = len(gitlab.requests)
        asyncio.run(all_at_once(first))
        assert len(gitlab.requests) - before <= 2


def test_a_fold_is_paid_for_by_what_was_written_since(
    gitlab: GitLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_session, "_FOLD_BEYOND", 2000)
    with Writer(store_at(gitlab.address(), tmp_path), HOLDER) as first:
        for number in range(60):
            commit(first, intent(f"s{number:03}"))
        documents = [one for one in gitlab.written if one.name == "images"]
        # The document doubles from fold to fold, or nearly so: few folds, however many events.
        assert 2 <= len(documents) <= 8
    assert len(read(store_at(gitlab.address(), tmp_path)).servers) == 60


# Addresses


@pytest.mark.parametrize(
    ("text", "shown", "gitlab"),
    [
        ("https://gitlab.com/api/v4/projects/42/terraform/state/images", None, True),
        ("https://GitLab.Example:443/git/api/v4/projects/g%2Fp/terraform/state/a.b", "gitlab.example/git", True),
        ("https://states.example:8443/teams/images", None, False),
        ("http://127.0.0.1:8080/images", None, False),
        ("http://[::1]:8080/images", None, False),
        ("http://localhost/images", None, False),
    ],
)
def test_addresses(text: str, shown: str | None, gitlab: bool) -> None:
    address = HttpAddress.parse(text)
    assert shown in str(address) if shown else str(address) == text
    assert address.is_gitlab is gitlab
    assert address.is_at(address.place.upper())
    assert not address.is_at("elsewhere.example")


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hunter2@states.example/images",
        "https://hunter2@states.example/images",
        "https://states.example/images?token=hunter2",
        "https://states.example/images#hunter2",
        "http://states.example/images",
        "http://127.0.0.1.states.example/images",
        "ftp://states.example/images",
        "https://states.example",
        "https://states.example/",
        "https://states.example/a/../images",
        "https://states.example/images/",
        "https://states.example/a b",
        "https://states.example:port/images",
        "https:///images",
        "https://[::1/images",
        "https://states.example/" + "n" * 201,
        "https://states.example\\@evil.example/images",
    ],
)
def test_addresses_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        HttpAddress.parse(text)
    assert "hunter2" not in refused.value.summary + refused.value.hint

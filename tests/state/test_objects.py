"""A state in object storage where the store, or the way to it, is not what it should be."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import StateError, StateLocked, UsageError
from reconciler.state import events, journal_session, s3
from reconciler.state.address import ObjectPlace
from reconciler.state.journal import encode_frame
from reconciler.state.objects import ObjectState
from reconciler.state.open import object_store
from reconciler.state.s3 import Bucket, Changed
from reconciler.state.store import Store, read
from reconciler.state.writer import Writer
from tests.state.conformance import ALICE, BOB, commit, intended, journaled_backend, noted, submitted
from tests.state.fake_s3 import BUCKET, FakeS3, serving, tag
from tests.state.places import OBJECTS_LEFT_OUT
from tests.support import Imgctl, StartCloud, WriteManifest

PLACE = ObjectPlace(BUCKET, "team/state.json")
URL = str(PLACE)

pytestmark = pytest.mark.extra


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    pytest.importorskip("obstore", reason=OBJECTS_LEFT_OUT)
    monkeypatch.setattr(s3, "_PAUSES", (0.01, 0.01, 0.01))
    with serving() as found:
        yield found


@pytest.fixture
def client(fake: FakeS3, tmp_path: Path) -> Callable[[], Store]:
    return lambda: object_store(PLACE, fake.env, tmp_path)


def backend_of(store: Store) -> ObjectState:
    assert isinstance(store.backend, ObjectState)
    return store.backend


def take_lock_away(store: Store) -> None:
    held = backend_of(store).held_lock()
    assert held is not None
    assert backend_of(store).force_unlock(held)


# Whether conditions hold


@pytest.mark.parametrize(
    ("says", "spoil"),
    [
        ("of 4 writes with If-None-Match: * 4 succeeded", lambda fake: setattr(fake, "create_only", False)),
        ("a write with If-Match and a wrong ETag succeeded", lambda fake: setattr(fake, "match", False)),
        ("of 4 writes with If-None-Match: * 4 succeeded", lambda fake: setattr(fake, "atomic", False)),
    ],
    ids=["ignores If-None-Match", "ignores If-Match", "looks first and writes later"],
)
def test_a_store_that_does_not_honour_conditions_is_refused(
    says: str, spoil: Callable[[FakeS3], None], fake: FakeS3, client: Callable[[], Store]
) -> None:
    spoil(fake)
    with pytest.raises(StateError) as raised:
        Writer(client(), ALICE)
    assert says in raised.value.summary
    assert "conditional writes" in raised.value.hint
    # Not even a lock was left there, nor the trial.
    assert not fake.objects
    # What is there can be read all the same.
    assert not read(client()).exists


def test_a_store_that_knows_no_conditions_is_refused(fake: FakeS3, client: Callable[[], Store]) -> None:
    fake.before = lambda method, key: 501 if method == "PUT" else None
    fake.error_code = "NotImplemented"
    with pytest.raises(StateError, match="the answer is 501 NotImplemented"):
        Writer(client(), ALICE)
    assert not fake.objects


def test_losers_may_be_told_to_slow_down(fake: FakeS3, client: Callable[[], Store]) -> None:
    """As where a key takes one write a second."""
    seen: set[str] = set()

    def before(method: str, key: str) -> int | None:
        if method == "PUT" and ".probe-" in key:
            with fake.guard:
                if key in seen and key not in fake.objects:
                    return 503
                seen.add(key)
        return None

    fake.before = before
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(1))
    assert read(client()).serial == 1


# What becomes of a write


def once(status: int, *, of: str, method: str = "PUT") -> Callable[[str, str], int | None]:
    """One request about such a key fails so."""
    left = [status]

    def fail(asked: str, key: str) -> int | None:
        return left.pop() if left and asked == method and of in key else None

    return fail


@pytest.mark.parametrize("status", [0, 500, 503, 504])
@pytest.mark.parametrize("of", ["state.json", "state.json.journal", "state.json.frames", "state.json.lock"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_was_lost_is_looked_for(
    when: str, of: str, status: int, fake: FakeS3, client: Callable[[], Store]
) -> None:
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(0))
    setattr(fake, when, once(status, of=of))
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(1))
        commit(writing, noted(2))
        assert read(client()).serial == 3
    with Writer(client(), BOB) as writing:
        assert writing.recorded.serial == 3


@pytest.mark.parametrize("status", [0, 500, 403])
def test_a_write_of_which_nothing_is_known_ends_all_writing(
    status: int, fake: FakeS3, client: Callable[[], Store], tmp_path: Path
) -> None:
    with Writer(client(), ALICE) as writing:
        commit(writing, intended("one"), intended("two"))
        commit(writing, noted(0))
        # It takes effect, and neither the answer nor a look at it comes back.
        fake.after = lambda method, key: status if ".frames/" in key else None
        with pytest.raises(StateError, match=r"cannot write s3://fake-bucket/team/state.json.frames/") as raised:
            commit(writing, submitted("one"))
        assert "emergency" in raised.value.hint
        fake.after = lambda method, key: None
        sent = len(fake.requests)
        with pytest.raises(StateError):
            commit(writing, noted(2))
        assert not [request for request in fake.requests[sent:] if request.startswith("PUT")]
    # It was there after all, and the emergency is settled by it.
    with Writer(client(), BOB) as writing:
        attempt = writing.recorded.servers["one"].attempt
        assert attempt is not None
        assert attempt.job_id == "j-one"
    assert not list(tmp_path.glob("*.emergency"))


def test_a_write_that_comes_late_finds_its_condition_gone(fake: FakeS3) -> None:
    bucket = Bucket(BUCKET, fake.env)
    late: list[tuple[str, bytes]] = []
    real = fake.write

    def delayed(key: str, content: bytes, none_match: str | None, match: str | None) -> int:
        if not late:
            late.append((key, content))
            return 504
        return real(key, content, none_match, match)

    fake.write = delayed  # type: ignore[method-assign]
    first = bucket.put("key", b"mine", None)
    assert first == tag(b"mine")
    assert real(*late[0], "*", None) == 412
    bucket.put("key", b"next", first)
    assert real(*late[0], "*", None) == 412
    with pytest.raises(Changed):
        bucket.put("key", b"other", first)
    assert fake.objects["key"] == b"next"


# What an answer may be


def test_only_the_store_itself_can_say_that_there_is_nothing(fake: FakeS3, client: Callable[[], Store]) -> None:
    """A missing state is not an empty one: a proxy's 404, or a bucket that is gone, is no answer."""
    fake.before = lambda method, key: 404
    for body, code in (("<html>Not Found</html>", ""), ("", "NoSuchBucket")):
        fake.error_body, fake.error_code = body, code
        with pytest.raises(StateError, match=f"the answer is 404 ?{code}") as raised:
            read(client())
        assert raised.value.hint


def test_no_secret_and_no_word_of_an_answer_is_repeated(fake: FakeS3, client: Callable[[], Store]) -> None:
    fake.before = lambda method, key: 403
    fake.error_body = (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>\x1b[31mhush-hush</Message>"
        "<AWSAccessKeyId>an-id</AWSAccessKeyId><StringToSign>an-id hush-hush</StringToSign></Error>"
    )
    store = client()
    with pytest.raises(StateError) as raised:
        read(store)
    said = f"{raised.value.summary} {raised.value.hint} {store!r} {raised.value.__cause__!r} {vars(store.backend)}"
    assert "403 SignatureDoesNotMatch" in said
    for secret in ("hush", "an-id", "\x1b", "StringToSign"):
        assert secret not in said


def test_what_is_larger_than_any_state_is_not_read(
    fake: FakeS3, client: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.state.objects._MOST", 1000)
    fake.objects["team/state.json.journal"] = b"x" * 1001
    with pytest.raises(StateError, match="has 1001 bytes, of which 1000 are the most"):
        read(client())
    del fake.objects["team/state.json.journal"]
    with Writer(client(), ALICE) as writing, pytest.raises(StateError, match="of which 1000 are the most"):
        commit(writing, *(intended(f"server-{number}") for number in range(10)))
    assert "team/state.json" not in fake.objects


def test_nobody_listening_is_said_in_words(fake: FakeS3, tmp_path: Path) -> None:
    env = {**fake.env, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    with pytest.raises(StateError, match=r"at 127\.0\.0\.1:1: nothing listens there"):
        read(object_store(PLACE, env, tmp_path))


def test_loopback_is_reached_by_no_proxy(
    fake: FakeS3, client: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert not read(client()).exists


def test_the_environment_of_the_process_cannot_move_the_endpoint(
    fake: FakeS3, client: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library looks there by itself: what imgctl has decided must win."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(1))
    assert read(client()).serial == 1


# The lock


def test_a_lock_is_taken_from_whom_it_was_looked_at(fake: FakeS3, client: Callable[[], Store]) -> None:
    backend = backend_of(client())
    assert backend.held_lock() is None
    writing = Writer(client(), ALICE)
    held = backend.held_lock()
    assert held is not None
    assert "alice@runner-1" in held.holder
    with pytest.raises(StateLocked) as locked:
        Writer(client(), BOB)
    assert held.holder in locked.value.summary
    assert f"imgctl state force-unlock {held.id}" in locked.value.hint
    assert backend.force_unlock(held)
    assert backend.held_lock() is None
    assert not backend.force_unlock(held)
    with Writer(client(), BOB) as successor:
        other = backend.held_lock()
        assert other is not None
        assert other.id != held.id
        # Its owner ends: the lock of the successor is none of its business.
        writing.__exit__(None, None, None)
        assert not backend.force_unlock(held)
        assert backend.held_lock() == other
        commit(successor, noted(1))
    assert backend.held_lock() is None


def test_a_lock_that_cannot_be_given_back_is_said(fake: FakeS3, client: Callable[[], Store]) -> None:
    writing = Writer(client(), ALICE)
    fake.before = lambda method, key: 503 if key.endswith(".lock") else None
    with pytest.raises(StateError, match="could not be given back") as raised:
        writing.__exit__(None, None, None)
    fake.before = lambda method, key: None
    held = backend_of(client()).held_lock()
    assert held is not None
    assert f"imgctl state force-unlock {held.id}" in raised.value.hint


def test_a_lock_whose_answer_is_lost_for_good_is_not_left_behind(fake: FakeS3, client: Callable[[], Store]) -> None:
    failures = [0]

    def after(method: str, key: str) -> int | None:
        if key.endswith(".lock") and "team/state.json.lock" in fake.objects and failures[0] < 8:
            failures[0] += 1
            return 503
        return None

    fake.after = after
    with pytest.raises(StateError):
        Writer(client(), ALICE)
    assert failures[0] == 8
    with Writer(client(), BOB) as writing:
        commit(writing, noted(1))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b'{"ID": 1}', b"\xff" * 10])
def test_a_lock_that_cannot_be_read_is_held(content: bytes, fake: FakeS3, client: Callable[[], Store]) -> None:
    fake.objects["team/state.json.lock"] = content
    with pytest.raises(StateLocked, match="no record of a lock"):
        Writer(client(), ALICE)
    with pytest.raises(StateLocked):
        backend_of(client()).held_lock()
    assert fake.objects == {"team/state.json.lock": content}


# Frames that nobody reads any more


def test_dead_frames_are_removed_and_later_ones_never(fake: FakeS3, client: Callable[[], Store]) -> None:
    later = "team/state.json.frames/99999999-0123456789abcdef/00000001"
    orphan = "team/state.json.frames/00000000-0123456789abcdef/00000001"
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(0))
        fake.objects[later] = fake.objects[orphan] = b"x"
        for number in range(5):
            commit(writing, noted(number))
        assert len([key for key in fake.objects if ".frames/" in key]) == 7
    assert [key for key in fake.objects if ".frames/" in key] == [later]
    # That they cannot be removed is in nobody's way.
    fake.before = lambda method, key: 403 if method == "DELETE" else None
    with Writer(client(), ALICE) as writing:
        commit(writing, noted(6))
        commit(writing, noted(7))
    assert read(client()).limits.max_changes == 7


# What names a place


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://Bucket/key",
        "s3://user:password@bucket/key",
        "s3://bucket:99/key",
        "s3://buc..ket/key",
        "s3://bucket/../key",
        "s3://bucket/a//b",
        "s3://bucket/a/",
        "s3://bucket/.hidden",
        "s3://bucket/a\nb",
        "s3://bucket/a?endpoint=https://elsewhere.example",
        "s3://bucket/a#b",
        "s3://bucket/" + "a" * 513,
        "https://bucket/key",
    ],
)
def test_what_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        ObjectPlace.parse(url)


@given(url=st.text(max_size=60).map(lambda text: f"s3://{text}"))
def test_a_place_is_what_its_url_says(url: str) -> None:
    try:
        place = ObjectPlace.parse(url)
    except UsageError:
        return
    assert str(place) == url
    assert not set("?#@:%\\ ") & set(place.bucket + place.key)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://obs.example.com",
        "http://10.0.0.1",
        "https://user:password@obs.example.com",
        "https://obs.example.com/path",
        "https://obs.example.com?x",
        "obs.example.com",
        "https://",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "https://obs.example.com:99999",
    ],
)
def test_an_endpoint_that_is_none_or_not_safe_is_refused(endpoint: str, fake: FakeS3) -> None:
    with pytest.raises(UsageError) as raised:
        Bucket(BUCKET, {**fake.env, "IMGCTL_STATE_S3_ENDPOINT": endpoint})
    assert "password" not in raised.value.summary


def test_keys_come_from_the_environment(fake: FakeS3) -> None:
    with pytest.raises(StateError, match="no keys") as raised:
        Bucket(BUCKET, {"AWS_ENDPOINT_URL": fake.url, "AWS_ACCESS_KEY_ID": "an-id"})
    assert "AWS_SECRET_ACCESS_KEY" in raised.value.hint


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StateError) as raised:
        object_store(PLACE, {}, tmp_path)
    assert "imgctl[s3]" in raised.value.hint


# By the command line


def test_a_fleet_whose_state_is_in_a_bucket(
    fake: FakeS3, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path
) -> None:
    cloud = start_cloud()
    env = {**cloud.env, **fake.env}
    write_manifest()
    ran = imgctl("apply", "--auto-approve", "--state", URL, env=env)
    assert ran.code == 0, ran.err
    assert imgctl("plan", "--detailed-exitcode", env={**env, "IMGCTL_STATE": URL}).code == 0
    assert json.loads(fake.objects["team/state.json"])["version"] == 1
    assert [path.name for path in folder.iterdir()] == ["imgctl.yaml"]
    assert "hush" not in ran.out + ran.err
    assert b"hush" not in b"".join(fake.objects.values())


def test_a_manifest_cannot_send_the_keys_elsewhere(
    fake: FakeS3, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest
) -> None:
    cloud = start_cloud()
    env = {**cloud.env, **fake.env}
    write_manifest(state={"url": URL})
    ran = imgctl("plan", env=env)
    assert ran.code == 1
    assert "IMGCTL_STATE_HOST" in ran.err
    assert not fake.requests
    for allowed, code in (("other", 1), ("", 1), (f"s3://{BUCKET}x", 1), (BUCKET, 0), (f"s3://{BUCKET}", 0)):
        assert imgctl("plan", env={**env, "IMGCTL_STATE_HOST": allowed}).code == code
        assert bool(fake.requests) == (code == 0)
    # A bucket may have the name of a host that was allowed for something else.
    write_manifest(state={"url": "s3://state.example.com/key"})
    assert imgctl("plan", env={**env, "IMGCTL_STATE_HOST": "state.example.com"}).code == 1
    write_manifest(state={"url": URL})
    # What the operator names goes before what a manifest does.
    fake.requests.clear()
    other = f"s3://{BUCKET}/other.json"
    assert imgctl("plan", "--state", other, env=env).code == 0
    assert not [request for request in fake.requests if "team" in request]


def test_a_lock_that_was_left_behind_says_how_to_go_on(
    fake: FakeS3, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, client: Callable[[], Store]
) -> None:
    cloud = start_cloud()
    write_manifest()
    Writer(client(), ALICE)
    env = {**cloud.env, **fake.env}
    ran = imgctl("apply", "--auto-approve", "--state", URL, env=env)
    assert ran.code == 5
    assert "alice@runner-1" in ran.err
    assert cloud.ledger["received"] == 0
    words = next(line for line in ran.err.splitlines() if "force-unlock" in line).split()
    unlocked = imgctl("state", *words[words.index("force-unlock") :], "--auto-approve", "--state", URL, env=env)
    assert unlocked.code == 0, unlocked.err
    assert imgctl("apply", "--auto-approve", "--state", URL, env=env).code == 0


def test_a_state_moves_into_a_bucket_and_out_again(
    fake: FakeS3, imgctl: Imgctl, start_cloud: StartCloud, write_manifest: WriteManifest, folder: Path
) -> None:
    cloud = start_cloud()
    env = {**cloud.env, **fake.env}
    write_manifest()
    assert imgctl("apply", "--auto-approve", env=env).code == 0
    assert imgctl("state", "migrate", "--to", URL, env=env).code == 0
    assert imgctl("plan", "--detailed-exitcode", env={**env, "IMGCTL_STATE": URL}).code == 0
    left = imgctl("plan", env=env)
    assert left.code == 1
    assert URL in left.err
    pulled = imgctl("state", "pull", "--state", URL, env=env)
    assert json.loads(pulled.out)["servers"]
    assert imgctl("state", "migrate", "--to", "back.json", "--state", URL, env=env).code == 0
    assert imgctl("plan", "--detailed-exitcode", "--state", "back.json", env=env).code == 0
    assert json.loads((folder / "back.json").read_text())["servers"] == json.loads(pulled.out)["servers"]


# What comes in between


def between(store: Store, patch: pytest.MonkeyPatch, step: int, name: str, happens: Callable[[], None]) -> list[int]:
    """Let something happen at the `step`th boundary of a client's calls; two of them are around each call."""
    bucket = backend_of(store)._bucket
    real, passed = getattr(bucket, name), [0]

    def boundary() -> None:
        passed[0] += 1
        if passed[0] == step:
            happens()

    def call(*arguments: Any) -> Any:
        boundary()
        result = real(*arguments)
        boundary()
        return result

    patch.setattr(bucket, name, call)
    return passed


@pytest.mark.parametrize("fold", [False, True], ids=["", "folding"])
@pytest.mark.parametrize("earlier", [0, 1, 2])
@pytest.mark.parametrize("writes", [0, 1, 2])
@pytest.mark.parametrize("step", range(1, 9))
def test_a_successor_may_come_in_at_any_instant_of_a_write(
    step: int,
    writes: int,
    earlier: int,
    fold: bool,
    fake: FakeS3,
    client: Callable[[], Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is told that its event is durable finds it in the end, and no two go on that have not seen each other."""
    with Writer(client(), ALICE) as first:
        commit(first, noted(0))
    store = client()
    old = Writer(store, ALICE)
    for number in range(earlier):
        commit(old, intended(f"earlier-{number}"))
    news: list[Writer] = []
    told: list[str] = []

    def say(writing: Writer, server: str) -> None:
        with contextlib.suppress(StateError):
            commit_apart(writing, intended(server))
            told.append(server)

    def take_over() -> None:
        take_lock_away(client())
        news.append(Writer(client(), BOB))
        for number in range(writes):
            say(news[0], f"new-{number}")

    with monkeypatch.context() as patch:
        passed = between(store, patch, step, "_put", take_over)
        patch.setattr(journal_session, "_FOLD_BEYOND", 0 if fold else 1 << 20)
        say(old, "old")
    if not news:
        assert passed[0] < step
        old.__exit__(None, None, None)
        return
    seen = "old" in news[0].recorded.servers
    old_told = "old" in told
    say(old, "old-again")
    assert "old-again" not in told
    say(news[0], "new-again")
    if old_told and not seen:
        assert "new-again" not in told
    old.__exit__(None, None, None)
    news[0].__exit__(None, None, None)
    with Writer(client(), ALICE) as last:
        commit(last, intended("last"))
    found = set(read(client()).servers)
    assert {*told, "last", *(f"earlier-{number}" for number in range(earlier))} <= found


def test_a_reader_that_is_overtaken_by_a_fold_reads_again(
    fake: FakeS3, client: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 16):
        monkeypatch.undo()
        monkeypatch.setattr(s3, "_PAUSES", (0.01, 0.01, 0.01))
        with Writer(client(), ALICE) as writing:
            for number in range(4):
                commit(writing, noted(10 * step + number))
            reader = client()

            def folds(writing: Writer = writing, step: int = step) -> None:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(journal_session, "_FOLD_BEYOND", 0)
                    commit_apart(writing, noted(10 * step + 5))

            # Some dead frames stay, as when their removal fails: they are no gap in what is alive.
            fake.before = lambda method, key: 403 if method == "DELETE" and key.endswith("2") else None
            between(reader, monkeypatch, step, "_get", folds)
            seen = read(reader).limits.max_changes
            assert seen in (10 * step + 3, 10 * step + 5)


def test_a_fold_that_comes_late_takes_no_frame_of_a_successor_away(
    fake: FakeS3, client: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor has not folded, and the head that it found is the one that its predecessor knows."""
    with Writer(client(), ALICE) as first:
        commit(first, noted(0))
    found = journaled_backend(client()).read_journal()
    assert found is not None
    frame = encode_frame(read(client()).lineage, 1, {"serial": 2, "servers": {}, "retired": {}})
    store, successor = client(), client()
    with journaled_backend(store).lock(ALICE):
        journaled_backend(store).read_journal()

        def take_over() -> None:
            take_lock_away(client())
            journaled_backend(successor).lock(BOB)
            journaled_backend(successor).read_journal()
            journaled_backend(successor).append(frame)

        between(store, monkeypatch, 1, "_put", take_over)
        with pytest.raises(StateError, match="by someone else"):
            journaled_backend(store).replace_journal(found)
    assert journaled_backend(client()).read_journal() == found + frame


def test_what_others_wrote_under_our_lock_is_not_taken_for_our_own(fake: FakeS3, client: Callable[[], Store]) -> None:
    with Writer(client(), ALICE) as first:
        commit(first, noted(0))
    store = client()
    old = Writer(store, ALICE)
    take_lock_away(client())
    with Writer(client(), BOB) as new:
        commit(new, noted(1))
    for look in (journaled_backend(store).read_document, journaled_backend(store).read_journal, lambda: read(store)):
        with pytest.raises(StateError, match="by someone else"):
            look()
    old.__exit__(None, None, None)
    assert read(store).serial == 2


def commit_apart(writing: Writer, event: events.Event) -> None:
    """Commit in a thread of its own: this may be called in the middle of another commit."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(commit, writing, event).result()

"""A state in an object store: S3 and what speaks like it, where a write can have a condition.

    KEY                            the document
    KEY.journal                    the head of the journal: its generation, then what it began with
    KEY.frames/GENERATION/NUMBER   one frame, written once
    KEY.lock                       who holds the lock, or that nobody does
    KEY.probe-…                    a trial of the store's conditions, gone when it is over

Why two writers cannot get in each other's way. Every write has a condition: an object is made only where there is none
(If-None-Match: *), or put in the place of the very one that its writer has read (If-Match). Nothing else is asked of
the store than that these hold, also when several come at once, and that a read sees what was written before.

- One of two gets the lock: both put their record in place of the same object. It is given back in the same way and
  never removed, so a run that was slow, and whose lock was broken meanwhile, cannot give back the lock of another.
- Whoever gets the lock reads the state after that. Its first frame begins a generation: the head is replaced by one
  that begins with what was read and this frame. A predecessor that still lives can then replace neither the head nor
  the document, since they are other objects than it knows. If it was quicker, the newcomer's write fails, and ends it.
- A frame is made where there is none, in the generation of its writer. A predecessor can still make one in its own
  generation: that alone would not keep it from going on. Therefore the lock is read again *after* each frame, and only
  then is the frame called durable. If the lock was still its own, then whoever holds it later got it later, read later,
  and has seen the frame. If it was not, the run ends before it sends anything.
- A fold replaces the document, then the head, by a new generation. Frames of earlier generations are dead then, and are
  removed as far as that is possible. Generations are numbered, so that a slow run never removes those of a newer one.

Reading needs no lock: head, frames until one is missing, and the head again, for what was there all along.

A lock outlives an owner that was killed: `imgctl state force-unlock` breaks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any
from uuid import uuid4

from reconciler.errors import StateError, StateLocked
from reconciler.state.address import ObjectPlace
from reconciler.state.journaled import Journaled, Lock
from reconciler.state.lock_record import held_lock, new_record, way_out
from reconciler.state.s3 import Bucket, Changed, Found
from reconciler.state.store import HeldLock, LockHolder, Wait

# In bytes, of any object, and of the lock's: far more than a document of 10,000 servers or a holder's record has.
_MOST = 1 << 28
_MOST_LOCK = 1 << 16
_READS = 20
_AT_A_TIME = 16
# Of dead frames, in one fold; what is left is left to the next.
_MOST_REMOVED = 5000
_CONTENDERS = 4
_TRIES = 3
_WRONG_TAG = '"00000000000000000000000000000000"'
_GENERATION = re.compile(r"\d{8}-[0-9a-f]{16}")


@dataclass(slots=True)
class _Held:
    """What a writer knows while it holds the lock."""

    lock_id: str
    tag: str
    # The ETag of each object as it was read or written last, None where there was none.
    known: dict[str, str | None]
    # The generation of the head; whether this writer began it; and how many frames it has made in it.
    generation: str = ""
    own: bool = False
    frames: int = 0


class ObjectState(Journaled):
    """The objects of the state at `place`."""

    def __init__(self, bucket: Bucket, place: ObjectPlace) -> None:
        self._bucket = bucket
        self._place = place
        self._document_name = place.key
        self._head_name = f"{place.key}.journal"
        self._lock_name = f"{place.key}.lock"
        self._frames = f"{place.key}.frames/"
        self._held: _Held | None = None
        # Frames never change: those of the generation that was read last are not read again.
        self._read: tuple[str, list[bytes]] = ("", [])

    def __str__(self) -> str:
        return str(self._place)

    def read_document(self) -> bytes | None:
        """See Journaled."""
        found = self._get(self._document_name)
        return None if found is None else found.content

    def read_journal(self) -> bytes | None:
        """See Journaled."""
        for _ in range(_READS):
            head = self._get(self._head_name)
            if head is None:
                return None
            generation, content = self._parsed(head)
            frames, gap = self._read_frames(generation)
            # A fold may have removed frames while they were read, and then the head is another one.
            if not self._bucket.is_still(self._head_name, head.tag):
                continue
            if gap:
                raise self._damaged(f"frame {len(frames) + 1} of {generation} is missing, and others follow it")
            if self._held is not None:
                self._held.generation = generation
            return content + b"".join(frames)
        raise StateError(
            f"the journal of {self} keeps changing", hint="Another run is writing to it; run the command again."
        )

    def replace_document(self, content: bytes) -> None:
        """See Journaled."""
        held = self._check_held()
        if self._document_name not in held.known:
            self.read_document()
        self._replace(self._document_name, content)

    def replace_journal(self, content: bytes) -> None:
        """See Journaled."""
        held = self._check_held()
        self._begin(held, content)
        self._check_held()
        self._remove_before(held.generation)

    def append(self, frame: bytes) -> None:
        """See Journaled."""
        held = self._taken()
        if held.own:
            name = self._frame_name(held.generation, held.frames + 1)
            self._replace(name, frame)
            del held.known[name]
            held.frames += 1
        else:
            content = self.read_journal()
            if content is None:
                raise StateError(f"{self} has no journal to add to", hint="This is a fault of imgctl.")
            self._begin(held, content + frame)
        self._check_held()

    def lock(self, holder: LockHolder, wait: Wait | None = None) -> Lock:
        """See Journaled."""
        checked = False
        while True:
            there = self._bucket.get(self._lock_name, _MOST_LOCK)
            told = self._told(there)
            if told is not None:
                refusal = self._refusal(told)
                if wait is None:
                    raise refusal
                wait(refusal)
                continue
            if not checked:
                self._check_conditions()
                checked = True
            record = new_record(holder, self._place.key)
            try:
                tag = self._bucket.put(self._lock_name, _line(record), None if there is None else there.tag)
            except Changed:
                # The next look says who was quicker.
                continue
            except BaseException:
                # The answer may have been lost, or a person has lost patience: no lock is left behind.
                with suppress(Changed, StateError):
                    left = self._bucket.get(self._lock_name, _MOST_LOCK)
                    if left is not None and left.content == _line(record):
                        self._bucket.put(self._lock_name, _free_record(), left.tag, attempts=1)
                raise
            self._held = _Held(record["ID"], tag, {})
            return Lock(self._unlock)

    def held_lock(self) -> HeldLock | None:
        """See OutlivingLock."""
        told = self._told(self._bucket.get(self._lock_name, _MOST_LOCK))
        return None if told is None else _described(told)

    def force_unlock(self, lock: HeldLock) -> bool:
        """See OutlivingLock. Its owner, should it live, can write no more."""
        there = self._bucket.get(self._lock_name, _MOST_LOCK)
        told = self._told(there)
        if there is None or told is None or _described(told).id != lock.id:
            return False
        try:
            self._bucket.put(self._lock_name, _free_record(), there.tag)
        except Changed:
            return False
        return True

    # Writing

    def _begin(self, held: _Held, content: bytes) -> None:
        """Put a new head in the old one's place: a new generation, so far without frames of its own."""
        if self._head_name not in held.known:
            self.read_journal()
        number = int(held.generation.partition("-")[0] or 0) + 1
        generation = f"{number:08}-{uuid4().hex[:16]}"
        self._replace(self._head_name, _line({"generation": generation}) + content)
        held.generation, held.own, held.frames = generation, True, 0

    def _replace(self, name: str, content: bytes) -> None:
        """Write an object in place of the one that is known; one that is not known must not be there."""
        held = self._taken()
        if len(content) > _MOST:
            raise StateError(f"{self} would have {len(content)} bytes, of which {_MOST} are the most")
        try:
            held.known[name] = self._bucket.put(name, content, held.known.get(name))
        except Changed:
            raise self._taken_over() from None

    def _remove_before(self, generation: str) -> None:
        """Tidy up: what cannot be removed is in nobody's way."""
        with suppress(StateError):
            names = self._bucket.names(self._frames, "", _MOST_REMOVED)
            dead = [name for name in names if name.removeprefix(self._frames).partition("-")[0] < generation[:8]]
            self._bucket.remove(dead)

    def _frame_name(self, generation: str, number: int) -> str:
        return f"{self._frames}{generation}/{number:08}"

    # Reading

    def _get(self, name: str) -> Found | None:
        """An object. While the lock is held, what is read must be what was read or written last: nobody else writes."""
        found = self._bucket.get(name, _MOST)
        if self._held is not None:
            tag = None if found is None else found.tag
            if self._held.known.setdefault(name, tag) != tag:
                raise self._taken_over()
        return found

    def _parsed(self, head: Found) -> tuple[str, bytes]:
        """The generation that a head names, and what the journal begins with."""
        line, _, content = head.content.partition(b"\n")
        try:
            generation = json.loads(line)["generation"]
        except (ValueError, KeyError, TypeError, RecursionError):
            generation = None
        if not isinstance(generation, str) or not _GENERATION.fullmatch(generation):
            raise self._damaged("its first line names no generation")
        return generation, content

    def _read_frames(self, generation: str) -> tuple[list[bytes], bool]:
        """The frames of a generation up to the first that is not there; and whether others follow that one."""
        frames = list(self._read[1]) if self._read[0] == generation else []
        at_once = 1
        with ThreadPoolExecutor(_AT_A_TIME) as executor:
            while True:
                ahead = range(len(frames) + 1, len(frames) + 1 + at_once)
                names = [self._frame_name(generation, number) for number in ahead]
                found = list(executor.map(lambda name: self._bucket.get(name, _MOST), names))
                whole = list(takewhile(lambda one: one is not None, found))
                frames += [one.content for one in whole if one is not None]
                if len(whole) < len(found):
                    break
                at_once = min(2 * at_once, _AT_A_TIME)
        self._read = (generation, frames)
        last = self._frame_name(generation, len(frames))
        following = self._bucket.names(f"{self._frames}{generation}/", last, 1)
        # One that was made just now is not a gap.
        return frames, bool(following) and following[0] != self._frame_name(generation, len(frames) + 1)

    # The lock

    def _taken(self) -> _Held:
        if self._held is None:
            raise StateError(f"{self} is not locked by this run", hint="This is a fault of imgctl.")
        return self._held

    def _check_held(self) -> _Held:
        """What is known under the lock. Raises StateError where it is not this writer's any more."""
        held = self._taken()
        if not self._bucket.is_still(self._lock_name, held.tag):
            raise self._taken_over()
        return held

    def _unlock(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            # That of another is left alone.
            with suppress(Changed):
                self._bucket.put(self._lock_name, _free_record(), held.tag, attempts=2)
        except StateError as error:
            raise StateError(
                f"the lock of {self} could not be given back: {error.summary}",
                hint=f"What was recorded is safe. Once the store can be reached: {way_out(held.lock_id)}",
            ) from error

    def _told(self, found: Found | None) -> dict[str, Any] | None:
        """What the lock's object says, None where nobody holds it. Raises StateLocked where it says nothing."""
        if found is None:
            return None
        told: object = None
        with suppress(ValueError, RecursionError):
            told = json.loads(found.content)
        if not isinstance(told, dict) or not isinstance(told.get("ID"), str):
            raise StateLocked(
                f"{self}.lock is no record of a lock",
                hint="Look at it; remove it once no run is writing to this state.",
            )
        return told if told["ID"] else None

    def _check_conditions(self) -> None:
        """Raise StateError where conditions do not hold here, also for writes that come at once, or nobody can tell."""
        broken: str | None = None
        for _ in range(_TRIES - 1):
            # A lost answer says nothing about conditions: once more.
            with suppress(StateError):
                broken = self._probe()
                break
        if broken is None:
            broken = self._probe()
        if broken:
            raise StateError(
                f"the store {self._bucket} cannot keep a state: {broken}",
                hint="It does not honour conditional writes, so two runs could write one state; nothing was written. "
                "Keep the state in a store that does, or elsewhere: docs/shared-state.md.",
            )

    def _probe(self) -> str:
        """What does not hold; nothing, where all does."""
        name = f"{self._place.key}.probe-{uuid4().hex}"
        try:
            made = self._contend(name, None)
            if len(made) != 1:
                return f"of {_CONTENDERS} writes with If-None-Match: * {len(made)} succeeded"
            with suppress(Changed):
                self._bucket.put(name, b"wrong", _WRONG_TAG)
                return "a write with If-Match and a wrong ETag succeeded"
            replaced = self._contend(name, made[0])
            if len(replaced) != 1:
                return f"of {_CONTENDERS} writes with If-Match and one ETag {len(replaced)} succeeded"
            return ""
        finally:
            self._bucket.remove([name])

    def _contend(self, name: str, expected: str | None) -> list[str]:
        """The ETags of the writes that succeeded, of several that come at once."""

        def write(content: bytes) -> str | StateError | None:
            try:
                return self._bucket.try_put(name, content, expected)
            except StateError as error:
                # Some stores are too busy for the losers, which is as good as a refusal.
                return error

        with ThreadPoolExecutor(_CONTENDERS) as executor:
            # No two alike, and none like what is there: an ETag tells the content, not who wrote it.
            outcomes = list(executor.map(write, [uuid4().hex.encode() for _ in range(_CONTENDERS)]))
        written = [outcome for outcome in outcomes if isinstance(outcome, str)]
        problems = [outcome for outcome in outcomes if isinstance(outcome, StateError)]
        if not written and problems:
            raise problems[0]
        return written

    # What goes wrong

    def _taken_over(self) -> StateError:
        return StateError(
            f"{self} was written or unlocked by someone else while this run held its lock",
            hint="Nothing more is written here. Look who did it, then run the command again: it goes on from there.",
        )

    def _refusal(self, told: Mapping[str, Any]) -> StateLocked:
        lock = _described(told)
        return StateLocked(
            f"{self} is locked by {lock.holder}",
            hint="Wait until that run has ended, or use --lock-timeout. The lock does not go with its run.\n"
            f"If that run is dead for certain: {way_out(lock.id)}",
        )

    def _damaged(self, what: str) -> StateError:
        return StateError(
            f"{self}.journal is damaged: {what}",
            hint="Restore the state and its journal together from a backup, or from the bucket's versions. Without its "
            "journal it lacks builds.",
        )


def _described(told: Mapping[str, Any]) -> HeldLock:
    return held_lock(told, datetime.now(UTC), keeps_all=True)


def _free_record() -> bytes:
    # No two of them are equal: a write that was on its way for long must not find its condition by chance.
    return _line({"ID": "", "released": uuid4().hex})


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"

"""A state on a server that speaks Terraform's `http` backend protocol, GitLab's managed state first of all.

**What lies where.** The protocol stores JSON documents by name, each with a `serial` that every write raises by one.

    NAME                 the document, inside {"serial": …, "imgctl": "document", "document": {…}}
    NAME-journal         the journal's end: {"serial": …, "imgctl": "journal", "previous": TOKEN, "text": …}
    NAME-journal-TOKEN   a full segment of the journal, likewise; never changed, its random name never used again
    NAME-trial-TOKEN     for an instant before a new state's first write, see below
    NAME-lock            not in GitLab: only ever locked, see below

A frame is durable when NAME-journal has it. Once its text would be longer than a segment may be, the text goes into a
segment of its own first, which the next NAME-journal names as the one before. So an event costs one POST of at most a
segment, whatever the fleet's size, and one more whenever a segment is full. A fold writes NAME, then an empty
NAME-journal, and removes the segments of the old one; whatever a killed run leaves of them means nothing to anybody.

**One writer.** In GitLab whoever has the lock of NAME is the writer, and locks NAME-journal with the same ID. A lock of
NAME-journal with another ID was left by a run from which a person took NAME away (`state force-unlock`): it is broken.
Only then is anything read.

**A writer that was unlocked, and lives on.** Its network came back, or its machine woke up. It must not be able to make
an intent durable that its successor has not read, since both would then send their request:

1. Every frame goes through NAME-journal, in a POST that carries the lock ID. The server refuses it from the moment in
   which the successor has the lock, and what it accepted before, the successor reads, since it reads after locking.
   A segment means nothing before NAME-journal names it. GitLab refuses an ID also where nobody has the lock.
2. GitLab looks at the lock and stores the version in two steps, so that a POST may slip through between the successor's
   lock and its first write. But it keeps every serial once, and a writer's serial is the one it has read plus one: of
   the two exactly one gets it, and the other one is refused, reads back something else than it wrote, and writes
   nothing any more. If that is the successor it has sent nothing, and whoever comes next reads the intent.
3. A late fold is harmless for the same reasons: NAME carries lock ID and serial too, and a document without its new
   journal changes nothing, see Writer.
4. Other servers keep no serials, and store what comes under any ID while nobody has the lock: a write that slept in a
   machine or a network would get in between two runs. There the writer is who has the lock of NAME-lock, where nothing
   is stored, and the locks of NAME and NAME-journal are never given back: the next writer breaks them, and between two
   runs they are the last one's.

So this rests on a server that refuses a write under another lock ID than the one that is held. Before a new state's
first write that is tried out, on a document of its own with an ID that nobody has; where the server accepts such a
write, no state is kept there.

**A write without an answer** is read back and compared. What is not there is written again only where it cannot take
effect twice, see StateServer; otherwise StateError ends all writing, and job IDs go to a local emergency file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from reconciler.errors import StateError, StateLocked
from reconciler.state.http import StateServer
from reconciler.state.journaled import Journaled, Lock
from reconciler.state.lock_record import held_lock, new_record, way_out
from reconciler.state.store import HeldLock, LockHolder, Wait

# A write to the journal carries no more than this and one frame, in characters.
SEGMENT = 32 * 1024
_JOURNAL = "-journal"
_TOKEN = re.compile(r"[0-9a-f]{16}")
# How often a journal may change while it is read, and a left lock come back while it is broken.
_TRIES = 20


@dataclass(frozen=True, slots=True)
class _End:
    """The end of the journal as it is stored. `previous` names the full segment before it, empty where none is."""

    serial: int
    previous: str = ""
    text: str = ""

    def fields(self) -> dict[str, Any]:
        return {"serial": self.serial, "imgctl": "journal", "previous": self.previous, "text": self.text}


class HttpState(Journaled):
    """See Backend and OutlivingLock."""

    def __init__(self, server: StateServer) -> None:
        self._server = server
        gitlab = server.address.is_gitlab
        # Whose lock makes a writer; what is locked under it; and whether those locks are given back.
        self._mutex = "" if gitlab else "-lock"
        self._guarded = (_JOURNAL,) if gitlab else ("", _JOURNAL)
        self._gives_back = gitlab
        self._held: dict[str, str] = {}
        # What was read last, or written: under the lock it is what there is.
        self._document_serial: int | None = None
        self._end: _End | None = None
        # The segments before the end, latest first; they never change.
        self._segments: dict[str, tuple[str, str]] = {}

    def __str__(self) -> str:
        return str(self._server.address)

    def read_document(self) -> bytes | None:
        """See Journaled."""
        found = self._server.read("")
        self._document_serial = 0 if found is None else self._serial(found, "document", "")
        if found is None:
            return None
        document = found.get("document")
        if not isinstance(document, dict):
            raise self._foreign("")
        return self._encoded(json.dumps(document, ensure_ascii=False, indent=2) + "\n", "")

    def read_journal(self) -> bytes | None:
        """See Journaled."""
        for _ in range(_TRIES):
            found = self._server.read(_JOURNAL)
            if found is None:
                self._end, self._segments = _End(0), {}
                return None
            self._end = _End(
                self._serial(found, "journal", _JOURNAL),
                self._text(found, "previous", _JOURNAL),
                self._text(found, "text", _JOURNAL),
            )
            texts = self._read_segments(self._end.previous)
            if texts is not None:
                return self._encoded("".join([*texts, self._end.text]), _JOURNAL)
        raise StateError(
            f"{self}{_JOURNAL} lacks a segment",
            hint="Restore the state and everything whose name begins like its own from a backup, from the same moment.",
        )

    def replace_document(self, content: bytes) -> None:
        """See Journaled."""
        self._check_locked()
        if self._document_serial is None:
            self.read_document()
        serial = self._document_serial or 0
        if not serial:
            self._try_lock_out()
        document = {"serial": serial + 1, "imgctl": "document", "document": json.loads(content)}
        self._write("", document)
        self._document_serial = serial + 1

    def replace_journal(self, content: bytes) -> None:
        """See Journaled."""
        old = list(self._segments)
        self._write_end(_End(self._known_end().serial + 1, text=content.decode()))
        self._segments = {}
        for token in old:
            if not self._server.delete(f"{_JOURNAL}-{token}"):
                # Where removing is not allowed, or takes too long: they stay, and nothing names them any more.
                break

    def append(self, frame: bytes) -> None:
        """See Journaled."""
        end, text = self._known_end(), frame.decode()
        previous = end.previous
        if end.text and len(end.text) + len(text) > SEGMENT:
            token = token_hex(8)
            segment = {"serial": 1, "imgctl": "segment", "previous": end.previous, "text": end.text}
            # No lock: nobody knows its name yet.
            self._server.write(f"{_JOURNAL}-{token}", segment)
            self._segments = {token: (end.previous, end.text), **self._segments}
            previous = token
        else:
            text = end.text + text
        self._write_end(_End(end.serial + 1, previous, text))

    def lock(self, holder: LockHolder, wait: Wait | None = None) -> Lock:
        """See Journaled."""
        record = new_record(holder, self._server.address.path)
        try:
            while (told := self._server.lock(self._mutex, record)) is not None:
                refusal = self._locked(told)
                if wait is None:
                    raise refusal
                wait(refusal)
            for suffix in self._guarded:
                self._take_over(suffix, record)
        except StateLocked:
            raise
        except BaseException:
            # An answer may have been lost, or a person has lost patience: no lock is left behind.
            with suppress(StateError):
                self._give_back(record)
            raise
        self._held = record
        # What was read before anybody could have written it since.
        self._document_serial, self._end = None, None
        return Lock(self._unlock)

    def held_lock(self) -> HeldLock | None:
        """See OutlivingLock. The protocol has no question for it: it is found out by trying to lock."""
        now = datetime.now(UTC)
        asker = LockHolder("imgctl", "", 0, f"{now:%Y-%m-%dT%H:%M:%SZ}", "look")
        record = new_record(asker, self._server.address.path)
        told = self._server.lock(self._mutex, record)
        if told is None:
            self._server.unlock(self._mutex, record)
            return None
        return self._describe(told)

    def force_unlock(self, lock: HeldLock) -> bool:
        """See OutlivingLock."""
        unlocked = self._server.unlock(self._mutex, lock.record)
        with suppress(StateError):
            # So that a run which lives on stops at once; otherwise whoever comes next sees to it.
            self._give_back_guarded(lock.record)
        return unlocked

    # Locks

    def _take_over(self, suffix: str, record: Mapping[str, str]) -> None:
        """Lock this too, whoever was left holding it: the writer's lock says that nobody else may."""
        told: Mapping[str, Any] = {}
        for _ in range(_TRIES):
            held = self._server.lock(suffix, record)
            if held is None:
                return
            self._server.unlock(suffix, told := held)
        raise StateError(
            f"{self}{suffix} keeps being locked by {self._describe(told).holder}",
            hint="Only imgctl may use it, and only together with the state.",
        )

    def _unlock(self) -> None:
        record, self._held = self._held, {}
        if not record:
            return
        try:
            self._give_back(record)
        except StateError as error:
            raise StateError(
                f"the lock of {self} could not be given back: {error.summary}",
                hint=f"What was recorded is safe. Once the server can be reached: {way_out(record['ID'])}",
            ) from error

    def _give_back(self, record: Mapping[str, str]) -> None:
        # The writer's lock last: until then nobody else begins.
        try:
            self._give_back_guarded(record)
        finally:
            self._server.unlock(self._mutex, record)

    def _give_back_guarded(self, record: Mapping[str, Any]) -> None:
        for suffix in self._guarded if self._gives_back else ():
            self._server.unlock(suffix, record)

    def _locked(self, told: Mapping[str, object]) -> StateLocked:
        lock = self._describe(told)
        hint = "Wait until that run has ended, or use --lock-timeout. The lock does not go with its run."
        if lock.id:
            hint += f"\nIf that run is dead for certain: {way_out(lock.id)}"
        return StateLocked(f"{self} is locked by {lock.holder}", hint=hint)

    def _describe(self, told: Mapping[str, object]) -> HeldLock:
        return held_lock(told, datetime.now(UTC), keeps_all=not self._server.address.is_gitlab)

    def _try_lock_out(self) -> None:
        """Raise StateError where the server stores what carries another lock ID than the lock's."""
        trial = f"-trial-{token_hex(8)}"
        self._server.lock(trial, self._held)
        try:
            accepted = self._server.offer(trial, {"serial": 1, "imgctl": "trial"}, f"nobody.{token_hex(6)}")
        finally:
            with suppress(StateError):
                self._server.unlock(trial, self._held)
            self._server.delete(trial)
        if accepted:
            raise StateError(
                f"{self} cannot keep a state safely: the server stores what comes under a lock that nobody holds",
                hint="imgctl needs a server that compares the ID of a write with that of the lock, as GitLab does.",
            )

    # Documents

    def _write(self, suffix: str, content: Mapping[str, Any]) -> None:
        self._check_locked()
        self._server.write(suffix, content, self._held["ID"])

    def _check_locked(self) -> None:
        if not self._held:
            raise StateError(f"{self} is not locked by this run, so nothing is written")

    def _write_end(self, end: _End) -> None:
        self._write(_JOURNAL, end.fields())
        self._end = end

    def _known_end(self) -> _End:
        if self._end is None:
            self.read_journal()
        return self._end or _End(0)

    def _read_segments(self, token: str) -> list[str] | None:
        """The texts of the segments from the first to this one; None where one is gone: the journal began anew."""
        chain: dict[str, tuple[str, str]] = {}
        while token:
            if not _TOKEN.fullmatch(token):
                raise self._foreign(_JOURNAL)
            suffix = f"{_JOURNAL}-{token}"
            if token in chain:
                raise self._foreign(suffix)
            if token in self._segments:
                chain[token] = self._segments[token]
            else:
                found = self._server.read(suffix)
                if found is None:
                    return None
                self._serial(found, "segment", suffix)
                chain[token] = (self._text(found, "previous", suffix), self._text(found, "text", suffix))
            token = chain[token][0]
        self._segments = chain
        return [text for _, text in reversed(chain.values())]

    def _serial(self, found: Mapping[str, Any], kind: str, suffix: str) -> int:
        serial = found.get("serial")
        if found.get("imgctl") != kind or not isinstance(serial, int) or isinstance(serial, bool) or serial < 1:
            raise self._foreign(suffix)
        return serial

    def _text(self, found: Mapping[str, Any], key: str, suffix: str) -> str:
        value = found.get(key)
        if not isinstance(value, str):
            raise self._foreign(suffix)
        return value

    def _encoded(self, text: str, suffix: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            # JSON can spell half a character.
            raise self._foreign(suffix) from None

    def _foreign(self, suffix: str) -> StateError:
        return StateError(
            f"{self}{suffix} holds something else than imgctl's state",
            hint="Nothing was changed. Choose another name for the state: the last part of the URL.",
        )

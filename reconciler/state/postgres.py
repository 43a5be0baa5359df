"""A state in PostgreSQL: a row for each server, and several runs that write at the same time, each its own servers.

A commit is one transaction: the rows that changed, and a frame that says what changed, so that other runs learn of it
without reading the whole. Who writes a server has a lease of it. A lease is worth as much as its run, and a run lives
as long as its connection: it holds an advisory lock, which the server takes away when the connection ends, however that
happens. So nothing has to be unlocked, and a run that lost its connection can write nothing any more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from reconciler.errors import StateError, StateLocked
from reconciler.model.record import Recorded
from reconciler.state.codec import VERSION, decode_object, decode_patch, encode_patch
from reconciler.state.document import Document
from reconciler.state.fields import Fields
from reconciler.state.patch import Patch
from reconciler.state.store import Claim, LockHolder, Wait, check_not_moved

if TYPE_CHECKING:
    from reconciler.state.database import Connection, Database

_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS imgctl_state (
        name text PRIMARY KEY,
        version integer NOT NULL,
        lineage text NOT NULL,
        serial bigint NOT NULL,
        number bigint NOT NULL,
        settings json NOT NULL
    );
    CREATE TABLE IF NOT EXISTS imgctl_record (
        state text NOT NULL REFERENCES imgctl_state (name),
        server_id text NOT NULL,
        retired boolean NOT NULL,
        record json NOT NULL,
        PRIMARY KEY (state, server_id, retired)
    );
    CREATE TABLE IF NOT EXISTS imgctl_frame (
        state text NOT NULL REFERENCES imgctl_state (name),
        number bigint NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        run bigint NOT NULL,
        events integer NOT NULL,
        settles boolean NOT NULL,
        patch json NOT NULL,
        PRIMARY KEY (state, number)
    );
    CREATE TABLE IF NOT EXISTS imgctl_run (
        state text NOT NULL REFERENCES imgctl_state (name),
        run bigint NOT NULL,
        holder json NOT NULL,
        PRIMARY KEY (state, run)
    );
    CREATE TABLE IF NOT EXISTS imgctl_lease (
        state text NOT NULL REFERENCES imgctl_state (name),
        server_id text NOT NULL,
        run bigint NOT NULL,
        PRIMARY KEY (state, server_id)
    );
"""
# Two runs that create them at once would meet in the catalogue.
_CREATING: Final = 0x696D67_63746C
# Frames that are kept for runs that have not seen them yet; whoever comes later reads the records.
_FRAMES = 1000
# How often, and after how many seconds each, a lock is tried again whose owner is not known.
_LOOKS, _LOOK_SECONDS = 40, 0.05
# One statement, and so one transaction: it does nothing where others have written since this run looked.
_WRITE: Final = """
    WITH head AS (
        UPDATE imgctl_state
        SET number = number + 1, serial = serial + %(events)s, settings = coalesce(%(settings)s::json, settings)
        WHERE name = %(state)s AND lineage = %(lineage)s AND number = %(seen)s
        RETURNING number, serial
    ), gone AS (
        DELETE FROM imgctl_record USING head, unnest(%(gone)s::text[], %(gone_retired)s::boolean[]) AS g (id, retired)
        WHERE state = %(state)s AND server_id = g.id AND imgctl_record.retired = g.retired
    ), put AS (
        INSERT INTO imgctl_record (state, server_id, retired, record)
        SELECT %(state)s, p.id, p.retired, p.record::json
        FROM head, unnest(%(put)s::text[], %(put_retired)s::boolean[], %(records)s::text[]) AS p (id, retired, record)
        ON CONFLICT (state, server_id, retired) DO UPDATE SET record = excluded.record
    ), frame AS (
        INSERT INTO imgctl_frame (state, number, run, events, settles, patch)
        SELECT %(state)s, number, %(run)s, %(events)s, %(settles)s, %(patch)s::json FROM head
    ), old AS (
        DELETE FROM imgctl_frame USING head WHERE state = %(state)s AND imgctl_frame.number <= head.number - %(frames)s
    )
    SELECT number, serial FROM head
"""


@dataclass(frozen=True, slots=True)
class _Head:
    """A state without its records."""

    version: int
    lineage: str
    serial: int
    number: int
    settings: Mapping[str, Any]


class PostgresState:
    """A Backend: the state of one name in a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.name = database.place.name

    def __str__(self) -> str:
        return str(self.database)

    def read(self) -> tuple[Recorded, int]:
        """See Backend."""
        with self.database.connected() as connection:
            if not _has_tables(connection):
                return Recorded(), 0
            return self.read_with(connection)

    def begin(self, holder: LockHolder, wait: Wait | None = None, *, alone: bool = True) -> PostgresSession:
        """See Backend."""
        return PostgresSession(self, holder, wait, alone=alone)

    def read_with(self, connection: Connection) -> tuple[Recorded, int]:
        """The state as it is at one moment; with its lineage also where nothing was ever written."""
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            head = self.head(connection)
            if head is None:
                return Recorded(), 0
            rows = connection.execute(
                "SELECT server_id, retired, record FROM imgctl_record WHERE state = %s ORDER BY server_id", [self.name]
            ).fetchall()
        if not head.number:
            return Recorded(), 0
        document = {
            "version": head.version,
            "lineage": head.lineage,
            "serial": head.serial,
            **head.settings,
            "servers": {server_id: record for server_id, retired, record in rows if not retired},
            "retired": {server_id: record for server_id, retired, record in rows if retired},
        }
        return decode_object(document, str(self)).recorded, head.number

    def head(self, connection: Connection, *, lock: bool = False) -> _Head | None:
        """What stands above the records; with `lock` nobody else writes before this transaction has ended."""
        query = "SELECT version, lineage, serial, number, settings FROM imgctl_state WHERE name = %s"
        row = connection.execute(query + (" FOR UPDATE" if lock else ""), [self.name]).fetchone()
        if row is None:
            return None
        version, lineage, serial, number, settings = row
        return _Head(version, lineage, serial, number, Fields(settings, f"{self}, the settings").raw)


class PostgresSession:
    """One connection, and what it holds: see Session, which this is one of."""

    def __init__(self, state: PostgresState, holder: LockHolder, wait: Wait | None, *, alone: bool) -> None:
        self._state, self._database, self._name = state, state.database, state.name
        self.alone = alone
        # By which other runs know whether this one lives.
        self._run = secrets.randbits(62)
        self._connection = self._database.connect()
        try:
            with self._database.asking(self._connection):
                self._check_server()
                self._prepare()
            self._lock(wait)
            with self._database.asking(self._connection):
                self._register(holder)
                self.recorded, self._seen = state.read_with(self._connection)
                head = self._head()
            self._lineage, self._serial = head.lineage, head.serial
            if not self.recorded.exists:
                # Several runs may begin a state together: it is one state.
                self.recorded = replace(self.recorded, lineage=self._lineage)
            check_not_moved(self.recorded, str(state))
        except BaseException:
            self._connection.close()
            raise

    def claim(self, server_ids: Collection[str]) -> Claim:
        """See Session."""
        wanted = list(server_ids)
        with self._database.asking(self._connection), self._connection.transaction():
            head = self._head(lock=True)
            self._bury("SELECT DISTINCT run FROM imgctl_lease WHERE state = %s")
            self._execute(
                "INSERT INTO imgctl_lease (state, server_id, run) SELECT %s, id, %s FROM unnest(%s::text[]) AS id "
                "ON CONFLICT DO NOTHING",
                self._name,
                self._run,
                wanted,
            )
            taken = self._execute(
                "SELECT server_id, holder FROM imgctl_lease LEFT JOIN imgctl_run USING (state, run) "
                "WHERE state = %s AND run <> %s",
                self._name,
                self._run,
            )
            changes = self._pull(head)
        others = {server_id: _in_words(holder) for server_id, holder in taken}
        return Claim({server_id: others[server_id] for server_id in wanted if server_id in others}, changes, others)

    def release(self, server_ids: Collection[str]) -> None:
        """See Session."""
        with self._database.asking(self._connection):
            self._execute(
                "DELETE FROM imgctl_lease WHERE state = %s AND run = %s AND server_id = ANY(%s)",
                self._name,
                self._run,
                list(server_ids),
            )

    async def catch_up(self) -> Sequence[Patch]:
        """See Session."""
        return await asyncio.to_thread(self._look)

    async def write(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """See Session. What is written is fixed before anything is waited for; the writing happens beside the loop."""
        del document
        return await asyncio.to_thread(self._write, patch, encode_patch(patch))

    def write_now(self, document: Document, patch: Patch) -> Sequence[Patch]:
        """See Session."""
        del document
        return self._write(patch, encode_patch(patch))

    async def replace(self, document: Document) -> None:
        """See Session."""
        whole = document.view()
        everything = encode_patch(
            Patch(
                serial=whole.serial,
                bound_to=whole.bound_to,
                limits=whole.limits,
                servers=whole.servers,
                retired=whole.retired,
                state_url=whole.state_url,
                moved_to=whole.moved_to,
            )
        )
        await asyncio.to_thread(self._replace, whole.lineage, whole.serial, everything)

    def end(self, document: Document | None) -> None:
        """See Session. What stays behind of a run is worth nothing once its connection has ended."""
        try:
            if document is not None:
                with self._database.asking(self._connection), self._connection.transaction():
                    self._execute("DELETE FROM imgctl_lease WHERE state = %s AND run = %s", self._name, self._run)
                    self._execute("DELETE FROM imgctl_run WHERE state = %s AND run = %s", self._name, self._run)
        except StateError:
            pass
        finally:
            self._connection.close()

    # Beginning

    def _check_server(self) -> None:
        """Raise StateError where a promise could not be kept."""
        connection = self._connection
        row = connection.execute("SELECT pg_backend_pid(), current_setting('fsync')").fetchone()
        process, fsync = row if row is not None else (0, "")
        if process != connection.info.backend_pid:
            raise StateError(
                f"there is a pooler before the database at {self._database}",
                hint="What a run holds must end with its connection: connect to PostgreSQL itself.",
            )
        if fsync != "on":
            raise StateError(
                f"fsync is off in the database at {self._database}: a crash would take what it has confirmed",
                hint="A job ID would be lost with it. Turn fsync on, or keep the state elsewhere.",
            )

    def _prepare(self) -> None:
        """Make the tables, and this state's row in them."""
        connection = self._connection
        if not _has_tables(connection):
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATING])
                connection.execute(_TABLES)
        self._execute(
            "INSERT INTO imgctl_state (name, version, lineage, serial, number, settings) "
            "VALUES (%s, %s, %s, 0, 0, '{}') ON CONFLICT DO NOTHING",
            self._name,
            VERSION,
            Document(Recorded()).lineage,
        )

    def _lock(self, wait: Wait | None) -> None:
        """Take the state's lock, which all runs share that claim servers."""
        kind = "" if self.alone else "_shared"
        unknown = 0
        while True:
            with self._database.asking(self._connection):
                if self._one(f"SELECT pg_try_advisory_lock{kind}(%s)", _key(self._name)):
                    return
                holders = self._holders()
            if not holders and unknown < _LOOKS:
                # Whoever has it is just coming, or going.
                unknown += 1
                time.sleep(_LOOK_SECONDS)
                continue
            refusal = self._refusal(holders)
            if wait is None:
                raise refusal
            wait(refusal)

    def _holders(self) -> list[str]:
        with self._connection.transaction():
            self._head(lock=True)
            self._bury("SELECT run FROM imgctl_run WHERE state = %s")
            holders = self._execute("SELECT holder FROM imgctl_run WHERE state = %s ORDER BY run", self._name)
        return [_in_words(holder) for (holder,) in holders]

    def _refusal(self, holders: Sequence[str]) -> StateLocked:
        said = "; ".join(holders[:3]) or "a run that does not say who it is"
        more = f" and {len(holders) - 3} more" if len(holders) > 3 else ""
        return StateLocked(
            f"the state at {self._state} is locked by {said}{more}",
            hint="It is given back when that run ends, however it ends; --lock-timeout SECONDS waits for that.",
        )

    def _register(self, holder: LockHolder) -> None:
        """Say who this run is. First the lock: a run that is known and has none is dead."""
        with self._connection.transaction():
            self._execute("SELECT pg_advisory_lock(%s)", self._run)
            self._head(lock=True)
            self._bury("SELECT run FROM imgctl_run WHERE state = %s")
            self._execute(
                "INSERT INTO imgctl_run (state, run, holder) VALUES (%s, %s, %s)",
                self._name,
                self._run,
                json.dumps(dataclasses.asdict(holder)),
            )

    def _bury(self, query: str, *more: object) -> None:
        """Take their leases away from the runs of a query that are dead: whose locks anybody can have.

        One run at a time does that, with the head locked: whose lock is tried by another one just now seems alive, and
        two that take away the same leases may wait for each other.
        """
        runs = [run for (run,) in self._execute(query, self._name, *more) if run != self._run]
        dead = [run for run in runs if self._one("SELECT pg_try_advisory_xact_lock(%s)", run)]
        if dead:
            self._execute("DELETE FROM imgctl_lease WHERE state = %s AND run = ANY(%s)", self._name, dead)
            self._execute("DELETE FROM imgctl_run WHERE state = %s AND run = ANY(%s)", self._name, dead)

    # Writing

    def _write(self, patch: Patch, encoded: Mapping[str, Any]) -> Sequence[Patch]:
        changes: Sequence[Patch] = ()
        with self._database.asking(self._connection):
            written = self._put(patch, encoded, {})
            if written is None:
                # Others have written. What they wrote comes first, and nobody comes in between any more.
                with self._connection.transaction():
                    head = self._head(lock=True)
                    self._check_still_that(head, patch)
                    changes = self._pull(head)
                    written = self._put(patch, encoded, head.settings)
                    if patch.settles:
                        changes = [*changes, self._settled(encoded, head)]
        if written is None:
            raise StateError(f"the state at {self._state} has become another one", hint="Run the command again.")
        self._seen, self._serial = written
        return changes

    def _look(self) -> Sequence[Patch]:
        with self._database.asking(self._connection), self._connection.transaction():
            return self._pull(self._head(lock=True))

    def _put(self, patch: Patch, encoded: Mapping[str, Any], settled: Mapping[str, Any]) -> tuple[int, int] | None:
        """Write a patch unless others have written since; what is `settled` stays, as far as it says nothing of it."""
        rows = [
            (server_id, kind == "retired", record)
            for kind in ("servers", "retired")
            for server_id, record in encoded.get(kind, {}).items()
        ]
        put = [row for row in rows if row[2] is not None]
        gone = [row for row in rows if row[2] is None]
        settings = {**settled, **_settings(encoded)} if patch.settles else None
        row = self._connection.execute(
            _WRITE,
            {
                "state": self._name,
                "lineage": self._lineage,
                "seen": self._seen,
                "events": patch.events,
                "settings": None if settings is None else _json(settings),
                "gone": [server_id for server_id, _, _ in gone],
                "gone_retired": [retired for _, retired, _ in gone],
                "put": [server_id for server_id, _, _ in put],
                "put_retired": [retired for _, retired, _ in put],
                "records": [_json(record) for _, _, record in put],
                "run": self._run,
                "settles": patch.settles,
                "patch": _json(encoded),
                "frames": _FRAMES,
            },
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def _settled(self, encoded: Mapping[str, Any], head: _Head) -> Patch:
        """What holds of the whole state after a patch that came after others' ones: see _put."""
        settings = {**head.settings, **_settings(encoded)}
        return replace(decode_patch({"serial": self._serial, **settings}, str(self._state)), settles=True)

    def _check_still_that(self, head: _Head, patch: Patch) -> None:
        """Raise StateError where another run has bound the state elsewhere in the meantime."""
        bound = head.settings.get("bound_to")
        ours = encode_patch(patch).get("bound_to")
        if patch.settles and bound is not None and ours is not None and bound != ours:
            raise StateError(
                f"another run has bound the state at {self._state} to {bound['provider']}, region {bound['region']}, "
                f"project {bound['project_id']}",
                hint="Each fleet has a state of its own: name another one with --state.",
            )

    def _replace(self, lineage: str, serial: int, everything: Mapping[str, Any]) -> None:
        with self._database.asking(self._connection), self._connection.transaction():
            head = self._head(lock=True)
            self._execute("DELETE FROM imgctl_record WHERE state = %s", self._name)
            self._execute("DELETE FROM imgctl_frame WHERE state = %s", self._name)
            self._execute(
                "UPDATE imgctl_state SET lineage = %s, serial = %s, number = %s, settings = %s WHERE name = %s",
                lineage,
                serial,
                head.number + 1,
                _json(_settings(everything)),
                self._name,
            )
            for kind in ("servers", "retired"):
                records = everything.get(kind, {})
                self._execute(
                    "INSERT INTO imgctl_record (state, server_id, retired, record) "
                    "SELECT %s, id, %s, record::json FROM unnest(%s::text[], %s::text[]) AS p (id, record)",
                    self._name,
                    kind == "retired",
                    list(records),
                    [_json(record) for record in records.values()],
                )
        self._lineage, self._serial, self._seen = lineage, serial, head.number + 1

    # What others have written

    def _pull(self, head: _Head) -> list[Patch]:
        """What other runs have written since this one looked last."""
        if head.number == self._seen:
            return []
        frames = self._execute(
            "SELECT events, settles, patch FROM imgctl_frame WHERE state = %s AND number > %s ORDER BY number",
            self._name,
            self._seen,
        )
        if len(frames) == head.number - self._seen:
            changes = [
                replace(decode_patch(patch, f"{self._state}, a frame"), events=events, settles=settles)
                for events, settles, patch in frames
            ]
        else:
            changes = [self._whole(head)]
        self._seen, self._serial = head.number, head.serial
        return changes

    def _whole(self, head: _Head) -> Patch:
        """The whole state as a patch, where frames that this run has not seen are gone already."""
        rows = self._execute("SELECT server_id, retired, record FROM imgctl_record WHERE state = %s", self._name)
        servers: dict[str, Any] = {server_id: None for server_id, _, _ in rows}
        retired: dict[str, Any] = dict(servers)
        for server_id, is_retired, record in rows:
            (retired if is_retired else servers)[server_id] = record
        encoded = {"serial": head.serial, **head.settings, "servers": servers, "retired": retired}
        return replace(decode_patch(encoded, str(self._state)), events=head.serial - self._serial, settles=True)

    # Asking

    def _head(self, *, lock: bool = False) -> _Head:
        head = self._state.head(self._connection, lock=lock)
        if head is None:
            raise StateError(f"the state at {self._state} has been removed", hint="Restore it from a backup.")
        if head.version > VERSION:
            raise StateError(
                f"{self._state} is a state of version {head.version}; this imgctl writes version {VERSION}",
                hint="Use the imgctl that wrote it, or a newer one.",
            )
        return head

    def _execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(query.encode(), list(values))
        return cursor.fetchall() if cursor.description is not None else []

    def _one(self, query: str, *values: object) -> Any:
        return self._execute(query, *values)[0][0]


def _has_tables(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regclass('imgctl_lease')").fetchone()
    return row is not None and row[0] is not None


def _key(name: str) -> int:
    """The advisory lock of a state. Those are of one database; another program's is hardly ever the same."""
    digest = hashlib.sha256(f"imgctl/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _settings(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """What a patch says of the state as a whole."""
    return {key: value for key, value in encoded.items() if key not in ("serial", "servers", "retired")}


def _in_words(holder: object) -> str:
    if not isinstance(holder, dict):
        return "a run that does not say who it is"
    return str(LockHolder(**{field.name: holder.get(field.name, "") for field in dataclasses.fields(LockHolder)}))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

"""Writing a state: every event durable before its caller goes on, events of one moment together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from reconciler.errors import StateError, StateLocked
from reconciler.model.record import Recorded
from reconciler.state import emergency
from reconciler.state.document import Document
from reconciler.state.events import WHOLE, BuildSubmitted, Event, GuardsNoted
from reconciler.state.patch import Patch
from reconciler.state.store import LockHolder, Store, Wait, say_along


class Writer:
    """One that writes a state, from entering to leaving.

        with Writer(store, holder) as writer:
            await writer.commit(event, …)      # durable on return

    Alone it may write everything. Otherwise it must `claim` each server before it commits an event of it; where the
    backend knows no such leases, it is alone all the same and every claim is granted.

    Events that arrive while a write is under way become durable together with the next one. The first write that fails
    ends all writing: a job ID that is known and cannot be recorded goes to an emergency file, which the next writer
    takes in first. `wait` decides what happens while another run has the lock or a claimed server.
    """

    def __init__(self, store: Store, holder: LockHolder, wait: Wait | None = None, *, alone: bool = True) -> None:
        self._emergencies = store.emergencies
        self._wait = wait
        self._waiting: list[asyncio.Future[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._broken: StateError | None = None
        # Files with job IDs of which this state knows nothing: for a person to look at.
        self.foreign_emergencies: list[str] = []
        # The servers that other runs had at the last claim, and who they are.
        self.others: Mapping[str, str] = {}
        self._session = store.backend.begin(holder, wait, alone=alone)
        try:
            self._document = Document(self._session.recorded)
            # None stands for all of them.
            self._claimed: set[str] | None = None if self._session.alone else set()
            self._take_in_emergencies()
        except BaseException as error:
            self._end(error, sound=False)
            raise

    @property
    def recorded(self) -> Recorded:
        """The state with everything that was committed so far; a live view.

        What other runs write into servers of theirs shows with the next commit or claim, or after `catch_up`.
        """
        return self._document.view()

    def holds(self, server_id: str) -> bool:
        """True where events of this server may be committed."""
        return self._claimed is None or server_id in self._claimed

    def claim(self, server_ids: Collection[str]) -> Mapping[str, str]:
        """Become the only one to write these servers; gives back those that another run has, with who that is.

        Waits for them as `wait` says, holding none of these meanwhile: two that wait for each other would wait for
        nothing. Raises StateError, and StateLocked where another run has all of them.
        """
        if self._claimed is None:
            return {}
        wanted = set(server_ids) - self._claimed
        refused = self._try_to_claim(wanted)
        while refused and self._wait is not None:
            self._session.release(wanted - refused.keys())
            try:
                self._wait(self._refusal(refused))
            except StateLocked:
                # Long enough: it goes on without them.
                self._wait = None
            refused = self._try_to_claim(wanted)
        if refused and len(refused) == len(wanted):
            raise self._refusal(refused)
        self._claimed |= wanted - refused.keys()
        self._take_in_emergencies()
        return refused

    def _try_to_claim(self, server_ids: Collection[str]) -> Mapping[str, str]:
        claim = self._session.claim(server_ids)
        self._merge(claim.changes)
        self.others = claim.others
        return claim.refused

    def _refusal(self, refused: Mapping[str, str]) -> StateLocked:
        one = min(refused)
        record = self.recorded.servers.get(one)
        name = f"server {one}" if record is None else f"{record.name} (server {one})"
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        return StateLocked(
            f"another run has {name}{more}: {refused[one]}",
            hint="It gives back what it has when it ends, however it ends; --lock-timeout SECONDS waits for that.",
        )

    def _merge(self, changes: Sequence[Patch]) -> None:
        """Take in what others have written. A server of ours is nobody else's: where the whole state was read again,
        what that says of it is older than what is known here."""
        ours = self._claimed if self._claimed is not None else frozenset[str]()
        for patch in changes:
            self._document.merge(
                replace(
                    patch,
                    servers={one: record for one, record in patch.servers.items() if one not in ours},
                    retired={one: record for one, record in patch.retired.items() if one not in ours},
                )
            )

    def release_all_but(self, server_ids: Iterable[str]) -> None:
        """Let others write what was claimed and is not needed after all."""
        if self._claimed is None:
            return
        needless = self._claimed - set(server_ids)
        if needless:
            self._session.release(needless)
            self._claimed -= needless

    async def commit(self, *events: Event) -> None:
        """Record events; on return they are durable. Raises StateError where they cannot be, now and ever after."""
        try:
            await self._commit(events)
        except StateError:
            jobs = [event for event in events if isinstance(event, BuildSubmitted)]
            if self._broken is not None and jobs:
                place = emergency.save(self._emergencies, self.recorded, jobs)
                raise StateError(self._broken.summary, hint=f"{self._broken.hint}\n{place}".strip()) from self._broken
            raise

    async def catch_up(self) -> None:
        """Let `recorded` show what other runs have written up to now. Raises StateError."""
        if self._claimed is not None:
            await self._in_its_turn()

    async def replace(self, recorded: Recorded) -> None:
        """Put a whole other state in the place of this one; on return it is durable. Raises StateError."""
        self._document = Document(recorded)
        await self._session.replace(self._document)

    def _take_in_emergencies(self) -> None:
        """Record the jobs that earlier runs could not record, as far as their servers may be written."""
        missing = emergency.missing_jobs(self._emergencies, self.recorded)
        found = [job for job in missing if self.holds(job.server_id)]
        for job in found:
            self._document.apply(job)
        if found:
            self._merge(self._session.write_now(self._document, self._document.take_patch()))
        later = {job.job_id for job in missing} - {job.job_id for job in found}
        self.foreign_emergencies = emergency.clear(self._emergencies, self.recorded, later)

    async def _commit(self, events: tuple[Event, ...]) -> None:
        if self._broken is not None:
            raise self._broken
        if not events:
            return
        for event in events:
            self._check_holds(event)
            self._document.apply(event)
        await self._in_its_turn()

    async def _in_its_turn(self) -> None:
        """Wait until all that has happened so far is durable; with nothing new, until others' writes are known."""
        if self._broken is not None:
            raise self._broken
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        # A caller that is cancelled must not take the others' write with it.
        await asyncio.shield(durable)

    def _check_holds(self, event: Event) -> None:
        """Raise StateError for an event of a server that was not claimed: another run may be writing it."""
        servers = [event.server_id] if not isinstance(event, WHOLE) else []
        if isinstance(event, GuardsNoted):
            servers = [server_id for server_id, _ in event.protect]
        for server_id in servers:
            if not self.holds(server_id):
                raise _fault(f"server {server_id} is not this run's to write")

    async def _flush(self) -> None:
        """Write until nothing waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                patch = self._document.take_patch()
                if patch.events:
                    self._merge(await self._session.write(self._document, patch))
                else:
                    self._merge(await self._session.catch_up())
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
                self._broken = error if isinstance(error, StateError) else _fault(f"{type(error).__name__}: {error}")
                batch += self._waiting
                self._waiting = []
            for durable in batch:
                if self._broken is None:
                    durable.set_result(None)
                else:
                    durable.set_exception(self._broken)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error, sound=self._broken is None)

    def _end(self, error: BaseException | None, *, sound: bool) -> None:
        """Leave. Where a lock stays behind, and something else went wrong before, that is said along with it."""
        try:
            self._session.end(self._document if sound else None)
        except StateError as stays:
            if error is None:
                raise
            say_along(error, stays)


def _fault(what: str) -> StateError:
    return StateError(
        f"the state could not be written: {what}",
        hint="This is a fault of imgctl. What was recorded before is safe.",
    )

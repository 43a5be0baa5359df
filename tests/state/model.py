"""A store against a model: whatever is committed, cut off and folded, nothing committed is lost or made up."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reconciler.errors import StateLocked
from reconciler.model.record import Build, BuildStatus, Recorded
from reconciler.model.spec import ImageSpec, Limits
from reconciler.state import events, journal_session
from reconciler.state.document import Document
from reconciler.state.store import LockHolder, read
from reconciler.state.writer import Writer
from tests.state.places import Place

_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_HOLDER = LockHolder("tester", "host", 1, "2026-01-02T03:04:05Z", "apply")
_SERVERS = st.sampled_from(["one", "two", "three"])


class Store(RuleBasedStateMachine):
    """A state's place, at most one writer of it, and beside them what it should say."""

    def __init__(self, new_place: Callable[[Path], AbstractContextManager[Place]]) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.place = self.stack.enter_context(new_place(self.folder))
        self.store = self.place.client()
        self.writer: Writer | None = None
        self.model = Recorded()
        self.number = 0
        self.patch = pytest.MonkeyPatch()

    @initialize(fold_beyond=st.sampled_from([0, 300, 1 << 20]))
    def begin(self, fold_beyond: int) -> None:
        self.patch.setattr(journal_session, "_FOLD_BEYOND", fold_beyond)

    def teardown(self) -> None:
        self.patch.undo()
        if self.writer is not None:
            self.writer._session.end(None)
        self.stack.close()

    # A writer comes and goes

    @precondition(lambda self: self.writer is None)
    @rule()
    def open(self) -> None:
        with self._only(self.model):
            self.writer = Writer(self.store, _HOLDER)
        assert self.writer.recorded.servers == self.model.servers

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self) -> None:
        with self._only(self.model):
            self._taken().__exit__(None, None, None)
        self.writer = None

    @precondition(lambda self: self.writer is not None)
    @rule()
    def crash(self) -> None:
        """The writer is gone; nothing was folded, and an operator has seen to the lock, where that is needed."""
        self.place.abandon(self._taken())
        self.writer = None
        self.place.break_lock()
        self.store = self.place.client()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def lock_again(self) -> None:
        with pytest.raises(StateLocked):
            Writer(self.place.client(), _HOLDER)

    # Things happen

    @precondition(lambda self: self.writer is not None)
    @rule(servers=st.lists(_SERVERS, min_size=1, max_size=3, unique=True), ends=st.sampled_from(BuildStatus))
    def commit(self, servers: list[str], ends: BuildStatus) -> None:
        """Each server goes a step further, all at the same time."""
        happened = [self._next(server_id, ends) for server_id in servers]
        self._commit([[event] for event in happened])

    @precondition(lambda self: self.writer is not None)
    @rule(changes=st.integers(0, 5))
    def note(self, changes: int) -> None:
        self._commit([[events.GuardsNoted(Limits(changes))]])

    @precondition(lambda self: any(not record.in_flight for record in self.model.servers.values()))
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        idle = sorted(server for server, record in self.model.servers.items() if not record.in_flight)
        if self.writer is not None:
            self._commit([[events.Retired(data.draw(st.sampled_from(idle)), _AT)]])

    @invariant()
    def readers_see_what_was_committed(self) -> None:
        self._compare(read(self.store), self.model)

    # How

    def _taken(self) -> Writer:
        assert self.writer is not None
        return self.writer

    def _next(self, server_id: str, ends: BuildStatus) -> events.Event:
        record = self.model.servers.get(server_id)
        attempt = record.attempt if record is not None else None
        if attempt is None or not attempt.status.in_flight:
            self.number += 1
            spec = ImageSpec(f"{server_id}-{self.number}", triggers={"x": "y" * (self.number % 50)})
            return events.BuildIntended(
                server_id, server_id, Build(f"a{self.number}", spec, BuildStatus.INTENT, _AT), protect=True
            )
        if attempt.status is BuildStatus.INTENT and ends is not BuildStatus.REFUSED:
            return events.BuildSubmitted(server_id, attempt.attempt_id, f"j{self.number}")
        if attempt.status is BuildStatus.RUNNING and ends is BuildStatus.SUCCEEDED:
            return events.BuildEnded(server_id, attempt.attempt_id, ends, _AT, image_id=f"i{self.number}")
        return events.BuildEnded(server_id, attempt.attempt_id, BuildStatus.REFUSED, _AT)

    def _commit(self, batches: list[list[events.Event]]) -> None:
        """Commit batches at the same time; a reader that comes in between sees some of them, in their order."""
        document = Document(self.model)
        states = [self.model]
        for batch in batches:
            for event in batch:
                document.apply(event)
            states.append(_frozen(document.view()))
        # A new state gets its lineage from the writer.
        final = _frozen(states[-1], self._taken().recorded.lineage)

        async def all_of_them() -> None:
            await asyncio.gather(*(self._taken().commit(*batch) for batch in batches))

        with self._only(*states[:-1], final):
            asyncio.run(all_of_them())
        self.model = final

    @contextmanager
    def _only(self, *allowed: Recorded) -> Iterator[None]:
        """Meanwhile readers see one of these states, and never an earlier one after a later one."""
        newest = 0
        reader = self.place.client()

        def look() -> None:
            nonlocal newest
            seen = read(reader)
            position = next((at for at, state in enumerate(allowed) if _same(seen, state)), None)
            assert position is not None, f"a reader saw {seen}, which is none of {allowed}"
            assert position >= newest
            newest = position

        with self.place.watched(look):
            yield

    @staticmethod
    def _compare(found: Recorded, expected: Recorded) -> None:
        assert _same(found, expected), f"{found} is not {expected}"


def _frozen(state: Recorded, lineage: str | None = None) -> Recorded:
    return Recorded(
        lineage=state.lineage if lineage is None else lineage,
        serial=state.serial,
        bound_to=state.bound_to,
        servers=dict(state.servers),
        retired=dict(state.retired),
        limits=state.limits,
        exists=True,
    )


def _same(found: Recorded, expected: Recorded) -> bool:
    parts = ("exists", "serial", "servers", "retired", "limits", "bound_to")
    lineage = not expected.exists or found.lineage == expected.lineage
    return lineage and all(getattr(found, part) == getattr(expected, part) for part in parts)


def check(new_store: Callable[[], Store], examples: int) -> None:
    """Let the rules come in many orders. Raises AssertionError with the shortest that shows a fault."""
    found = settings(
        max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    # What makes one is as good as its class.
    run_state_machine_as_test(new_store, settings=found)  # type: ignore[arg-type]

"""Several runs on one state in PostgreSQL against a model: whatever comes in between, nothing is lost or made up."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from functools import partial
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

from reconciler.errors import StateError, StateLocked
from reconciler.model.record import Build, BuildStatus, Recorded
from reconciler.model.spec import ImageSpec, Limits
from reconciler.state import events, postgres
from reconciler.state.document import Document
from reconciler.state.store import LockHolder, read
from reconciler.state.writer import Writer
from tests.state import places
from tests.state.conformance import AT, BOB
from tests.state.places import Servers

pytestmark = pytest.mark.sweep

_RUNS = st.integers(0, 2)
_SERVERS = ("one", "two", "three", "four")
_SOME = st.sets(st.sampled_from(_SERVERS), min_size=1, max_size=3)


class Fleet(RuleBasedStateMachine):
    """Three runs that come, claim, commit and go, or are cut off; beside them what the state should be."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.servers = servers
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.place = self.stack.enter_context(places.postgres(folder, servers))
        self.patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.runs: dict[int, Writer] = {}
        self.owners: dict[str, int] = {}
        self.model: Document | None = None
        self.lineage = ""
        self.number = 0

    @initialize(frames=st.sampled_from([1, 2, 1000]))
    def begin(self, frames: int) -> None:
        self.patch.setattr(postgres, "_FRAMES", frames)

    def teardown(self) -> None:
        for run in self.runs.values():
            run.__exit__(None, None, None)
        self.stack.close()

    # Runs come and go

    @rule(number=_RUNS)
    def join(self, number: int) -> None:
        if number not in self.runs:
            holder = LockHolder(f"run{number}", "host", number, "2026-01-02T03:04:05Z", "apply")
            run = self.runs[number] = Writer(self.place.client(), holder, alone=False)
            self._agrees(run.recorded)

    @rule(number=_RUNS)
    def leave(self, number: int) -> None:
        run = self._taken_away(number)
        if run is not None:
            run.__exit__(None, None, None)

    @rule(number=_RUNS)
    def cut_off(self, number: int) -> None:
        run = self._taken_away(number)
        if run is not None:
            connection = run._session._connection  # type: ignore[attr-defined]
            process = connection.info.backend_pid
            connection.close()
            self._until_gone(process)

    @precondition(lambda self: self.runs)
    @rule()
    def alone(self) -> None:
        with pytest.raises(StateLocked):
            Writer(self.place.client(), BOB)

    # Leases

    @rule(number=_RUNS, wanted=_SOME)
    def claim(self, number: int, wanted: set[str]) -> None:
        run = self.runs.get(number)
        if run is None:
            return
        new = {one for one in wanted if self.owners.get(one) != number}
        refused = {one for one in new if one in self.owners}
        if refused and refused == new:
            with pytest.raises(StateLocked):
                run.claim(wanted)
        else:
            found = run.claim(wanted)
            assert {one: who.split(" on ")[0] for one, who in found.items()} == {
                one: f"run{self.owners[one]}" for one in refused
            }
        self.owners |= dict.fromkeys(new - refused, number)
        if new:
            self._agrees(run.recorded)

    @rule(number=_RUNS, kept=_SOME)
    def release(self, number: int, kept: set[str]) -> None:
        run = self.runs.get(number)
        if run is not None:
            run.release_all_but(kept)
            self.owners = {one: owner for one, owner in self.owners.items() if owner != number or one in kept}

    # Things happen

    @rule(number=_RUNS, wanted=_SOME, ends=st.booleans(), limits=st.none() | st.integers(1, 5))
    def commit(self, number: int, wanted: set[str], ends: bool, limits: int | None) -> None:
        """Each server goes a step further, and the guards may be others: in one commit, or in several at once."""
        run = self.runs.get(number)
        if run is None:
            return
        foreign = sorted(one for one in wanted if self.owners.get(one) != number)
        if foreign:
            with pytest.raises(StateError, match="not this run's to write"):
                asyncio.run(run.commit(self._next(foreign[0], ends)))
        happened = [self._next(one, ends) for one in sorted(wanted.difference(foreign))]
        if limits is not None:
            happened.append(events.GuardsNoted(Limits(limits)))
        if not happened:
            return
        self.lineage = run.recorded.lineage
        if self.model is None:
            self.model = Document(Recorded(lineage=self.lineage))
        for event in happened:
            self.model.apply(event)

        async def all_of_them() -> None:
            await asyncio.gather(*(run.commit(event) for event in happened))

        asyncio.run(all_of_them() if ends else run.commit(*happened))
        self._agrees(run.recorded)

    @rule(number=_RUNS)
    def catch_up(self, number: int) -> None:
        if number in self.runs:
            asyncio.run(self.runs[number].catch_up())
            self._agrees(self.runs[number].recorded)

    @invariant()
    def readers_see_what_was_committed(self) -> None:
        self._agrees(read(self.place.client()))

    # How

    def _taken_away(self, number: int) -> Writer | None:
        self.owners = {one: owner for one, owner in self.owners.items() if owner != number}
        return self.runs.pop(number, None)

    def _next(self, server_id: str, ends: bool) -> events.Event:
        record = self.model.view().servers.get(server_id) if self.model is not None else None
        attempt = record.attempt if record is not None else None
        if attempt is None or not attempt.status.in_flight:
            if attempt is not None and ends:
                return events.Retired(server_id, AT)
            self.number += 1
            build = Build(f"a{self.number}", ImageSpec(f"{server_id}-{self.number}"), BuildStatus.INTENT, AT)
            return events.BuildIntended(server_id, server_id, build)
        if attempt.status is BuildStatus.INTENT and not ends:
            return events.BuildSubmitted(server_id, attempt.attempt_id, f"j-{attempt.attempt_id}")
        if attempt.status is BuildStatus.INTENT:
            return events.BuildEnded(server_id, attempt.attempt_id, BuildStatus.REFUSED, AT)
        return events.BuildEnded(server_id, attempt.attempt_id, BuildStatus.SUCCEEDED, AT, image_id=f"i{self.number}")

    def _agrees(self, found: Recorded) -> None:
        expected = self.model.view() if self.model is not None else Recorded()
        for part in ("exists", "serial", "limits", "bound_to"):
            assert getattr(found, part) == getattr(expected, part), part
        assert dict(found.servers) == dict(expected.servers)
        assert dict(found.retired) == dict(expected.retired)
        if expected.exists:
            assert found.lineage == self.lineage

    def _until_gone(self, process: int) -> None:
        deadline = time.monotonic() + 60
        with self.servers.postgres.connect() as connection:
            query = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
            while connection.execute(query, [process]).fetchone() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.002)


@pytest.mark.timeout(600)
def test_runs_beside_each_other_agree_with_a_model(servers: Servers) -> None:
    assert servers.postgres is not None
    found = settings(
        max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    # What makes one is as good as its class.
    run_state_machine_as_test(partial(Fleet, servers), settings=found)  # type: ignore[arg-type]

"""The store in local files against a model, and what a crash leaves at the end of a journal there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from reconciler.model.spec import Limits
from reconciler.state.journal import encode_frame
from reconciler.state.open import local_store
from reconciler.state.store import read
from reconciler.state.writer import Writer
from tests.state.conformance import ALICE, BOB, commit, intended, journaled_backend, noted
from tests.state.model import Store, check
from tests.state.places import Place, Servers, local
from tests.support import examples


class Local(Store):
    """A state's files."""

    def __init__(self) -> None:
        super().__init__(_place)

    @precondition(lambda self: self.writer is None and (self.folder / "state.json.journal").exists())
    @rule(garbage=st.binary(min_size=1, max_size=60), length=st.integers(1, 2000), kind=st.integers(0, 2))
    def tear(self, garbage: bytes, length: int, kind: int) -> None:
        """A crash has left part of a frame, zeros in its place, or anything else that is no frame."""
        patch = {"serial": 10**6, "servers": {"one": None}, "retired": {}}
        frame = encode_frame(self.model.lineage, 10**6, patch)
        # Without its last two characters: the line end, and one of the checksum's.
        tail = (frame[: min(length, len(frame) - 2)], bytes(length), garbage)[kind]
        with (self.folder / "state.json.journal").open("ab") as journal:
            journal.write(tail)


def _place(folder: Path) -> AbstractContextManager[Place]:
    return local(folder, Servers.none())


@pytest.mark.hypothesis
def test_the_store_keeps_what_was_committed() -> None:
    check(Local, examples=examples(40))


def test_a_journal_that_lost_what_its_document_has_is_begun_anew(tmp_path: Path) -> None:
    """A run is killed before it syncs a frame, the next one folds it in, and then the power fails."""
    store = local_store(tmp_path / "state.json")
    with Writer(store, ALICE) as first:
        commit(first, noted(1))
        before = journaled_backend(store).read_journal()
        commit(first, noted(2))
    assert before is not None
    (tmp_path / "state.json.journal").write_bytes(before)
    assert read(store).limits == Limits(2)
    second = Writer(store, BOB)
    commit(second, intended("one"))
    # Killed here: what was said to be durable is read.
    assert read(local_store(tmp_path / "state.json")).servers["one"].attempt is not None
    second._session.end(None)

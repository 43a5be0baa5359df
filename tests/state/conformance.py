"""What the suite of all backends is made of: things that happen to a state, and how they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest

from reconciler.errors import StateError
from reconciler.model.record import Build, BuildStatus
from reconciler.model.spec import ImageSpec, Limits
from reconciler.state import events
from reconciler.state.journal_session import JournalSession
from reconciler.state.journaled import Journaled
from reconciler.state.store import LockHolder, Store
from reconciler.state.writer import Writer

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALICE = LockHolder("alice", "runner-1", 11, "2026-01-02T03:04:05Z", "apply")
BOB = LockHolder("bob", "runner-2", 22, "2026-01-02T03:04:06Z", "import")


def journaled_backend(store: Store) -> Journaled:
    """The bytes of a state that is kept as a document and a journal."""
    assert isinstance(store.backend, Journaled)
    return store.backend


def session_of(writer: Writer) -> JournalSession:
    """How a writer stays in such a state."""
    assert isinstance(writer._session, JournalSession)
    return writer._session


def raw(client: Callable[[], Store]) -> Callable[[], object]:
    """The bytes of such a state, for a comparison."""

    def look() -> object:
        backend = journaled_backend(client())
        return backend.read_document(), backend.read_journal()

    return look


def breaking(writer: Writer, patch: pytest.MonkeyPatch) -> None:
    """From now on the place of such a state takes nothing from this writer."""

    def broken(frame: bytes) -> None:
        raise StateError("nothing is taken any more")

    patch.setattr(session_of(writer)._backend, "append", broken)


def commit(writer: Writer, *happened: events.Event) -> None:
    """Events that are durable when this returns, all in one commit."""
    asyncio.run(writer.commit(*happened))


def commit_at_once(writer: Writer, happened: Iterable[events.Event]) -> list[BaseException | None]:
    """As many commits as there are events, all at the same time; what became of each."""

    async def all_of_them() -> list[BaseException | None]:
        return await asyncio.gather(*(writer.commit(event) for event in happened), return_exceptions=True)

    return asyncio.run(all_of_them())


def noted(changes: int) -> events.GuardsNoted:
    """A small event; the state's limits tell which."""
    return events.GuardsNoted(Limits(changes))


def intended(server: str) -> events.BuildIntended:
    """A request for an image is about to be sent."""
    build = Build(f"a-{server}", ImageSpec(f"{server}-1"), BuildStatus.INTENT, AT)
    return events.BuildIntended(server, server, build)


def submitted(server: str) -> events.BuildSubmitted:
    """It was accepted."""
    return events.BuildSubmitted(server, f"a-{server}", f"j-{server}")


def adopted(server: str, padding: int = 0) -> events.BuildAdopted:
    """A build that has ended, with a record of at least so many bytes."""
    spec = ImageSpec(f"{server}-1", description="x" * padding)
    build = Build(f"a-{server}", spec, BuildStatus.SUCCEEDED, AT, job_id=f"j-{server}", image_id=f"i-{server}")
    return events.BuildAdopted(server, server, build)

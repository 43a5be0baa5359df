"""What the suite of all backends is made of: things that happen to a state, and how they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from reconciler.model.record import Build, BuildStatus
from reconciler.model.spec import ImageSpec, Limits
from reconciler.state import events
from reconciler.state.store import LockHolder
from reconciler.state.writer import Writer

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALICE = LockHolder("alice", "runner-1", 11, "2026-01-02T03:04:05Z", "apply")
BOB = LockHolder("bob", "runner-2", 22, "2026-01-02T03:04:06Z", "import")


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

"""What a writer has changed of a state since it wrote last: what a journal's frame carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.record import Binding, Record
from reconciler.model.spec import Limits


@dataclass(frozen=True, slots=True)
class Patch:
    """Some records as they are from now on, by server id; None where there is none any more.

    It is made of so many `events`. `settles`: some of them were of no one server, and what the patch says of the whole
    state was decided by them.
    """

    serial: int
    bound_to: Binding | None
    limits: Limits
    servers: Mapping[str, Record | None]
    retired: Mapping[str, Record | None]
    state_url: str | None = None
    moved_to: str = ""
    events: int = 0
    settles: bool = False

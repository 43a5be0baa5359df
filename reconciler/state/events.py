"""What can happen to a state. Each event is one decision, durable as a whole; the document's `serial` counts them.

Polls are not events: what a job looked like on the way to its end changes nothing that a planner reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.model.record import Binding, Build, BuildError, BuildStatus
from reconciler.model.spec import Limits


@dataclass(frozen=True, slots=True)
class Bound:
    """The state belongs to one provider, region and project from now on."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class GuardsNoted:
    """The limits and protections under which an apply set out; `protect` by server id, recorded servers only.

    `state_url` is where its manifest keeps the state, empty for beside it; None leaves what was noted before.
    """

    limits: Limits
    protect: tuple[tuple[str, bool], ...] = ()
    state_url: str | None = None


@dataclass(frozen=True, slots=True)
class BuildIntended:
    """A recreate-image request is about to be sent: durable before it is.

    An intent with the id of the server's latest attempt renews it: the request was refused and is sent again.
    """

    server_id: str
    name: str
    build: Build
    protect: bool = False


@dataclass(frozen=True, slots=True)
class BuildSubmitted:
    """The cloud accepted the request: the job ID is known."""

    server_id: str
    attempt_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class BuildUncertain:
    """Nobody knows whether the request took effect."""

    server_id: str
    attempt_id: str
    error: BuildError


@dataclass(frozen=True, slots=True)
class BuildEnded:
    """The end of an attempt: `status` is succeeded (with `image_id`), failed or refused (with `error`).

    `adopted`: somebody has handed the image over, and the attempt counts as adopted from now on.
    """

    server_id: str
    attempt_id: str
    status: BuildStatus
    at: datetime
    image_id: str = ""
    error: BuildError | None = None
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class BuildAdopted:
    """A build that imgctl did not ask for is handed over: running (with its job) or succeeded (with its image)."""

    server_id: str
    name: str
    build: Build


@dataclass(frozen=True, slots=True)
class Renamed:
    """A record goes on under a new name; a retired one comes back to the managed ones by it."""

    server_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Retired:
    """A server is no longer managed: its record and history are kept apart."""

    server_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HeldEdited:
    """The held image has this name and description in IMS: edited in place, or found so and accepted."""

    server_id: str
    image_id: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class ImageGone:
    """An image of a server is gone: pruned by the plan `pruned_by`, or found to be. A held one is held no more."""

    server_id: str
    image_id: str
    at: datetime
    pruned_by: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """The whole state is kept at another place from now on; this one is left behind."""

    place: str


# The events that are of no one server.
WHOLE = (Bound, GuardsNoted, Moved)

Event = (
    Bound
    | GuardsNoted
    | BuildIntended
    | BuildSubmitted
    | BuildUncertain
    | BuildEnded
    | BuildAdopted
    | Renamed
    | Retired
    | HeldEdited
    | ImageGone
    | Moved
)

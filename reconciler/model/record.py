"""What was built: the state's servers, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.model.spec import ImageSpec, Limits


class BuildStatus(StrEnum):
    """The life of one build.

    intent     written before the request is sent; found by another process, its outcome is unknown
    unknown    the request may have taken effect, or not
    running    the job ID is known, its end is not
    succeeded  the job ended well and the image ID is known
    failed     the job ended badly
    refused    the cloud definitely did not start it: an error answer, or no trace was found of it
    """

    INTENT = "intent"
    UNKNOWN = "unknown"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"

    @property
    def in_flight(self) -> bool:
        """True while nobody knows how it ended."""
        return self in (BuildStatus.INTENT, BuildStatus.UNKNOWN, BuildStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Context:
    """Who asked for a build, and from where. `run`, `commit` and `pull_request` are empty outside CI."""

    tool_version: str = ""
    actor: str = ""
    host: str = ""
    run: str = ""
    commit: str = ""
    pull_request: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class BuildError:
    """Why a build did not become an image, in the cloud's own words where it had any."""

    code: str
    message: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """One recreate-image request and what became of it. Times are UTC, by the cloud's clock where it was known.

    `attempt_id` is ours. `server_status` and `server_image_id` are the server's just before the request: what an
    unknown outcome is later compared with.
    """

    attempt_id: str
    spec: ImageSpec
    status: BuildStatus
    requested_at: datetime
    server_status: str = ""
    server_image_id: str = ""
    job_id: str = ""
    finished_at: datetime | None = None
    image_id: str = ""
    error: BuildError | None = None
    plan_id: str = ""
    context: Context = field(default_factory=Context)
    # True where imgctl did not ask for it: somebody handed it over with `import`.
    adopted: bool = False
    # When its image was deleted, or found to be gone; by which plan, where imgctl pruned it.
    deleted_at: datetime | None = None
    pruned_by: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """The last successful build: the image that the server's declaration is compared with."""

    spec: ImageSpec
    image_id: str
    job_id: str = ""
    built_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one image server. `attempt` is the latest build, `history` holds the older ones."""

    server_id: str
    name: str
    held: Held | None = None
    attempt: Build | None = None
    history: tuple[Build, ...] = ()
    protect: bool = False
    # When the record was retired (forgotten); None while the server is managed.
    retired_at: datetime | None = None

    @property
    def in_flight(self) -> bool:
        """True while the latest build's end is not known."""
        return self.attempt is not None and self.attempt.status.in_flight

    @property
    def builds(self) -> tuple[Build, ...]:
        """Every build, oldest first."""
        return (*self.history, self.attempt) if self.attempt else self.history


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a state belongs; it is never used elsewhere. `provider` is `huaweicloud` or `simulator`."""

    provider: str
    region: str
    project_id: str

    def __str__(self) -> str:
        return f"{self.provider}, region {self.region}, project {self.project_id}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A whole state as a reader sees it, servers and retired ones by server id.

    `exists` is False where none was found: not the same as an empty one. `limits` are those of the last apply, and
    `state_url` is where its manifest kept the state: empty for beside it, None where no apply has noted it. `moved_to`
    is where the state went: then nobody may use this one any more.
    """

    lineage: str = ""
    serial: int = 0
    bound_to: Binding | None = None
    servers: Mapping[str, Record] = field(default_factory=dict)
    retired: Mapping[str, Record] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    exists: bool = False
    state_url: str | None = None
    moved_to: str = ""

    @property
    def all_records(self) -> tuple[Record, ...]:
        """Every record, those of forgotten servers too."""
        return (*self.servers.values(), *self.retired.values())

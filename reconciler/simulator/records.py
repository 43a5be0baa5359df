"""What the pretended cloud remembers. Times are UTC and aware; an empty string means absent, as in the API."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Server:
    """An image server. `id` is the id in paths, `aps_server_id` and `instance_id` are what the list calls otherwise.

    `jobs` counts the builds that run on it now: more than one only where a fault let a second one in.
    """

    id: str
    name: str
    description: str
    status: str
    image_id: str
    aps_server_id: str
    instance_id: str
    server_group_id: str
    app_group_id: str
    source_image_id: str
    spec_code: str
    account: str
    created_at: datetime
    updated_at: datetime
    jobs: int = 0


@dataclass
class BuildRequest:
    """The body of a recreate-image request that was found valid. `execute_sysprep` None: not said."""

    server_id: str
    name: str
    description: str = ""
    execute_sysprep: bool | None = None


@dataclass
class Fate:
    """What the faults decided about one build when its request came; seconds throughout.

    `lag`: nothing shows it for so long. `waiting`: it has the status `waits_as` before it runs. `trouble`: the status
    that its sub job has from half-way on while the job goes on RUNNING, empty for none; `trouble_seconds` is how long
    it lasts, None where the fault did not say. `stuck`: it never ends. `accept_busy`: it is taken even where a build
    runs already.
    """

    lag: float = 0.0
    waiting: float = 0.0
    waits_as: str = "WAITING"
    trouble: str = ""
    trouble_seconds: float | None = None
    stuck: bool = False
    failed: bool = False
    blank_name: bool = False
    accept_busy: bool = False


@dataclass
class Job:
    """One build with its one sub job. Its status at any time follows from the times in it and from nothing else.

    `ends_at` None: it never ends. `outcome` and the error hold from `ends_at` on. `waits_as` is its status before
    `runs_at`, `trouble` its sub job's from `troubled_at` on. `visible_at`: nothing shows the build before that;
    `status_before` is what the server shows until then. `settled`: its end was applied to the server and to IMS.
    """

    id: str
    sub_job_id: str
    server_id: str
    name: str
    description: str
    began_at: datetime
    runs_at: datetime
    visible_at: datetime
    ends_at: datetime | None
    waits_as: str
    troubled_at: datetime | None
    trouble: str
    outcome: str
    error_code: str
    error_message: str
    image_id: str
    status_before: str
    blank_name: bool = False
    settled: bool = False
    execute_sysprep: bool | None = None

    def ended(self, now: datetime) -> bool:
        """True from the job's end on."""
        return self.ends_at is not None and self.ends_at <= now

    def status(self, now: datetime) -> str:
        """The job's status: WAITING, RUNNING, SUCCESS, FAILED, or the word that a fault gave it."""
        if self.ended(now):
            return self.outcome
        return self.waits_as if now < self.runs_at else "RUNNING"

    def sub_status(self, now: datetime) -> str:
        """The sub job's status: the job's, unless it is in trouble."""
        if self.troubled_at is not None and self.troubled_at <= now and not self.ended(now):
            return self.trouble
        return self.status(now)


@dataclass
class Late:
    """A recreate-image request that was answered with a 504 and takes effect at `at`."""

    at: datetime
    request: BuildRequest
    fate: Fate


@dataclass
class Image:
    """An image in IMS. `description` None: the attribute is missing, so it cannot be replaced but only added.

    `kind` is IMS's `__imagetype`: `private` or `gold`. `instance_id`: the ECS instance it was made from. `gone_at`: it
    was deleted and is shown until then; None: it was not.
    """

    id: str
    name: str
    description: str | None
    status: str
    kind: str
    protected: bool
    created_at: datetime
    updated_at: datetime
    instance_id: str = ""
    os_version: str = "Windows Server 2019 Standard 64bit"
    min_disk: int = 80
    min_ram: int = 0
    max_ram: str = "0"
    size: int = 42_949_672_960
    gone_at: datetime | None = None


@dataclass
class Token:
    """An IAM token. An empty `project_id` means that it is scoped to the domain: good for IAM only."""

    text: str
    project_id: str
    issued_at: datetime
    expires_at: datetime


@dataclass
class Key:
    """An access key. A temporary one has a security token and an end.

    `failures` counts the authentication failures in a row; while `locked_until` has not passed nothing is accepted.
    """

    access: str
    secret: str
    security_token: str = ""
    expires_at: datetime | None = None
    failures: int = 0
    locked_until: datetime | None = None


@dataclass
class Ledger:
    """What came in. `received`: recreate-image requests, refused ones included. `requests`: per operation."""

    received: int = 0
    builds: list[dict[str, str]] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)

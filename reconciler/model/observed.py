"""What the cloud said when it was last asked. Kept apart from what is recorded: their difference is drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

# A server accepts recreate-image in these states only (API page of the OpenAPI definition, facts sheet 1.2).
BUILDABLE = frozenset({"ACTIVE", "BUILT"})
# Every other status of a job may still change (facts sheet, 2.1).
_JOB_ENDS = frozenset({"SUCCESS", "FAILED"})


@dataclass(frozen=True, slots=True)
class ObservedServer:
    """One item of the image servers' list. `id` is the id used in paths; `aps_server_id` and `instance_id` are not.

    `status` is the API's word, unknown ones included; `image_id` is the product image, empty where there is none.
    """

    id: str
    name: str
    status: str
    image_id: str = ""
    description: str = ""
    aps_server_id: str = ""
    instance_id: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObservedJob:
    """A build job, from its sub job's page or from ShowImageJob. Times are UTC.

    `status` is the job's own where `job_status_known`, otherwise the sub job's: one page of sub jobs serves a hundred
    builds but says nothing of the jobs themselves. `image_id` counts only with SUCCESS. `makes_image` is False where
    its type is one that never makes any, such as the creation of a server.
    """

    id: str
    status: str
    sub_status: str = ""
    job_status_known: bool = False
    image_id: str = ""
    image_name: str = ""
    error_code: str = ""
    error_message: str = ""
    began_at: datetime | None = None
    ended_at: datetime | None = None
    makes_image: bool = True

    @property
    def ended(self) -> bool:
        """True where its status will not change any more."""
        return self.status in _JOB_ENDS


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """An image in IMS. `status` is `active` once it can be used or edited.

    `kind` is IMS's word: `private`, or `gold` (public), `shared`, `market`; empty where it did not say. The lists that
    imgctl asks for have private ones only, but by its id any image can be shown.
    """

    id: str
    name: str
    status: str = ""
    description: str = ""
    protected: bool = False
    created_at: datetime | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """Private images of the project: how many there are, how many there may be."""

    used: int
    limit: int

    @property
    def free(self) -> int:
        """Room for new images, never below zero."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Observation:
    """One refresh. `servers` holds every image server of the project by id, `jobs` the recorded jobs in flight by id.

    `images` holds every private image that IMS lists, and those that it shows only when asked for by id; `gone` the
    recorded images that are certainly not there any more. Whatever could not be looked up is in none of them: unknown,
    and so the cause of nothing. `quota` None: not known. `problems` says in words which look-ups failed.
    `clock_offset` is the cloud's clock minus ours.
    """

    servers: Mapping[str, ObservedServer]
    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)
    images: Mapping[str, ObservedImage] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    quota: Quota | None = None
    problems: tuple[str, ...] = ()
    clock_offset: timedelta = timedelta(0)

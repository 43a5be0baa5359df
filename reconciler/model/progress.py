"""What execution says on its way: values for whoever shows them. None of them is needed to know what was done."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.plan import Action
from reconciler.model.record import BuildError


@dataclass(frozen=True, slots=True)
class JobKnown:
    """The job ID of a build became known. `found` where it was found afterwards, not answered to the request."""

    name: str
    server_id: str
    job_id: str
    found: bool = False


@dataclass(frozen=True, slots=True)
class JobResumed:
    """A build of an earlier run is being waited for."""

    name: str
    server_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class BuildSucceeded:
    """A build became an image. `seconds` is from the request to the end of the job."""

    name: str
    server_id: str
    job_id: str
    image_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """A job ended badly, or a request was refused (`job_id` is then empty)."""

    name: str
    server_id: str
    job_id: str
    error: BuildError


@dataclass(frozen=True, slots=True)
class OutcomeInDoubt:
    """A request may or may not have taken effect; it is being found out."""

    name: str
    server_id: str
    why: str


@dataclass(frozen=True, slots=True)
class RecordChanged:
    """A move, a forget or an update was done."""

    name: str
    action: Action
    detail: str


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """Said at intervals: how many builds are in flight, ended, and queued, so many seconds after the start."""

    in_flight: int
    ended: int
    queued: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth knowing that concerns no single build: a poll that failed, a run that is stopping."""

    text: str


Progress = JobKnown | JobResumed | BuildSucceeded | BuildFailed | OutcomeInDoubt | RecordChanged | StillWaiting | Remark

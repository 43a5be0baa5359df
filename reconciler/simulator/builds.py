"""How one build will go: everything about it is settled when it begins, and only the time has to pass."""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.simulator.records import BuildRequest, Fate, Job

# Error codes of failed jobs: the one for the quota is IMS's own (facts sheet 6.4); no source names one for a build that
# breaks or is called off, so it carries the image manager's "internal error".
QUOTA_CODE, QUOTA_MESSAGE = "IMG.0015", "The private image quota is used up."
FAILED_CODE, FAILED_MESSAGE = "WKS.00211401", "The image could not be created: the instance did not shut down in time."
_ENDS_IN_FAILURE = {
    "ROLLBACK": "The image could not be created, and the task was rolled back.",
    "ABORTING": "The image task was cancelled.",
}


def new_job(
    job_id: str,
    sub_job_id: str,
    request: BuildRequest,
    fate: Fate,
    *,
    at: datetime,
    build_time: float,
    full: bool,
    before: str,
) -> Job:
    """The job of a build that begins at `at` and takes `build_time` seconds; it has no image id yet.

    `full`: the builds that run will use up the quota. That ends the build soon after its begin, as in IMS, where the
    room is checked when an image is registered. `before`: the server's status until now.
    """
    runs_at = at + timedelta(seconds=fate.waiting)
    visible_at = at + timedelta(seconds=fate.lag)
    ends_at: datetime | None = runs_at + timedelta(seconds=build_time)
    troubled_at = None
    outcome, code, message = "SUCCESS", "", ""
    if full:
        outcome, code, message = "FAILED", QUOTA_CODE, QUOTA_MESSAGE
        ends_at = runs_at + timedelta(seconds=build_time / 10)
    elif fate.failed:
        outcome, code, message = "FAILED", FAILED_CODE, FAILED_MESSAGE
    elif fate.stuck:
        ends_at = None
    elif fate.trouble in _ENDS_IN_FAILURE:
        outcome, code, message = "FAILED", FAILED_CODE, _ENDS_IN_FAILURE[fate.trouble]
        lasts = build_time / 2 if fate.trouble_seconds is None else fate.trouble_seconds
        troubled_at = runs_at + timedelta(seconds=build_time / 2)
        ends_at = troubled_at + timedelta(seconds=lasts)
    elif fate.trouble:
        troubled_at = runs_at + timedelta(seconds=build_time / 2)
        late = fate.trouble_seconds
        ends_at = runs_at + timedelta(seconds=build_time + late) if late else None
    return Job(
        id=job_id,
        sub_job_id=sub_job_id,
        server_id=request.server_id,
        name=request.name,
        description=request.description,
        execute_sysprep=request.execute_sysprep,
        began_at=at,
        runs_at=runs_at,
        visible_at=visible_at,
        # What nothing shows cannot have ended either.
        ends_at=max(ends_at, visible_at) if ends_at is not None else None,
        waits_as=fate.waits_as,
        troubled_at=troubled_at,
        trouble=fate.trouble if troubled_at is not None else "",
        outcome=outcome,
        error_code=code,
        error_message=message,
        image_id="",
        status_before=before,
        blank_name=fate.blank_name,
    )

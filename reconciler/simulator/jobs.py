"""WorkspaceApp image jobs and sub jobs: list, show, count, delete (facts sheet 1.7 to 1.11)."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from reconciler.simulator.answers import Answer, BadValue, fraction_time, gateway_error, workspace_error
from reconciler.simulator.calls import MOST_OFFSET, Call, Operation
from reconciler.simulator.records import Job

BUILD_JOB = "CREATE_SERVER_IMAGE"
_JOB_TYPES = r"(CREATE_SERVER|CREATE_SERVER_IMAGE|DELETE_SERVER)?"
_JOB_STATUS = r"(WAITING|RUNNING|SUCCESS|FAILED)?"
_SUB_STATUS = r"(WAITING|RUNNING|SUCCESS|FAILED|ABNORMAL|ROLLBACK|ABORTING)?"

# In the documented example the sub job begins 1.1 s after its job of 1414 s, and ends 12 ms before it.
_BEGIN_SHARE, _END_SHARE = 0.0008, 0.00001


def job_item(job: Job, now: datetime) -> dict[str, object]:
    """A job as the lists show it."""
    return {
        "id": job.id,
        "job_type": BUILD_JOB,
        "begin_time": fraction_time(job.began_at),
        "end_time": fraction_time(job.ends_at) if job.ends_at is not None and job.ended(now) else "",
        "status": job.status(now),
        "sub_jobs_total": 1,
    }


def sub_job_item(call: Call, job: Job) -> dict[str, object]:
    """A job's sub job: the only place that tells the image's id, and why a build failed."""
    now, ended = call.now, job.ended(call.now)
    length = (job.ends_at - job.began_at) if job.ends_at is not None else timedelta(0)
    end = fraction_time(job.ends_at - length * _END_SHARE) if job.ends_at is not None and ended else ""
    return {
        "id": job.sub_job_id,
        "job_id": job.id,
        "job_type": BUILD_JOB,
        "begin_time": fraction_time(job.began_at + length * _BEGIN_SHARE),
        "end_time": end,
        "status": job.sub_status(now),
        "job_resource_info": {
            "resource_id": job.image_id if ended else "",
            "resource_name": "" if job.blank_name and not ended else job.name,
        },
        "job_execute_info": {
            "error_code": job.error_code if ended else "",
            "error_message": job.error_message if ended else "",
        },
        "project_id": call.world.project_id,
    }


def _page(call: Call, status: str, *, of_sub_jobs: bool) -> tuple[int, list[Job]]:
    offset = call.number("offset", 0, 0, MOST_OFFSET)
    limit = call.number("limit", 10, 1, 100)
    if "job_type" not in call.query:
        raise BadValue("job_type is mandatory")
    if call.text("job_type", _JOB_TYPES) not in ("", BUILD_JOB):
        return 0, []
    job_id = call.text("job_id", most=128) if of_sub_jobs else ""
    if job_id:
        found = [job for job in _of_job(call, job_id) if status in ("", job.sub_status(call.now))]
        return len(found), found[offset : offset + limit]
    count, jobs = call.world.jobs.latest(status, call.now, of_sub_jobs=of_sub_jobs)
    return count, list(islice(jobs, offset, offset + limit))


def _of_job(call: Call, job_id: str) -> list[Job]:
    job = call.world.jobs.get(job_id)
    return [job] if job is not None and job.visible_at <= call.now else []


def _refuse_lists(call: Call) -> None:
    if call.faults.strike("refuse-job-list", call.operation) is not None:
        raise gateway_error(404, "APIGW.0101", "The API does not exist or has not been published in the environment")


def list_jobs(call: Call) -> Answer:
    """ListImageJobs."""
    _refuse_lists(call)
    count, jobs = _page(call, call.text("status", _JOB_STATUS), of_sub_jobs=False)
    return Answer(200, {"count": count, "items": [job_item(job, call.now) for job in jobs]})


def show_job(call: Call) -> Answer:
    """ShowImageJob: the item of the list, and its sub jobs."""
    job = call.world.jobs.get(call.path["job_id"])
    if job is None or job.visible_at > call.now:
        raise workspace_error(404, "WKS.00211902", "The job does not exist.")
    return Answer(200, {**job_item(job, call.now), "sub_jobs": [sub_job_item(call, job)]})


def list_sub_jobs(call: Call) -> Answer:
    """ListImageSubJobs."""
    _refuse_lists(call)
    count, jobs = _page(call, call.text("status", _SUB_STATUS), of_sub_jobs=True)
    return Answer(200, {"count": count, "items": [sub_job_item(call, job) for job in jobs]})


def count_sub_jobs(call: Call) -> Answer:
    """CountImageSubJobs: the only one that takes several types, separated by commas."""
    status = call.text("status", _SUB_STATUS)
    types = call.text("job_type", most=128)
    if types and BUILD_JOB not in types.split(","):
        return Answer(200, {"count": 0})
    job_id = call.text("job_id", most=128)
    if job_id:
        return Answer(200, {"count": sum(status in ("", job.sub_status(call.now)) for job in _of_job(call, job_id))})
    return Answer(200, {"count": call.world.jobs.latest(status, call.now, of_sub_jobs=True)[0]})


def delete_sub_jobs(call: Call) -> Answer:
    """BatchDeleteImageSubJobs: unknown ids are ignored, what has not ended is refused. The job goes too."""
    items = call.json_object().get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= 20 or not all(isinstance(each, str) for each in items):
        raise BadValue("items must be 1 to 20 ids")
    if len(set(items)) != len(items):
        raise BadValue("items must be unique")
    world = call.world
    jobs = [job for job in map(world.jobs.of_sub_job, items) if job is not None]
    if not all(job.settled for job in jobs):
        raise workspace_error(409, "WKS.00211103", "Only sub jobs that have ended can be deleted.")
    for job in jobs:
        world.jobs.delete(job)
    if jobs:
        world.touch()
    return Answer(200)


_JOBS, _SUB_JOBS = "/v1/{project_id}/image-server-jobs", "/v1/{project_id}/image-server-sub-jobs"
OPERATIONS = (
    Operation("GET", _JOBS, "workspace", list_jobs),
    Operation("GET", _JOBS + "/{job_id}", "workspace", show_job),
    Operation("GET", _SUB_JOBS, "workspace", list_sub_jobs),
    Operation("GET", _SUB_JOBS + "/actions/count", "workspace", count_sub_jobs),
    Operation("PATCH", _SUB_JOBS + "/actions/batch-delete", "workspace", delete_sub_jobs),
)

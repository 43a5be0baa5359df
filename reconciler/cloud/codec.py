"""Objects of the cloud's answers -> the model. It parses and does not judge: unknown statuses stay as they are."""

from __future__ import annotations

from reconciler.cloud.answers import Fields
from reconciler.cloud.problems import clean
from reconciler.model.observed import ObservedImage, ObservedJob, ObservedServer, Quota

# The type of a recreate-image job, in requests and in answers.
IMAGE_JOB = "CREATE_SERVER_IMAGE"
# Jobs that make no image: the resource of most is an image server, of the last a deleted image (facts 1.7, 2.2).
_OTHER_JOBS = frozenset({"CREATE_SERVER", "DELETE_SERVER", "DELETE_IMAGE_BUILD_SERVER", "DELETE_IMAGE"})


def read_server(item: Fields) -> ObservedServer:
    """An image server: facts 1.3. The item's own `server_id` is another id, of no use in paths."""
    return ObservedServer(
        id=item.id("id"),
        name=item.known_text("name"),
        status=item.known_text("status"),
        image_id=item.optional_id("image_id"),
        description=item.text("description"),
        aps_server_id=item.optional_id("server_id"),
        instance_id=item.optional_id("instance_id"),
        updated_at=item.time("update_time"),
    )


def read_sub_job(item: Fields) -> ObservedJob:
    """A sub job as what it tells of its job: facts 1.9. The job's own status is not in it."""
    status = item.known_text("status")
    resource = item.object("job_resource_info", required=False)
    outcome = item.object("job_execute_info", required=False)
    return ObservedJob(
        id=item.id("job_id"),
        status=status,
        sub_status=status,
        image_id=_image_id(item, resource),
        image_name=resource.text("resource_name"),
        error_code=clean(outcome.text("error_code"), 64),
        error_message=clean(outcome.text("error_message")),
        began_at=item.time("begin_time"),
        ended_at=item.time("end_time"),
        makes_image=_makes_image(item),
    )


def read_job(item: Fields) -> ObservedJob:
    """A job (facts 1.7), with its sub jobs where the answer has them (1.8): the first has the image, any the reason."""
    sub_jobs = item.objects("sub_jobs", required=False)
    first = sub_jobs[0] if sub_jobs else item.object("sub_job", required=False)
    resource = first.object("job_resource_info", required=False)
    outcomes = [sub_job.object("job_execute_info", required=False) for sub_job in sub_jobs]
    told = next((outcome for outcome in outcomes if outcome.text("error_code") or outcome.text("error_message")), None)
    return ObservedJob(
        id=item.id("id"),
        status=item.known_text("status"),
        sub_status=first.text("status"),
        job_status_known=True,
        image_id=_image_id(item, resource),
        image_name=resource.text("resource_name"),
        error_code=clean(told.text("error_code"), 64) if told else "",
        error_message=clean(told.text("error_message")) if told else "",
        began_at=item.time("begin_time"),
        ended_at=item.time("end_time"),
        makes_image=_makes_image(item),
    )


def _makes_image(job: Fields) -> bool:
    return job.text("job_type") not in _OTHER_JOBS


def _image_id(job: Fields, resource: Fields) -> str:
    return resource.optional_id("resource_id") if _makes_image(job) else ""


def read_image(item: Fields) -> ObservedImage:
    """An image in IMS: facts 1.13."""
    return ObservedImage(
        id=item.id("id"),
        name=item.known_text("name"),
        status=item.text("status"),
        description=item.text("__description"),
        protected=item.flag("protected"),
        created_at=item.time("created_at"),
        kind=item.text("__imagetype"),
    )


def read_quota(body: Fields) -> Quota:
    """The private images' quota: facts 1.16."""
    quotas = body.object("quotas")
    for resource in quotas.objects("resources"):
        if resource.text("type") == "image":
            used, limit = resource.number("used"), resource.number("quota")
            if used < 0 or limit < 0:
                # Other services say "no limit" so; here it is not documented, and must not read as "no place".
                raise resource.unusable("quota", f"is {used} used of {limit}")
            return Quota(used, limit)
    raise quotas.unusable("resources", "has no entry of type image")

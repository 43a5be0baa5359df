"""What an id stands for: whom it believes, and that a failed look-up is no answer."""

import httpx
import pytest

from reconciler.cloud.identify import Identity, identify
from reconciler.errors import AuthenticationFailed, PermissionDenied
from tests.cloud.conftest import Cloud, job, ok, refused

pytestmark = pytest.mark.anyio

IMAGE, HIDDEN, MADE, JOB = "f5d443de", "0a1b2c3d", "99aabbcc", "702364883651395584"


def image(image_id: str) -> dict[str, object]:
    return {"id": image_id, "name": f"name of {image_id}", "status": "active", "created_at": "2026-01-02T03:04:05Z"}


class Ims:
    """Answers for images and jobs: what the list has, what can only be asked for by id, jobs, and refusals by path."""

    def __init__(
        self,
        listed: tuple[str, ...] = (),
        hidden: tuple[str, ...] = (),
        jobs: dict[str, dict[str, object]] | None = None,
        refusals: dict[str, httpx.Response] | None = None,
    ) -> None:
        self.listed, self.hidden = listed, hidden
        self.jobs = jobs or {}
        self.refusals = refusals or {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        for part, refusal in self.refusals.items():
            if part in path:
                return refusal
        last = path.rstrip("/").rpartition("/")[2]
        if path.startswith("/v2/cloudimages"):
            return ok({"images": [image(one) for one in self.listed]})
        if path.startswith("/v2/images/"):
            found = last in (*self.listed, *self.hidden)
            return ok(image(last)) if found else refused(404, "IMG.0027", "no such image")
        return ok(self.jobs[last]) if last in self.jobs else refused(404, "WKS.00211902", "no such job")


async def of(ims: Ims, image_id: str) -> Identity:
    return (await identify(Cloud(ims).client, [image_id]))[image_id]


async def test_a_list_is_enough_for_what_it_has() -> None:
    cloud = Cloud(Ims(listed=("a", "b", "c")))
    found = await identify(cloud.client, ["a", "b"])
    assert {one.image.id for one in found.values() if one.image} == {"a", "b"}
    assert cloud.client.requests_by_operation == {"ListImages": 1}


async def test_an_image_that_no_list_shows_is_found_by_id() -> None:
    found = await of(Ims(hidden=(HIDDEN,)), HIDDEN)
    assert found.image is not None
    assert found.job is None
    assert not found.gone


@pytest.mark.parametrize(("listed", "hidden"), [((MADE,), ()), ((), (MADE,))])
async def test_a_job_stands_for_the_image_that_it_made(listed: tuple[str, ...], hidden: tuple[str, ...]) -> None:
    made = job(JOB, "SUCCESS", job_resource_info={"resource_id": MADE, "resource_name": "n"})
    found = await of(Ims(listed, hidden, {JOB: made}), JOB)
    assert found.image is not None
    assert found.job is not None
    assert (found.image.id, found.job.id) == (MADE, JOB)


async def test_a_job_whose_image_is_deleted() -> None:
    made = job(JOB, "SUCCESS", job_resource_info={"resource_id": MADE, "resource_name": "n"})
    found = await of(Ims(jobs={JOB: made}), JOB)
    assert (found.image, found.gone, found.problem) == (None, True, "")


@pytest.mark.parametrize("status", ["RUNNING", "WAITING", "FAILED", "SOMETHING_NEW"])
async def test_a_job_without_an_image_is_neither_gone_nor_an_image(status: str) -> None:
    # While it runs the id of the image to be may be filled already (facts 2.2): it counts with SUCCESS only.
    running = job(JOB, status, job_resource_info={"resource_id": MADE, "resource_name": "n"})
    found = await of(Ims(listed=(MADE,), jobs={JOB: running}), JOB)
    assert found.job is not None
    assert (found.image, found.gone, found.problem, found.job.status) == (None, False, "", status)


async def test_what_neither_knows_is_gone() -> None:
    assert await of(Ims(), IMAGE) == Identity(IMAGE, gone=True)


@pytest.mark.parametrize(
    "refusals",
    [
        {"/v2/images": refused(403, "IMG.0026", "no")},
        {"/v2/images": refused(404, "APIGW.0101", "no such api")},
        {"/v2/images": refused(400, "IMG.0144", "invalid id")},
        {"/image-server-jobs": refused(403, "WKS.00081102", "no")},
        {"/image-server-jobs": refused(404, "APIG.0101", "no such api")},
    ],
)
async def test_a_failed_look_up_says_nothing(refusals: dict[str, httpx.Response]) -> None:
    found = await of(Ims(refusals=refusals), IMAGE)
    assert (found.image, found.job, found.gone) == (None, None, False)
    assert found.problem


async def test_a_job_is_found_though_ims_calls_its_id_invalid() -> None:
    made = job(JOB, "SUCCESS", job_resource_info={"resource_id": MADE, "resource_name": "n"})
    ims = Ims(listed=(MADE,), jobs={JOB: made}, refusals={"/v2/images": refused(400, "IMG.0144", "invalid id")})
    found = await of(ims, JOB)
    assert found.image is not None
    assert found.image.id == MADE


async def test_without_a_list_or_credentials_there_is_no_answer_at_all() -> None:
    with pytest.raises(PermissionDenied):
        await of(Ims(refusals={"/v2/cloudimages": refused(403, "IMG.0026", "no")}), IMAGE)
    with pytest.raises(AuthenticationFailed):
        await of(Ims(refusals={"/image-server-jobs": refused(401, "APIGW.0301", "no")}), IMAGE)

"""Builds that are recorded for what somebody else has made."""

from __future__ import annotations

from reconciler.cli.adopted import image_build, job_build
from reconciler.model.observed import ObservedImage, ObservedJob
from reconciler.model.record import BuildStatus, Context, Recorded
from reconciler.model.spec import ImageSpec
from reconciler.state import events
from reconciler.state.codec import decode, encode
from reconciler.state.document import Document


def test_whatever_ims_says_can_be_recorded() -> None:
    builds = (
        image_build(ObservedImage("i", "half \ud83d", description="\udc00"), ImageSpec(""), Context()),
        job_build(ObservedJob("j", "RUNNING", image_name="\ud83d"), ImageSpec("x"), Context()),
    )
    document = Document(Recorded())
    for build in builds:
        document.apply(events.BuildAdopted("s", "office", build))
    (record,) = decode(encode(document.view(), 0), "x").recorded.servers.values()
    assert [build.spec.name for build in record.builds] == ["half ?", "?"]


def test_a_job_tells_the_name_and_the_declaration_the_rest() -> None:
    like = ImageSpec("declared", "why", execute_sysprep=True, triggers={"a": "b"})
    failed = job_build(ObservedJob("j", "FAILED", image_name="told"), like, Context())
    assert failed.spec == ImageSpec("told", "why", execute_sysprep=True, triggers={"a": "b"})
    assert failed.error is not None
    assert failed.error.message == "the job failed"
    assert job_build(ObservedJob("j", "SOMETHING_NEW"), like, Context()).status is BuildStatus.RUNNING
    # SUCCESS without an image is not the end of it.
    assert job_build(ObservedJob("j", "SUCCESS"), like, Context()).status is BuildStatus.RUNNING

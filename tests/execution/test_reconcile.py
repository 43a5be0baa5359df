"""Rule 3a: what became of a request in doubt, from what the cloud shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.execution.reconcile import Adopt, AskPerson, Evidence, LookOn, NotIssued, Verdict, judge
from reconciler.model.observed import ObservedImage, ObservedJob, ObservedServer
from reconciler.model.record import Build, BuildStatus
from reconciler.model.spec import ImageSpec

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BUILD = Build("a1", ImageSpec("office-1"), BuildStatus.UNKNOWN, NOON, server_status="BUILT", server_image_id="old")
IDLE = ObservedServer("s1", "office", "BUILT", image_id="old")
BUILDING = ObservedServer("s1", "office", "BUILDING", image_id="old")
CHANGED = ObservedServer("s1", "office", "BUILT", image_id="new")
EARLY, LATE = NOON + timedelta(seconds=10), NOON + timedelta(seconds=200)


def job(identifier: str = "j1", **fields: str) -> ObservedJob:
    return ObservedJob(identifier, **{"status": "RUNNING", "image_name": "office-1", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("evidence", "now", "verdict"),
    [
        # Exactly one job of that name: it is the build, whatever its status.
        (Evidence(BUILDING, (job(),)), EARLY, Adopt("j1")),
        (Evidence(IDLE, (job(status="FAILED"),)), LATE, Adopt("j1")),
        (Evidence(BUILDING, (job(), job("j2", image_name="other"))), EARLY, Adopt("j1")),
        (Evidence(None, (job(),), gaps=("the server",)), EARLY, Adopt("j1")),
        # Two of them: nobody can tell.
        (Evidence(BUILDING, (job(), job("j2"))), LATE, AskPerson),
        # A job without a name is the build if its image is what the server shows now.
        (Evidence(CHANGED, (job(status="SUCCESS", image_name="", image_id="new"),)), LATE, Adopt("j1")),
        (Evidence(BUILDING, (job(image_name=""),)), LATE, LookOn),
        (Evidence(IDLE, (job(image_name=""),)), LATE, LookOn),
        # BUILDING without a match: look on until it ends.
        (Evidence(BUILDING), LATE, LookOn),
        # Traces that no job explains need a person.
        (Evidence(CHANGED), LATE, AskPerson),
        (Evidence(IDLE, images=(ObservedImage("i1", "office-1"),)), LATE, AskPerson),
        (Evidence(None), LATE, AskPerson),
        (Evidence(ObservedServer("s1", "office", "ERROR")), LATE, AskPerson),
        # A look-up that failed proves nothing.
        (Evidence(IDLE, gaps=("the jobs",)), LATE, LookOn),
        (Evidence(None, gaps=("the server",)), LATE, LookOn),
        # No trace at all: not issued, once the quiet time has passed.
        (Evidence(IDLE), EARLY, LookOn),
        (Evidence(IDLE), NOON + timedelta(seconds=180), LookOn),
        (Evidence(IDLE), NOON + timedelta(seconds=180.1), NotIssued()),
        (Evidence(ObservedServer("s1", "office", "ACTIVE")), LATE, NotIssued()),
    ],
)
def test_the_verdict(evidence: Evidence, now: datetime, verdict: Verdict | type) -> None:
    found = judge(BUILD, evidence, now, 180.0)
    if isinstance(verdict, type):
        assert isinstance(found, verdict)
    else:
        assert found == verdict


_servers = st.none() | st.builds(
    ObservedServer,
    id=st.just("s1"),
    name=st.just("office"),
    status=st.sampled_from(["ACTIVE", "BUILT", "BUILDING", "ERROR", "null", "NEW"]),
    image_id=st.sampled_from(["", "old", "new"]),
)
_jobs = st.builds(
    ObservedJob,
    id=st.sampled_from(["j1", "j2", "j3"]),
    status=st.sampled_from(["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL"]),
    image_name=st.sampled_from(["", "office-1", "other"]),
    image_id=st.sampled_from(["", "new", "third"]),
)
_images = st.builds(ObservedImage, id=st.sampled_from(["i1", "i2"]), name=st.just("office-1"))


@given(
    server=_servers,
    jobs=st.lists(_jobs, max_size=3, unique_by=lambda one: one.id),
    images=st.lists(_images, max_size=2),
    gaps=st.lists(st.just("the jobs"), max_size=1),
    seconds=st.floats(-600, 100_000),
)
def test_it_is_called_not_issued_only_where_there_is_no_trace(
    server: ObservedServer | None,
    jobs: list[ObservedJob],
    images: list[ObservedImage],
    gaps: list[str],
    seconds: float,
) -> None:
    evidence = Evidence(server, tuple(jobs), tuple(images), tuple(gaps))
    verdict = judge(BUILD, evidence, NOON + timedelta(seconds=seconds), 180.0)
    if isinstance(verdict, Adopt):
        assert verdict.job_id in {one.id for one in jobs if one.image_name in ("office-1", "")}
    if isinstance(verdict, NotIssued):
        assert seconds > 180
        assert server is not None
        assert server.status in ("ACTIVE", "BUILT")
        assert server.image_id in ("", "old")
        assert not images
        assert not gaps
        assert not any(one.image_name == "office-1" for one in jobs)

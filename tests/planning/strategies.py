"""Arbitrary inputs of the planner: small enough that servers, names and images meet often."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from reconciler.model.observed import Observation, ObservedImage, ObservedJob, ObservedServer, Quota
from reconciler.model.record import Build, BuildError, BuildStatus, Held, Record, Recorded
from reconciler.model.spec import DeclaredServer, ImageSpec, Limits, Manifest
from reconciler.planning.planner import Options
from reconciler.planning.selection import LabelTerm, Selection
from tests.planning.figures import BINDING, LINEAGE, NOON

ANY_TEXT = st.text(st.characters(), max_size=12)
SERVER_IDS = tuple(f"s{i}" for i in range(5))
NAMES = ("one", "two", "three", "four", "five")

specs = st.builds(
    ImageSpec,
    name=st.sampled_from(["image-1", "image-2"]) | ANY_TEXT,
    description=st.sampled_from(["", "x"]) | ANY_TEXT,
    execute_sysprep=st.none() | st.booleans(),
    triggers=st.dictionaries(st.sampled_from(["gpu", "__x", "a']['b", "a.b", ""]) | ANY_TEXT, ANY_TEXT, max_size=2),
)
few_specs = st.sampled_from([ImageSpec("image-1"), ImageSpec("image-1", "x"), ImageSpec("image-2")]) | specs
IMAGE_IDS = ("i1", "i2", "i3", "i4", "i5", "i6")
image_ids = st.sampled_from(["", *IMAGE_IDS])
limits = st.builds(Limits, *([st.none() | st.integers(0, 4)] * 3))


@st.composite
def builds(draw: st.DrawFn, *, ended: bool = False) -> Build:
    statuses = [status for status in BuildStatus if not (ended and status.in_flight)]
    status = draw(st.sampled_from(statuses))
    return Build(
        attempt_id=draw(st.sampled_from(["a1", "a2"])),
        spec=draw(few_specs),
        status=status,
        requested_at=NOON,
        job_id=draw(st.sampled_from(["", "j1", "j2"])),
        finished_at=draw(st.none() | st.integers(-9, 9).map(lambda minutes: NOON + timedelta(minutes=minutes))),
        image_id=draw(image_ids),
        error=draw(st.none() | st.builds(BuildError, ANY_TEXT, ANY_TEXT)),
        adopted=draw(st.sampled_from([False, False, True])),
        deleted_at=draw(st.sampled_from([None, None, NOON])),
    )


@st.composite
def records(draw: st.DrawFn, server_id: str, name: str, *, retired: bool) -> Record:
    spec = draw(st.none() | few_specs)
    return Record(
        server_id=server_id,
        name=name,
        held=Held(spec, draw(image_ids)) if spec is not None else None,
        attempt=draw(st.none() | builds(ended=retired)),
        history=tuple(draw(st.lists(builds(ended=True), max_size=3))),
        protect=draw(st.booleans()),
        retired_at=NOON if retired else None,
    )


def names(count: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(NAMES) | ANY_TEXT, min_size=count, max_size=count, unique=True)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    server_ids = draw(st.lists(st.sampled_from(SERVER_IDS), unique=True))
    servers = [
        DeclaredServer(
            name,
            server_id,
            draw(few_specs),
            draw(st.dictionaries(st.sampled_from(["ring", "team"]), st.sampled_from(["a", "b"]))),
            draw(st.booleans()),
            draw(st.none() | st.integers(1, 3)),
        )
        for server_id, name in zip(server_ids, draw(names(len(server_ids))), strict=True)
    ]
    return Manifest({server.name: server for server in servers}, limits=draw(limits))


@st.composite
def states(draw: st.DrawFn) -> Recorded:
    if draw(st.integers(0, 9)) == 0:
        return Recorded()
    server_ids = draw(st.lists(st.sampled_from(SERVER_IDS), unique=True))
    found = [
        draw(records(server_id, name, retired=draw(st.sampled_from([False, False, False, True]))))
        for server_id, name in zip(server_ids, draw(names(len(server_ids))), strict=True)
    ]
    return Recorded(
        lineage=LINEAGE,
        serial=draw(st.integers(0, 99)),
        bound_to=draw(st.sampled_from([None, *[BINDING] * 8, replace(BINDING, region="cn-north-4")])),
        servers={one.server_id: one for one in found if one.retired_at is None},
        retired={one.server_id: one for one in found if one.retired_at is not None},
        limits=draw(limits),
        exists=True,
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation | None:
    if draw(st.booleans()):
        return None
    statuses = st.sampled_from(["ACTIVE", "BUILT", "BUILT", "BUILDING", "ERROR"]) | ANY_TEXT
    other_ids = st.sampled_from(["", *SERVER_IDS])
    servers = [
        ObservedServer(
            server_id,
            draw(st.sampled_from(["s4", "cad"]) | ANY_TEXT),
            draw(statuses),
            draw(image_ids),
            aps_server_id=draw(other_ids),
            instance_id=draw(other_ids),
        )
        for server_id in draw(st.lists(st.sampled_from(SERVER_IDS), unique=True))
    ]
    jobs = [ObservedJob(job_id, draw(st.sampled_from(["SUCCESS", "FAILED"]) | ANY_TEXT)) for job_id in ("", "j1")]
    listed = draw(st.lists(st.sampled_from(IMAGE_IDS), unique=True))
    return Observation(
        servers={one.id: one for one in servers},
        jobs={one.id: one for one in draw(st.permutations(jobs))[:1]},
        images={image_id: draw(images(image_id)) for image_id in listed},
        gone=frozenset(draw(st.lists(st.sampled_from(IMAGE_IDS), max_size=2))) - set(listed),
        quota=draw(st.none() | st.builds(Quota, st.integers(0, 6), st.integers(0, 8))),
        problems=draw(st.just(()) | st.tuples(ANY_TEXT)),
    )


def images(image_id: str) -> st.SearchStrategy[ObservedImage]:
    return st.builds(
        ObservedImage,
        id=st.just(image_id),
        name=st.sampled_from(["image-1", "image-2"]) | ANY_TEXT,
        status=st.sampled_from(["active", "active", "saving", ""]),
        description=st.sampled_from(["", "x"]) | ANY_TEXT,
        protected=st.booleans(),
        created_at=st.none() | st.just(NOON),
    )


some_names = st.lists(st.sampled_from(NAMES), max_size=2)
patterns = st.sampled_from([*NAMES, "*", "t*", "[", "[z-a]"]) | ANY_TEXT
terms = st.builds(LabelTerm, st.sampled_from(["ring", "team"]), st.sampled_from(["a", "b", "c"]), negated=st.booleans())
selections = (
    st.just(Selection())
    | st.just(Selection())
    | st.builds(
        Selection,
        targets=st.lists(patterns, max_size=2).map(tuple),
        excludes=st.lists(patterns, max_size=1).map(tuple),
        labels=st.lists(terms, max_size=1).map(tuple),
    )
)


@st.composite
def options(draw: st.DrawFn, /, **fixed: Any) -> Options:
    drawn = {
        "selection": draw(selections),
        "replace": frozenset(draw(st.just([]) | st.just([]) | some_names)),
        "allowed": frozenset(draw(st.just([]) | some_names)),
        "allow_empty": draw(st.booleans()),
        "limits": draw(limits),
    }
    return Options(**{**drawn, **fixed})

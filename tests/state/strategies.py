"""Arbitrary states that imgctl could have written."""

from __future__ import annotations

import string
from datetime import UTC, datetime

from hypothesis import strategies as st

from reconciler.model.record import Binding, Build, BuildError, BuildStatus, Context, Held, Record, Recorded
from reconciler.model.spec import ImageSpec, Limits

ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40)
# JSON carries every character but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# The state writes milliseconds.
times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
specs = st.builds(
    ImageSpec,
    name=texts.filter(bool),
    description=texts,
    execute_sysprep=st.none() | st.booleans(),
    triggers=st.dictionaries(texts, texts, max_size=3),
)
errors = st.builds(BuildError, code=texts, message=texts, request_id=texts)
contexts = st.builds(Context, *([texts] * len(Context.__slots__)))


@st.composite
def builds(draw: st.DrawFn) -> Build:
    status = draw(st.sampled_from(BuildStatus))
    return Build(
        attempt_id=draw(ids),
        spec=draw(specs),
        status=status,
        requested_at=draw(times),
        server_status=draw(texts),
        server_image_id=draw(st.just("") | ids),
        job_id=draw(ids if status is BuildStatus.RUNNING else st.just("") | ids),
        finished_at=draw(st.none() | times),
        image_id=draw(st.just("") | ids),
        error=draw(st.none() | errors.filter(lambda error: any((error.code, error.message, error.request_id)))),
        plan_id=draw(texts),
        context=draw(contexts),
        adopted=draw(st.booleans()),
        deleted_at=draw(st.none() | times),
        pruned_by=draw(texts),
    )


held = st.builds(Held, spec=specs, image_id=ids, job_id=st.just("") | ids, built_at=st.none() | times)


@st.composite
def records(draw: st.DrawFn, server_id: str) -> Record:
    return Record(
        server_id=server_id,
        name=draw(texts.filter(bool)),
        held=draw(st.none() | held),
        attempt=draw(st.none() | builds()),
        history=tuple(draw(st.lists(builds(), max_size=2))),
        protect=draw(st.booleans()),
        retired_at=draw(st.none() | times),
    )


counts = st.none() | st.integers(0, 10**6)


@st.composite
def states(draw: st.DrawFn) -> Recorded:
    def some() -> dict[str, Record]:
        return {server_id: draw(records(server_id)) for server_id in draw(st.lists(ids, max_size=3, unique=True))}

    return Recorded(
        lineage=draw(texts.filter(bool)),
        serial=draw(st.integers(0, 10**9)),
        bound_to=draw(st.none() | st.builds(Binding, st.sampled_from(["huaweicloud", "simulator"]), texts, texts)),
        servers=some(),
        retired=some(),
        limits=draw(st.builds(Limits, counts, counts, counts)),
        exists=True,
        state_url=draw(st.none() | texts),
        moved_to=draw(texts),
    )

"""What an apply says on its way, and at its end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import UsageError
from reconciler.model.outcome import Outcome, Result, ResultKind, StopReason
from reconciler.model.plan import Action, Change
from reconciler.model.progress import (
    BuildFailed,
    BuildSucceeded,
    JobKnown,
    JobResumed,
    OutcomeInDoubt,
    Progress,
    RecordChanged,
    Remark,
    StillWaiting,
)
from reconciler.model.record import BuildError
from reconciler.render.progress import render_outcome, render_progress
from reconciler.render.terminal import Style

FULL = BuildError("IMG.0042", "the disk is full", "r-1")


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (JobKnown("office", "s1", "697354"), "office: build started, job 697354"),
        (JobKnown("office", "s1", "697354", found=True), "office: found its build, job 697354"),
        (JobResumed("office", "s1", "697354"), "office: waiting for job 697354"),
        (BuildSucceeded("办公", "s1", "697354", "i1", 1415), "办公: built image i1 in 24 min (job 697354)"),
        (
            BuildFailed("office", "s1", "697354", FULL),
            "office: job 697354 failed: IMG.0042 the disk is full (request id r-1)",
        ),
        (BuildFailed("office", "s1", "", BuildError("", "busy")), "office: not started: busy"),
        (
            OutcomeInDoubt("office", "s1", "the connection was lost"),
            "office: outcome unknown, looking for traces of it: the connection was lost",
        ),
        (RecordChanged("writing", Action.MOVE, "was office"), "writing: moved (was office)"),
        (RecordChanged("office", Action.FORGET, "image i1 stays"), "office: forgotten (image i1 stays)"),
        (RecordChanged("office", Action.UPDATE, "description edited"), "office: updated (description edited)"),
        (StillWaiting(2, 1, 0, 90), "2 builds in flight, 1 ended, after 2 min"),
        (StillWaiting(1, 0, 7, 30), "1 build in flight, 0 ended, 7 queued, after 30 s"),
        (Remark("the jobs could not be looked up"), "the jobs could not be looked up"),
    ],
)
def test_one_line_each(happened: Progress, line: str) -> None:
    assert render_progress(happened, Style()) == line
    coloured = render_progress(happened, Style(colour=True))
    assert re.sub(r"\x1b\[[0-9;]+m", "", coloured) == line


texts = st.text(st.characters())
hostile = st.one_of(
    st.builds(JobKnown, texts, texts, texts, st.booleans()),
    st.builds(JobResumed, texts, texts, texts),
    st.builds(BuildSucceeded, texts, texts, texts, texts, st.floats(0, 1e6)),
    st.builds(BuildFailed, texts, texts, texts, st.builds(BuildError, texts, texts, texts)),
    st.builds(OutcomeInDoubt, texts, texts, texts),
    st.builds(RecordChanged, texts, st.sampled_from(Action), texts),
    st.builds(Remark, texts),
)


@given(hostile)
def test_nothing_hostile_is_said(happened: Progress) -> None:
    line = render_progress(happened, Style())
    assert all(char.isprintable() or char == "\u3000" for char in line)


def outcome(*results: tuple[str, Action, ResultKind, str], **fields: Any) -> Outcome:
    return Outcome(
        tuple(Result(Change(name, f"id of {name}", action), kind, detail) for name, action, kind, detail in results),
        seconds=1415,
        requests=9,
        **fields,
    )


BUILT = ("office", Action.BUILD, ResultKind.DONE, "")
RUNNING = ("cad", Action.REBUILD, ResultKind.RUNNING, "job 697354")
FAILED = ("办公", Action.REBUILD, ResultKind.FAILED, "IMG.0042 the disk is full")
BUSY = ("web", Action.BUILD, ResultKind.NOT_STARTED, "the server is in ERROR: repair it in the console first")
UNCLEAR = ("lab", Action.BUILD, ResultKind.UNCLEAR, "two jobs could be it: 1, 2")
REBUILT = ("kiosk", Action.REBUILD, ResultKind.DONE, "")
MOVED = ("writing", Action.MOVE, ResultKind.DONE, "")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (outcome(), "Apply complete! nothing to do, in 24 min.\n"),
        (outcome(MOVED, REBUILT, BUILT, BUILT), "Apply complete! 1 moved, 1 rebuilt, 2 built, in 24 min.\n"),
        (
            outcome(BUILT, RUNNING),
            (
                "Apply complete! 1 built, 1 running, in 24 min.\n"
                "1 build goes on in the cloud and is recorded.\n"
                "  imgctl wait  picks them up and records their images; it starts nothing.\n"
            ),
        ),
        (
            outcome(RUNNING, RUNNING, BUSY, stopped=StopReason.TIMEOUT),
            (
                "Apply incomplete. 2 running, 1 not started, in 24 min.\n"
                "not started:\n"
                "  web  the server is in ERROR: repair it in the console first\n"
                "2 builds go on in the cloud and are recorded.\n"
                "  imgctl wait  picks them up and records their images; it starts nothing.\n"
                "  imgctl apply continues with what was not started.\n"
            ),
        ),
        (
            outcome(BUILT, FAILED, BUSY, UNCLEAR),
            (
                "Apply incomplete. 1 built, 1 failed, 1 unclear, 1 not started, in 24 min.\n"
                "failed:\n"
                "  办公  IMG.0042 the disk is full\n"
                "unclear:\n"
                "  lab  two jobs could be it: 1, 2\n"
                "not started:\n"
                "  web  the server is in ERROR: repair it in the console first\n"
                "Unclear requests are never sent again by themselves. Look at these servers in the console, then:\n"
                "  imgctl import NAME --job-id ID         a build is there; --image-id ID for its image\n"
                "  imgctl state settle NAME --not-issued  nothing is there; the next apply sends it anew\n"
            ),
        ),
        (
            outcome(BUILT, stopped=StopReason.ERROR, error=UsageError("x")),
            "Apply incomplete. 1 built, in 24 min.\n",
        ),
    ],
)
def test_what_became_of_it(what: Outcome, text: str) -> None:
    assert render_outcome(what, Style()) == text
    assert re.sub(r"\x1b\[[0-9;]+m", "", render_outcome(what, Style(colour=True))) == text


def test_everything_that_was_not_done_is_named() -> None:
    results = [(f"n{i}", Action.BUILD, ResultKind.NOT_STARTED, "why") for i in range(50)]
    text = render_outcome(outcome(*results), Style())
    assert all(f"  n{i} " in text for i in range(50))


@given(texts, texts)
def test_nothing_hostile_is_left_at_the_end(name: str, detail: str) -> None:
    for kind in ResultKind:
        text = render_outcome(outcome((name, Action.BUILD, kind, detail)), Style())
        assert all(char.isprintable() or char in "\n\u3000" for char in text)

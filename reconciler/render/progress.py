"""What happens during an apply, a line each, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from reconciler.errors import StateError
from reconciler.model.outcome import Outcome, Result, ResultKind
from reconciler.model.plan import Action
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
from reconciler.render.terminal import Style, clean, duration, plural, table

_DONE_WORDS = {
    Action.RESUME: "resumed",
    Action.MOVE: "moved",
    Action.FORGET: "forgotten",
    Action.REBUILD: "rebuilt",
    Action.BUILD: "built",
    Action.UPDATE: "updated",
    Action.PRUNE: "pruned",
    Action.REFRESH: "refreshed",
}


def render_progress(happened: Progress, style: Style) -> str:
    """One line, without its newline. A job ID always stands as `job ID`, so that it can be found in a log."""
    match happened:
        case JobKnown(name, _, job_id, found):
            how = "found its build" if found else "build started"
            return f"{clean(name)}: {how}, job {clean(job_id)}"
        case JobResumed(name, _, job_id):
            return f"{clean(name)}: waiting for job {clean(job_id)}"
        case BuildSucceeded(name, _, job_id, image_id, seconds):
            built = f"{style('built', 'green')} image {clean(image_id)} in {duration(seconds)}"
            return f"{clean(name)}: {built} (job {clean(job_id)})"
        case BuildFailed(name, _, job_id, error):
            what = f"job {clean(job_id)} failed" if job_id else "not started"
            said = f"{error.code} {error.message}".strip()
            trace = f" (request id {error.request_id})" if error.request_id else ""
            return f"{clean(name)}: {style(what, 'red')}: {clean(said)}{clean(trace)}"
        case OutcomeInDoubt(name, _, why):
            return f"{clean(name)}: {style('outcome unknown', 'yellow')}, looking for traces of it: {clean(why)}"
        case RecordChanged(name, action, detail):
            return f"{clean(name)}: {_DONE_WORDS[action]} ({clean(detail)})"
        case StillWaiting(in_flight, ended, queued, seconds):
            waiting = f", {queued} queued" if queued else ""
            return f"{plural(in_flight, 'build')} in flight, {ended} ended{waiting}, after {duration(seconds)}"
        case Remark(text):
            return clean(text)
        case _:
            assert_never(happened)


def render_outcome(outcome: Outcome, style: Style, *, verbose: bool = False) -> str:
    """What became of the plan, ending in a newline: the counts, then everything that was not done, and what to do.

    `verbose` also says how many requests it took.
    """
    done = outcome.of(ResultKind.DONE)
    counts = [
        f"{count} {word}"
        for action, word in _DONE_WORDS.items()
        if (count := sum(result.change.action is action for result in done))
    ]
    counts += [
        f"{len(results)} {kind.value}"
        for kind in (ResultKind.RUNNING, ResultKind.FAILED, ResultKind.UNCLEAR, ResultKind.NOT_STARTED)
        if (results := outcome.of(kind))
    ]
    head = "Apply complete!" if outcome.complete else "Apply incomplete."
    lines = [f"{style(head, 'bold')} {', '.join(counts) or 'nothing to do'}, in {duration(outcome.seconds)}."]
    for kind in (ResultKind.FAILED, ResultKind.UNCLEAR, ResultKind.NOT_STARTED):
        lines += _listed(kind, outcome.of(kind), style)
    lines += _next_steps(outcome)
    if verbose:
        begun = [one for one in outcome.results if one.kind is not ResultKind.NOT_STARTED]
        builds = sum(one.change.action.builds or one.change.action is Action.RESUME for one in begun)
        each = f", {outcome.requests / builds:.2f} for each build" if builds else ""
        lines.append(f"{plural(outcome.requests, 'request')} in all{each}.")
    return "\n".join(lines) + "\n"


def _listed(kind: ResultKind, results: tuple[Result, ...], style: Style) -> Iterable[str]:
    if results:
        yield style(f"{kind.value}:", "red" if kind is ResultKind.FAILED else "yellow")
        yield from table(((clean(one.change.name), clean(one.detail)) for one in results), indent="  ")


def _next_steps(outcome: Outcome) -> Iterable[str]:
    running = len(outcome.of(ResultKind.RUNNING))
    if running:
        verb = "goes on" if running == 1 else "go on"
        recorded = f"and {'is' if running == 1 else 'are'} recorded"
        if isinstance(outcome.error, StateError):
            recorded = "though the state could not be written: the job IDs stand above"
        yield f"{plural(running, 'build')} {verb} in the cloud {recorded}."
        yield "  imgctl wait  picks them up and records their images; it starts nothing."
        if outcome.postponed:
            yield "  imgctl apply  does so too, and prunes what they replace."
    if outcome.stopped and outcome.of(ResultKind.NOT_STARTED):
        yield "  imgctl apply continues with what was not started."
    if outcome.of(ResultKind.UNCLEAR):
        yield "Unclear requests are never sent again by themselves. Look at these servers in the console, then:"
        yield "  imgctl import NAME --job-id ID         a build is there; --image-id ID for its image"
        yield "  imgctl state settle NAME --not-issued  nothing is there; the next apply sends it anew"

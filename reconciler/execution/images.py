"""What is done to images that exist: edited in place, or deleted once their successor has been built."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from reconciler.cloud.problems import is_no_such_api
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    CloudError,
    NotFound,
    OutcomeUnknown,
    ServiceFailed,
)
from reconciler.execution.run import Run, Stopped
from reconciler.model.observed import ObservedImage
from reconciler.model.outcome import Result, ResultKind, StopReason
from reconciler.model.plan import Change
from reconciler.model.progress import RecordChanged
from reconciler.model.spec import ImageSpec
from reconciler.planning.availability import why_not_editable
from reconciler.planning.drift import same_description
from reconciler.state import events

_T = TypeVar("_T")

# Answers after which an edit or a deletion may have been done or not: it shows, and may be asked for again (6.7).
_UNCERTAIN = (OutcomeUnknown, ServiceFailed, BadAnswer)
_REQUESTS = 4
# Looks at an image before it is asked for again what may have been done already.
_LOOKS = 4
# How long a server may go on showing the image that a build has just replaced, and how long IMS may take to delete one.
_SHOWN_SECONDS = 60.0
_DELETED_SECONDS = 600.0
# How long a run that is told to stop still listens for the answer to an edit or a deletion.
_ANSWER_SECONDS = 5.0


class _Ended(Exception):  # noqa: N818 - a signal between the functions of this module
    """The change goes no further: this is how it ended."""

    def __init__(self, kind: ResultKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


async def update_image(run: Run, change: Change) -> Result:
    """Give the held image the declared name and description in IMS, and record them: no build."""
    if change.after is None:
        raise ValueError(f"update of {change.name} without a spec")
    return await _ending(run, change, _update(run, change, change.after))


async def prune_image(run: Run, change: Change) -> Result:
    """Delete an image whose successor has just been built, and see that it is gone.

    Everything that forbids it is looked at once more, as it is now: whether the successor is there, what is held, what
    any server shows, and whether somebody has protected the image since.
    """
    return await _ending(run, change, _prune(run, change))


async def _ending(run: Run, change: Change, work: Coroutine[None, None, None]) -> Result:
    """What became of a change, whose `work` returns once it is done and recorded."""
    try:
        await work
    except _Ended as end:
        return Result(change, end.kind, end.detail)
    except CloudError as error:
        if isinstance(error, AuthenticationFailed):
            # Every further request would fail alike, and more than five in a row lock the access key.
            run.stop(StopReason.ERROR, error)
        return Result(change, ResultKind.FAILED, error.summary)
    except Stopped:
        return Result(change, ResultKind.NOT_STARTED, f"the run was stopped ({run.stopped})")
    return Result(change, ResultKind.DONE)


async def _update(run: Run, change: Change, spec: ImageSpec) -> None:
    image, problem = await _look(run, change.image_id), ""
    pauses = _pauses(run)
    for left in reversed(range(_REQUESTS + 1)):
        if image is None:
            raise _Ended(ResultKind.FAILED, f"image {change.image_id} is gone: the next plan builds it anew")
        if _shows(image, spec):
            break
        if not left:
            raise _Ended(ResultKind.FAILED, problem)
        if why := why_not_editable(image):
            raise _Ended(ResultKind.NOT_STARTED, why)
        with _asked(f"IMS was asked to edit image {image.id}"):
            edit = run.cloud.edit_image(image, name=spec.name, description=spec.description)
            try:
                edited = await _answer(run, edit)
            except _UNCERTAIN as error:
                problem = error.summary
            else:
                if _shows(edited, spec):
                    break
                problem = f"IMS edited image {image.id}, yet shows another name or description than was asked for"
            await run.pause(next(pauses))
            image = await _look(run, change.image_id)
    edited_to = events.HeldEdited(change.server_id, change.image_id, spec.name, spec.description)
    await _record(run, edited_to, "the image was edited")
    fields = " and ".join(one.path.removeprefix("image.") for one in change.diff)
    run.report(RecordChanged(change.name, change.action, f"{fields} in IMS"))


def _shows(image: ObservedImage, spec: ImageSpec) -> bool:
    return image.name == spec.name and same_description(image.description, spec.description)


async def _prune(run: Run, change: Change) -> None:
    image_id = change.image_id
    await _check_successor(run, change)
    await _check_unused(run, change)
    image = await _look(run, image_id)
    if image is None:
        how, pruned_by = "was gone already", ""
    elif image.protected:
        raise _Ended(ResultKind.NOT_STARTED, f"image {image_id} is protected in IMS")
    else:
        await _delete(run, image_id)
        how, pruned_by = "deleted", run.plan.plan_id
    gone = events.ImageGone(change.server_id, image_id, run.now(), pruned_by)
    await _record(run, gone, f"image {image_id} {how}")
    named = f" ({change.before.name})" if change.before is not None else ""
    run.report(RecordChanged(change.name, change.action, f"image {image_id}{named} {how}"))


async def _check_successor(run: Run, change: Change) -> None:
    """What the server holds now must be in IMS: a job that succeeded is no image yet, and this may be the last one."""
    held = run.writer.recorded.servers[change.server_id].held
    if held is None:
        raise _Ended(ResultKind.NOT_STARTED, "the server holds no image, so none is pruned")
    begun = time.monotonic()
    pauses = _pauses(run)
    while True:
        image = await _look(run, held.image_id)
        if image is not None and not why_not_editable(image):
            return
        if time.monotonic() - begun > _SHOWN_SECONDS:
            how = f"is {image.status}" if image is not None else "does not show itself"
            raise _Ended(ResultKind.NOT_STARTED, f"the new image {held.image_id} {how} in IMS, so nothing is pruned")
        await run.pause(next(pauses))


async def _check_unused(run: Run, change: Change) -> None:
    """Nothing must hold the image or show it. Its own server may take a moment to show the new one instead."""
    image_id, begun = change.image_id, time.monotonic()
    pauses = _pauses(run)
    while True:
        records = run.writer.recorded.all_records
        holder = next((one for one in records if one.held is not None and one.held.image_id == image_id), None)
        if holder is not None:
            raise _Ended(ResultKind.NOT_STARTED, f"{holder.name} holds image {image_id}")
        servers = await run.interruptible(run.servers.since(time.monotonic()))
        showing = [server.id for server in servers.values() if server.image_id == image_id]
        if not showing:
            return
        if showing != [change.server_id] or time.monotonic() - begun > _SHOWN_SECONDS:
            raise _Ended(ResultKind.NOT_STARTED, f"image server {showing[0]} shows image {image_id}")
        await run.pause(next(pauses))


async def _delete(run: Run, image_id: str) -> None:
    """Ask IMS until the image is seen to be gone: that it took the request proves nothing (facts 1.15)."""
    problem, asked = "", f"IMS was asked to delete image {image_id}"
    for _ in range(_REQUESTS):
        with _asked(asked):
            try:
                await _answer(run, run.cloud.delete_image(image_id))
            except (*_UNCERTAIN, NotFound) as error:
                if isinstance(error, NotFound) and is_no_such_api(error):
                    raise
                problem = error.summary
                if await _gone_within(run, image_id, looks=_LOOKS):
                    return
            else:
                if await _gone_within(run, image_id, seconds=_DELETED_SECONDS):
                    return
                raise _Ended(ResultKind.FAILED, f"{asked}, and still shows it")
    raise _Ended(ResultKind.FAILED, f"{asked}, and still shows it: {problem}")


async def _gone_within(run: Run, image_id: str, *, looks: int | None = None, seconds: float | None = None) -> bool:
    """True once IMS does not have the image any more; False after so many looks, or seconds."""
    begun = time.monotonic()
    for pause in islice(_pauses(run), looks):
        if await _look(run, image_id, grace=_ANSWER_SECONDS) is None:
            return True
        if seconds is not None and time.monotonic() - begun > seconds:
            break
        await run.pause(pause)
    return False


async def _look(run: Run, image_id: str, *, grace: float = 0.0) -> ObservedImage | None:
    """The image; None where IMS answers 404 and its list does not have it either.

    Raises CloudError for everything that says neither yes nor no.
    """
    try:
        return await run.interruptible(run.cloud.show_image(image_id), grace=grace)
    except NotFound as error:
        if is_no_such_api(error):
            raise
        found = await run.interruptible(run.cloud.list_images(image_id=image_id), grace=grace)
        return next(iter(found), None)


async def _answer(run: Run, request: Coroutine[Any, Any, _T]) -> _T:
    """The answer to an edit or a deletion: where the run stops, awaited for a moment more, but not behind a brake."""
    return await run.interruptible(request, grace=_ANSWER_SECONDS)


@contextmanager
def _asked(what: str) -> Iterator[None]:
    """Around what IMS is asked for and the looks at what came of it: whatever ends these must not hide the former."""
    try:
        yield
    except Stopped:
        why = f"the run was stopped while {what}: the next plan tells whether it was done"
        raise _Ended(ResultKind.FAILED, why) from None
    except AuthenticationFailed:
        raise
    except CloudError as error:
        raise _Ended(ResultKind.FAILED, f"{what}: {error.summary}") from error


async def _record(run: Run, event: events.Event, done: str) -> None:
    try:
        await run.record(event)
    except Stopped:
        raise _Ended(ResultKind.FAILED, f"{done}, but that could not be recorded") from None


def _pauses(run: Run) -> Iterator[float]:
    """Seconds between looks: doubling up to ten, and short where builds are, as in a simulator."""
    longest = max(0.05, min(10.0, run.plan.build_seconds / 10))
    pause = min(1.0, longest)
    while True:
        yield pause
        pause = min(longest, 2 * pause)

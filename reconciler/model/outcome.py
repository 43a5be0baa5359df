"""What became of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.errors import ImgctlError
from reconciler.model.plan import Action, Change


class StopReason(StrEnum):
    """Why a run ends before everything is done."""

    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    ERROR = "error"


class ResultKind(StrEnum):
    """How one change ended.

    done          as planned, and recorded
    running       in flight, and recorded: imgctl wait, or the next apply, picks it up
    failed        the job failed, or the request was refused; recorded
    not started   nothing was asked of the cloud
    unclear       nobody knows whether the request took effect: a person must say
    """

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    NOT_STARTED = "not started"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Result:
    """One change and how it ended; `detail` says why, where there is something to say."""

    change: Change
    kind: ResultKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan: a result per change, in the plan's order.

    `stopped` says why the run ended early, `error` what ended it. `requests` counts everything that was sent since the
    client was opened: signing in, the refresh, and the run.
    """

    results: tuple[Result, ...]
    seconds: float
    requests: int
    stopped: StopReason | None = None
    error: ImgctlError | None = None

    def of(self, kind: ResultKind) -> tuple[Result, ...]:
        """The results of one kind."""
        return tuple(result for result in self.results if result.kind is kind)

    @property
    def postponed(self) -> tuple[Result, ...]:
        """The prunes of builds that are in flight because nobody wanted to wait for them: they were not due yet."""
        running = {result.change.server_id for result in self.of(ResultKind.RUNNING)}
        return tuple(
            result
            for result in self.of(ResultKind.NOT_STARTED)
            if result.change.action is Action.PRUNE and result.change.server_id in running
        )

    @property
    def complete(self) -> bool:
        """True where every change was done, or is in flight because nobody wanted to wait for it, or follows that."""
        left = (ResultKind.FAILED, ResultKind.NOT_STARTED, ResultKind.UNCLEAR)
        undone = sum(result.kind in left for result in self.results)
        return self.stopped is None and undone == len(self.postponed)

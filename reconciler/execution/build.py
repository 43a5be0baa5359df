"""One build, from intent to image: the order in which things are asked, written down and said.

An intent is durable before its request is sent; a job ID is said and durable before anything else happens to that
server; a request whose outcome is unknown is not sent again before it is certain that it did nothing.
"""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta
from typing import NoReturn
from uuid import uuid4

from reconciler.errors import (
    AuthenticationFailed,
    CertificateRefused,
    CloudError,
    OutcomeUnknown,
    RequestNotSent,
    Throttled,
)
from reconciler.execution.reconcile import Adopt, AskPerson, Evidence, LookOn, NotIssued, gather, judge
from reconciler.execution.run import Run, Stopped
from reconciler.model.observed import ObservedJob, ObservedServer
from reconciler.model.outcome import Result, ResultKind, StopReason
from reconciler.model.plan import Action, Change
from reconciler.model.progress import BuildFailed, BuildSucceeded, JobKnown, JobResumed, OutcomeInDoubt
from reconciler.model.record import Build, BuildError, BuildStatus
from reconciler.model.spec import ImageSpec
from reconciler.planning.availability import why_not_buildable
from reconciler.state import events

# How often one request is sent again after definite refusals, before the build is given up.
_SENDS = 60
_LONGEST_PAUSE = 30.0
# An intent that could not be sent within this is dropped and renewed, so many times in a row.
_INTENT_LASTS = timedelta(seconds=10)
_RENEWALS = 3


class _OutdatedReading(Exception):  # noqa: N818 - a signal between two functions of this module
    """The server's last reading grew old while the request waited for its turn: look again, then send."""


class _Ended(Exception):  # noqa: N818 - likewise
    """The build goes no further: this is how it ended."""

    def __init__(self, kind: ResultKind, detail: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class BuildTask:
    """The way of one server's build through a run. Each task is awaited once, by `start` or by `resume`."""

    def __init__(self, run: Run, change: Change) -> None:
        self._run = run
        self._change = change
        self._name = change.name
        self._server_id = change.server_id
        # True once an intent is durable: from then on a request may have left.
        self._intended = change.action is Action.RESUME
        # Why its outcome is still in doubt, as last said.
        self._why = ""

    async def start(self) -> Result:
        """Build or rebuild: submit, record the job ID, wait for the image."""
        spec = self._change.after
        if spec is None:
            raise ValueError(f"{self._change.action} of {self._name} without a spec")
        try:
            await self._follow(await self._submit(spec))
        except (_Ended, Stopped) as end:
            return self._result(end)
        return Result(self._change, ResultKind.DONE)

    async def resume(self) -> Result:
        """Wait for a build of an earlier run; where its outcome is unknown, find it out first.

        A request that turns out not to have been issued is sent again, if the declaration still asks for the same.
        """
        build = self._recorded_attempt()
        try:
            if build.status is BuildStatus.RUNNING:
                self._run.report(JobResumed(self._name, self._server_id, build.job_id))
            elif not await self._settle(build):
                if self._change.after is None or not self._run.settings.submit:
                    raise _Ended(
                        ResultKind.NOT_STARTED, "the earlier request was not issued: the next plan says what now"
                    )
                await self._submit(self._change.after)
            await self._follow(self._recorded_attempt())
        except (_Ended, Stopped) as end:
            return self._result(end)
        return Result(self._change, ResultKind.DONE)

    def _result(self, end: _Ended | Stopped) -> Result:
        return Result(self._change, end.kind, end.detail) if isinstance(end, _Ended) else self.unfinished()

    def unfinished(self) -> Result:
        """How far the build has come, by its record; for a run that stops."""
        record = self._run.writer.recorded.servers.get(self._server_id)
        if record is None or not record.in_flight or not self._intended:
            return Result(self._change, ResultKind.NOT_STARTED, f"the run was stopped ({self._run.stopped})")
        running = record.attempt is not None and record.attempt.status is BuildStatus.RUNNING
        return (
            Result(self._change, ResultKind.RUNNING) if running else Result(self._change, ResultKind.UNCLEAR, self._why)
        )

    def _recorded_attempt(self) -> Build:
        attempt = self._run.writer.recorded.servers[self._server_id].attempt
        if attempt is None:
            raise ValueError(f"server {self._server_id} has no attempt")
        return attempt

    # Submitting

    async def _submit(self, spec: ImageSpec) -> Build:
        """Send the request until the cloud has taken it; returns the running build."""
        try:
            return await self._send_until_taken(spec)
        finally:
            self._run.answer_recorded(self._server_id)

    async def _send_until_taken(self, spec: ImageSpec) -> Build:
        attempt_id = uuid4().hex
        renewed = False
        for sends in range(_SENDS):
            try:
                job_id = await self._send(spec, attempt_id, await self._look())
            except _OutdatedReading:
                await self._drop_intent(attempt_id, BuildError("NotSent", "the request had to wait for too long"))
                self._run.answer_recorded(self._server_id)
                continue
            except CertificateRefused as error:
                await self._refuse(error, attempt_id)
            except (Throttled, RequestNotSent) as error:
                await self._drop_intent(attempt_id, _build_error(error))
                self._run.answer_recorded(self._server_id)
                await self._pause_after(error, sends)
            except OutcomeUnknown as error:
                problem = _build_error(error)
                await self._run.record(events.BuildUncertain(self._server_id, attempt_id, problem))
                self._run.answer_recorded(self._server_id)
                self._run.report(OutcomeInDoubt(self._name, self._server_id, error.summary))
                if await self._settle(self._recorded_attempt()):
                    return self._recorded_attempt()
                attempt_id = uuid4().hex
            except CloudError as error:
                if renewed or not (isinstance(error, AuthenticationFailed) and error.renewed):
                    await self._refuse(error, attempt_id)
                # Definitely refused, for a token or a key that has been replaced since: once more, with the new one.
                renewed = True
                await self._drop_intent(attempt_id, _build_error(error))
                self._run.answer_recorded(self._server_id)
            else:
                # Said before it is written: a disk that is full must not swallow it.
                self._run.report(JobKnown(self._name, self._server_id, job_id))
                await self._run.record(events.BuildSubmitted(self._server_id, attempt_id, job_id))
                return self._recorded_attempt()
        raise _Ended(ResultKind.FAILED, f"the cloud took none of {_SENDS} requests")

    async def _look(self) -> ObservedServer:
        """The server just before the request; the build ends here where it cannot be looked at, or takes none now."""
        try:
            server = await self._run.interruptible(self._run.servers.recent(self._server_id))
        except CloudError as error:
            if isinstance(error, AuthenticationFailed):
                self._run.stop(StopReason.ERROR, error)
            raise _Ended(ResultKind.NOT_STARTED, error.summary) from error
        if why := why_not_buildable(server):
            raise _Ended(ResultKind.NOT_STARTED, why)
        return server

    async def _send(self, spec: ImageSpec, attempt_id: str, server: ObservedServer) -> str:
        """One request, its intent durable before it leaves; returns the job ID."""

        begun = False

        async def intend() -> None:
            nonlocal begun
            await self._run.answers_recorded()
            if self._run.stopping:
                raise Stopped
            begun = True
            if not self._run.servers.fresh:
                raise _OutdatedReading
            for _ in range(_RENEWALS):
                requested_at = self._run.now()
                intent = Build(
                    attempt_id=attempt_id,
                    spec=spec,
                    status=BuildStatus.INTENT,
                    requested_at=requested_at,
                    server_status=server.status,
                    server_image_id=server.image_id,
                    plan_id=self._run.plan.plan_id,
                    context=self._run.context,
                )
                protect = self._run.plan.protect.get(self._server_id, False)
                await self._run.record(events.BuildIntended(self._server_id, self._name, intent, protect))
                self._intended = True
                # The quiet time is counted from the intent: on a slow disk it is written again, with the time it is.
                if self._run.now() - requested_at <= _INTENT_LASTS:
                    return
            raise _OutdatedReading

        async def request() -> str:
            try:
                return await self._run.cloud.recreate_image(self._server_id, spec, before_send=intend)
            finally:
                # At once: its slot is free now, and the next one's intent must not get to the disk before its answer.
                self._run.answered(self._server_id)

        # While it waits for its turn it can be called off; from the intent on its answer must be awaited.
        return await self._run.interruptible(request(), unless=lambda: begun)

    async def _pause_after(self, error: Throttled | RequestNotSent, sends: int) -> None:
        """Wait before sending again. A 429 has put the brake on all requests; a connection that fails has not."""
        if isinstance(error, RequestNotSent):
            longest = min(_LONGEST_PAUSE, 2.0**sends)
            await self._run.pause(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads requests, guards nothing

    async def _drop_intent(self, attempt_id: str, error: BuildError) -> bool:
        """End an intent whose request definitely started nothing; False where none stands.

        Nothing is in doubt about it from then on, not even after a crash; sending it again renews it.
        """
        record = self._run.writer.recorded.servers.get(self._server_id)
        attempt = record.attempt if record is not None else None
        if attempt is None or attempt.attempt_id != attempt_id or attempt.status is not BuildStatus.INTENT:
            return False
        await self._end(attempt_id, BuildStatus.REFUSED, error=error)
        return True

    async def _refuse(self, error: CloudError, attempt_id: str) -> NoReturn:
        """End a build that the cloud definitely did not start."""
        if isinstance(error, AuthenticationFailed):
            # Every further request would fail alike, and more than five in a row lock the access key.
            self._run.stop(StopReason.ERROR, error)
        if not await self._drop_intent(attempt_id, _build_error(error)):
            # Nothing was sent: the server could not even be looked at.
            raise _Ended(ResultKind.NOT_STARTED, error.summary)
        self._run.report(BuildFailed(self._name, self._server_id, "", _build_error(error)))
        raise _Ended(ResultKind.FAILED, error.summary)

    # Finding out

    async def _settle(self, build: Build) -> bool:
        """Find out what became of a request in doubt. True: its job is recorded; False: it was not issued.

        Where only a person can tell, or it takes too long, the build ends here, still in flight.
        """
        run = self._run
        quiet_time = run.settings.quiet_time
        interval = max(0.05, min(10.0, quiet_time / 20))
        begun = time.monotonic()
        for _ in range(int(run.settings.patience / interval) + 1):
            # What was seen may be as old as this, however long the answers took.
            looked_at, watched = run.now(), time.monotonic() - begun
            evidence = await self._evidence(build)
            match judge(build, evidence, looked_at, quiet_time):
                case Adopt(job_id) if job_id in run.claimed():
                    # Recorded for another server just now: not this one's.
                    pass
                case Adopt(job_id):
                    run.report(JobKnown(self._name, self._server_id, job_id, found=True))
                    await run.record(events.BuildSubmitted(self._server_id, build.attempt_id, job_id))
                    return True
                case NotIssued() if watched <= quiet_time:
                    # A clock may have been set, ours or the cloud's: the quiet time must pass by one that only grows.
                    self._doubt("no trace of it so far")
                case NotIssued():
                    problem = BuildError("NotIssued", "no trace of the request was found")
                    await self._end(build.attempt_id, BuildStatus.REFUSED, error=problem)
                    return False
                case AskPerson(found):
                    raise _Ended(ResultKind.UNCLEAR, found)
                case LookOn(why):
                    self._doubt(why)
            await run.pause(interval)
        raise _Ended(ResultKind.UNCLEAR, self._why)

    async def _evidence(self, build: Build) -> Evidence:
        run = self._run
        try:
            return await run.interruptible(gather(run.cloud, build, self._server_id, run.claimed_by_now))
        except AuthenticationFailed as error:
            run.stop(StopReason.ERROR, error)
            raise Stopped from error

    def _doubt(self, why: str) -> None:
        """Say why it is still in doubt, once per reason: nobody should wait without knowing for what."""
        if why != self._why:
            self._why = why
            self._run.report(OutcomeInDoubt(self._name, self._server_id, why))

    # Waiting

    async def _follow(self, build: Build) -> None:
        """Wait for a running build and record its end."""
        run = self._run
        seen = run.observed.jobs.get(build.job_id)
        if seen is not None and seen.ended:
            # The plan was made of it: there is nothing to wait for, and nothing to ask again.
            await self._record_end(build, seen)
            return
        if not run.settings.wait:
            raise _Ended(ResultKind.RUNNING, f"job {build.job_id}")
        waiting = run.watcher.watch(build.job_id)
        try:
            job = await run.unless_stopped(waiting, run.settings.patience)
        except TimeoutError:
            hours = run.settings.patience / 3600
            why = f"job {build.job_id} has not ended within {hours:g} hours: look at it in the console"
            raise _Ended(ResultKind.UNCLEAR, why) from None
        except CloudError as error:
            run.stop(StopReason.ERROR, error)
            raise Stopped from error
        finally:
            run.watcher.forget(build.job_id)
        await self._record_end(build, job)

    async def _record_end(self, build: Build, job: ObservedJob) -> None:
        if job.status != "SUCCESS":
            problem = BuildError(job.error_code, job.error_message or f"the job ended as {job.status}")
            await self._end(build.attempt_id, BuildStatus.FAILED, at=job.ended_at, error=problem)
            self._run.report(BuildFailed(self._name, self._server_id, build.job_id, problem))
            raise _Ended(ResultKind.FAILED, f"{problem.code} {problem.message}".strip())
        if not job.image_id:
            # Recorded as in flight still: taking it for a failure would build it a second time.
            raise _Ended(ResultKind.UNCLEAR, f"job {build.job_id} succeeded without saying which image it made")
        ended_at = job.ended_at or self._run.now()
        await self._end(build.attempt_id, BuildStatus.SUCCEEDED, at=ended_at, image_id=job.image_id)
        seconds = max(0.0, (ended_at - build.requested_at).total_seconds())
        self._run.report(BuildSucceeded(self._name, self._server_id, build.job_id, job.image_id, seconds))

    async def _end(
        self,
        attempt_id: str,
        status: BuildStatus,
        *,
        at: datetime | None = None,
        image_id: str = "",
        error: BuildError | None = None,
    ) -> None:
        """Record the end of an attempt, `at` the time that the cloud gives, or now."""
        await self._run.record(
            events.BuildEnded(self._server_id, attempt_id, status, at or self._run.now(), image_id, error)
        )


def _build_error(error: CloudError) -> BuildError:
    return BuildError(error.code or type(error).__name__, error.message or error.summary, error.request_id)

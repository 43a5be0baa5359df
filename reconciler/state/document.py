"""The state in memory: one mutable document that events change, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import assert_never
from uuid import uuid4

from reconciler.errors import StateError
from reconciler.model.record import Build, BuildStatus, Held, Record, Recorded
from reconciler.state import events
from reconciler.state.patch import Patch


class Document:
    """A writer's own copy of the state.

    `apply` is all or nothing: an event that does not fit (another attempt, an unknown server) raises StateError and
    changes nothing.
    """

    def __init__(self, recorded: Recorded) -> None:
        self._exists = recorded.exists
        self._lineage = recorded.lineage or str(uuid4())
        self._serial = recorded.serial
        self._bound_to = recorded.bound_to
        self._limits = recorded.limits
        self._state_url = recorded.state_url
        self._moved_to = recorded.moved_to
        self._servers = dict(recorded.servers)
        self._retired = dict(recorded.retired)
        self._touched: set[str] = set()
        self._events = 0
        self._settled = False

    @property
    def lineage(self) -> str:
        """Which state this is; made up where it is a new one."""
        return self._lineage

    def view(self) -> Recorded:
        """The state as it is now; a live view, cheap at any size."""
        return Recorded(
            lineage=self._lineage,
            serial=self._serial,
            bound_to=self._bound_to,
            servers=MappingProxyType(self._servers),
            retired=MappingProxyType(self._retired),
            limits=self._limits,
            exists=self._exists,
            state_url=self._state_url,
            moved_to=self._moved_to,
        )

    def take_patch(self) -> Patch:
        """What has changed since this was last asked: the touched records as they are now, gone ones as None."""
        touched, self._touched = self._touched, set()
        happened, self._events = self._events, 0
        settled, self._settled = self._settled, False
        return Patch(
            serial=self._serial,
            bound_to=self._bound_to,
            limits=self._limits,
            servers={server_id: self._servers.get(server_id) for server_id in sorted(touched)},
            retired={server_id: self._retired.get(server_id) for server_id in sorted(touched)},
            state_url=self._state_url,
            moved_to=self._moved_to,
            events=happened,
            settles=settled,
        )

    def merge(self, patch: Patch) -> None:
        """Take in what another run has written: its own records, and what it settled of the whole state."""
        for records, changed in ((self._servers, patch.servers), (self._retired, patch.retired)):
            for server_id, record in changed.items():
                if record is None:
                    records.pop(server_id, None)
                else:
                    records[server_id] = record
        if patch.settles and not self._settled:
            self._limits, self._state_url, self._moved_to = patch.limits, patch.state_url, patch.moved_to
        self._bound_to = self._bound_to or patch.bound_to
        self._serial += patch.events
        self._exists = True

    def apply(self, event: events.Event) -> None:
        """Change the document by one event and count it."""
        match event:
            case events.Bound():
                if self._bound_to not in (None, event.binding):
                    raise StateError(f"the state is bound to {self._bound_to}, not to {event.binding}")
                self._bound_to = event.binding
            case events.GuardsNoted():
                self._note_guards(event)
            case events.BuildIntended():
                self._put(replace(self._begun(event.server_id, event.name, event.build), protect=event.protect))
                self._retired.pop(event.server_id, None)
            case events.BuildAdopted():
                record = self._begun(event.server_id, event.name, event.build)
                self._put(replace(record, held=_held(event.build) or record.held))
                self._retired.pop(event.server_id, None)
            case events.BuildSubmitted():
                record, build = self._attempt(event.server_id, event.attempt_id)
                running = replace(build, status=BuildStatus.RUNNING, job_id=event.job_id, error=None)
                self._put(replace(record, attempt=running))
            case events.BuildUncertain():
                record, build = self._attempt(event.server_id, event.attempt_id)
                self._put(replace(record, attempt=replace(build, status=BuildStatus.UNKNOWN, error=event.error)))
            case events.BuildEnded():
                self._put(self._ended(event))
            case events.Renamed():
                record = self._retired.get(event.server_id) or self._record(event.server_id)
                self._put(replace(record, name=event.name, retired_at=None))
                self._retired.pop(event.server_id, None)
            case events.Retired():
                record = self._record(event.server_id)
                self._retired[event.server_id] = replace(record, retired_at=event.at)
                del self._servers[event.server_id]
                self._touched.add(event.server_id)
            case events.HeldEdited():
                record = self._record(event.server_id)
                if record.held is None or record.held.image_id != event.image_id:
                    raise StateError(f"server {event.server_id} does not hold the image {event.image_id}")
                spec = replace(record.held.spec, name=event.name, description=event.description)
                self._put(replace(record, held=replace(record.held, spec=spec)))
            case events.ImageGone():
                self._put(_without_image(self._record(event.server_id), event))
            case events.Moved():
                self._moved_to = event.place
            case _:
                assert_never(event)
        self._serial += 1
        self._events += 1
        self._settled = self._settled or isinstance(event, events.WHOLE)
        self._exists = True

    def _note_guards(self, event: events.GuardsNoted) -> None:
        for server_id, protect in event.protect:
            self._put(replace(self._record(server_id), protect=protect))
        self._limits = event.limits
        if event.state_url is not None:
            self._state_url = event.state_url

    def _put(self, record: Record) -> None:
        self._servers[record.server_id] = record
        self._touched.add(record.server_id)

    def _record(self, server_id: str) -> Record:
        try:
            return self._servers[server_id]
        except KeyError:
            raise StateError(f"the state has no server {server_id}") from None

    def _attempt(self, server_id: str, attempt_id: str) -> tuple[Record, Build]:
        record = self._record(server_id)
        if record.attempt is None or record.attempt.attempt_id != attempt_id:
            raise StateError(f"the latest attempt of server {server_id} is not {attempt_id}")
        if not record.attempt.status.in_flight:
            raise StateError(f"attempt {attempt_id} of server {server_id} has ended: {record.attempt.status}")
        return record, record.attempt

    def _begun(self, server_id: str, name: str, build: Build) -> Record:
        """The server's record with a new latest attempt; the one before it goes to the history."""
        record = self._servers.get(server_id) or self._retired.get(server_id)
        if record is None:
            record = Record(server_id=server_id, name=name)
        latest = record.attempt
        history = record.history
        if latest is not None and latest.attempt_id != build.attempt_id:
            if latest.status.in_flight:
                raise StateError(f"server {server_id} has an attempt in flight: {latest.attempt_id}")
            history = (*history, latest)
        return replace(record, name=name, attempt=build, history=history, retired_at=None)

    def _ended(self, event: events.BuildEnded) -> Record:
        record, build = self._attempt(event.server_id, event.attempt_id)
        ended = replace(
            build,
            status=event.status,
            finished_at=event.at,
            image_id=event.image_id,
            error=event.error,
            adopted=build.adopted or event.adopted,
        )
        return replace(record, attempt=ended, held=_held(ended) or record.held)


def _without_image(record: Record, gone: events.ImageGone) -> Record:
    """The record after an image of its is gone: its build stays in the history, and says so."""

    def marked(build: Build) -> Build:
        if build.image_id != gone.image_id or build.deleted_at is not None:
            return build
        return replace(build, deleted_at=gone.at, pruned_by=gone.pruned_by)

    held = record.held if record.held is not None and record.held.image_id != gone.image_id else None
    return replace(
        record,
        held=held,
        attempt=marked(record.attempt) if record.attempt is not None else None,
        history=tuple(map(marked, record.history)),
    )


def _held(build: Build) -> Held | None:
    """What a server holds after a build; None where it made no image."""
    if build.status is not BuildStatus.SUCCEEDED:
        return None
    return Held(spec=build.spec, image_id=build.image_id, job_id=build.job_id, built_at=build.finished_at)

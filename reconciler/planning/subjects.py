"""Image servers as manifest, state and cloud know them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.observed import Observation, ObservedImage, ObservedJob, ObservedServer
from reconciler.model.record import Record, Recorded
from reconciler.model.spec import DeclaredServer, Manifest
from reconciler.planning.selection import Selection

_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Subject:
    """One image server, declared or recorded or both; `server`, `job` and `image` are what the cloud shows of it.

    `retired` is its record from when it was forgotten, `job` its build in flight, `image` the one it holds;
    `image_gone`: that one is certainly not there any more. `successor_id` is the server that has its name in the
    manifest now, where it is not declared itself.
    """

    server_id: str
    declared: DeclaredServer | None = None
    record: Record | None = None
    retired: Record | None = None
    server: ObservedServer | None = None
    job: ObservedJob | None = None
    image: ObservedImage | None = None
    image_gone: bool = False
    successor_id: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that selects it: a server that is renamed has two."""
        declared, record = self.declared, self.record
        if declared is None or record is None:
            return (declared.name,) if declared is not None else (record.name,) if record is not None else ()
        return declared.name, record.name

    @property
    def labels(self) -> Mapping[str, str]:
        """Its declared labels; records keep none."""
        return self.declared.labels if self.declared is not None else _NO_LABELS

    @property
    def past(self) -> Record | None:
        """All that was ever recorded of it."""
        return self.record or self.retired

    @property
    def job_ended(self) -> bool:
        """True where the build in flight has ended, which only has to be recorded."""
        return self.job is not None and self.job.ended

    @property
    def in_flight(self) -> bool:
        """True where a build of it may still make an image."""
        return self.record is not None and self.record.in_flight and not self.job_ended

    @property
    def protected(self) -> bool:
        """True where the manifest protects it, or did before it left the manifest."""
        if self.declared is not None:
            return self.declared.protect
        return self.record is not None and self.record.protect


def find_subjects(manifest: Manifest, recorded: Recorded, observed: Observation | None) -> tuple[Subject, ...]:
    """Every declared server in the manifest's order, then every recorded one that is not declared."""
    declared = {server.server_id: server for server in manifest.servers.values()}
    server_ids = (*declared, *(server_id for server_id in recorded.servers if server_id not in declared))
    return tuple(_subject(server_id, declared.get(server_id), manifest, recorded, observed) for server_id in server_ids)


def select_subjects(everyone: Iterable[Subject], selection: Selection) -> dict[str, Subject]:
    """The selected servers by id, in their order. Raises UsageError where a selector matches nothing."""
    by_id = {one.server_id: one for one in everyone}
    chosen = selection.pick({server_id: (one.names, one.labels) for server_id, one in by_id.items()})
    return {server_id: one for server_id, one in by_id.items() if server_id in chosen}


def selected_servers(manifest: Manifest, recorded: Recorded, selection: Selection) -> frozenset[str]:
    """The ids of the servers that a plan with these selectors is about. Raises UsageError, see Selection.pick."""
    return frozenset(select_subjects(find_subjects(manifest, recorded, None), selection))


def _subject(
    server_id: str,
    declared: DeclaredServer | None,
    manifest: Manifest,
    recorded: Recorded,
    observed: Observation | None,
) -> Subject:
    record = recorded.servers.get(server_id)
    successor = manifest.servers.get(record.name) if declared is None and record is not None else None
    job = None
    if observed is not None and record is not None and record.attempt is not None and record.in_flight:
        job = observed.jobs.get(record.attempt.job_id)
    held = record.held if record is not None else None
    if held is None and record is None and (retired := recorded.retired.get(server_id)) is not None:
        held = retired.held
    image_id = held.image_id if held is not None else ""
    return Subject(
        server_id=server_id,
        declared=declared,
        record=record,
        retired=recorded.retired.get(server_id),
        server=observed.servers.get(server_id) if observed is not None else None,
        job=job,
        image=observed.images.get(image_id) if observed is not None else None,
        image_gone=observed is not None and image_id in observed.gone,
        successor_id=successor.server_id if successor is not None else "",
    )

"""The last resort for job IDs: kept aside when the state cannot be written, taken in by the next writer.

One line of JSON per job, since the file may be added to by several runs. The files are always local: wherever the state
lives, it is the place that has just failed.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import StateError
from reconciler.model.record import BuildStatus, Recorded
from reconciler.state import atomic, files
from reconciler.state.fields import Fields

if TYPE_CHECKING:
    # Reading a state needs no events.
    from reconciler.state.events import BuildSubmitted


class EmergencyFiles:
    """The places for one state's emergencies, the first one that can be written being taken."""

    def __init__(self, *places: Path) -> None:
        self.places = places

    def save(self, content: bytes) -> str:
        """Keep something wherever it can still be kept; says where. Raises StateError where no place takes it."""
        problem: OSError | None = None
        for path in self.places:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Where many runs share a state, all of them lose it at the same moment.
                with files.alone_in(path.parent):
                    # What an earlier emergency left is added to: nobody has folded it in yet.
                    earlier = files.read(path) or b""
                    atomic.replace(path, earlier + content)
            except OSError as error:
                problem = error
            else:
                return str(path)
        raise StateError(f"no place takes an emergency file: {problem}") from problem

    def read(self) -> list[tuple[str, bytes]]:
        """What emergencies have left, each with its place. Raises StateError."""
        found = []
        for path in self.places:
            try:
                content = files.read(path)
            except OSError as error:
                # A home that is no folder, or not ours, holds nothing of ours.
                if path != self.places[0] and error.errno in (errno.ENOTDIR, errno.EACCES):
                    continue
                raise StateError(f"cannot read {path}: {error.strerror}", hint=atomic.hint(error)) from error
            if content is not None:
                found.append((str(path), content))
        return found

    def remove(self, place: str, content: bytes) -> None:
        """Forget what an emergency left, unless something was added to it since it was read. Raises StateError."""
        path = Path(place)
        with atomic.translated("write", path), files.alone_in(path.parent):
            if files.read(path) == content:
                files.remove(path)
                files.sync_folder(path.parent)


def save(emergencies: EmergencyFiles, recorded: Recorded, jobs: Iterable[BuildSubmitted]) -> str:
    """Keep jobs aside; says in a sentence where, or that no place was left. Never raises."""
    lines = [
        json.dumps(
            {
                "lineage": recorded.lineage,
                "server_id": job.server_id,
                "attempt_id": job.attempt_id,
                "job_id": job.job_id,
            }
        )
        for job in jobs
    ]
    ids = ", ".join(f"{job.job_id} of server {job.server_id}" for job in jobs)
    try:
        place = emergencies.save("".join(line + "\n" for line in lines).encode())
    except StateError as error:
        return f"Write this down, since {error.summary}: job {ids}."
    return f"Job {ids} is kept in {place}; the next apply or wait takes it in."


def missing_jobs(emergencies: EmergencyFiles, recorded: Recorded) -> list[BuildSubmitted]:
    """The jobs of earlier emergencies that the state does not have. Raises StateError where a file is damaged."""
    return [
        job
        for place, content in emergencies.read()
        for lineage, job in _read(place, content)
        if lineage == recorded.lineage and _is_missing(job, recorded)
    ]


def clear(emergencies: EmergencyFiles, recorded: Recorded, later: Collection[str] = ()) -> list[str]:
    """Remove the files of emergencies whose jobs the state has; says which files have a job that it does not know.

    Jobs to be recorded `later`, once somebody may write their servers, stay without a word.
    """
    builds = (build for record in recorded.all_records for build in record.builds)
    known = {build.job_id for build in builds}
    kept = []
    for place, content in emergencies.read():
        unknown = {job.job_id for _, job in _read(place, content)} - known
        if not unknown:
            emergencies.remove(place, content)
        elif not unknown <= set(later):
            kept.append(place)
    return kept


def _is_missing(job: BuildSubmitted, recorded: Recorded) -> bool:
    record = recorded.servers.get(job.server_id)
    attempt = record.attempt if record is not None else None
    return (
        attempt is not None
        and attempt.attempt_id == job.attempt_id
        and attempt.status in (BuildStatus.INTENT, BuildStatus.UNKNOWN)
    )


def _read(place: str, content: bytes) -> list[tuple[str, BuildSubmitted]]:
    from reconciler.state.events import BuildSubmitted

    found: dict[str, tuple[str, BuildSubmitted]] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{place}:{number}"
        try:
            fields = Fields(json.loads(line), where)
        except (ValueError, RecursionError):
            raise StateError(f"{where} is damaged", hint="It holds job IDs: look at it, then move it away.") from None
        job = BuildSubmitted(
            fields.identifier("server_id"), fields.identifier("attempt_id"), fields.identifier("job_id")
        )
        found[job.attempt_id] = (fields.text("lineage"), job)
    return list(found.values())

"""The last resort for job IDs: kept aside when the state cannot be written, taken in by the next writer.

One line of JSON per job, since the file may be added to by several runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from reconciler.errors import StateError
from reconciler.model.record import BuildStatus, Recorded
from reconciler.state.events import BuildSubmitted
from reconciler.state.fields import Fields
from reconciler.state.store import Backend


def save(backend: Backend, recorded: Recorded, jobs: Iterable[BuildSubmitted]) -> str:
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
        place = backend.save_emergency("".join(line + "\n" for line in lines).encode())
    except StateError as error:
        return f"Write this down, since {error.summary}: job {ids}."
    return f"Job {ids} is kept in {place}; the next apply or wait takes it in."


def missing_jobs(backend: Backend, recorded: Recorded) -> list[BuildSubmitted]:
    """The jobs of earlier emergencies that the state does not have. Raises StateError where a file is damaged."""
    return [
        job
        for place, content in backend.read_emergencies()
        for lineage, job in _read(place, content)
        if lineage == recorded.lineage and _is_missing(job, recorded)
    ]


def clear(backend: Backend, recorded: Recorded) -> list[str]:
    """Remove the files of emergencies whose jobs the state has; says which files stay, since it does not know a job."""
    builds = (build for record in recorded.all_records for build in record.builds)
    known = {build.job_id for build in builds}
    kept = []
    for place, content in backend.read_emergencies():
        if all(job.job_id in known for _, job in _read(place, content)):
            backend.remove_emergency(place)
        else:
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

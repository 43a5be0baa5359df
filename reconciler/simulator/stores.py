"""Images and jobs with what is needed to find them without looking through all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from reconciler.simulator.records import Image, Job


class ImageStore:
    """The images of IMS. `private`: how many of them are the project's own."""

    def __init__(self) -> None:
        self._by_id: dict[str, Image] = {}
        self._by_name: dict[str, dict[str, Image]] = {}
        self.private = 0

    def __iter__(self) -> Iterator[Image]:
        return iter(self._by_id.values())

    def get(self, image_id: str) -> Image | None:
        """The image with this id."""
        return self._by_id.get(image_id)

    def named(self, name: str) -> Iterable[Image]:
        """The images with exactly this name: names are not unique."""
        return self._by_name.get(name, {}).values()

    def add(self, image: Image) -> None:
        """Register an image."""
        self._by_id[image.id] = image
        self._by_name.setdefault(image.name, {})[image.id] = image
        self.private += image.kind == "private"

    def rename(self, image: Image, name: str) -> None:
        """Give an image another name."""
        self._forget_name(image)
        image.name = name
        self._by_name.setdefault(name, {})[image.id] = image

    def delete(self, image: Image) -> None:
        """Delete an image. A server that names it goes on naming it."""
        del self._by_id[image.id]
        self._forget_name(image)
        self.private -= image.kind == "private"

    def _forget_name(self, image: Image) -> None:
        same = self._by_name[image.name]
        del same[image.id]
        if not same:
            del self._by_name[image.name]


class JobStore:
    """The jobs by id, and those that run and those that ended, each in the order of their begin or end."""

    def __init__(self) -> None:
        self._by_id: dict[str, Job] = {}
        self._by_sub_job: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._ended: dict[str, dict[str, Job]] = {"SUCCESS": {}, "FAILED": {}}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    @property
    def running(self) -> int:
        """How many builds have not ended."""
        return len(self._running)

    def get(self, job_id: str) -> Job | None:
        """The job with this id."""
        return self._by_id.get(job_id)

    def of_sub_job(self, sub_job_id: str) -> Job | None:
        """The job whose sub job has this id."""
        return self._by_sub_job.get(sub_job_id)

    def latest(self, status: str, now: datetime, *, of_sub_jobs: bool) -> tuple[int, Iterable[Job]]:
        """How many jobs or sub jobs have a status (any where it is empty), and they themselves, the latest first.

        What nothing shows yet is left out. Only the builds that run are looked through: there are few of them, whatever
        the history.
        """
        if status in self._ended:
            done = self._ended[status]
            return len(done), reversed(done.values())
        running = [job for job in reversed(self._running.values()) if job.visible_at <= now]
        if status:
            wanted = [job for job in running if (job.sub_status(now) if of_sub_jobs else job.status(now)) == status]
            return len(wanted), wanted
        hidden = len(self._running) - len(running)
        every = reversed(self._by_id.values())
        shown = every if not hidden else (job for job in every if job.visible_at <= now)
        return len(self._by_id) - hidden, shown

    def restore(self, jobs: Iterable[Job]) -> None:
        """Take in jobs that were saved, in the order of their begin."""
        for job in jobs:
            self.add(job)
        ends = [(job.ends_at, job) for job in self if job.settled and job.ends_at is not None]
        for _, job in sorted(ends, key=lambda pair: pair[0]):
            self.end(job)

    def add(self, job: Job) -> None:
        """Take in a job that runs."""
        self._by_id[job.id] = job
        self._by_sub_job[job.sub_job_id] = job
        self._running[job.id] = job

    def end(self, job: Job) -> None:
        """Note that a job has ended, as its outcome says."""
        del self._running[job.id]
        self._ended[job.outcome][job.id] = job

    def delete(self, job: Job) -> None:
        """Delete a job that has ended from the history. Its image stays."""
        del self._by_id[job.id]
        del self._by_sub_job[job.sub_job_id]
        del self._ended[job.outcome][job.id]

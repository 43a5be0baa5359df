"""The pretended cloud itself: what exists in it, and what time does to it. No HTTP here.

Nothing runs in the background. Every change that is due by the clock is applied by `settle`, in the order in which it
was due and with its own time, so that nobody can tell when it was really done.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from reconciler.simulator import catalogue, worldfile
from reconciler.simulator.builds import new_job
from reconciler.simulator.errors import SimulatorError
from reconciler.simulator.instance import Instance
from reconciler.simulator.records import BuildRequest, Fate, Image, Job, Key, Late, Ledger, Server, Token
from reconciler.simulator.stores import ImageStore, JobStore

REGION, PROJECT_ID = "ap-southeast-1", "a4da8115c9d8464ead3a38309130523f"
BUILDABLE = ("ACTIVE", "BUILT")

# IMS's default for private images per region (its constraints page); a large fleet gets room for ten images each.
DEFAULT_QUOTA = 50
TOKEN_LIFE = timedelta(hours=24)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Busy(Exception):  # noqa: N818 - reads as the fact that it is
    """The image server's status does not allow recreate-image."""


class World:
    """Everything that exists, by id. Make one with `create`, `load` or `open`.

    `path`: where it is kept; None keeps it in memory only. `version` counts the changes that must be kept: `save`
    writes where it has moved since. Not safe for threads: one event loop drives it, and others only look.
    """

    def __init__(
        self,
        *,
        seed: int,
        build_time: float,
        region: str,
        project_id: str,
        quota: int,
        clock: Callable[[], datetime] = _utc_now,
        path: Path | None = None,
    ) -> None:
        self.seed = seed
        self.build_time = build_time
        self.region = region
        self.project_id = project_id
        self.quota = quota
        self.clock = clock
        self.path = path
        self.user_name = "simulated-user"
        self.password = "simulated-password-not-a-password"  # noqa: S105 - obviously none
        self.domain_name = "simulated-domain"
        self.access_key = "SIMULATEDACCESSKEY01"
        self.secret_key = "simulated-secret-not-a-secret-0000000001"  # noqa: S105
        self.user_id = catalogue.hex_of(seed, "user")
        self.domain_id = catalogue.hex_of(seed, "domain")
        self.serial = 0
        self.servers: dict[str, Server] = {}
        self.jobs = JobStore()
        self.images = ImageStore()
        self.tokens: dict[str, Token] = {}
        self.keys: dict[str, Key] = {self.access_key: Key(self.access_key, self.secret_key)}
        self.late: list[Late] = []
        self.ledger = Ledger()
        self.instance = Instance()
        self.version = 0
        self._saved = -1
        self._stamp: object = None
        self._lagging: dict[str, Job] = {}
        self._due: list[tuple[datetime, int, Late | Job | Image]] = []
        self._due_serial = 0

    @classmethod
    def create(
        cls,
        servers: int,
        build_time: float,
        *,
        seed: int = 0,
        clock: Callable[[], datetime] = _utc_now,
        path: Path | None = None,
        region: str = REGION,
        project_id: str = PROJECT_ID,
        quota: int | None = None,
    ) -> Self:
        """A new world with so many image servers, a build of `build_time` seconds, and no private image.

        `quota`: private images allowed, 50 or ten for each server where None. With a `path` it is written there at
        once, over what was there. Raises SimulatorError for a number that makes no sense, or where it cannot be kept.
        """
        if servers < 0 or not 0 <= build_time < worldfile.MOST_SECONDS:
            raise SimulatorError("a world has no fewer than 0 servers, and its builds take 0 seconds or more")
        room = max(DEFAULT_QUOTA, 10 * servers) if quota is None else quota
        world = cls(
            seed=seed,
            build_time=build_time,
            region=region,
            project_id=project_id,
            quota=room,
            clock=clock,
            path=path,
        )
        world._restore(catalogue.image_servers(seed, 0, servers), (), catalogue.public_images(), ())
        world._stamp = None if path is None else worldfile.stamp(path)
        world.save()
        return world

    @classmethod
    def load(cls, path: Path, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """The world that was saved there; what was under way in it has gone on by the clock since.

        Raises SimulatorError where there is none, or where it is damaged.
        """
        stamp = worldfile.stamp(path)
        content = worldfile.read(path)
        world = cls(
            seed=content.seed,
            build_time=content.build_time,
            region=content.region,
            project_id=content.project_id,
            quota=content.quota,
            clock=clock,
            path=path,
        )
        world.serial = content.serial
        world.ledger = content.ledger
        world.tokens = {token.text: token for token in content.tokens}
        world.keys |= {key.access: key for key in content.keys}
        world._restore(content.servers, content.jobs, content.images, content.late)
        world._saved = world.version
        world._stamp = stamp
        return world

    @classmethod
    def open(
        cls,
        path: Path,
        servers: int,
        build_time: float,
        *,
        seed: int = 0,
        clock: Callable[[], datetime] = _utc_now,
        region: str = REGION,
        project_id: str = PROJECT_ID,
    ) -> Self:
        """The world at `path`, a new one where there is none yet.

        A world that has fewer servers than asked for gets the missing ones, and `build_time` holds for the builds that
        begin from now on; nothing that exists goes away. Raises SimulatorError as `load` and `create` do, and where the
        world is another region's or another project's.
        """
        if not path.exists():
            return cls.create(
                servers, build_time, seed=seed, clock=clock, path=path, region=region, project_id=project_id
            )
        world = cls.load(path, clock=clock)
        if (world.region, world.project_id) != (region, project_id):
            raise SimulatorError(
                f"the simulator's world {path} is region {world.region}, project {world.project_id}, "
                f"and not region {region}, project {project_id}"
            )
        missing = [each for each in catalogue.image_servers(world.seed, 0, servers) if each.id not in world.servers]
        world.servers |= {server.id: server for server in missing}
        world.quota = max(world.quota, 10 * servers)
        if missing or world.build_time != build_time:
            world.build_time = build_time
            world.touch()
            world.save()
        return world

    # --- Keeping

    def touch(self) -> None:
        """Note that something changed which must be kept."""
        self.version += 1

    @property
    def unsaved(self) -> bool:
        """True where the file is older than the world."""
        return self.path is not None and self._saved < self.version

    def save(self) -> None:
        """Write the world where it is kept, unless that is done already.

        Raises SimulatorError where it cannot be written, or where another process has changed it since: two worlds at
        one place would lose each other's builds.
        """
        if self.path is None or not self.unsaved:
            return
        if worldfile.stamp(self.path) not in (None, self._stamp):
            raise SimulatorError(f"the simulator's world {self.path} was changed by another process meanwhile")
        version = self.version
        worldfile.write(
            self.path,
            worldfile.Content(
                seed=self.seed,
                build_time=self.build_time,
                region=self.region,
                project_id=self.project_id,
                quota=self.quota,
                serial=self.serial,
                servers=list(self.servers.values()),
                jobs=list(self.jobs),
                images=list(self.images),
                tokens=list(self.tokens.values()),
                keys=list(self.keys.values()),
                late=self.late,
                ledger=self.ledger,
            ),
        )
        self._saved, self._stamp = version, worldfile.stamp(self.path)

    def _restore(
        self, servers: Iterable[Server], jobs: Iterable[Job], images: Iterable[Image], late: Iterable[Late]
    ) -> None:
        self.servers = {server.id: server for server in servers}
        for image in images:
            self.images.add(image)
            if image.gone_at is not None:
                self._schedule(image.gone_at, image)
        self.jobs.restore(jobs)
        for job in self.jobs:
            if not job.settled:
                self._run(job)
        for each in late:
            self.late.append(each)
            self._schedule(each.at, each)
        self.settle(self.now())

    # --- Time

    def now(self) -> datetime:
        """The time in the world, UTC."""
        return self.clock().astimezone(UTC)

    def _schedule(self, at: datetime, what: Late | Job | Image) -> None:
        self._due_serial += 1
        heapq.heappush(self._due, (at, self._due_serial, what))

    def settle(self, now: datetime) -> None:
        """Apply all that is due by `now`, in the order of the times at which it was due."""
        while self._due and self._due[0][0] <= now:
            at, _, what = heapq.heappop(self._due)
            if isinstance(what, Late):
                self.late.remove(what)
                self._take_late(what, at)
            elif isinstance(what, Image):
                # Somebody else may have deleted it before its time.
                if self.images.get(what.id) is what:
                    self.images.delete(what)
            else:
                self._end(what, at)

    def _take_late(self, late: Late, at: datetime) -> None:
        if late.request.server_id not in self.servers:
            return
        try:
            self.build(late.request, late.fate, at)
        except Busy:
            # Nobody waits for an answer any more: the refusal is lost, as it would be in the cloud.
            return

    def _end(self, job: Job, at: datetime) -> None:
        job.settled = True
        self.jobs.end(job)
        server = self.servers.get(job.server_id)
        if server is not None:
            server.jobs -= 1
            # BUILT says that the image task ended, not that it went well (facts sheet 2.5).
            if server.jobs == 0:
                server.status = "BUILT"
            server.updated_at = at
        if job.outcome != "SUCCESS":
            return
        if server is not None:
            server.image_id = job.image_id
        self.images.add(
            Image(
                id=job.image_id,
                name=job.name,
                description=job.description or None,
                status="active",
                kind="private",
                protected=False,
                created_at=at,
                updated_at=at,
                instance_id=server.instance_id if server is not None else "",
            )
        )

    # --- Builds

    def number(self) -> str:
        """A new 18-digit id."""
        self.serial += 1
        return catalogue.number_of(self.serial - 1)

    def build(self, request: BuildRequest, fate: Fate, at: datetime) -> Job:
        """Begin a build on a server that exists. Raises Busy where the server's status does not allow it."""
        server = self.servers[request.server_id]
        accepted = server.status in BUILDABLE or (fate.accept_busy and server.status == "BUILDING")
        if not accepted:
            raise Busy(server.status)
        full = self.images.private + self.jobs.running >= self.quota
        job = new_job(
            self.number(),
            self.number(),
            request,
            fate,
            at=at,
            build_time=self.build_time,
            full=full,
            before=server.status,
        )
        if job.outcome == "SUCCESS":
            job.image_id = catalogue.uuid_of(self.seed, "image", self.serial)
        server.status = "BUILDING"
        server.jobs += 1
        if not fate.lag:
            server.updated_at = at
        self.jobs.add(job)
        self._run(job)
        self.ledger.builds.append(
            {"server_id": server.id, "name": job.name, "job_id": job.id, "at": at.isoformat().replace("+00:00", "Z")}
        )
        return job

    def build_late(self, request: BuildRequest, fate: Fate, at: datetime) -> None:
        """Let a request take effect at a later time, if the server allows it then."""
        late = Late(at, request, fate)
        self.late.append(late)
        self._schedule(at, late)
        self.touch()

    def delete_image_late(self, image: Image, at: datetime) -> None:
        """Delete an image at a later time; being asked again does not put that off."""
        if image.gone_at is None:
            image.gone_at = at
            self._schedule(at, image)

    def shown_status(self, server: Server, now: datetime) -> str:
        """The status that the API shows: a build that nothing shows yet leaves it as it was."""
        job = self._lagging.get(server.id)
        if job is None or job.visible_at <= now:
            self._lagging.pop(server.id, None)
            return server.status
        return job.status_before

    def set_status(self, server: Server, status: str) -> None:
        """Change a server behind everybody's back."""
        self._lagging.pop(server.id, None)
        server.status = status

    def _run(self, job: Job) -> None:
        if job.visible_at > job.began_at:
            self._lagging[job.server_id] = job
        if job.ends_at is not None:
            self._schedule(job.ends_at, job)

"""Cuts runs of imgctl off, lets the next one finish, and says whether the promises were kept."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any, TypeVar
from urllib.request import Request, urlopen

from reconciler.errors import StateError
from reconciler.model.record import BuildStatus, Recorded
from reconciler.simulator import World, serving
from reconciler.state.open import local_store
from reconciler.state.store import Store, read

ROOT = Path(__file__).parents[2]
QUIET_TIME = 0.9
# How long one run may take before it counts as hanging, and how many runs may be needed after a crash.
_LONGEST = 60.0
_RUNS = 3
_KILLED = -9
_MOST_TEXT = 2000


class Violation(AssertionError):  # noqa: N818 - it is what was found, not what went wrong
    """A promise was broken. The end of a long text is where it says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text if len(text) < _MOST_TEXT else f"{text[:400]}\n…\n{text[-_MOST_TEXT:]}")


class Children:
    """Where the runs of imgctl come from, one at a time; see child.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def begin(self, **order: object) -> None:
        """Start a run."""
        self._say(order)

    def kill(self) -> None:
        """End the run that is under way with SIGKILL, if it has not ended."""
        self._say({"kill": True})

    def end(self, longest: float = _LONGEST) -> int:
        """The status of the run once it has ended; below zero: the signal that ended it, as after too long a time."""
        watchdog = Timer(longest, self.kill)
        watchdog.start()
        try:
            status: int = self._answer()["status"]
        finally:
            watchdog.cancel()
        return status

    def close(self) -> None:
        """No more runs; one that is under way ends."""
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            self._process.wait(_LONGEST)
            self._process.stdout.close()

    def _say(self, message: Mapping[str, object]) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError("the process that starts the children has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Ended:
    """How a run ended: its status, what it printed, and the boundaries that it reached."""

    status: int
    output: str
    reached: list[str]
    problems: list[str]


@dataclass
class Fleet:
    """A folder with a manifest, a simulated cloud behind it, and runs of imgctl in between."""

    folder: Path
    world: World
    url: str
    children: Children
    mutant: str = ""
    release: str = "1"
    keep_images: int = 0
    expected: set[tuple[str, str]] = field(default_factory=set)
    # True where requests may be received that do nothing: refused ones, and those whose body never came.
    idle_requests: bool = False
    # A socket on which every run tells its boundaries.
    talk: str = ""
    _runs: int = 0
    _lock_inode: int = 0

    @property
    def work(self) -> Path:
        """The folder of the manifest and the state."""
        return self.folder / "work"

    @property
    def state(self) -> Store:
        return local_store(self.work / "imgctl.state.json", self.folder)

    def declare(self, release: str, *, described: str = "") -> None:
        """Write the manifest: every server of the world, an image named after the release.

        `described`: how the image of the third server is described.
        """
        self.release = release
        names = {f"s{number}": server for number, server in enumerate(self.world.servers, start=1)}
        self.expected |= {(server, f"{name}-{release}") for name, server in names.items()}
        keep = {"keep_images": self.keep_images} if self.keep_images else {}
        servers: dict[str, dict[str, object]] = {name: {"server_id": server} for name, server in names.items()}
        if described:
            servers["s3"]["image"] = {"description": described}
        manifest = {
            "version": 1,
            "vars": {"release": release},
            "defaults": {"image": {"name": "${server.name}-${var.release}"}, **keep},
            "image_servers": servers,
        }
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "imgctl.yaml").write_text(json.dumps(manifest), encoding="utf-8")

    def begin(self, *arguments: str, **order: object) -> None:
        """Start a run; `end` gives what became of it."""
        self._runs += 1
        self.children.begin(
            arguments=list(arguments),
            folder=str(self.work),
            env={
                "HOME": str(self.folder),
                "PATH": os.environ.get("PATH", ""),
                "HW_REGION_NAME": self.world.region,
                "HW_PROJECT_ID": self.world.project_id,
                "HW_ACCESS_KEY": self.world.access_key,
                "HW_SECRET_KEY": self.world.secret_key,
                "IMGCTL_ENDPOINT": self.url,
            },
            output=str(self._output),
            log=str(self._log),
            mutant=self.mutant,
            talk=self.talk,
            **order,
        )

    def end(self, longest: float = _LONGEST) -> Ended:
        """What became of the run that was begun."""
        status = self.children.end(longest)
        log = self._log.read_text().splitlines() if self._log.exists() else []
        ended = Ended(
            status,
            self._output.read_text(),
            [line for line in log if not line.startswith("!")],
            [line for line in log if line.startswith("!")],
        )
        self._look_at_lock()
        if ended.problems:
            raise Violation(f"{ended.problems[0]}\n{ended.output}")
        return ended

    def run(self, *arguments: str, **order: object) -> Ended:
        """Run imgctl to its end."""
        self.begin(*arguments, **order)
        return self.end()

    @property
    def _output(self) -> Path:
        return self.folder / f"output.{self._runs}"

    @property
    def _log(self) -> Path:
        return self.folder / f"boundaries.{self._runs}"

    # The simulator

    @property
    def ledger(self) -> dict[str, Any]:
        """What reached the cloud."""
        found: dict[str, Any] = self.ask("GET", "ledger")
        return found

    def ask(self, method: str, path: str, **body: object) -> Any:
        """A call of the simulator's own interface."""
        content = json.dumps(body).encode() if method == "POST" else None
        request = Request(f"{self.url}/_simulator/{path}", content, method=method)
        with urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def hold(self, only: str, when: str) -> None:
        """Keep such requests back from now on, and let go what another call kept."""
        self.ask("POST", "hold", only=only, when=when)

    def release_held(self) -> None:
        """Let all requests go on."""
        self.ask("POST", "release")

    def until_held(self, received: int) -> None:
        """Wait until the cloud keeps a request back, and has received so many recreate-image requests."""
        until(lambda: self.ask("GET", "hold")["held"] == 1 and self.ledger["received"] == received)

    # The promises

    def after_crash(self, doubtful: int) -> Recorded:
        """The state as a crash left it: whole, and with no more unknown outcomes than `doubtful`.

        Those that the cloud itself left open, with a 504, are not counted: no crash made them.
        """
        try:
            recorded = read(self.state)
        except StateError as error:
            raise Violation(f"the state cannot be read after the crash: {error}") from error
        unknown = [
            record.name
            for record in recorded.servers.values()
            if record.attempt is not None and record.attempt.status is BuildStatus.INTENT
        ]
        if len(unknown) > doubtful:
            raise Violation(f"{len(unknown)} outcomes are unknown, of {doubtful} requests: {', '.join(unknown)}")
        return recorded

    def finish(self, *arguments: str, **order: object) -> None:
        """Run apply until everything is done."""
        said = ""
        for _ in range(_RUNS):
            ended = self.run("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), *arguments, **order)
            said += ended.output
            if ended.status == 0:
                return
        raise Violation(f"{_RUNS} runs after the crash did not finish\n{said}")

    def agree(self) -> None:
        """State, ledger and manifest agree: each build exactly once, every job and image recorded, nothing to do."""
        ledger, recorded = self.ledger, read(self.state)
        built = sorted((build["server_id"], build["name"]) for build in ledger["builds"])
        if built != sorted(self.expected):
            raise Violation(f"built {built}, expected {sorted(self.expected)}")
        if ledger["received"] != len(built) and not self.idle_requests:
            raise Violation(f"{ledger['received']} requests were received for {len(built)} builds")
        known = {
            build.job_id: (server_id, build.spec.name, build.image_id)
            for server_id, record in recorded.servers.items()
            for build in record.builds
            if build.job_id
        }
        jobs = {job.id: (job.server_id, job.name, job.image_id) for job in self.world.jobs}
        if known != jobs:
            raise Violation(f"the state has the builds {known}, the cloud {jobs}")
        for server_id, record in recorded.servers.items():
            held = record.held
            if held is None or record.in_flight or held.image_id != self.world.servers[server_id].image_id:
                raise Violation(f"{record.name} does not hold the server's image: {record}")
        self._images_agree(recorded)
        # An emergency file that was cut off before it had its name stays: the job is found without it.
        files = {path.name for path in self.work.iterdir()} - {"imgctl.yaml", "imgctl.state.json.emergency.tmp"}
        if files != {f"imgctl.state.json{suffix}" for suffix in ("", ".journal", ".lock")}:
            raise Violation(f"the folder holds {sorted(files)}")
        plan = self.run("plan", "--detailed-exitcode")
        if plan.status != 0 or "No changes." not in plan.output:
            raise Violation(f"the next plan is not empty\n{plan.output}")

    def _images_agree(self, recorded: Recorded) -> None:
        """Every image is there unless its record says that it is gone; none was deleted twice, none that is held."""
        there = {image.id: image for image in self.world.images if image.kind == "private"}
        for record in recorded.servers.values():
            builds = [one for one in record.builds if one.image_id]
            wrong = [one.image_id for one in builds if (one.image_id in there) is not (one.deleted_at is None)]
            if wrong:
                raise Violation(f"{record.name}: the state and IMS disagree about {wrong}: {record}")
            held = record.held
            if held is None or (there[held.image_id].description or "") != held.spec.description:
                raise Violation(f"{record.name}: IMS describes its image otherwise: {record}")
            # A run that is cut off before it prunes leaves that to the next build.
            left = sum(one.deleted_at is None for one in builds)
            if self.keep_images and not self.keep_images <= left <= self.keep_images + 1:
                raise Violation(f"{record.name}: {left} images are left: {record}")
        gone = len(self.expected) - len(there)
        deletions = self.ledger["requests"].get("DELETE /v2/images/{image_id}", 0)
        if deletions != gone:
            raise Violation(f"{deletions} deletions for {gone} images that are gone")

    def _look_at_lock(self) -> None:
        try:
            inode = (self.work / "imgctl.state.json.lock").stat().st_ino
        except FileNotFoundError:
            inode = 0
        if self._lock_inode not in (0, inode):
            raise Violation("the lock file was removed or replaced")
        self._lock_inode = inode


@contextmanager
def new_fleet(
    folder: Path, children: Children, *, servers: int = 5, faults: Sequence[str] = (), build_time: float = 0.05
) -> Iterator[Fleet]:
    """A fresh world and an empty folder."""
    with resumed_fleet(folder, children, World.create(servers, build_time), faults=faults) as fleet:
        yield fleet


@contextmanager
def resumed_fleet(folder: Path, children: Children, world: World, *, faults: Sequence[str] = ()) -> Iterator[Fleet]:
    """A world in which something has happened, and an empty folder."""
    with serving(world, faults=("accept-while-building=1", *faults)) as url:
        yield Fleet(folder, world, url, children)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen; the bound only ends what has failed already."""
    deadline = time.monotonic() + _LONGEST
    while not condition():
        if time.monotonic() > deadline:
            raise Violation("what should happen does not")
        time.sleep(0.02)


# Sweeps

ONE_AT_A_TIME = ("--max-requests", "1", "--max-in-flight", "1")


def _nothing(fleet: Fleet) -> None:
    del fleet


@dataclass(frozen=True)
class Scene:
    """A run that is cut off at each of its boundaries: what the cloud does, what happened before, how it runs.

    `ends` is the status with which it ends where nobody cuts it off.
    """

    name: str
    faults: tuple[str, ...] = ()
    before: Callable[[Fleet], None] = _nothing
    release: str = "1"
    described: str = ""
    keep_images: int = 0
    order: Mapping[str, object] = field(default_factory=dict)
    ends: int = 0
    # What happens between the run that is cut off and the next one.
    after: Callable[[Fleet], None] = _nothing

    def set(self, fleet: Fleet) -> None:
        """Let happen what happened before."""
        fleet.keep_images = self.keep_images
        self.before(fleet)
        fleet.declare(self.release, described=self.described)

    def begin(self, fleet: Fleet, **order: object) -> None:
        """Start its run."""
        fleet.begin(*apply_slowly(), **{**self.order, **order})

    def boundaries(self, folder: Path, children: Children, mutant: str = "") -> list[str]:
        """Every boundary of the run, in order, by a run that is not cut off; that run must keep the promises too."""
        with new_fleet(folder, children, faults=self.faults) as fleet:
            fleet.mutant = mutant
            self.set(fleet)
            self.begin(fleet)
            ended = fleet.end()
            if ended.status != self.ends:
                raise Violation(f"the run ended with {ended.status}\n{ended.output}")
            if self.ends:
                fleet.finish()
            fleet.agree()
            return ended.reached

    def visit(self, folder: Path, children: Children, boundary: str, mutant: str = "", *, linger: float = 0.05) -> None:
        """Cut the run off at one boundary, finish, and look at what came of it."""
        try:
            with new_fleet(folder, children, faults=self.faults) as fleet:
                fleet.mutant = mutant
                self.set(fleet)
                self.begin(fleet, kill=boundary, linger=linger)
                ended = fleet.end()
                if ended.status != _KILLED or ended.reached[-1:] != [boundary]:
                    raise Violation(f"it was never reached: the run ended with {ended.status}\n{ended.output}")
                fleet.after_crash(doubtful=1)
                self.after(fleet)
                fleet.finish()
                fleet.agree()
        except Violation as violation:
            raise Violation(f"{self.name}, {boundary}: {violation}") from violation


def apply_slowly() -> tuple[str, ...]:
    """The arguments of an apply that does one thing at a time."""
    return ("apply", "--auto-approve", "--quiet-time", str(QUIET_TIME), *ONE_AT_A_TIME)


def _built(fleet: Fleet) -> None:
    fleet.declare("0")
    fleet.finish()


def _killed(boundary: str) -> Callable[[Fleet], None]:
    def before(fleet: Fleet) -> None:
        fleet.declare("1")
        ended = fleet.run(*apply_slowly(), kill=boundary)
        if ended.status != _KILLED:
            raise Violation(f"the run ended with {ended.status}\n{ended.output}")

    return before


def _keeping_one(fleet: Fleet) -> None:
    """Built, and a quota with one place more: each build waits for the prune before it."""
    _built(fleet)
    fleet.world.quota = len(fleet.world.servers) + 1


def _more_places(fleet: Fleet) -> None:
    """A run that is cut off before it prunes leaves the quota full: nothing could begin any more."""
    fleet.world.quota *= 2


_DISK_FULL: Mapping[str, object] = {"fail": "before:write:journal:s3:2"}


def _disk_was_full(fleet: Fleet) -> None:
    fleet.declare("1")
    fleet.run(*apply_slowly(), **_DISK_FULL)


SCENES = {
    scene.name: scene
    for scene in (
        Scene("new"),
        Scene("lag", faults=("lag=1:0.3",)),
        Scene("late-effect", faults=("late-effect=1:0.3",)),
        # Builds on top of what is recorded; the journal is folded several times on the way.
        Scene("rebuild", before=_built, release="2", order={"fold_beyond": 0}),
        # Each build is followed by the deletion of the image before it, and only then comes the next.
        Scene("prune", before=_keeping_one, keep_images=1, after=_more_places),
        # An image is edited in place, and nothing is built.
        Scene("update", before=_built, release="0", described="for the third"),
        # The crash of the run that takes up what a crash has left.
        Scene("resume", before=_killed("after:write:journal:s3:2")),
        # It left a journal whose name was not durable yet.
        Scene("new-journal", before=_killed("after:rename:journal:-:1")),
        Scene("disk-full", order=_DISK_FULL, ends=1),
        Scene("emergency", before=_disk_was_full),
    )
}


def dangerous(boundaries: Sequence[str]) -> list[str]:
    """The boundaries of a run at which most is at stake: a server's intent and job ID, and the folds."""
    kinds = ("sync:journal:s3", "rename:document", "rename:journal", "sync_folder", "unlock")
    return [name for name in boundaries if any(kind in name for kind in kinds)]


@dataclass(frozen=True)
class Held:
    """A run cut off while the cloud keeps back its `number`th recreate-image request, or the first look after it.

    The cloud goes on with the request at once, or only when the next run is under way.
    """

    number: int
    what: str
    late: bool = False

    def visit(self, folder: Path, children: Children, mutant: str = "") -> None:
        """Cut the run off there, finish, and look at what came of it."""
        try:
            with new_fleet(folder, children) as fleet:
                fleet.mutant = mutant
                fleet.declare("1")
                when = self.what if self.what in ("before", "after") else "after"
                fleet.hold("recreate-image", when)
                fleet.begin(*apply_slowly())
                for received in range(1, self.number + 1):
                    fleet.until_held(received)
                    if received < self.number:
                        fleet.hold("recreate-image", when)
                if self.what == "look":
                    fleet.hold("image-server-sub-jobs", "before")
                    fleet.until_held(self.number)
                children.kill()
                fleet.end()
                fleet.after_crash(doubtful=0 if self.what == "look" else 1)
                if not self.late:
                    fleet.release_held()
                going_on = Timer(0.15, fleet.release_held)
                going_on.start()
                fleet.finish()
                going_on.join()
                fleet.agree()
        except Violation as violation:
            raise Violation(f"{self}: {violation}") from violation


HELD = [
    *(Held(number, what, late) for number in range(1, 6) for what in ("before", "after") for late in (False, True)),
    *(Held(number, "look") for number in range(1, 6)),
]


# Many visits at a time

_Item = TypeVar("_Item")


class Pool:
    """Several sources of children, so that visits that wait do not wait for each other."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._all: list[Children] = []
        # None stands for a source that nobody has needed so far: starting one costs more than a run.
        self._free: queue.LifoQueue[Children | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextmanager
    def children(self) -> Iterator[Children]:
        """One of them, for a while."""
        children = self._free.get()
        try:
            if children is None:
                children = Children()
                self._all.append(children)
            yield children
        finally:
            self._free.put(children)

    def visit(self, items: Sequence[_Item], visit: Callable[[Path, Children, _Item], None], folder: Path) -> None:
        """Visit each item in a folder of its own. Raises Violation with all that were found."""

        def one(numbered: tuple[int, _Item]) -> str:
            number, item = numbered
            with self.children() as children:
                try:
                    visit(folder / str(number), children, item)
                except Violation as violation:
                    return str(violation)
            return ""

        with ThreadPoolExecutor(self._size) as executor:
            found = [text for text in executor.map(one, enumerate(items)) if text]
        if found:
            raise Violation(f"{len(found)} of {len(items)} visits found a violation; the first:\n{found[0]}")

    def close(self) -> None:
        """End all of them."""
        for children in self._all:
            children.close()

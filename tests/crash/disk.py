"""What a disk may hold after a power loss: what was synced, and of the rest whatever order the system chose.

SIGKILL keeps the page cache; a power loss does not. Of a file whose last write was not synced nothing may be there, or
its first pages, or its full length with zeros in it. Of what was made, renamed or removed in a folder that was not
synced, any of it may have been done.
"""

from __future__ import annotations

import base64
import copy
import json
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Thread

from reconciler.simulator import World
from tests.crash.boundaries import Effect
from tests.crash.harness import Children, Fleet, Scene, Violation, new_fleet, resumed_fleet

_PAGE = 4096
_LONGEST_SILENCE = 60.0

Contents = dict[str, bytes]


@dataclass
class _File:
    durable: bytes = b""
    current: bytes = b""

    def after_power_loss(self) -> Iterator[bytes]:
        """What may be left of it."""
        yield self.current
        if self.current == self.durable:
            return
        yield self.durable
        start, end = len(self.durable), len(self.current)
        edges = [edge for edge in range(0, end, _PAGE) if start < edge]
        yield from (self.current[:edge] for edge in edges)
        yield self.current[: (start + end) // 2]
        # The length was extended, and of the data came nothing, the first page, or all but the first page.
        yield self.durable + bytes(end - start)
        for edge in edges[:1]:
            yield self.current[:edge] + bytes(end - edge)
            yield self.durable + bytes(edge - start) + self.current[edge:]


@dataclass(frozen=True)
class _Change:
    """What an operation does to the folder: a name that goes, a name that stands for a file from now on."""

    gone: str = ""
    name: str = ""
    file: int = 0


@dataclass
class Disk:
    """A folder as the system keeps it: what is on the disk, and what will be."""

    _files: dict[int, _File] = field(default_factory=dict)
    _durable: dict[str, int] = field(default_factory=dict)
    _changes: list[_Change] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def _names(self) -> dict[str, int]:
        return _changed(self._durable, self._changes)

    def take(self, effect: Effect) -> None:
        """An operation has happened."""
        path = effect.path
        match effect.operation:
            case "create" | "open" if path not in self._names:
                number = next(self._numbers)
                self._files[number] = _File()
                self._changes.append(_Change(name=path, file=number))
            case "write":
                self._files[self._names[path]].current += effect.content
            case "sync":
                file = self._files[self._names[path]]
                file.durable = file.current
            case "rename":
                self._changes.append(_Change(path, effect.target, self._names[path]))
            case "remove" if path in self._names:
                self._changes.append(_Change(gone=path))
            case "sync_folder":
                self._durable, self._changes = self._names, []
            case _:
                pass

    def after_power_loss(self) -> Iterator[Contents]:
        """Every image that may be found, some of them more than once."""
        orders = [self._changes[:length] for length in range(len(self._changes), -1, -1)]
        orders += [[change] for change in self._changes]
        for order in orders:
            names = _changed(self._durable, order)
            variants = {name: list(self._files[number].after_power_loss()) for name, number in names.items()}
            # One file at a time has something to lose; the others are as they are in every variant.
            for variant in range(max(map(len, variants.values()), default=1)):
                yield {name: found[min(variant, len(found) - 1)] for name, found in variants.items()}


def _changed(names: Mapping[str, int], changes: list[_Change]) -> dict[str, int]:
    result = dict(names)
    for change in changes:
        result.pop(change.gone, None)
        if change.name:
            result[change.name] = change.file
    return result


@dataclass(frozen=True)
class Image:
    """A disk after a power loss at a boundary, and the cloud as it was at that moment."""

    boundary: str
    contents: Contents
    world: World
    expected: frozenset[tuple[str, str]]


class _Recorder:
    """Follows what runs do to the disk, and keeps the different images that a power loss could leave on the way."""

    def __init__(self, fleet: Fleet, listener: socket.socket) -> None:
        self._fleet = fleet
        self._listener = listener
        self._disk = Disk()
        self._found: dict[tuple[object, ...], Image] = {}
        self._stopped = False
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()
        self.keeping = False

    def stop(self) -> list[Image]:
        """The images, once the last run has ended."""
        self._stopped = True
        self._thread.join()
        return list(self._found.values())

    def _follow(self) -> None:
        while not self._stopped:
            try:
                talk, _ = self._listener.accept()
            except TimeoutError:
                continue
            talk.settimeout(_LONGEST_SILENCE)
            with talk, talk.makefile("rb") as lines:
                for line in lines:
                    told = json.loads(line)
                    name = told.pop("name")
                    if not name.startswith("before:"):
                        self._disk.take(Effect(**{**told, "content": base64.b64decode(told["content"])}))
                    if self.keeping:
                        self._keep(name)
                    with suppress(BrokenPipeError):
                        talk.sendall(b".")

    def _keep(self, name: str) -> None:
        world = _copy(self._fleet.world)
        for contents in self._disk.after_power_loss():
            # What the cloud has done by then: builds that were asked for and begun, images that are there and how.
            images = frozenset((image.id, image.description) for image in world.images)
            key = (_key(contents), world.ledger.received, len(world.ledger.builds), images)
            self._found.setdefault(key, Image(name, contents, world, frozenset(self._fleet.expected)))


def images(scene: Scene, folder: Path, children: Children, *, mutant: str = "", pause: float = 0.0) -> list[Image]:
    """The different images that a power loss may leave at any boundary of a scene's run.

    The run waits `pause` seconds at every boundary, so that what does not wait for the disk gets ahead of it.
    """
    with (
        new_fleet(folder, children, faults=scene.faults) as fleet,
        tempfile.TemporaryDirectory() as place,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        fleet.mutant = mutant
        fleet.talk = f"{place}/talk"
        listener.bind(fleet.talk)
        listener.listen(1)
        listener.settimeout(0.05)
        recorder = _Recorder(fleet, listener)
        try:
            scene.set(fleet)
            recorder.keeping = True
            scene.begin(fleet, pause=pause)
            ended = fleet.end()
        finally:
            found = recorder.stop()
        if ended.status != scene.ends:
            raise Violation(f"the run ended with {ended.status}\n{ended.output}")
    return found


def _key(contents: Contents) -> object:
    # What the lock file says matters to nobody.
    return frozenset((name, content) for name, content in contents.items() if not name.endswith(".lock"))


def _copy(world: World) -> World:
    while True:
        try:
            return copy.deepcopy(world)
        except RuntimeError:
            # It changed on the way: the run goes on asking while its disk waits.
            continue


def recover(scene: Scene, folder: Path, children: Children, image: Image, mutant: str = "") -> None:
    """Put an image in the folder's place, finish, and look at what came of it."""
    try:
        with resumed_fleet(folder, children, copy.deepcopy(image.world), faults=scene.faults) as fleet:
            fleet.mutant = mutant
            fleet.expected = set(image.expected)
            fleet.keep_images = scene.keep_images
            fleet.declare(scene.release, described=scene.described)
            for name, content in image.contents.items():
                (fleet.work / name).write_bytes(content)
            fleet.after_crash(doubtful=1)
            scene.after(fleet)
            fleet.finish()
            fleet.agree()
    except Violation as violation:
        sizes = {name: len(content) for name, content in image.contents.items()}
        raise Violation(f"{scene.name}, power loss at {image.boundary}, left {sizes}: {violation}") from violation

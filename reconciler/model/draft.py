"""A manifest that is to be written for what exists, and the records that go with it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.record import Build, BuildStatus
from reconciler.model.spec import ImageSpec


@dataclass(frozen=True, slots=True)
class FoundServer:
    """An image server that a new manifest is to declare.

    `name` is what it would be called, valid or not. `builds` are to be recorded, in this order. `remarks` and
    `comments` tell a reader what it is, in few words and in lines; `problems` say what a person should look at.
    """

    server_id: str
    name: str
    remarks: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    builds: tuple[Build, ...] = ()

    @property
    def image(self) -> ImageSpec | None:
        """What a declaration asks for that changes nothing: what is in flight, otherwise what is held."""
        if self.builds and self.builds[-1].status is BuildStatus.RUNNING:
            return self.builds[-1].spec
        made = [build.spec for build in self.builds if build.status is BuildStatus.SUCCEEDED]
        return made[-1] if made else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One image server of the manifest, valid in every field.

    `image` None leaves the image's name to the defaults. `protect` is set where the declaration cannot be what is held:
    nothing must be built or edited before somebody has decided.
    """

    name: str
    server_id: str
    image: ImageSpec | None = None
    protect: bool = False
    remarks: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    builds: tuple[Build, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """All entries by name. `release` is a value of the variable with which no two image names are equal."""

    release: str
    entries: tuple[Entry, ...]

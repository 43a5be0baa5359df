"""What a manifest declares, after defaults, variables and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.diagnostics import Diagnostic, Origin


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What a build is asked for. Source: the recreate-image page.

    `execute_sysprep` None means "not said": the field is then left out of the request, since its default is not
    documented and older regions may not know it. `triggers` never reach the cloud; a changed value means a rebuild.
    """

    name: str
    description: str = ""
    execute_sysprep: bool | None = None
    triggers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeclaredServer:
    """One entry of `image_servers`. `name` is its key in the manifest, `server_id` the id used in the API's paths.

    `keep_images`: how many images of its own it keeps, the newest ones, once a further one is built; None keeps all.
    """

    name: str
    server_id: str
    image: ImageSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    protect: bool = False
    keep_images: int | None = None
    # Where it stands; moving a line is not a change.
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """The manifest's own gates; None means no limit.

    `max_changes` counts servers, `max_prunes` images, `max_in_flight` builds at one time.
    """

    max_changes: int | None = None
    max_prunes: int | None = None
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """`provider: {simulator: …}`: how many servers it has, and how long a build takes in it, in seconds."""

    servers: int = 3
    build_time: float = 3.0


@dataclass(frozen=True, slots=True)
class Override:
    """A variable of the manifest that something outside it has set.

    `source` is shown in plans: `--var`, a file, the name of an environment variable.
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files together, checked. `servers` is in the order of the files, which is the order of a plan."""

    servers: Mapping[str, DeclaredServer]
    region: str | None = None
    project_id: str | None = None
    simulator: SimulatorSettings | None = None
    limits: Limits = field(default_factory=Limits)
    state_url: str | None = None
    overrides: tuple[Override, ...] = ()
    # Cautions and notes; a manifest with errors is never made.
    diagnostics: tuple[Diagnostic, ...] = ()
    # The files that were read, as the user would type them: for messages only.
    files: tuple[str, ...] = ()

"""What is to be done: the value that rendering shows and execution carries out, the same for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.diagnostics import Diagnostic, Origin
from reconciler.model.observed import Quota
from reconciler.model.record import Binding
from reconciler.model.spec import ImageSpec, Limits, Override


class Action(StrEnum):
    """What happens to one server, in the order in which it happens."""

    RESUME = "resume"
    MOVE = "move"
    FORGET = "forget"
    REBUILD = "rebuild"
    BUILD = "build"
    UPDATE = "update"
    PRUNE = "prune"
    REFRESH = "refresh"

    @property
    def builds(self) -> bool:
        """True where a recreate-image request is sent."""
        return self in (Action.BUILD, Action.REBUILD)


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """One field of a declaration that differs from what is held. None stands for absent."""

    path: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Change:
    """One server, one action; a build may bring prunes of the same server along, one for each image.

    `before` is the held spec, `after` the declared one; a forget has no `after`. For a resume `after` is set where the
    declaration still asks for what is in flight. A prune has the spec of the image that goes as `before`; a refresh has
    what IMS shows as `after`, or none where the image is gone. `unavailable` says why it cannot start now, `gated` why
    it must not start unless it is allowed by name; empty means neither.
    """

    name: str
    server_id: str
    action: Action
    reasons: tuple[str, ...] = ()
    before: ImageSpec | None = None
    after: ImageSpec | None = None
    diff: tuple[FieldDiff, ...] = ()
    unavailable: str = ""
    gated: str = ""
    old_name: str = ""
    job_id: str = ""
    image_id: str = ""
    origin: Origin | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[str, Action, str]:
        """What tells it from every other change of its plan."""
        return self.server_id, self.action, self.image_id if self.action is Action.PRUNE else ""

    @property
    def starts(self) -> bool:
        """True where apply would set about it."""
        return not self.unavailable and not self.gated


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change that a manifest, a state and the cloud add up to.

    `plan_id` is a digest of the decisions, the same for the same inputs. `expected_seconds` is how long the builds take
    together, an estimate from history; `build_seconds` what one build takes. `max_in_flight` builds run at one time
    (None: any number). `quota` is that of private images, where it is known; each of `in_flight` builds, by whatever
    record, has begun and will take a place in it; `queued` builds of this plan wait for a place that it frees itself.
    `refresh_only`: nothing is asked of the cloud, what it shows is recorded.
    """

    plan_id: str
    lineage: str
    serial: int
    bound_to: Binding
    changes: tuple[Change, ...]
    unchanged: int
    refreshed: bool
    expected_seconds: float = 0.0
    build_seconds: float = 0.0
    max_in_flight: int | None = None
    quota: Quota | None = None
    in_flight: int = 0
    queued: int = 0
    refresh_only: bool = False
    overrides: tuple[Override, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    # The declared guards, to be recorded by the next apply so that loosening them later is seen; protect by server id.
    limits: Limits = field(default_factory=Limits)
    protect: Mapping[str, bool] = field(default_factory=dict)
    # Where the manifest keeps the state, noted likewise: empty for beside it, None: nothing to note.
    state_url: str | None = None

    @property
    def simulated(self) -> bool:
        """True where the embedded simulator stands in for the cloud; every output then says so."""
        return self.bound_to.provider == "simulator"

    @property
    def gated(self) -> tuple[Change, ...]:
        """The changes that hold everything back until they are allowed by name."""
        return tuple(change for change in self.changes if change.gated)

    @property
    def unavailable(self) -> tuple[Change, ...]:
        """The changes that cannot start now; the rest goes on without them."""
        return tuple(change for change in self.changes if change.unavailable)

    def count(self, *actions: Action) -> int:
        """How many changes have one of the actions; those that cannot start now are not among them."""
        return sum(change.action in actions and not change.unavailable for change in self.changes)

    @property
    def summary(self) -> dict[str, int]:
        """A count per action, of what is unavailable, and of what is unchanged; gated changes are counted twice."""
        counts = {action.value: self.count(action) for action in Action}
        return counts | {
            "unavailable": len(self.unavailable),
            "gated": len(self.gated),
            "unchanged": self.unchanged,
        }

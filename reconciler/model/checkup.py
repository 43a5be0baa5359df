"""What `imgctl doctor` found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Health(StrEnum):
    """How something is: as it should be, worth knowing, not as it should be but no obstacle, or wrong."""

    OK = "ok"
    NOTE = "note"
    CAUTION = "caution"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `area` and `name` say what, `detail` how it is, `fix` what to do about it.

    `facts` are the same in figures, for machines.
    """

    area: str
    name: str
    health: Health
    detail: str
    fix: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkup:
    """Everything that was looked at, in order. `simulated`: the embedded simulator stood in for the cloud."""

    findings: tuple[Finding, ...]
    simulated: bool = False

    def count(self, health: Health) -> int:
        """How many findings are of this kind."""
        return sum(finding.health is health for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """True where nothing is wrong; cautions are no wrong."""
        return not self.count(Health.PROBLEM)

"""When to look again at builds in flight: often while they are young, once a minute in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LONGEST = 60.0
# Younger builds than this are looked at again after a tenth of their age, older ones after half of it.
_YOUNG = 60.0


@dataclass(frozen=True, slots=True)
class Polling:
    """An interval, from how old the builds are. All figures are in seconds.

    A short build is noticed late by a tenth of its time at most; the documented one of 24 minutes costs about fifty
    looks, which a hundred builds share. `expected` is what a build takes: where that is short, looks begin earlier.
    """

    expected: float

    def interval(self, ages: Iterable[float]) -> float:
        """How long to wait before the next look at builds of these ages; the most impatient of them decides."""
        least = max(0.05, min(1.0, self.expected / 10))
        return min((max(least, min(_LONGEST, age * (0.1 if age < _YOUNG else 0.5))) for age in ages), default=_LONGEST)

"""When to look again at builds in flight: often while they are young, once a minute in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SHORTEST = 0.25
_LONGEST = 60.0
# While a build is not half through, by what builds take, its end can be noticed later than that.
_LONGEST_EARLY = 120.0
# Younger builds than this are looked at again after a tenth of their age, older ones after half of it.
_YOUNG = 60.0


@dataclass(frozen=True, slots=True)
class Polling:
    """An interval, from how old the builds are. All figures are in seconds.

    A short build is noticed late by a tenth of its time, or by a second at most; the documented one of 24 minutes costs
    about fifty looks, which a hundred builds share. `expected` is what a build takes: where that is short, no
    look waits longer than a tenth of it.
    """

    expected: float

    def interval(self, ages: Iterable[float]) -> float:
        """How long to wait before the next look at builds of these ages; the most impatient of them decides."""
        return min((self._one(age) for age in ages), default=_LONGEST)

    def _one(self, age: float) -> float:
        # Doubling from a quarter of a second to a second, so that what ends at once is noticed at once.
        least = max(0.05, min(1.0, max(_SHORTEST, age), self.expected / 10))
        longest = _LONGEST_EARLY if age < self.expected / 2 - _LONGEST_EARLY else _LONGEST
        return max(least, min(longest, age * (0.1 if age < _YOUNG else 0.5)))

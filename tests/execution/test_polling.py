"""How often builds are looked at: the budget of the design, by arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.execution.polling import Polling

DOCUMENTED = 1414.6


def looks(polling: Polling, build_seconds: float) -> tuple[int, float]:
    """How many looks a build takes, and how late its end is noticed."""
    age, count = 0.0, 0
    while age < build_seconds:
        age += polling.interval([age])
        count += 1
    return count, age - build_seconds


def test_a_hundred_builds_of_the_documented_time_stay_within_the_budget() -> None:
    count, late = looks(Polling(DOCUMENTED), DOCUMENTED)
    # A POST and a look at the ended job for each; a token, the project, servers, images, quota and one page more.
    assert (100 + 100 + count + 6) / 100 <= 2.6
    assert late <= 60


@pytest.mark.parametrize("seconds", [1.0, 5.0, 20.0, 59.0])
def test_a_short_build_is_noticed_soon_though_a_long_one_was_expected(seconds: float) -> None:
    _, late = looks(Polling(DOCUMENTED), seconds)
    assert late <= max(1.0, 0.1 * seconds)


@given(st.lists(st.floats(0, 10**6), min_size=1), st.floats(0.001, 10**5))
def test_an_interval_is_bounded_and_the_youngest_build_decides(ages: list[float], expected: float) -> None:
    polling = Polling(expected)
    interval = polling.interval(ages)
    assert 0.05 <= interval <= (120 if min(ages) < expected / 2 else 60)
    assert interval == min(polling.interval([age]) for age in ages)

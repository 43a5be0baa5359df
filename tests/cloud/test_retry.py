"""Facts 6.7, row by row."""

import pytest

from reconciler.cloud.operations import Repeat
from reconciler.cloud.retry import RetryPolicy
from reconciler.errors import (
    AuthenticationFailed,
    BadAnswer,
    BadRequest,
    CloudError,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RequestNotSent,
    ServiceFailed,
    Throttled,
)

POLICY = RetryPolicy(random=lambda: 1.0)
NOT_SENT, LOST, THROTTLED = RequestNotSent("x"), OutcomeUnknown("x"), Throttled("x", status=429)
FAILED = [ServiceFailed("x", status=status) for status in (500, 502, 503, 504)]
FINAL: list[CloudError] = [
    BadRequest("x", status=400),
    AuthenticationFailed("x", status=401),
    PermissionDenied("x", status=403),
    NotFound("x", status=404),
    Conflict("x", status=409),
    BadAnswer("x", status=200),
    ServiceFailed("x", status=501),
]


@pytest.mark.parametrize(
    ("repeat", "again", "final"),
    [
        (Repeat.SAFE, [NOT_SENT, LOST, THROTTLED, *FAILED], FINAL),
        (Repeat.IF_UNSEEN, [NOT_SENT, THROTTLED], [LOST, *FAILED, *FINAL]),
        (Repeat.NEVER, [], [NOT_SENT, LOST, THROTTLED, *FAILED, *FINAL]),
    ],
)
def test_what_is_repeated(repeat: Repeat, again: list[CloudError], final: list[CloudError]) -> None:
    assert all(POLICY.repeats(1, error, repeat) for error in again)
    assert not any(POLICY.repeats(1, error, repeat) for error in final)


def test_attempts_are_bounded() -> None:
    assert POLICY.repeats(5, LOST, Repeat.SAFE)
    assert not POLICY.repeats(6, LOST, Repeat.SAFE)
    assert POLICY.repeats(19, THROTTLED, Repeat.SAFE)
    assert not POLICY.repeats(20, THROTTLED, Repeat.SAFE)


def test_backoff_doubles_up_to_a_cap_with_full_jitter() -> None:
    assert [POLICY.delay(attempt, LOST) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert RetryPolicy(random=lambda: 0.0).delay(5, LOST) == 0
    assert POLICY.delay(10_000, LOST) == 30


def test_what_the_cloud_says_is_a_minimum() -> None:
    for jitter in (0.0, 1.0):
        policy = RetryPolicy(random=lambda jitter=jitter: jitter)  # type: ignore[misc]
        assert policy.delay(1, Throttled("x", retry_after=60)) == 60 + jitter * 0.5
        assert policy.delay(1, ServiceFailed("x", retry_after=7)) == 7 + jitter * 0.5
        assert policy.delay(1, Throttled("x", retry_after=86_400)) == 300 + jitter * 0.5
        # Nothing said: two seconds at least.
        assert policy.delay(1, THROTTLED) == 2 + jitter * 0.5

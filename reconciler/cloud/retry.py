"""Whether a failed request is sent again, and when. It decides and never sleeps."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.cloud.operations import Repeat
from reconciler.errors import CertificateRefused, CloudError, OutcomeUnknown, RequestNotSent, ServiceFailed, Throttled

# A gateway or a service that may do better soon; other 5xx will not (facts 6.7).
_PASSING = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds and pace. Times are in seconds; attempts count from 1.

    A refusal for being too fast has a bound of its own: it is always safe to repeat, and a whole fleet behind a
    gateway that lets ten requests a minute pass meets it many times.
    """

    attempts: int = 6
    throttled_attempts: int = 20
    base: float = 0.5
    cap: float = 30.0
    # Facts 6.5: 2 to 5 seconds after APIGW.0308 where no window is named.
    throttled_base: float = 2.0
    longest_wait: float = 300.0
    # Whether a connection that was not established is tried again.
    reconnects: bool = True
    random: Callable[[], float] = random.random

    def repeats(self, attempt: int, error: CloudError, repeat: Repeat) -> bool:
        """True where the request may be sent again after `error` on its `attempt`."""
        if repeat is Repeat.NEVER:
            return False
        if isinstance(error, CertificateRefused):
            return False
        if isinstance(error, Throttled):
            return attempt < self.throttled_attempts
        if attempt >= self.attempts:
            return False
        if isinstance(error, RequestNotSent):
            return self.reconnects
        passing = isinstance(error, OutcomeUnknown) or (isinstance(error, ServiceFailed) and error.status in _PASSING)
        return passing and repeat is Repeat.SAFE

    def delay(self, attempt: int, error: CloudError) -> float:
        """How long to wait before what follows: what the cloud said, otherwise exponential backoff with full jitter."""
        jitter = self.random() * min(self.cap, self.base * 2.0 ** min(attempt - 1, 30))
        told = error.retry_after if isinstance(error, Throttled | ServiceFailed) else None
        if told is not None:
            # A little more than told, and not all at the same instant.
            return min(told, self.longest_wait) + self.random() * self.base
        return self.throttled_base + jitter if isinstance(error, Throttled) else jitter

"""The gateway's 429s: by chance, and by a limit that counts (facts sheet 6.5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

from reconciler.simulator.answers import Answer, ApiError
from reconciler.simulator.faults import Faults

_REACHED = "The throttling threshold has been reached"
_LIMIT = 200


def throttle(faults: Faults, operation: str, now: datetime, *, anonymous: bool) -> None:
    """Raise ApiError 429 where a fault asks for it.

    `anonymous`: the request names no user yet, so the limit of each user does not count it.
    """
    window = faults.seconds("throttle", operation, 1.0)
    if window is not None:
        raise _refused(_policy(_LIMIT, window))
    told = faults.seconds("throttle-retry-after", operation, 1.0)
    if told is not None:
        raise _refused(_REACHED, str(round(told)))
    told = faults.seconds("throttle-retry-date", operation, 1.0)
    if told is not None:
        raise _refused(_REACHED, format_datetime(now + timedelta(seconds=round(told)), usegmt=True))
    if faults.strike("throttle-bare", operation) is not None:
        raise _refused(_REACHED)
    if not anonymous and (limit := faults.over_limit(operation, now)) is not None:
        raise _refused(_policy(round(limit.rate), limit.window))


def _policy(limit: int, window: float) -> str:
    # The gateway knows whole seconds only.
    return f"{_REACHED}: policy user over ratelimit,limit:{limit},time:{max(1, round(window))} second"


def _refused(message: str, retry_after: str | None = None) -> ApiError:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    body = {"error_msg": message, "error_code": "APIGW.0308", "request_id": ""}
    return ApiError(Answer(429, body, headers))

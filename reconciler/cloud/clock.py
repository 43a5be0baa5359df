"""Time, ours and the cloud's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_RESOLUTION = timedelta(seconds=2)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CloudClock:
    """Tells the cloud's time from ours and the `Date` headers seen so far.

    Signatures must be within 15 minutes of the cloud's time, and intents are compared with its jobs' times.
    `monotonic` and `sleep` are here so that a test can replace all of time at once.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self.sleep = sleep
        # The cloud's clock minus ours, to the second; zero until the first answer.
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """The cloud's time, in UTC, as well as it is known."""
        return self._wall() + self.offset

    def learn(self, date: str) -> None:
        """Takes an answer's `Date` header; one that is missing or not a date changes nothing."""
        told = parse_http_date(date)
        if told is None:
            return
        offset = told - self._wall()
        # The header counts whole seconds and took its time to get here: less than that is no difference.
        self.offset = offset if abs(offset) > _RESOLUTION else timedelta(0)


def parse_http_date(text: str) -> datetime | None:
    """A date as HTTP writes it, in UTC; None where it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

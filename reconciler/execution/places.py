"""Places for builds: so many in flight at one time, and one in the quota of private images for each.

A build that succeeds keeps its place in the quota, and a prune gives one back. Whoever finds none waits in line. What a
build that fails leaves is not known, since it may have failed for want of a place that somebody else has taken: before
the line moves on the quota is read again, as it is once nothing is left that could give a place back. Where it is used
up for good the rest of the line is sent away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable


class NoPlace(Exception):  # noqa: N818 - reads as the fact that it is
    """No place will come free any more; the text says why."""


class Places:
    """The places of one run.

    `bound` is how many builds may be in flight (None: any number), `free` how many places the quota has (None: not
    known, so nobody waits for one). `read_free` reads the latter again; it raises NoPlace where it cannot.
    """

    def __init__(self, bound: int | None, free: int | None, read_free: Callable[[], Awaitable[int]]) -> None:
        self.free = free
        self._bound = bound
        self._closed = False
        self._read_free = read_free
        self._in_flight = 0
        # Builds that run on without anybody waiting for them, and prunes that are under way.
        self._left_behind = self._pruning = 0
        # True from a build's failure until the quota has been read again.
        self._in_doubt = False
        self._line: deque[tuple[asyncio.Future[None], bool]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def take(self, *, reserved: bool = False) -> None:
        """Wait for a place; `reserved` where the one in the quota is taken already. Raises NoPlace."""
        if self._closed:
            self._in_flight += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((place, reserved))
        self._admit()
        await place

    def leave(self, *, image: bool, left_behind: bool = False, prunes: int = 0) -> None:
        """A build is not waited for any more: it has made an `image`, or was `left_behind` and may still make one.

        `prunes` are about to follow it; each of them calls `pruned` at its end.
        """
        self._in_flight -= 1
        self._left_behind += left_behind
        self._pruning += prunes
        self._in_doubt |= not (image or left_behind)
        self._admit()

    def pruned(self, *, gone: bool) -> None:
        """A prune has ended; `gone` where its image is."""
        self._pruning -= 1
        if gone and self.free is not None:
            self.free += 1
        self._admit()

    def close(self) -> None:
        """Let everybody in line go on at once: the run is stopping, and they will see that for themselves."""
        self._closed = True
        while self._line:
            place, _ = self._line.popleft()
            self._in_flight += 1
            if not place.done():
                place.set_result(None)

    def _admit(self) -> None:
        while self._line:
            place, reserved = self._line[0]
            if self._bound is not None and self._in_flight >= self._bound:
                return
            if not reserved and self.free is not None and (self._in_doubt or self.free <= 0):
                if (self._in_doubt or self._idle) and (self._reading is None or self._reading.done()):
                    self._reading = asyncio.create_task(self._read_again())
                return
            self._line.popleft()
            if place.done():
                continue
            self._in_flight += 1
            if not reserved and self.free is not None:
                self.free -= 1
            place.set_result(None)

    async def _read_again(self) -> None:
        """Others make and delete images too. What is in flight needs its place, whether IMS counts that or not."""
        self._in_doubt = False
        idle, in_flight = self._idle, self._in_flight
        free, why = 0, NoPlace("no place in the quota of private images")
        try:
            # One that has ended meanwhile may have made its image after the quota was counted.
            free = await self._read_free() - self._left_behind - max(in_flight, self._in_flight)
        except NoPlace as unreadable:
            why = unreadable
        # This very reading must not count as one under way.
        self._reading = None
        if free <= 0 and idle:
            self._send_away(why)
            return
        self.free = max(0, free)
        self._admit()

    @property
    def _idle(self) -> bool:
        """True while nothing is left that could give a place back."""
        return self._in_flight == self._pruning == 0

    def _send_away(self, why: NoPlace) -> None:
        for place, reserved in self._line:
            if not reserved and not place.done():
                place.set_exception(why)
        self._line = deque(one for one in self._line if one[1])
        self._admit()

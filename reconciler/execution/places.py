"""Places for builds: so many in flight at one time, and one in the quota of private images for each.

A build that succeeds keeps its place in the quota, one that does not gives it back, and so does a prune. Whoever finds
none waits in line; once nothing is left that could give one back, the quota is read again, and where it is used up for
good the rest of the line is sent away.
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
        if not (image or left_behind):
            self._give_back()
        self._admit()

    def pruned(self, *, gone: bool) -> None:
        """A prune has ended; `gone` where its image is."""
        self._pruning -= 1
        if gone:
            self._give_back()
        self._admit()

    def close(self) -> None:
        """Let everybody in line go on at once: the run is stopping, and they will see that for themselves."""
        self._closed = True
        while self._line:
            place, _ = self._line.popleft()
            self._in_flight += 1
            if not place.done():
                place.set_result(None)

    def _give_back(self) -> None:
        if self.free is not None:
            self.free += 1

    def _admit(self) -> None:
        while self._line:
            place, reserved = self._line[0]
            if self._bound is not None and self._in_flight >= self._bound:
                return
            if not reserved and self.free is not None and self.free <= 0:
                if self._in_flight == self._pruning == 0 and (self._reading is None or self._reading.done()):
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
        """Others delete images too. What was left behind still needs a place that nobody else may take."""
        try:
            free = await self._read_free() - self._left_behind
        except NoPlace as why:
            self._send_away(why)
            return
        if free <= 0:
            self._send_away(NoPlace("no place in the quota of private images"))
            return
        self.free = free
        # This very reading must not count as one under way.
        self._reading = None
        self._admit()

    def _send_away(self, why: NoPlace) -> None:
        for place, reserved in self._line:
            if not reserved and not place.done():
                place.set_exception(why)
        self._line = deque(one for one in self._line if one[1])
        self._admit()

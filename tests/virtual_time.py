"""An event loop whose time passes at once: a day of waiting takes as long as the work in it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the clock to it; for threads it waits as long as they really take."""

    passed = 0.0
    in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        while self.in_threads:
            ready = super().select(0.001)
            if ready:
                return ready
        if timeout is None:
            return super().select(1)
        self.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 0 and knows no other time than its own."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self._virtual.in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._back)
        return future

    def _back(self, _: object) -> None:
        self._virtual.in_threads -= 1


class _Policy(asyncio.DefaultEventLoopPolicy):
    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        self.loop = VirtualLoop()
        return self.loop


@contextmanager
def virtual_time(patch: pytest.MonkeyPatch) -> Iterator[Callable[[], float]]:
    """Every loop that begins inside has virtual time, and so have `time.monotonic` and a simulated world.

    Gives a function that says how many seconds have passed.
    """
    policy = _Policy()
    # A simulated gateway refuses a client whose clock is another one.
    start = datetime.now(UTC)

    def passed() -> float:
        return policy.loop.time() if policy.loop is not None else 0.0

    class Virtual(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Any:
            return start + timedelta(seconds=passed())

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(policy)
    try:
        with patch.context() as inner:
            inner.setattr("time.monotonic", passed)
            inner.setattr("reconciler.simulator.world.datetime", Virtual)
            yield passed
    finally:
        asyncio.set_event_loop_policy(before)

"""Places for builds: never more than there are, nobody waits for ever, whatever ends in whatever order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.execution.places import NoPlace, Places
from tests.support import examples


def reading(*answers: int) -> Callable[[], Awaitable[int]]:
    """The quota as it is read, time after time; the last answer stays."""
    left = list(answers)

    async def read() -> int:
        return left.pop(0) if len(left) > 1 else left[0]

    return read


def run(work: Awaitable[None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(within())


@settings(max_examples=examples(60), deadline=None)
@given(
    builds=st.lists(
        st.tuples(st.sampled_from(["image", "failed", "left"]), st.integers(0, 2), st.booleans()), max_size=12
    ),
    bound=st.none() | st.integers(1, 4),
    free=st.none() | st.integers(0, 4),
    again=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_bounds_hold_and_everybody_comes_to_an_end(
    builds: list[tuple[str, int, bool]], bound: int | None, free: int | None, again: int, seed: int
) -> None:
    chance = random.Random(seed)
    # Images that exist because of this run, against the quota's places: what IMS would count.
    images, in_flight, most, ended, read = 0, 0, 0, [], 0

    async def read_free() -> int:
        nonlocal read
        read += 1
        # Others have deleted some: the first few readings find a place more.
        return max(0, (free or 0) + min(read, again) - images)

    async def build(places: Places, how: str, prunes: int, gone: bool) -> None:
        nonlocal images, in_flight, most
        try:
            await places.take()
        except NoPlace:
            ended.append("none")
            return
        in_flight += 1
        most = max(most, in_flight)
        if free is not None:
            assert images + in_flight <= free + again
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        in_flight -= 1
        images += how != "failed"
        follow = prunes if how == "image" else 0
        places.leave(image=how == "image", left_behind=how == "left", prunes=follow)
        for _ in range(follow):
            await asyncio.sleep(0)
            # What is pruned was there before this run, or is an image of it: either way one less.
            images -= gone
            places.pruned(gone=gone)
        ended.append(how)

    async def everything() -> None:
        places = Places(bound, free, read_free)
        await asyncio.gather(*(build(places, *one) for one in builds))

    run(everything())
    assert len(ended) == len(builds)
    assert bound is None or most <= bound
    assert free is not None or "none" not in ended


def test_one_that_is_in_flight_already_takes_no_place_in_the_quota() -> None:
    async def everything() -> None:
        places = Places(1, 0, reading(0))
        await places.take(reserved=True)
        waiting = asyncio.create_task(places.take(reserved=True))
        await asyncio.sleep(0)
        assert not waiting.done()
        places.leave(image=True)
        await waiting
        places.leave(image=True)
        with pytest.raises(NoPlace):
            await places.take()

    run(everything())


def test_what_was_left_behind_keeps_its_place() -> None:
    async def everything() -> None:
        places = Places(None, 1, reading(1))
        await places.take()
        places.leave(image=False, left_behind=True)
        with pytest.raises(NoPlace, match="no place"):
            await places.take()

    run(everything())


def test_a_quota_that_cannot_be_read_sends_the_line_away_with_the_reason() -> None:
    async def unreadable() -> int:
        raise NoPlace("the quota could not be read: 403")

    async def everything() -> None:
        places = Places(None, 0, unreadable)
        line = [asyncio.create_task(places.take()) for _ in range(3)]
        for one in line:
            with pytest.raises(NoPlace, match="403"):
                await one

    run(everything())


def test_closing_lets_everybody_go_on() -> None:
    async def everything() -> None:
        places = Places(1, 5, reading(5))
        await places.take()
        line = [asyncio.create_task(places.take()) for _ in range(3)]
        await asyncio.sleep(0)
        places.close()
        await asyncio.gather(*line)
        await places.take()

    run(everything())


def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    async def everything() -> None:
        places = Places(1, 2, reading(0))
        await places.take()
        gone = asyncio.create_task(places.take())
        stays = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        places.leave(image=True)
        await stays
        assert places.free == 0

    run(everything())


def test_after_a_failure_the_quota_is_read_before_the_line_moves_on() -> None:
    # Somebody else has taken the places: each build that begins all the same would fail after its whole time.
    async def everything() -> None:
        places = Places(None, 2, reading(1, 0))
        running = [asyncio.create_task(places.take()) for _ in range(4)]
        await asyncio.sleep(0)
        places.leave(image=False)
        for _ in range(5):
            await asyncio.sleep(0)
        # One place, and that is for the build that is still in flight.
        assert [one.done() for one in running] == [True, True, False, False]
        places.leave(image=False)
        for one in running[2:]:
            with pytest.raises(NoPlace):
                await one

    run(everything())


def test_places_that_failures_leave_are_used_while_others_build_on() -> None:
    async def everything() -> None:
        places = Places(None, 2, reading(2))
        first, second, third, fourth = (asyncio.create_task(places.take()) for _ in range(4))
        await asyncio.gather(first, second)
        places.leave(image=False)
        await third
        assert not fourth.done()
        places.leave(image=False)
        await fourth

    run(everything())


def test_a_quota_that_cannot_be_read_for_a_moment_sends_nobody_away_while_a_place_may_come_back() -> None:
    answers: list[NoPlace | int] = [NoPlace("503"), 1]

    async def read() -> int:
        answer = answers.pop(0)
        if isinstance(answer, int):
            return answer
        raise answer

    async def everything() -> None:
        places = Places(None, 2, read)
        line = [asyncio.create_task(places.take()) for _ in range(3)]
        await asyncio.gather(*line[:2])
        places.leave(image=False)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not line[2].done()
        places.leave(image=True)
        await line[2]

    run(everything())

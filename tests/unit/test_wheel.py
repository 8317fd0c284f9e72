from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsvc.slices import Slices
from jobsvc.wheel import UNSET, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 0.004


class Sleeper:
    """
    One who is woken, and knows when.
    """

    def __init__(self, then: Callable[[Sleeper], None] = lambda _: None) -> None:
        self._then = then
        self.slot = UNSET
        self.woken_s: list[float] = []

    def on_time(self) -> None:
        """
        It notes the time.
        """
        self.woken_s.append(asyncio.get_running_loop().time())
        self._then(self)


def failed(fault: Exception) -> None:
    """
    No step may fail.
    """
    raise fault


def wheel() -> Wheel:
    """
    A wheel with short ticks.
    """
    return Wheel(Slices(failed=failed), tick_s=TICK_S)


async def turns(condition: Callable[[], bool]) -> None:
    """
    Turns of the loop, until *condition* holds.
    """
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # nothing says so
            await asyncio.sleep(0)


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_nobody_is_woken_early_or_more_than_a_tick_late(delays: list[float]) -> None:
    """
    Each at its time or in the tick after it; the machine may be late besides, but never within one turn of the loop.
    """

    async def play() -> None:
        ours, now_s = wheel(), asyncio.get_running_loop().time()
        sleepers = [Sleeper() for _ in delays]
        for sleeper, delay in zip(sleepers, delays, strict=True):
            ours.put(sleeper, now_s + delay)
            # Its bucket's own time: the first at or after the one that was asked for.
            assert now_s + delay <= sleeper.slot * TICK_S <= now_s + delay + TICK_S * 1.000_001
        await turns(lambda: all(sleeper.woken_s for sleeper in sleepers))

        for sleeper, delay in zip(sleepers, delays, strict=True):
            assert 1 == len(sleeper.woken_s)
            assert sleeper.woken_s[0] >= now_s + delay
            assert UNSET == sleeper.slot

    asyncio.run(play())


async def test_a_later_put_replaces_the_earlier_and_a_drop_both() -> None:
    """
    One is woken once, at the time that was said last; one that was dropped never, however often it is dropped.
    """
    ours, now_s = wheel(), asyncio.get_running_loop().time()
    later, sooner, dropped, last = (Sleeper() for _ in range(4))
    for sleeper in (later, sooner, dropped):
        ours.put(sleeper, now_s + 0.02)
    ours.put(last, now_s + 0.06)
    ours.put(later, now_s + 0.05)
    ours.put(sooner, now_s)
    ours.drop(dropped)
    ours.drop(dropped)

    await turns(lambda: bool(last.woken_s))

    assert [1, 1, 0] == [len(sleeper.woken_s) for sleeper in (later, sooner, dropped)]
    assert later.woken_s[0] >= now_s + 0.05 > sooner.woken_s[0]


async def test_thousands_in_one_bucket_are_each_woken_once_in_several_turns() -> None:
    """
    The loop goes on between them.
    """
    ours, now_s = wheel(), asyncio.get_running_loop().time()
    sleepers = [Sleeper() for _ in range(5_000)]
    for sleeper in sleepers:
        ours.put(sleeper, now_s)
    await turns(lambda: any(sleeper.woken_s for sleeper in sleepers))
    at_first = sum(len(sleeper.woken_s) for sleeper in sleepers)
    await turns(lambda: all(sleeper.woken_s for sleeper in sleepers))

    assert at_first < 5_000
    assert {1} == {len(sleeper.woken_s) for sleeper in sleepers}


@pytest.mark.parametrize("moves", [True, False])
async def test_one_whose_bucket_is_being_woken_can_still_be_moved_or_dropped(*, moves: bool) -> None:
    """
    Those before it in its bucket drop it, or put it off: it is not woken with them.
    """
    ours, now_s = wheel(), asyncio.get_running_loop().time()
    sleepers: list[Sleeper] = []

    def spare_the_others(one: Sleeper) -> None:
        for other in sleepers:
            if other is not one and moves:
                ours.put(other, now_s + 0.08)
            elif other is not one:
                ours.drop(other)
        end.woken_s.append(0)

    end = Sleeper()
    sleepers += [Sleeper(spare_the_others) for _ in range(2)]
    for sleeper in sleepers:
        ours.put(sleeper, now_s)
    await turns(lambda: bool(end.woken_s))
    for _ in range(10):
        await asyncio.sleep(0)
    woken = sum(len(sleeper.woken_s) for sleeper in sleepers)
    ours.stop()

    assert 1 == woken


async def test_who_puts_itself_again_when_woken_is_woken_again() -> None:
    """
    As often as it does, and not after the wheel has stopped.
    """
    ours = wheel()
    sleeper = Sleeper(lambda one: ours.put(one, asyncio.get_running_loop().time()))
    ours.put(sleeper, asyncio.get_running_loop().time())

    await turns(lambda: len(sleeper.woken_s) >= 3)
    ours.stop()
    before = len(sleeper.woken_s)
    await asyncio.sleep(3 * TICK_S)

    assert before == len(sleeper.woken_s)


async def test_the_time_is_one_number_within_a_tick_and_never_behind() -> None:
    """
    Thousands may keep it for the price of one; it is up to a tick ahead, so that nothing counted from it is early.
    """
    ours, loop = wheel(), asyncio.get_running_loop()
    asked: list[tuple[float, float, float]] = []
    while len({id(now_s) for _, now_s, _ in asked}) < 3:
        asked.append((loop.time(), ours.now_s(), loop.time()))
    (before, first, after), *_ = asked
    least_s, since_s, most_s = loop.time() - after, ours.since_s(first), loop.time() - before

    assert least_s <= since_s <= most_s + TICK_S * 1.000_001
    assert all(before <= now_s <= after + TICK_S * 1.000_001 for before, now_s, after in asked)
    assert len({now_s for _, now_s, _ in asked}) == len({id(now_s) for _, now_s, _ in asked}) < len(asked)

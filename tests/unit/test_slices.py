from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from jobsvc.slices import STEPS_PER_TURN_MAX, TURN_S, Slices

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """
    Works, what they did, and what of it in which turn of the loop.
    """

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.done: list[str] = []
        self.slices = Slices(failed=self.faults.append)

    def work(self, name: str, steps: int, *, costs_s: float = 0.0, fails: bool = False) -> Iterator[None]:
        """
        A work of *steps*, the last of which may fail.
        """
        for number in range(steps):
            end = time.monotonic() + costs_s
            while time.monotonic() < end:
                pass
            self.done.append(f"{name}{number}")
            yield
        if fails:
            raise ValueError(name)

    async def turns_until(self, count: int) -> list[int]:
        """
        How much was done in each turn until there was so much.
        """
        counts: list[int] = []
        async with asyncio.timeout(10):
            while len(self.done) < count:
                before = len(self.done)
                await asyncio.sleep(0)
                counts.append(len(self.done) - before)
        return counts


async def test_works_are_done_one_after_the_other_in_order() -> None:
    """
    What came first is done whole before the next begins, whenever that came.
    """
    bench = Bench()
    bench.slices.add(bench.work("a", 300))
    await asyncio.sleep(0)
    bench.slices.add(bench.work("b", 3))

    await bench.turns_until(303)

    assert [*(f"a{number}" for number in range(300)), "b0", "b1", "b2"] == bench.done


async def test_a_turn_is_bounded_in_steps_and_in_time() -> None:
    """
    Cheap steps by their number, dear ones by the clock, save that the last begun is finished.
    """
    cheap, dear = Bench(), Bench()
    cheap.slices.add(cheap.work("a", 1_000))
    steps = await cheap.turns_until(1_000)
    dear.slices.add(dear.work("a", 6, costs_s=TURN_S * 0.6))
    dear_steps = await dear.turns_until(6)

    assert max(steps) <= STEPS_PER_TURN_MAX
    assert max(dear_steps) <= 2


async def test_a_work_that_fails_is_told_of_and_holds_up_nobody() -> None:
    """
    Those behind it are done as if nothing had been.
    """
    bench = Bench()
    bench.slices.add(bench.work("a", 1, fails=True))
    bench.slices.add(bench.work("b", 2))

    await bench.turns_until(3)

    assert ["a0", "b0", "b1"] == bench.done
    assert ["a"] == [str(fault) for fault in bench.faults]


async def test_a_work_may_add_another_and_nothing_is_done_after_a_stop() -> None:
    """
    What a step adds comes after its own work; what was stopped never comes.
    """
    bench = Bench()

    def adds() -> Iterator[None]:
        bench.slices.add(bench.work("late", 1))
        bench.done.append("first")
        yield
        bench.done.append("second")

    bench.slices.add(adds())
    await bench.turns_until(3)
    bench.slices.add(bench.work("never", 1))
    bench.slices.stop()
    await asyncio.sleep(0.01)

    assert ["first", "second", "late0"] == bench.done

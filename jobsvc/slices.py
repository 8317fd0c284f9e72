"""
Slices: long work done in the event loop a little a turn, so that nothing else waits for the whole of it.

Works run one after the other, in the order in which they came: what one publishes is told before what the next does.
What must never live here: what the work is, or an await.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURN_S: Final = 0.0015
"""Nothing else is to wait longer than 2 ms; what follows a turn's last step counts too."""

STEPS_PER_TURN_MAX: Final = 32
"""
A step that writes to a socket costs more than it seems: some event loops do their writes after the turn, all at once.
"""


class Slices:
    """
    Works in progress, in order. One per feed; needs a running loop from the first work on.
    """

    def __init__(self, *, failed: Callable[[Exception], None]) -> None:
        """
        Nothing is done yet.

        Args:
            failed: Told what a work raised; the others go on.
        """
        self._failed = failed
        self._works: deque[Iterator[None]] = deque()
        self._turn: asyncio.Handle | None = None

    def add(self, work: Iterator[None]) -> None:
        """
        *work* is done step by step, from the next turn of the loop on; each of its values ends a step.
        """
        self._works.append(work)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._run)

    def stop(self) -> None:
        """
        Nothing is done any more.
        """
        self._works.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        time = loop.time
        ends_at, steps = time() + TURN_S, 0
        self._turn = None
        while self._works and steps < STEPS_PER_TURN_MAX and time() < ends_at:
            steps += 1
            try:
                next(self._works[0])
            except StopIteration:
                self._works.popleft()
            except Exception as fault:  # noqa: BLE001  # one broken work must not hold up those behind it
                self._works.popleft()
                self._failed(fault)
        if self._works and self._turn is None:
            self._turn = loop.call_soon(self._run)

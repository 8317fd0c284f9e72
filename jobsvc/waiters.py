"""
The waiters: who wants to know when a job moves on, and which workers wait for one to be ready.

A waiter is a future with a bound in time. It is woken in the loop turn of the commit, and gone at once when its
connection closes, because the coroutine that holds it is cancelled then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobsvc.changes import Change
    from jobsvc.domain.words import JobId


class JobWaiters:
    """Those who wait for a job's next event."""

    def __init__(self) -> None:
        self._waiting: dict[JobId, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    async def wait(self, job_id: JobId, *, timeout_s: float) -> bool:
        """True as soon as the job has another event; False after *timeout_s* without one."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            self._forget(job_id, future)
        return True

    def wake(self, changes: Iterable[Change]) -> None:
        """Everyone who waits for a job of *changes* goes on."""
        for change in changes:
            for future in self._waiting.get(change.job.id, ()):
                if not future.done():
                    future.set_result(None)

    def wake_all(self) -> None:
        """Everyone goes on: the service stops."""
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _forget(self, job_id: JobId, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(job_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[job_id]


class WorkerWaiters:
    """The workers that wait for a job, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], frozenset[str]] = {}
        self._ready: Callable[[frozenset[str]], bool] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def kinds(self) -> list[frozenset[str]]:
        """What each waits for, in the order in which they came; empty where it takes any kind."""
        return list(self._waiting.values())

    async def wait(self, kinds: frozenset[str], *, timeout_s: float) -> bool:
        """True once a job of *kinds* (empty: of any) may be ready; False after *timeout_s*."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = kinds
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            self._waiting.pop(future, None)
            if future.done() and not future.cancelled():
                self.pass_on()
            raise
        finally:
            self._waiting.pop(future, None)
        return True

    def wake(self, ready: Callable[[frozenset[str]], bool], *, limit: int) -> None:
        """Up to *limit* waiters for whom *ready* says that a job of their kinds waits go on, the first first."""
        self._ready = ready
        for future, kinds in list(self._waiting.items()) if limit else ():
            if limit <= 0:
                break
            if not future.done() and ready(kinds):
                future.set_result(None)
                limit -= 1

    def wake_all(self) -> None:
        """Everyone goes on: the service stops."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def pass_on(self) -> None:
        """Whoever was woken and does not ask for the job has somebody else woken in its place."""
        if self._ready is not None:
            self.wake(self._ready, limit=1)

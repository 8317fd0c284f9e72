"""
The handovers: what guests that were claimed had ended before becomes the users' too, some jobs at a time.

The active jobs move with the claim itself, in its transaction; an owner may have ended any number, so those follow in
transactions of a bounded size, each guest in turn. The claim left a mark in the store, which stands until all is done:
a service that dies in between goes on with it when it starts. Nothing is decided here; commands go to the ledger like
anyone's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import Unavailable
from jobsvc.domain.words import Principal
from jobsvc.memory import HANDOVERS
from jobsvc.store.seam import HistoryQuery
from jobsvc.takeovers import HandOver
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobsvc.domain.words import JobId
    from jobsvc.ledger import Ledger
    from jobsvc.store.seam import Store

_RETRY_S: Final = 0.5


class _Handover:
    """
    One guest's: to whom, up to which ended job, newest first, how many went over, and whether that is all.

    Once no other is left the archived ones follow, oldest first: up to which, ``after`` says.
    """

    __slots__ = ("after", "before", "done", "moved", "owner")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.before: JobId | None = None
        self.after: JobId = ""
        self.moved = 0
        self.done = asyncio.Event()


class Handovers:
    """Brings the ended jobs of claimed guests to their new owners. One per ledger."""

    def __init__(self, ledger: Ledger, store: Store, *, jobs_max: int) -> None:
        """
        Nothing moves before ``start``.

        Args:
            ledger: Where the commands go.
            store: Knows the ended jobs, and what was left undone.
            jobs_max: How many jobs one transaction moves at most.
        """
        self._ledger = ledger
        self._store = store
        self._jobs_max = jobs_max
        self._pending: dict[str, _Handover] = {}
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._pending)

    async def start(self) -> None:
        """What a service before this one left undone goes on, and so does what claims bring from now on."""
        await self.find()
        self._ledger.on_spent.append(self.begin)
        self._loop = asyncio.create_task(self._run(), name="handovers")

    async def stop(self) -> None:
        """Nothing moves any more; what is undone stays marked."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def find(self) -> None:
        """Every handover that the store has a mark of is pending."""
        for mark in await self._store.read_marks(HANDOVERS, now=self._ledger.now()):
            self._ledger.memory.spend(mark.scope)
            self.begin(mark.scope, mark.answer.decode())

    def begin(self, guest: str, owner: str) -> None:
        """The ended jobs of *guest* are on their way to *owner*."""
        self._pending.setdefault(guest, _Handover(owner))
        self._woken.set()

    async def wait(self, guest: str, timeout_s: float) -> int:
        """How many ended jobs of *guest* have moved: all of them, or those that did within *timeout_s*."""
        handover = self._pending.get(guest)
        if handover is None:
            return 0
        try:
            async with asyncio.timeout(timeout_s):
                await handover.done.wait()
        except TimeoutError:
            pass
        return handover.moved

    async def step(self) -> None:
        """One transaction for the guest whose turn it is; unless that was all, another once the others had theirs."""
        guest, handover = next(iter(self._pending.items()))
        last = False
        try:
            last = await self._move_some(guest, handover)
        finally:
            del self._pending[guest]
            if last:
                handover.done.set()
            else:
                self._pending[guest] = handover

    async def _move_some(self, guest: str, handover: _Handover) -> bool:
        """True if no ended job of *guest* is left: it makes none any more, so none comes that was not there."""
        query = HistoryQuery(limit=self._jobs_max, owner=guest, before=handover.before)
        job_ids = [row.job_id for row in await self._store.read_history(query)]
        handover.before = job_ids[-1] if job_ids else handover.before
        last = False
        if room := self._jobs_max - len(job_ids):
            # Asked after the others, so that one which is archived in between is found here.
            archived = await self._store.read_archived_jobs(guest, after=handover.after, limit=room)
            handover.after = archived[-1] if archived else handover.after
            job_ids += archived
            last = len(archived) < room
        who = Principal("user", handover.owner, handover.owner)
        work = HandOver(who, guest, handover.owner, tuple(job_ids), last)
        handover.moved += await self._ledger.hand_over(work)
        return last

    async def _run(self) -> None:
        while True:
            if not self._pending:
                # Of more than a page of marks, those that did not come with it.
                await self._try(self.find)
            if not self._pending:
                self._woken.clear()
                await self._woken.wait()
            await self._try(self.step)

    async def _try(self, act: Callable[[], Awaitable[None]]) -> None:
        """*act* is done, or will be tried again in a moment."""
        try:
            await act()
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
        except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one handover, and say so
            log_failure("handover.failed", fault)
            await asyncio.sleep(_RETRY_S)

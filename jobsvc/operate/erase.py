"""
Erase: what may have to be forgotten of a job, or of all jobs of an owner, is gone for good; the log still verifies.

Plan first, act through the ledger: each job gets its ``job.erased``, and in the same transaction the store takes the
payloads away, wherever they lie. What was erased before is passed over, so whoever was stopped runs it again; the last
act, which empties the write-ahead log, is done every time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from jobsvc.domain.commands import Erase
from jobsvc.domain.errors import JobActive, JobsvcError, StoreDown
from jobsvc.domain.words import ERASED
from jobsvc.store.seam import HistoryQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from jobsvc.domain.words import JobId, Principal
    from jobsvc.ledger import Ledger
    from jobsvc.store.seam import Store

_JOBS_PER_COMMIT: Final = 20
"""Each may have thousands of events, and everyone waits for the commit."""

_SCRUB_ATTEMPTS_MAX: Final = 200
_SCRUB_PAUSE_S: Final = 0.05


class EraseReport(Struct, frozen=True):
    """How many jobs were erased now; those that had been before do not count."""

    jobs: int


class Eraser:
    """Erases in the name of *who*, by the ledger whose store it is."""

    def __init__(
        self, ledger: Ledger, store: Store, who: Principal, *, reason: str | None = None, request_id: str | None = None
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._who = who
        self._reason = reason
        self._request_id = request_id

    async def erase_job(self, job_id: JobId) -> EraseReport:
        """
        Nothing is left of what *job_id* was to do, for whom, and what came of it.

        Raises:
            JobNotFound: There is none.
            JobActive: It has not ended.
            StoreDown: Somebody reads so long that the write-ahead log cannot be emptied; run it again.
        """
        job = await self._ledger.read_job(job_id)
        if job.owner != ERASED:
            await self._ledger.execute(self._command(job_id))
        await self._scrub()
        return EraseReport(int(job.owner != ERASED))

    async def erase_owner(self, owner: str, progress: Callable[[int, int], None] | None = None) -> EraseReport:
        """
        Nothing is left of any job of *owner*'s, archived ones included, nor of the requests that it made.

        Raises:
            JobActive: One of them has not ended; nothing was erased.
            StoreDown: As for ``erase_job``.
        """
        self._check_ended(owner)
        erased = 0
        async for job_ids in self._jobs_of(owner):
            for result in (await self._ledger.execute_all([self._command(job_id) for job_id in job_ids]))[0]:
                if isinstance(result, JobsvcError):
                    raise result
            erased += len(job_ids)
            if progress is not None:
                progress(erased, erased)
        await self._ledger.between(lambda: self._store.forget_principal(owner))
        await self._scrub()
        return EraseReport(erased)

    def _check_ended(self, owner: str) -> None:
        for job in self._ledger.memory.of_owner(owner):
            raise JobActive("the owner has an active job; cancel it first", job=job)

    async def _jobs_of(self, owner: str) -> AsyncIterator[Sequence[JobId]]:
        """The ended jobs of *owner*, some at a time. One that is erased is its owner's no more."""
        while rows := await self._store.read_history(HistoryQuery(limit=_JOBS_PER_COMMIT, owner=owner)):
            yield [row.job_id for row in rows]
        while job_ids := await self._store.read_archived_jobs(owner, after="", limit=_JOBS_PER_COMMIT):
            yield job_ids

    def _command(self, job_id: JobId) -> Erase:
        return Erase(job_id, self._who, self._reason, self._request_id)

    async def _scrub(self) -> None:
        """The write-ahead log is empty, as soon as nobody reads any more who began before."""
        for _ in range(_SCRUB_ATTEMPTS_MAX):
            if await self._store.scrub():
                return
            await asyncio.sleep(_SCRUB_PAUSE_S)
        message = "erased, but somebody reads so long that traces stay in the write-ahead log; run it again"
        raise StoreDown(message, kind="busy")

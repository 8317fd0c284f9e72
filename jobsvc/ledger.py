"""
The ledger: where everything that happens to a job is asked for. Commands in, answers as of their commit out.

What is asked stands in one line (entries), is decided and appended by one writer, and answered after the commit. A
caller that goes away leaves its command to finish.

What must never live here: a rule of the domain (decider, machine), a statement of a store, anything of HTTP.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobsvc.answers import Again, Answer, Grants, repeat
from jobsvc.clock import random_pieces
from jobsvc.desk import Desk, Limits
from jobsvc.domain.errors import JobNotFound, JobsvcError
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker
from jobsvc.entries import Entries, Interlude
from jobsvc.memory import Memory
from jobsvc.metrics import Metrics
from jobsvc.news import News
from jobsvc.work import Remember, Several
from jobsvc.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from jobsvc.answers import MarkRequest, Result, TakenOver
    from jobsvc.clock import Clock
    from jobsvc.domain import commands as c
    from jobsvc.domain.errors import Rejected, StoreDown
    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros
    from jobsvc.entries import Entry
    from jobsvc.leases import Leases
    from jobsvc.store.seam import Mark, Store
    from jobsvc.takeovers import HandOver, TakeOver


class Ledger:
    """
    Decides and records. One per log; everything that happens to a job goes through ``execute`` or ``claim``.

    Attributes:
        memory: The active jobs as committed.
        job_waiters: Woken when a job moves on.
        worker_waiters: Woken when a job is ready.
        on_commit: Called with the changes of each commit, in the loop turn in which they become visible; never raises.
        on_spent: Called with each guest that was taken over and its new owner, in that very turn, after ``on_commit``.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits | None = None,
        *,
        metrics: Metrics | None = None,
        seed: int | None = None,
    ) -> None:
        limits = limits or Limits()
        news = News()
        self._store = store
        self._clock = clock
        self._ids = IdMaker()
        self._chance = random_pieces(RANDOM_BYTES)
        self.memory = Memory()
        self.job_waiters, self.worker_waiters = news.job_waiters, news.worker_waiters
        self.on_commit, self.on_spent = news.on_commit, news.on_spent
        self._news = news
        self._entries = Entries(limits)
        self._desk = Desk(self.memory, clock, limits, new_id=self.new_id, seed=seed)
        self._writer = Writer(
            store,
            clock,
            metrics or Metrics(),
            entries=self._entries,
            desk=self._desk,
            memory=self.memory,
            news=news,
        )
        self._writing: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Commands are taken. Cost: proportional to the active jobs, not to the log."""
        await self._writer.open()
        self._writing = asyncio.create_task(self._writer.run(), name="ledger.writer")

    async def stop(self) -> None:
        """Everything that was queued is written, held progress too; nothing more is taken, and all waits have ended."""
        self._entries.close()
        self._news.wake_all()
        if self._writing is not None:
            await self._writing
        await self._store.close()

    @property
    def fatal(self) -> asyncio.Future[StoreDown] | None:
        """Resolves if the store is beyond repair from here; the process has to end. None before ``start``."""
        return self._writer.fatal

    @property
    def writer(self) -> asyncio.Task[None] | None:
        """The task that writes; that it ends before ``stop`` is a fault that nothing here survives."""
        return self._writing

    @property
    def accepting(self) -> bool:
        """True while commands are taken and can be written."""
        return self._entries.failure is None and not self._entries.stopping

    @property
    def stopping(self) -> bool:
        """True once nothing more is taken."""
        return self._entries.stopping

    @property
    def queued(self) -> int:
        """How many decisions wait."""
        return self._entries.decisions

    @property
    def ready(self) -> int:
        """How many jobs wait for a worker."""
        return self._desk.ready

    def waiting(self, kinds: frozenset[str]) -> bool:
        """True if a claim of *kinds* (empty: of any) made now would be given a job."""
        return self._desk.waiting(kinds)

    @property
    def leases(self) -> Leases:
        """Who may report until when."""
        return self._desk.leases

    def lease_expires_at(self, job_id: JobId) -> int | None:
        """When the job's lease runs out as of now, None if nobody holds it. In no view and no version."""
        remaining_us = self._desk.leases.remaining_us(job_id, elapsed=self._clock.elapsed())
        return None if remaining_us is None else self._clock.now() + remaining_us

    def now(self) -> Micros:
        """The moment by which commands are decided; it never runs backwards, whatever the wall clock does."""
        return self._desk.now()

    def lease_of(self, job: Job) -> int | None:
        """When the lease of *job* runs out, if *job* is as it stands now and somebody holds it."""
        return None if job.lease_us is None else self.lease_expires_at(job.id)

    def leases_of(self, jobs: Sequence[Job]) -> list[int | None]:
        """When the lease of each of *jobs* runs out, as ``lease_of``, by one look at the clocks."""
        now, elapsed = self._clock.now(), self._clock.elapsed()
        left = (
            self._desk.leases.remaining_us(job.id, elapsed=elapsed) if job.lease_us is not None else None
            for job in jobs
        )
        return [None if left_us is None else now + left_us for left_us in left]

    def new_id(self) -> JobId:
        """An id for a job that a command is to create."""
        return self._ids.make(max(self._clock.now(), self.memory.last_at), next(self._chance))

    # Asking

    def execute(self, command: c.JobCommand, *, mark: MarkRequest | None = None) -> Awaitable[Answer]:
        """
        *command* is decided, and what follows from it durable, once what this gives has been waited for.

        Raises:
            Rejected: It was refused; nothing changed (a late result apart, which is kept).
            StoreBusy: The queue is full.
            StoreDown: The commit failed or its outcome is unknown.
            Draining: The service stops.

        A caller that is cancelled while it waits leaves the command to finish.
        """
        entry = self._entries.enter(command, mark)
        # The desk answers a single command with an Answer; only what has a mark may be told its answer again.
        return entry.answer() if mark is None else self._answer_once(entry)  # type: ignore[return-value]

    async def _answer_once(self, entry: Entry) -> Answer:
        result = await entry.answer()
        if isinstance(result, Again):
            (result,) = await self._repeat(result)
            if isinstance(result, JobsvcError):
                raise result
        return result  # type: ignore[return-value]  # the desk answers a single command with an Answer

    async def execute_all(
        self, commands: Sequence[c.JobCommand | Rejected], *, mark: MarkRequest | None = None
    ) -> tuple[Sequence[Result], bool]:
        """
        Each of *commands* decided in order in one transaction; a refusal stands in its place among the results.

        What was refused before it became a command is handed through, so that a mark remembers all results.

        The second value is True if the results are those that the same request had before.
        """
        results = await self._entries.enter(Several(tuple(commands)), mark).answer()
        if isinstance(results, Again):
            return await self._repeat(results), True
        return results, False  # type: ignore[return-value]  # the desk answers several commands with a list

    async def claim(self, command: c.Claim) -> Grants:
        """
        Up to ``limit`` jobs are the worker's, as of the commit; at once, possibly none.

        The same ``claim`` while its leases live gives the same jobs. If the caller is cancelled while it waits, what it
        was granted is undone as soon as it is known.
        """
        entry = self._entries.enter(command, None)
        try:
            return await entry.answer()  # type: ignore[return-value]  # the desk answers a claim with Grants
        except asyncio.CancelledError:
            # Cancelled after the answer was there, before it was taken.
            if isinstance(entry.outcome, Grants) and entry.answered:
                self.undo(entry.outcome.fresh)
            raise

    async def remember(self, mark: Mark) -> None:
        """
        *mark* is durable, instead of one that had its key.

        Raises:
            StoreBusy, StoreDown, Draining: As for ``execute``.
        """
        await self._entries.enter(Remember(mark), None).answer()

    async def take_over(self, command: TakeOver) -> TakenOver:
        """
        The guest's active jobs are the owner's, all of them in one transaction, and nobody is that guest any more.

        Its ended jobs are still to be handed over; ``on_spent`` was told.

        Raises:
            InvalidCommand: It was taken over before.
        """
        return await self._entries.enter(command, None).answer()  # type: ignore[return-value]  # the desk answers it with a TakenOver

    async def hand_over(self, command: HandOver) -> int:
        """So many of the named jobs were the guest's and are the owner's, in one transaction."""
        return await self._entries.enter(command, None).answer()  # type: ignore[return-value]  # the desk answers it with a number

    async def alone(self, action: Callable[[], Awaitable[None]]) -> None:
        """
        *action* is done, between two batches, with nothing else writing; then the memory is what the store says.

        For operators' acts on the store itself. Whatever *action* raises comes out here. Leases run their whole length
        again, as after a restart. If the caller is cancelled, *action* was either done to its end or is never begun.

        Raises:
            Draining: The service stops.
        """
        await self._play(Interlude(action, reload=True))

    async def between(self, action: Callable[[], Awaitable[None]]) -> None:
        """
        *action*, which leaves the active jobs as they are, is done between two batches.

        So none is decided on what it changes. Everyone else waits that long. Raises and ends as ``alone``.
        """
        await self._play(Interlude(action, reload=False))

    def undo(self, grants: Iterable[Job]) -> None:
        """These grants never reached their worker: each job waits again soon, attempt and losses as before."""
        self._entries.push_undo(grants)

    async def read_job(self, job_id: JobId, *, version: int | None = None) -> Job:
        """
        The job as committed, ended ones included; with *version* as it stood then.

        Raises:
            JobNotFound: There is none, or it had no such version.
        """
        job = self.memory.jobs.get(job_id)
        if job is None or (version is not None and job.version != version):
            job = (await self._store.read_jobs({job_id: version})).get(job_id)
        if job is None:
            raise JobNotFound
        return job

    async def _repeat(self, again: Again) -> list[Result]:
        jobs = {pair: await self.read_job(pair[0], version=pair[1]) for pair in again.versions}
        return repeat(again, jobs)

    async def _play(self, interlude: Interlude) -> None:
        self._entries.add(interlude)
        await interlude.over()

    async def take_in(self, events: Sequence[Event]) -> None:
        """What somebody else appended, *events* up to the head of the store, is committed here too, and told of."""
        await self._writer.take_in(events)

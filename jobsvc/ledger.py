"""
The ledger: the only writer. Takes commands, has them decided one after the other, appends what follows once, answers.

Opportunistic group commit: while one batch commits, the next gathers. At most one read hop and one write hop a batch.
A command sees what earlier commands of its batch have staged; nobody else does until the commit, and no answer, refusal
or attach included, goes out before it (Oban #1093: "duplicate of" a job that then rolled back). A refused command
leaves its neighbours alone. A caller that goes away leaves its command to finish.

What must never live here: a rule of the domain (decider, machine), a statement of a store, anything of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobsvc.answers import Again, Answer, Grants, repeat
from jobsvc.changes import jobs_before
from jobsvc.clock import RandomBytes
from jobsvc.desk import Desk, Limits
from jobsvc.domain import commands as c
from jobsvc.domain.errors import Draining, JobNotFound, JobsvcError, Rejected, SlowDown, StoreBusy, StoreDown
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker
from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import SYSTEM
from jobsvc.memory import Memory, Stage
from jobsvc.metrics import Metrics
from jobsvc.observe import log_answered
from jobsvc.recovery import BEYOND_REPAIR, as_store_down, reopened
from jobsvc.shares import Shares
from jobsvc.store.seam import Batch, Behind, Found
from jobsvc.takeovers import TakeOver
from jobsvc.telemetry import cause_of, log, log_failure
from jobsvc.waiters import JobWaiters, WorkerWaiters
from jobsvc.work import Flush, Remember, Several, Undo, owner_of, weight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from jobsvc.answers import MarkRequest, Result, TakenOver
    from jobsvc.changes import Change
    from jobsvc.clock import Clock
    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId, Micros
    from jobsvc.leases import Leases
    from jobsvc.store.seam import Mark, Opening, Store
    from jobsvc.takeovers import HandOver
    from jobsvc.work import Work

_PROBE_S: Final = 1.0
"""How often a store that went away is tried again."""

_UNGRANTED: Final = "ungranted"
"""Stands for a digest in the release of a grant that never reached its worker."""


class _Entry:
    """What waits in the queue, and the future of whoever wants to know what became of it."""

    __slots__ = ("future", "mark", "outcome", "owner", "weight", "work")

    def __init__(self, work: Work, mark: MarkRequest | None, future: asyncio.Future[object] | None) -> None:
        self.work = work
        self.weight = weight(work)
        self.owner = owner_of(work)
        self.mark = mark
        self.future = future
        self.outcome: object = None

    async def answer(self) -> object:
        """What became of it, once that is known; only for a caller who wants to know."""
        assert self.future is not None  # noqa: S101  # the caller's own
        return await self.future

    @property
    def request_id(self) -> str | None:
        """The request that it came by, None for what the service wants itself."""
        if isinstance(self.work, Several):
            return next((one.request_id for one in self.work.commands if not isinstance(one, Rejected)), None)
        return getattr(self.work, "request_id", None)

    @property
    def answered(self) -> bool:
        """True once the caller was told the outcome, whether or not it was there to take it."""
        future = self.future
        return future is not None and future.done() and not future.cancelled() and future.exception() is None

    def resolve(self, outcome: object) -> bool:
        """True if the caller is still there and has its answer now."""
        if self.future is None or self.future.done():
            return False
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
        return True


class _Act:
    """Something to be done alone: what, whether the memory is old after it, if it was begun, and who asked."""

    __slots__ = ("action", "begun", "done", "reload")

    def __init__(
        self, action: Callable[[], Awaitable[None]], done: asyncio.Future[None], *, reload: bool = True
    ) -> None:
        self.action = action
        self.reload = reload
        self.done = done
        self.begun = False


class Ledger:
    """
    Decides and records. One per log; everything that happens to a job goes through ``execute`` or ``claim``.

    Attributes:
        memory: The active jobs as committed.
        job_waiters: Woken when a job moves on.
        worker_waiters: Woken when a job is ready.
        on_commit: Called with the changes of each commit, in the loop turn in which they become visible; never raises.
        on_spent: Called with each guest that was taken over and its new owner, in that very turn, after ``on_commit``.
        fatal: Resolves if the store is beyond repair from here; the process has to end.
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
        self._store = store
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._limits = limits or Limits()
        self._ids = IdMaker()
        self._chance = RandomBytes(RANDOM_BYTES)
        self._queue: deque[_Entry] = deque()
        self._queued = Shares(
            each_max=self._limits.queue_commands_per_owner_max,
            guests_max=self._limits.queue_commands_guests_max,
            total_max=self._limits.queue_commands_max,
        )
        self._alone: deque[_Act] = deque()
        self._appended = False
        self._awake = asyncio.Event()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: StoreDown | None = None
        self.memory = Memory()
        self._desk = Desk(self.memory, clock, self._limits, new_id=self.new_id, seed=seed)
        self.job_waiters = JobWaiters()
        self.worker_waiters = WorkerWaiters()
        self.on_commit: list[Callable[[Sequence[Change]], None]] = []
        self.on_spent: list[Callable[[str, str], None]] = []
        self.fatal: asyncio.Future[StoreDown] | None = None

    # Life

    async def start(self) -> None:
        """Commands are taken. Cost: proportional to the active jobs, not to the log."""
        self._load(await self._store.open())
        self.fatal = asyncio.get_running_loop().create_future()
        self._writer = asyncio.create_task(self._run(), name="ledger.writer")

    async def stop(self) -> None:
        """Everything that was queued is written, held progress too; nothing more is taken, and all waits have ended."""
        self._stopping = True
        self.job_waiters.wake_all()
        self.worker_waiters.wake_all()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._awake.set()
        if self._writer is not None:
            await self._writer
        await self._store.close()

    @property
    def writer(self) -> asyncio.Task[None] | None:
        """The task that writes; that it ends before ``stop`` is a fault that nothing here survives."""
        return self._writer

    @property
    def accepting(self) -> bool:
        """True while commands are taken and can be written."""
        return self._failure is None and not self._stopping

    @property
    def stopping(self) -> bool:
        """True once nothing more is taken."""
        return self._stopping

    @property
    def queued(self) -> int:
        """How many decisions wait."""
        return self._queued.total

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

    def new_id(self) -> JobId:
        """An id for a job that a command is to create."""
        return self._ids.make(self._desk.now(), self._chance.take())

    # Asking

    async def execute(self, command: c.JobCommand, *, mark: MarkRequest | None = None) -> Answer:
        """
        *command* is decided, and what follows from it durable.

        Raises:
            Rejected: It was refused; nothing changed (a late result apart, which is kept).
            StoreBusy: The queue is full.
            StoreDown: The commit failed or its outcome is unknown.
            Draining: The service stops.

        A caller that is cancelled while it waits leaves the command to finish.
        """
        result = await self._enqueue(command, mark)
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
        results = await self._enqueue(Several(tuple(commands)), mark)
        if isinstance(results, Again):
            return await self._repeat(results), True
        return results, False  # type: ignore[return-value]  # the desk answers several commands with a list

    async def claim(self, command: c.Claim) -> Grants:
        """
        Up to ``limit`` jobs are the worker's, as of the commit; at once, possibly none.

        The same ``claim`` while its leases live gives the same jobs. If the caller is cancelled while it waits, what it
        was granted is undone as soon as it is known.
        """
        entry = self._enter(command, None)
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
        await self._enqueue(Remember(mark), None)

    async def take_over(self, command: TakeOver) -> TakenOver:
        """
        The guest's active jobs are the owner's, all of them in one transaction, and nobody is that guest any more.

        Its ended jobs are still to be handed over; ``on_spent`` was told.

        Raises:
            InvalidCommand: It was taken over before.
        """
        return await self._enqueue(command, None)  # type: ignore[return-value]  # the desk answers it with a TakenOver

    async def hand_over(self, command: HandOver) -> int:
        """So many of the named jobs were the guest's and are the owner's, in one transaction."""
        return await self._enqueue(command, None)  # type: ignore[return-value]  # the desk answers it with a number

    async def alone(self, action: Callable[[], Awaitable[None]]) -> None:
        """
        *action* is done, between two batches, with nothing else writing; then the memory is what the store says.

        For operators' acts on the store itself. Whatever *action* raises comes out here. Leases run their whole length
        again, as after a restart. If the caller is cancelled, *action* was either done to its end or is never begun.

        Raises:
            Draining: The service stops.
        """
        await self._do(_Act(action, asyncio.get_running_loop().create_future()))

    async def between(self, action: Callable[[], Awaitable[None]]) -> None:
        """
        *action*, which leaves the active jobs as they are, is done between two batches.

        So none is decided on what it changes. Everyone else waits that long. Raises and ends as ``alone``.
        """
        await self._do(_Act(action, asyncio.get_running_loop().create_future(), reload=False))

    async def _do(self, act: _Act) -> None:
        if self._stopping:
            raise Draining
        self._alone.append(act)
        self._awake.set()
        try:
            await asyncio.shield(act.done)
        except asyncio.CancelledError:
            if act.begun:
                await asyncio.wait({act.done})
            act.done.cancel()
            raise

    def undo(self, grants: Iterable[Job]) -> None:
        """These grants never reached their worker: each job waits again soon, attempt and losses as before."""
        releases = tuple(c.Release(job.id, SYSTEM, job.fence, _UNGRANTED) for job in grants)
        if releases:
            self._push(_Entry(Undo(releases), None, None))

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

    async def _enqueue(self, work: Work, mark: MarkRequest | None) -> object:
        return await self._enter(work, mark).answer()

    def _enter(self, work: Work, mark: MarkRequest | None) -> _Entry:
        """*work* in the queue, if it may wait there."""
        if self._stopping:
            raise Draining
        if self._failure is not None:
            raise StoreDown(self._failure.message)
        if self._queued.total >= self._limits.queue_commands_max:
            raise StoreBusy
        entry = _Entry(work, mark, asyncio.get_running_loop().create_future())
        # The queue is one line for all, so nobody may stand in it so often that the others wait long.
        if entry.owner and not self._queued.has_room(entry.owner, weight=entry.weight):
            message = "more of this owner's is waiting to be written than may wait; send less at a time"
            raise SlowDown(message)
        self._push(entry)
        return entry

    def _push(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self._queued.take(entry.owner, weight=entry.weight)
        self._awake.set()

    def _push_flush(self, job_ids: Sequence[JobId]) -> None:
        for first in range(0, len(job_ids), self._limits.batch_commands_max):
            part = tuple(job_ids[first : first + self._limits.batch_commands_max])
            self._push(_Entry(Flush(part), None, None))

    # Writing

    async def _run(self) -> None:
        while self._queue or self._alone or not self._stopping:
            if self._alone:
                await self._do_alone(self._alone.popleft())
            elif self._queue:
                await self._let_gather()
                await self._attempt(self._gather())
            else:
                self._awake.clear()
                await self._awake.wait()
        self._push_flush(self._desk.held.job_ids)
        while self._queue:
            await self._attempt(self._gather())

    async def _attempt(self, batch: list[_Entry]) -> None:
        """Everyone of *batch* has an answer, whatever became of it."""
        try:
            await self._write(batch)
        except StoreDown as failure:
            for entry in batch:
                entry.resolve(StoreDown(failure.message))
            await self._recover(failure, batch)
            self._take_back(batch)
        except Exception as fault:  # noqa: BLE001  # the loop must outlive a fault in one batch, and say so
            if len(batch) == 1 or self._appended:
                log_failure("ledger.fault", fault)
                for entry in batch:
                    entry.resolve(fault)
            if self._appended:
                # Written, but not taken in: what is true now stands in the store alone.
                await self._recover(StoreDown(kind="other"), batch)
                return
            self._desk.realign()
            # Nothing was written. Each by itself, so that the one at fault hurts no neighbour.
            for entry in batch if len(batch) > 1 else ():
                await self._attempt([entry])

    async def _do_alone(self, act: _Act) -> None:
        if act.done.cancelled():
            return
        act.begun = True
        try:
            await act.action()
            if act.reload:
                self._load(await self._store.reopen())
        except Exception as failure:  # noqa: BLE001  # whatever it was, it is the asker's
            if not act.done.done():
                act.done.set_exception(failure)
        else:
            if not act.done.done():
                act.done.set_result(None)

    async def _let_gather(self) -> None:
        """
        A turn of the loop has brought nothing more, or there is enough for a batch.

        Requests that came in together are parsed in one turn and answered in one commit: with 96 callers 52 commands a
        batch instead of 35, for one empty turn where there is but one caller. Never a timer: nobody waits for nobody.
        """
        seen = 0
        while seen < self._queued.total < self._limits.batch_commands_max and not self._stopping:
            seen = self._queued.total
            await asyncio.sleep(0)

    def _gather(self) -> list[_Entry]:
        """What was queued, oldest first, as much as one batch may hold and never nothing."""
        batch: list[_Entry] = []
        room = self._limits.batch_commands_max
        while self._queue and (not batch or self._queue[0].weight <= room):
            entry = self._queue.popleft()
            room -= entry.weight
            self._queued.give(entry.owner, weight=entry.weight)
            batch.append(entry)
        return batch

    async def _write(self, batch: list[_Entry]) -> None:
        self._appended = False
        needs = self._desk.begin((entry.work, entry.mark) for entry in batch)
        found = await self._store.look_up(needs) if needs else Found()
        stage = Stage(self.memory, found)
        for entry in batch:
            entry.outcome = self._desk.work(entry.work, entry.mark, stage)
        if stage.changes or stage.marks:
            begun = self._clock.elapsed()
            try:
                head = await self._store.append(_batch_of(stage), decided_at=self.memory.position)
            except Behind as behind:
                await self._catch_up(behind)
                return await self._write(batch)
            self._appended = True
            self.memory.commit(stage, head)
            self._appended = False
            self._metrics.commits.inc()
            self._metrics.commit_s.observe((self._clock.elapsed() - begun) / SECOND_US)
            self._metrics.batch_commands.observe(len(batch))
        # Not to be done again, whatever comes of telling it.
        _tell(self._announce, batch, stage)
        return None

    def _announce(self, batch: list[_Entry], stage: Stage) -> None:
        """All whom *batch* concerns know of it, in this turn; the log last."""
        if stage.changes or stage.spent:
            self._publish(stage.changes)
            self._tell_spent(stage.spent)
        for entry in batch:
            self._answer(entry)
        self._wake_workers()
        self._schedule_flush()
        log_answered(((one.request_id, one.outcome) for one in batch), stage.changes, position=self.memory.position)

    def _take_back(self, batch: list[_Entry]) -> None:
        """Grants of a failed *batch* that took effect after all are undone, and so is what it was to undo."""
        if self._failure is not None:
            return
        for entry in batch:
            if isinstance(entry.work, Undo):
                self._push(entry)
            elif isinstance(entry.outcome, Grants):
                self.undo(job for job in entry.outcome.fresh if self.memory.jobs.get(job.id) == job)

    def _answer(self, entry: _Entry) -> None:
        reached = entry.resolve(entry.outcome)
        if not reached and isinstance(entry.outcome, Grants):
            self.undo(entry.outcome.fresh)

    def _publish(self, changes: Sequence[Change]) -> None:
        self.job_waiters.wake(changes)
        for tell in self.on_commit:
            _tell(tell, changes)

    def _tell_spent(self, owners: Mapping[str, str]) -> None:
        for guest, owner in owners.items():
            for tell in self.on_spent:
                _tell(tell, guest, owner)

    def _wake_workers(self) -> None:
        if len(self.worker_waiters) and self._desk.ready:
            self.worker_waiters.wake(self._desk.waiting, limit=self._desk.ready)

    def _schedule_flush(self) -> None:
        """A timer to the moment at which held progress is to be written."""
        moment = self._desk.held.next_due()
        if moment is None or self._flush_timer is not None or self._stopping:
            return
        delay_s = max(0, moment - self._clock.elapsed()) / 1e6
        self._flush_timer = asyncio.get_running_loop().call_later(delay_s, self._flush_due)

    def _flush_due(self) -> None:
        self._flush_timer = None
        self._push_flush(self._desk.held.take_due())
        self._schedule_flush()

    # When the log grew without us, or the store failed

    async def _catch_up(self, behind: Behind) -> None:
        """The memory has taken in what somebody else appended; the desk starts from it again."""
        log("ledger.behind", position=self.memory.position, count=len(behind.events))
        await self.take_in(behind.events)

    async def take_in(self, events: Sequence[Event]) -> None:
        """What somebody else appended, *events* up to the head of the store, is committed here too, and told of."""
        stage = Stage(self.memory, Found(jobs=await jobs_before(self._store, events)))
        for event in events:
            stage.take(event)
        head = await self._store.read_head()
        self.memory.commit(stage, replace(head, position=stage.position, at=stage.last_at))
        self._desk.realign()
        self._publish(stage.changes)

    async def _recover(self, failure: StoreDown, batch: list[_Entry]) -> None:
        """The store is open again and the memory what it says. Until then every command is refused."""
        self._failure = failure
        self._metrics.commit_failures.inc()
        log("store.down", code=failure.kind, cause=cause_of(failure))
        self._judge(failure)
        while not self._stopping:
            try:
                found = await reopened(self._store, before=self.memory.position, guests=_guests_of(batch))
            except Exception as error:  # noqa: BLE001  # the loop must outlive whatever a broken store comes up with
                still = as_store_down(error)
                log("store.still_down", code=still.kind, cause=cause_of(error))
                self._judge(still)
                self._refuse_queued(still)
                await asyncio.sleep(_PROBE_S)
                continue
            self._load(found.opening)
            self._failure = None
            log("store.recovered", position=found.opening.head.position)
            self._publish(found.missed)
            for guest in found.spent:
                self.memory.spend(guest)
            self._tell_spent(found.spent)
            self._wake_workers()
            return

    def _judge(self, failure: StoreDown) -> None:
        if failure.kind in BEYOND_REPAIR and self.fatal is not None and not self.fatal.done():
            self.fatal.set_result(failure)

    def _refuse_queued(self, failure: StoreDown) -> None:
        """Whoever waits for an answer has one; what the ledger wants itself still waits."""
        waiting, self._queue = self._queue, deque(entry for entry in self._queue if entry.future is None)
        for entry in waiting:
            if entry.future is not None:
                self._queued.give(entry.owner, weight=entry.weight)
            entry.resolve(StoreDown(failure.message))

    def _load(self, opening: Opening) -> None:
        self.memory.load(opening)
        self._desk.reset()


def _tell(tell: Callable[..., None], *news: object) -> None:
    """What is committed stays so, whoever cannot bear to hear of it."""
    try:
        tell(*news)
    except Exception as fault:  # noqa: BLE001  # as it says
        log_failure("ledger.fault", fault)


def _guests_of(batch: list[_Entry]) -> list[str]:
    """Whom *batch* was to take over."""
    return [entry.work.guest for entry in batch if isinstance(entry.work, TakeOver)]


def _batch_of(stage: Stage) -> Batch:
    return Batch(
        events=[change.event for change in stage.changes],
        owners=[change.job.owner for change in stage.changes],
        active=stage.active,
        keys=stage.keys,
        history=stage.history,
        marks=list(stage.marks.values()),
    )

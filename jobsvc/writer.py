"""
The writer: takes what waits, a batch at a time, has it decided, appends what follows, and tells everyone at once.

Opportunistic group commit: while one batch commits, the next gathers. At most one read hop and one write hop a batch.
A command sees what earlier commands of its batch have staged; nobody else does until the commit, and no answer, refusal
or attach included, goes out before it (Oban #1093: "duplicate of" a job that then rolled back). A refused command
leaves its neighbours alone.

What must never live here: a rule of the domain (decider, machine), a statement of a store, who may wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobsvc.answers import Grants
from jobsvc.changes import jobs_before
from jobsvc.domain.errors import StoreDown
from jobsvc.domain.moments import SECOND_US
from jobsvc.memory import Stage
from jobsvc.news import tell
from jobsvc.observe import log_answered
from jobsvc.recovery import BEYOND_REPAIR, as_store_down, reopened
from jobsvc.store.seam import Batch, Behind, Found
from jobsvc.takeovers import TakeOver
from jobsvc.telemetry import cause_of, log, log_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.clock import Clock
    from jobsvc.desk import Desk
    from jobsvc.domain.events import Event
    from jobsvc.entries import Entries, Entry, Interlude
    from jobsvc.memory import Memory
    from jobsvc.metrics import Metrics
    from jobsvc.news import News
    from jobsvc.store.seam import Opening, Store

_PROBE_S: Final = 1.0
"""How often a store that went away is tried again."""


class Writer:
    """
    The only one that appends. One per log.

    Attributes:
        fatal: Resolves if the store is beyond repair from here; the process has to end.
    """

    def __init__(
        self, store: Store, clock: Clock, metrics: Metrics, *, entries: Entries, desk: Desk, memory: Memory, news: News
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._entries = entries
        self._desk = desk
        self._memory = memory
        self._news = news
        self._appended = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self.fatal: asyncio.Future[StoreDown] | None = None

    async def open(self) -> None:
        """The memory is what the store says. Cost: proportional to the active jobs, not to the log."""
        self._load(await self._store.open())
        self.fatal = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Everything that entered is written, until nothing more may enter; held progress too."""
        entries = self._entries
        while not entries.over:
            interlude = entries.take_interlude()
            if interlude is not None:
                await self._play(interlude)
            elif entries:
                await entries.settle()
                await self._attempt(entries.take_batch())
            else:
                await entries.wait()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        entries.push_flush(self._desk.held.job_ids)
        while entries:
            await self._attempt(entries.take_batch())

    # One batch

    async def _attempt(self, batch: list[Entry]) -> None:
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

    async def _write(self, batch: list[Entry]) -> None:
        self._appended = False
        needs = self._desk.begin((entry.work, entry.mark) for entry in batch)
        found = await self._store.look_up(needs) if needs else Found()
        stage = self._desk.stage(found)
        for entry in batch:
            entry.outcome = self._desk.work(entry.work, entry.mark, stage)
        if stage.changes or stage.marks:
            begun = self._clock.elapsed()
            try:
                head = await self._store.append(_batch_of(stage), decided_at=self._memory.position)
            except Behind as behind:
                await self._catch_up(behind)
                return await self._write(batch)
            self._appended = True
            self._memory.commit(stage, head)
            self._appended = False
            self._metrics.commits.inc()
            self._metrics.commit_s.observe((self._clock.elapsed() - begun) / SECOND_US)
            self._metrics.batch_commands.observe(len(batch))
        # Not to be done again, whatever comes of telling it.
        tell(self._announce, batch, stage)
        return None

    def _announce(self, batch: list[Entry], stage: Stage) -> None:
        """All whom *batch* concerns know of it, in this turn; the log last."""
        if stage.changes or stage.spent:
            self._news.publish(stage.changes, spent=stage.spent)
        for entry in batch:
            reached = entry.resolve(entry.outcome)
            if not reached and isinstance(entry.outcome, Grants):
                self._entries.push_undo(entry.outcome.fresh)
        self._news.wake_workers(self._desk)
        self._schedule_flush()
        log_answered(((one.request_id, one.outcome) for one in batch), stage.changes, position=self._memory.position)

    def _take_back(self, batch: list[Entry]) -> None:
        """Grants of a failed *batch* that took effect after all are undone, and so is what it was to undo."""
        if self._entries.failure is not None:
            return
        for entry in batch:
            self._entries.take_back(entry, stands=lambda job: self._memory.jobs.get(job.id) == job)

    # Held progress

    def _schedule_flush(self) -> None:
        """A timer to the moment at which held progress is to be written."""
        moment = self._desk.held.next_due()
        if moment is None or self._flush_timer is not None or self._entries.stopping:
            return
        delay_s = max(0, moment - self._clock.elapsed()) / 1e6
        self._flush_timer = asyncio.get_running_loop().call_later(delay_s, self.flush)

    def flush(self) -> None:
        """The held progress that is due is in the line."""
        self._flush_timer = None
        self._entries.push_flush(self._desk.held.take_due())
        self._schedule_flush()

    # Between batches

    async def _play(self, interlude: Interlude) -> None:
        """*interlude* is done, and nothing was written meanwhile."""
        if interlude.done.cancelled():
            return
        interlude.begun = True
        try:
            await interlude.action()
            if interlude.reload:
                self._load(await self._store.reopen())
        except Exception as failure:  # noqa: BLE001  # whatever it was, it is the asker's
            if not interlude.done.done():
                interlude.done.set_exception(failure)
        else:
            if not interlude.done.done():
                interlude.done.set_result(None)

    # When the log grew without us, or the store failed

    async def _catch_up(self, behind: Behind) -> None:
        """The memory has taken in what somebody else appended; the desk starts from it again."""
        log("ledger.behind", position=self._memory.position, count=len(behind.events))
        await self.take_in(behind.events)

    async def take_in(self, events: Sequence[Event]) -> None:
        """What somebody else appended, *events* up to the head of the store, is committed here too, and told of."""
        stage = Stage(self._memory, Found(jobs=await jobs_before(self._store, events)))
        for event in events:
            stage.take(event)
        head = await self._store.read_head()
        self._memory.commit(stage, replace(head, position=stage.position, at=stage.last_at))
        self._desk.realign()
        self._news.publish(stage.changes, spent={})

    async def _recover(self, failure: StoreDown, batch: list[Entry]) -> None:
        """The store is open again and the memory what it says. Until then every command is refused."""
        self._entries.failure = failure
        self._metrics.commit_failures.inc()
        log("store.down", code=failure.kind, cause=cause_of(failure))
        self._judge(failure)
        while not self._entries.stopping:
            try:
                found = await reopened(self._store, before=self._memory.position, guests=_guests_of(batch))
            except Exception as error:  # noqa: BLE001  # the loop must outlive whatever a broken store comes up with
                still = as_store_down(error)
                log("store.still_down", code=still.kind, cause=cause_of(error))
                self._judge(still)
                self._entries.refuse(still)
                await asyncio.sleep(_PROBE_S)
                continue
            self._load(found.opening)
            self._entries.failure = None
            log("store.recovered", position=found.opening.head.position)
            for guest in found.spent:
                self._memory.spend(guest)
            self._news.publish(found.missed, spent=found.spent)
            self._news.wake_workers(self._desk)
            return

    def _judge(self, failure: StoreDown) -> None:
        if failure.kind in BEYOND_REPAIR and self.fatal is not None and not self.fatal.done():
            self.fatal.set_result(failure)

    def _load(self, opening: Opening) -> None:
        self._memory.load(opening)
        self._desk.reset()


def _guests_of(batch: list[Entry]) -> list[str]:
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

"""
The ledger with everything round it, as shipped, on a real file: what the tests of this folder drive.

Time is the test's: a clock that only moves when told. The sweeper is driven by hand, one sweep at a time. Views and
memory are checked against the log itself, folded by the projections' own ``apply`` from the first position on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec import Raw
from msgspec.structs import replace

from jobsvc.desk import Limits
from jobsvc.domain import commands as c
from jobsvc.domain.errors import JobsvcError
from jobsvc.domain.events import Failure, Submission, Terms
from jobsvc.domain.machine import Case
from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal
from jobsvc.feed import Feed
from jobsvc.handovers import Handovers
from jobsvc.ledger import Ledger
from jobsvc.memory import ACTIVE, HISTORY, KEYS
from jobsvc.store.seam import ROWS_PER_PAGE_MAX
from jobsvc.store.sqlite import SqliteStore
from jobsvc.sweeper import Sweeper
from jobsvc.takeovers import TakeOver

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from jobsvc.answers import Answer, Grants
    from jobsvc.changes import Change
    from jobsvc.domain.events import Event
    from jobsvc.domain.job import Job
    from jobsvc.store.seam import Store, ViewName

START: Final = 1_900_000_000 * SECOND_US
HOUR_US: Final = 3_600 * SECOND_US
LEASE_US: Final = 30 * SECOND_US
WORKER: Final = Principal("worker", "w1")
OPERATOR: Final = Principal("operator", "root")
FAILURE: Final = Failure("boom", "it broke")
OPEN: Final[set[Rig]] = set()
"""
Those that run; what a failed test leaves here is closed after it, for a thread that nobody ends keeps the process.
"""


class FakeClock:
    """
    Both clocks of the service, moved by the test alone.
    """

    def __init__(self) -> None:
        self.wall = START
        self.run = 0

    def now(self) -> int:
        """
        What the wall clock shows.
        """
        return self.wall

    def elapsed(self) -> int:
        """
        How long the test let go by.
        """
        return self.run

    def advance(self, by_us: int) -> None:
        """
        Time goes by.
        """
        self.wall += by_us
        self.run += by_us

    def step(self, by_us: int) -> None:
        """
        Somebody sets the wall clock; no time goes by.
        """
        self.wall += by_us


class Rig:
    """
    A running ledger with its feed, and a sweeper that sweeps when told.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: FakeClock | None = None,
        limits: Limits | None = None,
        store: Store | None = None,
        ring_events_max: int = 10_000,
    ) -> None:
        self.path = path
        self.clock = clock or FakeClock()
        self.limits = limits or Limits()
        self.store: Store = store or SqliteStore(path)
        self.ring_events_max = ring_events_max
        self.changes: list[Change] = []
        self.ledger = Ledger(self.store, self.clock, self.limits, seed=1)
        self.feed = Feed(self.store, self.ledger.memory, ring_events_max=ring_events_max, ring_bytes_max=2**30)
        self.sweeper = Sweeper(self.ledger, self.store, self.clock)

    async def open(self) -> Rig:
        """
        Commands are taken.
        """
        await self.ledger.start()
        OPEN.add(self)
        self.feed.start()
        self.ledger.on_commit += [self.feed.publish, self.changes.extend]
        self.sweeper.start()
        await self.sweeper.stop()
        return self

    async def close(self) -> None:
        """
        All is written and the file let go of.
        """
        if self in OPEN:
            OPEN.discard(self)
            await self.ledger.stop()

    async def restarted(self) -> Rig:
        """
        The service that comes after this one on the same log.
        """
        await self.close()
        return await Rig(self.path, clock=self.clock, limits=self.limits, ring_events_max=self.ring_events_max).open()

    # Asking

    def create(  # each of them decides something
        self,
        key: str | None = None,
        *,
        owner: str = "user:a",
        kind: str = "k",
        dedup: c.Dedup | None = None,
        terms: Terms | None = None,
        given: bytes = b"{}",
    ) -> c.Create:
        """
        A request of *owner*'s.
        """
        return c.Create(
            self.ledger.new_id(),
            Principal("user", owner, owner),
            kind,
            Submission(owner, key=key, input=Raw(given)),
            terms or Terms(),
            dedup or c.Dedup(),
        )

    async def made(self, key: str | None = None, **fields: Any) -> Job:  # noqa: ANN401  # those of ``create``
        """
        The job that a request got.
        """
        return (await self.ledger.execute(self.create(key, **fields))).job

    async def claim(self, limit: int = 1, *, kinds: Iterable[str] = (), name: str | None = None) -> Grants:
        """
        What a worker is given.
        """
        return await self.ledger.claim(claim(limit, kinds=kinds, name=name))

    async def held(self, key: str | None = None, **fields: Any) -> Job:  # noqa: ANN401  # those of ``create``
        """
        A new job that a worker holds, the only one that waited.
        """
        await self.made(key, **fields)
        (job,) = (await self.claim()).jobs
        return job

    async def execute(self, command: c.JobCommand) -> Answer:
        """
        The answer to *command*.
        """
        return await self.ledger.execute(command)

    async def told(self, command: c.JobCommand) -> Answer | JobsvcError:
        """
        The answer to *command*, or the refusal.
        """
        try:
            return await self.ledger.execute(command)
        except JobsvcError as refusal:
            return refusal

    async def sweep(self) -> None:
        """
        All that is due now has been brought to the ledger.
        """
        await self.sweeper._sweep()  # noqa: SLF001  # by hand, instead of its timer

    async def flush(self) -> None:
        """
        Held progress whose time has come is written.
        """
        self.ledger._writer.flush()  # noqa: SLF001  # by hand, instead of its timer
        await self.settled()

    async def settled(self) -> None:
        """
        Everything that was queued until now has been decided.
        """
        await self.ledger.execute_all([])

    # Looking

    def job(self, job: Job) -> Job:
        """
        *job* as committed; it is active.
        """
        return self.ledger.memory.jobs[job.id]

    async def log(self) -> Sequence[Event]:
        """
        The whole log.
        """
        return await whole_log(self.store)

    async def types(self, job: Job) -> list[str]:
        """
        What happened to *job*, without the ``job.`` in front.
        """
        events = await self.store.read_events(after=0, limit=ROWS_PER_PAGE_MAX, job_id=job.id)
        return [event.type.removeprefix("job.") for event in events]

    async def check(self) -> None:
        """
        Memory, stored views and feed are what the log says, and the log is well formed.
        """
        await check(self)


def claim(limit: int = 1, *, kinds: Iterable[str] = (), name: str | None = None, lease_us: int = LEASE_US) -> c.Claim:
    """
    A worker's wish for jobs.
    """
    return c.Claim(WORKER, frozenset(kinds), limit, lease_us, "w1", name)


def heartbeat(job: Job) -> c.Heartbeat:
    """
    A sign of life from the holder of *job* as it stands.
    """
    return c.Heartbeat(job.id, WORKER, job.fence)


def progress(job: Job, percent: float) -> c.ReportProgress:
    """
    How far the holder of *job* is.
    """
    return c.ReportProgress(job.id, WORKER, job.fence, percent=float(percent))


def complete(job: Job, *, digest: str = "done") -> c.Complete:
    """
    Success from the holder of *job*.
    """
    return c.Complete(job.id, WORKER, job.fence, digest, Raw(b'{"n":1}'))


def fail(job: Job, *, digest: str = "failed", retry_after_us: int | None = None) -> c.Fail:
    """
    Failure from the holder of *job*.
    """
    return c.Fail(job.id, WORKER, job.fence, digest, FAILURE, retry_after_us=retry_after_us)


def release(job: Job, *, digest: str = "released") -> c.Release:
    """
    *job* given back by its holder.
    """
    return c.Release(job.id, WORKER, job.fence, digest)


def cancel(job: Job, *, force: bool = False) -> c.Cancel:
    """
    The wish that *job* stops.
    """
    return c.Cancel(job.id, OPERATOR, force=force)


def as_guest(command: c.Create) -> c.Create:
    """
    *command*, asked for by the guest itself whose job it is to be.
    """
    guest = command.submission.owner
    return replace(command, who=Principal("guest", guest, guest))


def take_over(guest: str, owner: str = "user:a") -> TakeOver:
    """
    *owner*'s claim of all that *guest* has.
    """
    return TakeOver(Principal("user", owner, owner), guest, owner, spent_until=START + 1_000 * HOUR_US)


async def handed_over(rig: Rig, *, jobs_max: int = 2) -> None:
    """
    The ended jobs of every guest that was taken over have moved, as far as the store knows of it.
    """
    handovers = Handovers(rig.ledger, rig.store, jobs_max=jobs_max)
    await handovers.find()
    while len(handovers):
        await handovers.step()


async def whole_log(store: Store) -> list[Event]:
    """
    All events of *store* in order.
    """
    events: list[Event] = []
    while page := await store.read_events(after=len(events), limit=ROWS_PER_PAGE_MAX):
        events += page
    return events


async def check(rig: Rig) -> None:
    """
    What a reader sees of *rig* is what its log says.
    """
    events = await rig.log()
    assert list(range(1, len(events) + 1)) == [event.position for event in events]
    assert sorted(event.at for event in events) == [event.at for event in events]
    active, keys, history = folded(events)
    memory = rig.ledger.memory
    assert len(events) == memory.position == rig.feed.position
    assert active == memory.jobs
    assert keys == memory.keys
    assert {(row.owner, row.kind, row.key): job_id for job_id, row in keys.items()} == memory.holders
    assert len(keys) == len(memory.holders)
    check_indexes(rig)
    ended = {job_id: row for job_id, row in history.items() if job_id not in active}
    for view, rows in (("active", active), ("keys", keys), ("history", ended)):
        assert rows == await stored(rig.store, cast("ViewName", view))


def check_indexes(rig: Rig) -> None:
    """
    Memory's ways to a job lead to the active jobs and to nothing else.
    """
    memory = rig.ledger.memory
    jobs = memory.jobs
    owners = {job.owner for job in jobs.values()}
    assert {owner: {i: j for i, j in jobs.items() if j.owner == owner} for owner in owners} == memory.by_owner
    assert {job.claim for job in jobs.values() if job.claim is not None} == set(memory.claims)
    assert {job.id for job in jobs.values() if job.claim is not None} == {i for c in memory.claims.values() for i in c}
    assert {job.retry_of for job in jobs.values() if job.retry_of is not None} == set(memory.retries)
    assert {job.id for job in jobs.values() if job.lease_us is not None} == set(rig.ledger.leases)
    ready = [job for job in jobs.values() if job.ready]
    # One that a claim found to be wanted no more has left the line, and is expired at the next sweep.
    unwanted = [job for job in ready if Case(job, rig.ledger.now()).is_overdue()]
    assert len(ready) - len(unwanted) <= rig.ledger.ready <= len(ready)


def folded(events: Iterable[Event]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """
    The rows of ``active``, ``keys`` and ``history`` after *events* from the first on.
    """
    views: tuple[dict[str, Any], ...] = ({}, {}, {})
    for event in events:
        for view, rows in zip((ACTIVE, KEYS, HISTORY), views, strict=True):
            row = cast("Any", view).apply(rows.get(event.job_id), event)
            if row is None:
                rows.pop(event.job_id, None)
            else:
                rows[event.job_id] = row
    return views[0], views[1], views[2]


async def stored(store: Store, view: ViewName) -> dict[str, Any]:
    """
    The rows of *view* as they stand in the store.
    """
    rows: dict[str, Any] = {}
    after = ""
    while page := await store.read_view(view, after=after, limit=ROWS_PER_PAGE_MAX):
        rows |= {getattr(row, "id", None) or cast("Any", row).job_id: row for row in page}
        after = max(rows)
    return rows


async def together(*asked: Any) -> list[Any]:  # noqa: ANN401  # whatever was asked
    """
    The outcomes of coroutines that began in one loop turn, refusals and faults in their places.
    """
    return await asyncio.gather(*asked, return_exceptions=True)

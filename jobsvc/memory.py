"""
The memory: the active jobs and their keys as committed, and the staged changes on top of them.

*Staged* is what a batch will have done once it commits; only the ledger's writer sees it. *Committed* is what every
reader sees: it changes in one step, in one loop turn, after the commit. Ended jobs are not here; they are in the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.changes import Change, change
from jobsvc.domain.events import Created, Event, LateResult, Started
from jobsvc.domain.job import Job, evolve
from jobsvc.shares import GUEST
from projections.active import Active
from projections.history import History
from projections.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.domain.events import NewEvent, Report
    from jobsvc.domain.words import JobId, Micros
    from jobsvc.store.seam import DedupKey, Found, Head, HistoryRow, KeyRow, Mark, MarkKey, Opening
    from projections.projection import Projection

ACTIVE = Active()
KEYS = Keys()
HISTORY = History()
INLINE: Final[tuple[Projection, ...]] = (ACTIVE, KEYS, HISTORY)
"""The views that are written with the events that make them."""

CLAIMED: Final = "claimed"
"""The scope of a mark that says that this guest was taken over, and by whom."""

HANDOVERS: Final = "handovers"
"""The principal of the marks that say whose ended jobs are still to be moved: scope the guest, answer the new owner."""

_SPENT_MAX: Final = 100_000


class Memory:
    """
    All active jobs as committed, by id, owner and key.

    Cost per active job: about 2 KiB besides its input. Never changed but by ``load`` and ``commit``.

    Attributes:
        position: The last committed position; 0 for an empty log.
        last_at: When the last committed event was; 0 for an empty log.
        epoch: The log's identity.
        archived_through: The position of the newest archived event; whoever archives raises it.
    """

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.by_owner: dict[str, dict[JobId, Job]] = {}
        self.of_guests = 0
        self.holders: dict[DedupKey, JobId] = {}
        self.retries: dict[JobId, JobId] = {}
        self.claims: dict[str, dict[JobId, None]] = {}
        self.keys: dict[JobId, KeyRow] = {}
        self.spent: dict[str, None] = {}
        self.position = 0
        self.last_at: Micros = 0
        self.epoch = ""
        self.archived_through = 0

    def load(self, opening: Opening) -> None:
        """The memory is what the store says, whatever it was before."""
        spent = self.spent
        self.__init__()  # type: ignore[misc]  # every field anew, none forgotten
        self.spent = spent  # for whoever was proved to be one of these before, and is still on its way here
        self._stand_at(opening.head)
        self.archived_through = opening.archived_through
        for job in opening.active:
            self._put(job)
        self._put_keys(opening.keys)

    def commit(self, stage: Stage, head: Head) -> None:
        """What was staged is what every reader sees from now on."""
        came: set[str] = set()
        for job_id, row in stage.active.items():
            before = self.jobs.get(job_id)
            if before is not None:
                if before.claim is not None and (row is None or row.claim != before.claim):
                    self._forget_claim(before.claim, job_id)
                if row is None or row.owner != before.owner:
                    self._drop(before)
                    if row is not None:
                        came.add(row.owner)
            if row is not None:
                self._put(row)
            else:
                self.jobs.pop(job_id, None)
        self._put_keys(stage.keys)
        for owner in came & self.by_owner.keys():
            self.by_owner[owner] = dict(sorted(self.by_owner[owner].items()))
        for guest in stage.spent:
            self.spend(guest)
        self._stand_at(head)

    def _stand_at(self, head: Head) -> None:
        self.position, self.last_at, self.epoch = head.position, head.at, head.epoch

    def spend(self, guest: str) -> None:
        """
        Nothing is made for *guest* any more.

        Only for requests that were let in before; of the others identity knows, for as long as it takes. So the newest
        are enough, and it takes as many claims as are kept here to be forgotten on the way.
        """
        self.spent[guest] = None
        if len(self.spent) > _SPENT_MAX:
            del self.spent[next(iter(self.spent))]

    def of_owner(self, owner: str) -> list[Job]:
        """The owner's active jobs, oldest first."""
        jobs = self.by_owner.get(owner)
        return [] if jobs is None else list(jobs.values())

    def _put(self, job: Job) -> None:
        job_id, owner = job.id, job.submission.owner
        self.jobs[job_id] = job
        owned = self.by_owner.setdefault(owner, {})
        if job_id not in owned and owner.startswith(GUEST):
            self.of_guests += 1
        owned[job_id] = job
        if job.retry_of is not None:
            self.retries[job.retry_of] = job_id
        if job.claim is not None:
            self.claims.setdefault(job.claim, {})[job_id] = None

    def _put_keys(self, keys: Mapping[JobId, KeyRow | None]) -> None:
        """These are the rows of jobs that were put; those of ended ones are the store's alone."""
        for job_id, key in keys.items():
            if key is not None and job_id in self.jobs:
                self.keys[job_id] = key
                self.holders[key.owner, key.kind, key.key] = job_id

    def _drop(self, job: Job) -> None:
        """No index leads to *job* any more; it keeps its place among all, in case it only moved."""
        owner = job.submission.owner
        owned = self.by_owner[owner]
        del owned[job.id]
        if owner.startswith(GUEST):
            self.of_guests -= 1
        if not owned:
            del self.by_owner[owner]
        key = self.keys.pop(job.id, None)
        if key is not None and self.holders.get((key.owner, key.kind, key.key)) == job.id:
            del self.holders[key.owner, key.kind, key.key]
        if job.retry_of is not None and self.retries.get(job.retry_of) == job.id:
            del self.retries[job.retry_of]

    def _forget_claim(self, claim: str, job_id: JobId) -> None:
        jobs = self.claims.get(claim, {})
        jobs.pop(job_id, None)
        if not jobs:
            self.claims.pop(claim, None)


class Stage:
    """
    What one batch will have done: the events in order, and the rows of the inline views after them.

    Attributes:
        changes: The events with the job after each.
        position: Of the last of them, or of the committed head.
        last_at: When the last of them is, or the last committed one; none may be earlier.
        active: By job touched, its row of ``active`` after the batch; likewise ``keys`` and ``history``.
        marks: The marks to be remembered.
        spent: The guests that were taken over, with their new owners.
        active_total: How many active jobs there will be in all.
        active_of_guests: How many of them all guests together will have.
    """

    def __init__(self, memory: Memory, found: Found) -> None:
        self._memory = memory
        self._found = found
        # A result that is reused was asked for by its key; who is told of it asks by its id.
        self._stored = {job.id: job for job in found.completed.values()} | dict(found.jobs)
        self.position = memory.position
        self.last_at = memory.last_at
        self._jobs: dict[JobId, Job] = {}
        self._holders: dict[DedupKey, JobId | None] = {}
        self._retries: dict[JobId, JobId] = {}
        self._completed: dict[DedupKey, Job] = {}
        self._claims: dict[str, list[JobId]] = {}
        self._reports: dict[tuple[JobId, str, int, str], Job] = {}
        self._owned: dict[str, int] = {}
        self.active_total = len(memory.jobs)
        self.active_of_guests = memory.of_guests
        self.changes: list[Change] = []
        self.active: dict[JobId, Job | None] = {}
        self.keys: dict[JobId, KeyRow | None] = {}
        self.history: dict[JobId, HistoryRow | None] = {}
        self.marks: dict[MarkKey, Mark] = {}
        self.spent: dict[str, str] = {}

    @property
    def jobs(self) -> Mapping[JobId, Job]:
        """The jobs touched, as they will stand, ended ones included."""
        return self._jobs

    def job(self, job_id: JobId) -> Job | None:
        """The job as it will stand: staged, else committed, else as the store knew it."""
        return self._jobs.get(job_id) or self._memory.jobs.get(job_id) or self._stored.get(job_id)

    def holder(self, key: DedupKey) -> Job | None:
        """The active job that has *key*."""
        holder = self._holders[key] if key in self._holders else self._memory.holders.get(key)
        return None if holder is None else self.job(holder)

    def active_retry(self, job_id: JobId) -> Job | None:
        """The active job that retries *job_id*."""
        retry = self._retries.get(job_id) or self._memory.retries.get(job_id)
        job = None if retry is None else self.job(retry)
        return job if job is not None and job.active else None

    def claimed(self, claim: str) -> list[JobId]:
        """The jobs that *claim* was given and may still hold, each once, in the order in which it got them."""
        return list(dict.fromkeys([*self._memory.claims.get(claim, ()), *self._claims.get(claim, ())]))

    def completed(self, key: DedupKey) -> Job | None:
        """The newest completed job that had *key*."""
        return self._completed.get(key) or self._found.completed.get(key)

    def mark(self, key: MarkKey) -> Mark | None:
        """The answer that *key* had, in this batch or before."""
        return self.marks.get(key) or self._found.marks.get(key)

    def is_spent(self, owner: str) -> bool:
        """True if *owner* is a guest that was taken over, as far as memory and what was looked up can tell."""
        return owner in self.spent or owner in self._memory.spent or (owner, CLAIMED, "") in self._found.marks

    def owned(self, owner: str) -> list[Job]:
        """The active jobs that *owner* will have, oldest first."""
        jobs = self._memory.by_owner.get(owner, {}) | self._jobs
        standing = (self._jobs.get(job_id, job) for job_id, job in jobs.items())
        return sorted((job for job in standing if job.active and job.owner == owner), key=lambda job: job.id)

    def remember(self, mark: Mark) -> None:
        """*mark* stands, instead of one that had its key."""
        self.marks[mark.principal, mark.scope, mark.key] = mark

    def active_of(self, owner: str) -> int:
        """How many active jobs *owner* will have."""
        return len(self._memory.by_owner.get(owner, ())) + self._owned.get(owner, 0)

    def reported(self, key: tuple[JobId, str, int, str]) -> Job | None:
        """The job as it stood after the very report that has *key*, made in this batch or before."""
        return self._reports.get(key) or self._found.reports.get(key)

    def add(self, new: NewEvent, at: Micros) -> Job:
        """The job after *new*, which has the next position and the next version of its stream."""
        job_id, facts = new.job_id, new.facts
        # There is none before a birth, so none is looked for.
        before = None if isinstance(facts, Created) else self.job(job_id)
        version = 1 if before is None else before.version + 1
        return self._take(before, Event(self.position + 1, job_id, version, at, facts, new.payload))

    def take(self, event: Event) -> Job:
        """The job after *event*, which is the next of the log."""
        return self._take(self.job(event.job_id), event)

    def _take(self, before: Job | None, event: Event) -> Job:
        job = evolve(before, event)
        self.position, self.last_at = event.position, event.at
        self._jobs[event.job_id] = job
        if before is None:
            self.changes.append(Change(event, job))
            self._bear(job, event)
        else:
            made = change(before, event, job)
            self.changes.append(made)
            self._follow(before, made)
        return job

    def _bear(self, job: Job, event: Event) -> None:
        """*job* is found, which begins with *event* and is active; no view has a row of it yet."""
        job_id = event.job_id
        self.active[job_id] = job
        key_row = KEYS.apply(None, event)
        if key_row is not None:
            self.keys[job_id] = key_row
        self._hold(job)
        if job.retry_of is not None:
            self._retries[job.retry_of] = job_id

    def _follow(self, before: Job, made: Change) -> None:
        """The job is found as it stands after *made*, no more as it was *before*."""
        job, event = made.job, made.event
        stood, row = before if before.active else None, ACTIVE.row(job)
        if row is not None or stood is not None:
            self.active[job.id] = row
        self._write_key(event)
        if row is None:
            self._write_entry(before, event)
        # An event that neither ends nor moves a job leaves its key and its owner's count as they are.
        moved = made.previous_owner is not None
        if stood is not None and (row is None or moved):
            self._let_go(stood)
        if row is not None:
            if moved:
                self._hold(row)
            if job.claim is not None and isinstance(event.facts, Started):
                self._claims.setdefault(job.claim, []).append(job.id)
        elif job.state == "completed" and job.key is not None:
            self._note_completed((job.owner, job.kind, job.key), job)
        self._index_report(job, event)

    def _write_key(self, event: Event) -> None:
        """The row of ``keys`` after *event*, as its projection's ``apply`` has it."""
        job_id = event.job_id
        key = self.keys[job_id] if job_id in self.keys else self._memory.keys.get(job_id)
        key_row = KEYS.apply(key, event)
        if key_row is not key:
            self.keys[job_id] = key_row

    def _write_entry(self, before: Job, event: Event) -> None:
        """The row of ``history`` after *event*, as its projection's ``apply`` has it, of a job that is not active."""
        job_id = event.job_id
        if before.active:
            entry: HistoryRow | None = HISTORY.begun(before)
        else:
            entry = self.history[job_id] if job_id in self.history else self._found.history.get(job_id)
        after = HISTORY.apply(entry, event)
        if after is not entry:
            self.history[job_id] = after

    def _hold(self, job: Job) -> None:
        """*job* counts among its owner's, and has its key."""
        submission = job.submission
        self._count(submission.owner, 1)
        if submission.key is not None:
            self._holders[submission.owner, job.kind, submission.key] = job.id

    def _let_go(self, job: Job) -> None:
        """What ``_hold`` made of *job* is undone: its key is free."""
        submission = job.submission
        self._count(submission.owner, -1)
        if submission.key is not None:
            self._holders[submission.owner, job.kind, submission.key] = None

    def _note_completed(self, key: DedupKey, job: Job) -> None:
        """The newest stands, since a job that moves to another owner may have completed long ago."""
        known = self.completed(key)
        if known is None or (known.finished_at or 0) <= (job.finished_at or 0):
            self._completed[key] = job

    def _index_report(self, job: Job, event: Event) -> None:
        """A late result is no report that was accepted: the same again is refused again."""
        report: Report | None = getattr(event.facts, "report", None)
        if report is not None and not isinstance(event.facts, LateResult):
            self._reports.setdefault((job.id, report.verb, report.fence, report.digest), job)

    def _count(self, owner: str, difference: int) -> None:
        self._owned[owner] = self._owned.get(owner, 0) + difference
        self.active_total += difference
        if owner.startswith(GUEST):
            self.active_of_guests += difference

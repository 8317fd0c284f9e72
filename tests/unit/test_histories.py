"""
Any commands in any order, over several jobs that compete for keys: what holds always.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from jobsvc.domain import commands as c
from jobsvc.domain.decider import decide
from jobsvc.domain.decisions.decision import Decision, Situation
from jobsvc.domain.errors import Rejected
from jobsvc.domain.events import Event, NewEvent, Submission, Terms
from jobsvc.domain.ids import RANDOM_BYTES, IdMaker, is_job_id
from jobsvc.domain.job import Job, evolve, fold
from jobsvc.domain.machine import would_refuse
from jobsvc.domain.moments import SECOND_US
from tests.unit.specification import (
    BIRTH,
    OPERATOR,
    cancel,
    clean_up,
    complete,
    create,
    fail,
    forgotten,
    heartbeat,
    progress,
    release,
    retry,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS: Final = ("x:post:1", "x:post:2", None)


class World:
    """
    A log and what it adds up to, with the look-ups that a decision needs: the ledger without its store.
    """

    def __init__(self) -> None:
        self.now = BIRTH
        self.events: list[Event] = []
        self.jobs: dict[str, Job] = {}
        self._ids = IdMaker()

    def new_id(self) -> str:
        """
        An id that no job has.
        """
        return self._ids.make(self.now, bytes(RANDOM_BYTES))

    def holder(self, key: str | None) -> Job | None:
        """
        The active job that has *key*.
        """
        holders = [job for job in self.jobs.values() if job.active and job.key == key is not None]
        assert len(holders) <= 1, holders
        return holders[0] if holders else None

    def execute(self, command: c.JobCommand, *, key: str | None, lease_live: bool) -> Decision | Rejected:
        """
        What came of *command*; if events did, they have happened.
        """
        situation = Situation(
            now=self.now,
            spare_id=self.new_id(),
            job=self.jobs.get(command.job_id),
            holder=self.holder(key),
            lease_live=lease_live,
        )
        try:
            decision = decide(command, situation)
        except Rejected as refusal:
            return refusal
        for event in decision.events:
            self._append(event)
        return decision

    def _append(self, new: NewEvent) -> None:
        before = self.jobs.get(new.job_id)
        version = 1 if before is None else before.version + 1
        event = Event(len(self.events) + 1, new.job_id, version, self.now, new.facts, new.payload)
        assert before is None or not would_refuse(before.state, event.type)
        self.events.append(event)
        self.jobs[new.job_id] = evolve(before, event)


FORMS: Final[list[Callable[..., c.JobCommand]]] = [
    create,
    retry,
    cancel,
    clean_up,
    *[start] * 4,
    heartbeat,
    progress,
    complete,
    *[fail] * 2,
    release,
    *[c.ComeDue] * 4,
    *[c.Lapse] * 3,
    c.Expire,
    c.EndGrace,
    c.Erase,
]
"""
The forms of commands; what a job needs to get anywhere comes more often.
"""

REPORTS: Final = (heartbeat, progress, complete, fail, release)


class Step(NamedTuple):
    """
    One command to come, as far as it can be told before it is known what there is.
    """

    form: Callable[..., c.JobCommand]
    which: int
    key: str | None
    fence_back: int
    force: bool
    lease_live: bool
    on_active: c.OnActive
    later_us: int
    wait_us: int | None


STEPS: Final = st.lists(
    st.builds(
        Step,
        form=st.sampled_from(FORMS),
        which=st.integers(0, 3),
        key=st.sampled_from(KEYS),
        fence_back=st.sampled_from([0, 0, 0, 1, 9]),
        force=st.booleans(),
        lease_live=st.booleans(),
        on_active=st.sampled_from(["attach", "run_after", "reject", "replace", "run_after"]),
        later_us=st.sampled_from([0, 0, 1, SECOND_US, 40 * SECOND_US]),
        wait_us=st.sampled_from([None, None, 300 * SECOND_US]),
    ),
    min_size=15,
    max_size=60,
)


def command_for(step: Step, world: World) -> c.JobCommand:
    """
    The command that *step* means in *world* as it is.
    """
    form, newest_first = step.form, list(reversed(world.jobs))
    if form is create or not newest_first:
        terms = Terms(run_at=world.now + step.later_us, deadline_us=step.wait_us)
        submission = Submission(owner="guest:g", key=step.key)
        dedup = c.Dedup(on_active=step.on_active)
        return create(job_id=world.new_id(), submission=submission, terms=terms, dedup=dedup)
    job_id = newest_first[step.which % len(newest_first)]
    if form is retry:
        return retry(job_id=job_id, new_id=world.new_id(), who=OPERATOR)
    if form in {cancel, clean_up}:
        return form(job_id=job_id, who=OPERATOR, force=step.force)
    if form in REPORTS:
        return form(job_id=job_id, fence=world.jobs[job_id].fence - step.fence_back)
    return form(job_id=job_id, who=OPERATOR)


def key_for(command: c.JobCommand, world: World) -> str | None:
    """
    The key of the job that *command* may make.
    """
    if isinstance(command, c.Create):
        return command.submission.key
    job = world.jobs.get(command.job_id)
    return job.key if job is not None and isinstance(command, c.Retry) else None


def play(steps: list[Step]) -> World:
    """
    The world after *steps*, each of which was shown to end no end and to lower no fence.
    """
    world = World()
    for step in steps:
        world.now += step.later_us
        command, before = command_for(step, world), dict(world.jobs)
        world.execute(command, key=key_for(command, world), lease_live=step.lease_live)
        for job_id, job in before.items():
            after = world.jobs[job_id]
            assert job.fence <= after.fence
            assert job.active or job.state == after.state
    return world


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_any_history_keeps_the_promises(steps: list[Step]) -> None:
    """
    One holder a key, no way back from an end, no falling fence, and a log that adds up to the jobs.
    """
    world = play(steps)

    streams = defaultdict(list)
    for event in world.events:
        streams[event.job_id].append(event)

    assert world.jobs == {job_id: fold(stream) for job_id, stream in streams.items()}
    assert all(is_job_id(job_id) for job_id in world.jobs)
    for key in KEYS:
        world.holder(key)
    for stream in streams.values():
        assert list(range(1, len(stream) + 1)) == [event.version for event in stream]


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_any_history_folds_after_it_was_forgotten(steps: list[Step]) -> None:
    """
    Every event of any history can lose its payload, and states, fences and counts are still the same.
    """
    world = play(steps)

    again: dict[str, Job] = {}
    for event in map(forgotten, world.events):
        again[event.job_id] = evolve(again.get(event.job_id), event)

    for job_id, job in world.jobs.items():
        assert (job.state, job.fence, job.attempt, job.lost_leases, job.late_digests) == (
            again[job_id].state,
            again[job_id].fence,
            again[job_id].attempt,
            again[job_id].lost_leases,
            again[job_id].late_digests,
        )


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_who_follows_is_followed(steps: list[Step]) -> None:
    """
    A job that follows another is named by it, and each end that makes a follower came of itself.
    """
    world = play(steps)

    followers = {job.id: job.follows for job in world.jobs.values() if job.follows is not None}

    followed = {job.followed_by: job for job in world.jobs.values() if job.followed_by is not None}
    assert followers == {follower: job.id for follower, job in followed.items()}
    assert {job.state for job in followed.values()} <= {"completed", "failed", "expired"}

"""
What follows when time passes: leases, due times, grace and bounds.
"""

from __future__ import annotations

from itertools import product

from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.errors import JobNotFound
from jobsvc.domain.events import (
    Cancelled,
    Created,
    Due,
    Expired,
    Failed,
    Failure,
    FollowupRequested,
    LeaseExpired,
    Terms,
)
from tests.unit.specification import (
    ACTIVE_MAX_US,
    CANCELLING,
    ENDED,
    GRACE_US,
    HELD,
    JOB,
    KIND,
    LAPSED,
    LIVING,
    NOW,
    QUEUED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    SPARE,
    SUBMISSION,
    WAITING,
    bounded,
    created,
    given,
    job_of,
    started,
    told,
)

ASKED = told(FollowupRequested(kind=KIND, terms=Terms(), count=1), submission=SUBMISSION)
FOLLOWER = Created(kind=KIND, state="queued", terms=Terms(), active_until=NOW + ACTIVE_MAX_US, follows=JOB)
TWICE_LAPSED = (*LAPSED, Due(), started(fence=2), LeaseExpired(attempt=0, lost_leases=2, due_at=NOW), Due())


def test_a_job_comes_due_when_its_time_has_come() -> None:
    """
    A scheduled, a failed and a lapsed job wait for a worker from their moment on, and not before.
    """
    for story in (SCHEDULED, RETRYING, LAPSED):
        job = given(*story)

        early, answer = job.when(c.ComeDue(JOB), now=NOW - 1), job.when(c.ComeDue(JOB))

        early.then(outcome="unchanged")
        answer.then(Due())
        assert (None, NOW) == (answer.then_state("queued").due_at, answer.then_state("queued").ready_at)


def test_nothing_else_comes_due() -> None:
    """
    A moment that something else overtook passes in silence.
    """
    for story in (QUEUED, *HELD, *ENDED):
        job = given(*story)

        answer = job.when(c.ComeDue(JOB))

        answer.then(outcome="unchanged")


def test_the_first_and_second_lapse_give_the_attempt_back() -> None:
    """
    The job is tried again at once, the loss is counted, and the fence stays.
    """
    stories = [RUNNING, (*LAPSED, Due(), started(fence=2))]

    answers = [given(*story).when(c.Lapse(JOB)) for story in stories]

    for losses, answer in enumerate(answers, start=1):
        answer.then(LeaseExpired(attempt=0, lost_leases=losses, due_at=NOW))
        job = answer.then_state("retrying")
        assert (0, losses, losses, NOW, None) == (job.attempt, job.lost_leases, job.fence, job.due_at, job.worker)


def test_the_third_lapse_fails_the_job() -> None:
    """
    Work that silences three workers is not given to a fourth.
    """
    running = given(*TWICE_LAPSED, started(fence=3))

    answer = running.when(c.Lapse(JOB))

    failure = answer.then(Failed(4, 3, attempt=0)).events[0].payload.failure
    assert failure is not None
    assert "worker_lost" == failure.code
    ended = answer.then_state("failed")
    assert (3, 0, failure) == (ended.lost_leases, ended.attempt, ended.failure)


def test_the_third_lapse_makes_the_followup() -> None:
    """
    A job that its workers lost has ended by itself.
    """
    running = given(*TWICE_LAPSED, started(fence=3), ASKED)

    answer = running.when(c.Lapse(JOB))

    answer.then(Failed(4, 3, followed_by=SPARE, attempt=0), FOLLOWER)


def test_a_lapse_cancels_a_cancelling_job() -> None:
    """
    A worker that fell silent will not stop any more.
    """
    cancelling = given(*CANCELLING)

    answer = cancelling.when(c.Lapse(JOB))

    answer.then(Cancelled(2, attempt=0))
    assert "requested" == answer.then_state("cancelled").reason


def test_a_live_lease_does_not_lapse() -> None:
    """
    A heartbeat that came in between wins over the sweeper.
    """
    for story in HELD:
        job = given(*story)

        answer = job.when(c.Lapse(JOB), lease_live=True)

        answer.then(outcome="unchanged")


def test_only_a_held_job_lapses() -> None:
    """
    Without a lease there is nothing to run out.
    """
    for story in (*WAITING, *ENDED):
        job = given(*story)

        answer = job.when(c.Lapse(JOB))

        answer.then(outcome="unchanged")


def test_the_grace_ends_a_cancelling_job() -> None:
    """
    A worker that does not stop in time loses the job, alive or not.
    """
    cancelling = given(*CANCELLING)

    early, answer = (cancelling.when(c.EndGrace(JOB), now=now, lease_live=True) for now in (NOW - 1, NOW))

    early.then(outcome="unchanged")
    answer.then(Cancelled(2))
    ended = answer.then_state("cancelled")
    assert ("requested", None) == (ended.reason, ended.grace_until)


def test_the_grace_begins_anew_with_the_service() -> None:
    """
    A service that was away could tell the worker nothing, so the worker's time counts from the start of the service.
    """
    cancelling = given(*CANCELLING)

    answers = [cancelling.when(c.EndGrace(JOB), awake_since=NOW + 1 - GRACE_US, now=now) for now in (NOW, NOW + 1)]

    answers[0].then(outcome="unchanged")
    answers[1].then(Cancelled(2))


def test_a_cancelling_job_without_a_grace_has_none_to_end() -> None:
    """
    What the log does not say is not made up.
    """
    cancelling = replace(job_of(CANCELLING), grace_until=None)

    answer = given().when(c.EndGrace(JOB), job=cancelling)

    answer.then(outcome="unchanged")


def test_only_a_cancelling_job_has_a_grace() -> None:
    """
    A job that nobody asked to stop is not stopped.
    """
    for story in (*WAITING, RUNNING, *ENDED):
        job = given(*story)

        answer = job.when(c.EndGrace(JOB), now=NOW + 10 * GRACE_US)

        answer.then(outcome="unchanged")


def test_every_active_job_expires_at_its_bounds() -> None:
    """
    Whatever it is doing, a job past its deadline or the longest it may be active has expired.
    """
    for (bound, reason), story in product({"deadline": "deadline", "active_until": "active_too_long"}.items(), LIVING):
        job, fence = given(*bounded(story, **{bound: NOW})), job_of(story).fence + 1

        early, answer = job.when(c.Expire(JOB), now=NOW - 1), job.when(c.Expire(JOB), lease_live=True)

        early.then(outcome="unchanged")
        answer.then(Expired(fence))
        ended = answer.then_state("expired")
        assert (reason, NOW) == (ended.reason, ended.finished_at)


def test_a_job_that_is_not_started_in_time_expires() -> None:
    """
    The first start is bounded while there was none.
    """
    unstarted = given(created(start_by=NOW))

    early, answer = unstarted.when(c.Expire(JOB), now=NOW - 1), unstarted.when(c.Expire(JOB))

    early.then(outcome="unchanged")
    answer.then(Expired(1))
    assert "not_started" == answer.then_state("expired").reason


def test_a_job_that_was_started_once_is_past_that_bound() -> None:
    """
    A first start that came in time counts, even if its lease lapsed since.
    """
    for story in (RUNNING, RETRYING, LAPSED):
        job = given(*bounded(story, start_by=NOW))

        answer = job.when(c.Expire(JOB))

        answer.then(outcome="unchanged")


def test_nothing_expires_without_a_bound_or_after_its_end() -> None:
    """
    No bound, no expiry; and terminal is for ever.
    """
    unbounded, ended = LIVING, [bounded(story, deadline=NOW) for story in ENDED]

    answers = [given(*story).when(c.Expire(JOB)) for story in (*unbounded, *ended)]

    for answer in answers:
        answer.then(outcome="unchanged")


def test_an_expired_job_makes_the_followup() -> None:
    """
    A job that outlived its bound has ended by itself.
    """
    overdue = given(created(deadline=NOW), ASKED)

    answer = overdue.when(c.Expire(JOB))

    answer.then(Expired(1, followed_by=SPARE), FOLLOWER)


def test_a_grace_or_lapse_that_cancels_makes_no_followup() -> None:
    """
    What was cancelled is not followed.
    """
    cancelling = given(*RUNNING, ASKED, CANCELLING[-1])

    answers = [cancelling.when(c.EndGrace(JOB)), cancelling.when(c.Lapse(JOB))]

    answers[0].then(Cancelled(2))
    answers[1].then(Cancelled(2, attempt=0))


def test_a_moment_of_no_job_is_not_found() -> None:
    """
    The sweeper learns that there is nothing to sweep.
    """
    nothing = given()

    for command in (c.ComeDue(JOB), c.Lapse(JOB), c.Expire(JOB), c.EndGrace(JOB)):
        answer = nothing.when(command)

        answer.then_refused(JobNotFound)


def test_a_lost_worker_is_said_in_words() -> None:
    """
    The failure of the third lapse says how many workers fell silent.
    """
    running = given(*TWICE_LAPSED, started(fence=3))

    failure = running.when(c.Lapse(JOB)).then_state("failed").failure

    assert Failure("worker_lost", "3 workers fell silent while they held this job") == failure

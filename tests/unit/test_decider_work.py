"""
What claims and reports promise: one current lease, and a live success above all.
"""

from __future__ import annotations

import pytest
from msgspec import UNSET, Raw

from jobsvc.domain.errors import AccessDenied, JobActive, JobNotFound, LeaseLost
from jobsvc.domain.events import (
    AttemptFailed,
    Cancelled,
    Completed,
    Created,
    Due,
    Erased,
    Expired,
    Failed,
    FollowupRequested,
    LateResult,
    Progressed,
    Released,
    Report,
    Started,
    Terms,
)
from jobsvc.domain.job import Progress
from jobsvc.domain.machine import LATE_RESULTS_MAX
from jobsvc.domain.moments import SECOND_US
from jobsvc.domain.words import Principal
from tests.unit.specification import (
    ACTIVE_MAX_US,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    ENDED,
    FAILED,
    FAILURE,
    HELD,
    JOB,
    KIND,
    LAPSED,
    LAPSED_AND_DUE,
    LIVING,
    NOW,
    QUEUED,
    RESULT,
    RETRYING,
    RUNNING,
    SCHEDULED,
    SPARE,
    SUBMISSION,
    bounded,
    complete,
    created,
    fail,
    given,
    heartbeat,
    job_of,
    progress,
    release,
    start,
    started,
    told,
)

ASKED = told(FollowupRequested(kind=KIND, terms=Terms(priority=-5), count=1), submission=SUBMISSION)
FOLLOWER = Created(kind=KIND, state="queued", terms=Terms(priority=-5), active_until=NOW + ACTIVE_MAX_US, follows=JOB)
DONE, BROKE, GIVEN_BACK = Report("complete", 1, "d"), Report("fail", 1, "d"), Report("release", 1, "d")


def test_a_claim_starts_a_queued_job() -> None:
    """
    The worker holds it under a new fence, and the attempt counts.
    """
    queued = given(*QUEUED)

    answer = queued.when(start())

    answer.then(Started(fence=1, attempt=1, lease_us=30 * SECOND_US, worker="w1", claim="c1"), outcome="granted")
    job = answer.then_state("running")
    assert (NOW, NOW, NOW, "w1") == (job.started_at, job.first_started_at, job.leased_at, job.worker)


def test_a_second_attempt_has_a_fence_of_its_own() -> None:
    """
    The fence rises with each grant, the first start is remembered, and the last attempt's failure is no longer shown.
    """
    again = given(*RETRYING, Due())

    answer = again.when(start())

    answer.then(Started(fence=3, attempt=2, lease_us=30 * SECOND_US, worker="w1", claim="c1"), outcome="granted")
    job = answer.then_state("running")
    assert again.job is not None
    assert (again.job.first_started_at, NOW, None) == (job.first_started_at, job.started_at, job.failure)


def test_only_a_queued_job_can_be_claimed() -> None:
    """
    What waits for its time, is held or has ended is given to nobody.
    """
    for story in (SCHEDULED, RETRYING, LAPSED, *HELD, *ENDED):
        job = given(*story)

        answer = job.when(start())

        answer.then_refused(JobActive)


def test_a_job_that_nobody_wants_any_more_cannot_be_claimed() -> None:
    """
    Past its deadline, its first start or the longest it may be active, a job is given to nobody, swept or not.
    """
    for bound in ("deadline", "start_by", "active_until"):
        overdue = given(*bounded(QUEUED, **{bound: NOW}))

        overdue.when(start()).then_refused(JobActive)

        overdue.when(start(), now=NOW - 1).then_state("running")


def test_a_heartbeat_renews_and_writes_nothing() -> None:
    """
    A sign of life under the current fence is no event.
    """
    for story in HELD:
        job = given(*story)

        answer = job.when(heartbeat())

        answer.then(outcome="renewed")


def test_progress_renews_and_is_told() -> None:
    """
    How far the worker is stands in the job, also while it is stopping.
    """
    for story in HELD:
        state = job_of(story).state

        answer = given(*story).when(progress(message="half", progress_data=Raw(b"[1]")))

        answer.then(Progressed(), outcome="renewed")
        job = answer.then_state(state)
        assert Progress(percent=40.0, message="half", data=Raw(b"[1]")) == job.progress
        assert NOW == job.leased_at


def test_heartbeat_and_progress_need_a_held_job_and_its_fence() -> None:
    """
    Nothing renews a lease that was revoked or never was.
    """
    for command in (heartbeat, progress):
        for story in (SCHEDULED, QUEUED, RETRYING, LAPSED, LAPSED_AND_DUE, *ENDED):
            given(*story).when(command()).then_refused(LeaseLost)

        for fence in (-1, 0, 2):
            given(*RUNNING).when(command(fence=fence)).then_refused(LeaseLost)


def test_a_success_completes_a_held_job() -> None:
    """
    A live success ends the job, and beats a pending cancel.
    """
    for story in HELD:
        job = given(*story)

        answer = job.when(complete())

        answer.then(Completed(DONE))
        ended = answer.then_state("completed")
        assert (RESULT, NOW, None, 1) == (ended.result, ended.finished_at, ended.reason, ended.fence)


def test_a_success_after_a_lapse_counts_until_somebody_else_claims() -> None:
    """
    While nobody has claimed the job again, the silent worker's success is taken.
    """
    for story in (LAPSED, LAPSED_AND_DUE):
        job = given(*story)

        answer = job.when(complete())

        answer.then(Completed(DONE))
        answer.then_state("completed")


def test_a_success_after_a_new_claim_is_late() -> None:
    """
    The old lease's result is kept, changes nothing, and its worker is told.
    """
    claimed = given(*LAPSED_AND_DUE, started(fence=2))

    answer = claimed.when(complete())

    refusal = answer.then(LateResult(DONE)).refusal
    assert isinstance(refusal, LeaseLost)
    assert (claimed.job, False) == (refusal.job, refusal.may_complete)
    job = answer.then_state("running")
    assert (("d",), 2, UNSET) == (job.late_digests, job.fence, job.result)


def test_a_late_success_is_kept_in_any_state() -> None:
    """
    A result under a fence that was granted once is kept wherever the job has got to since.
    """
    for story in (RETRYING, (*RETRYING, Due()), *ENDED, (*LAPSED_AND_DUE, started(fence=2), CANCELLING[-1])):
        state = job_of(story).state

        answer = given(*story).when(complete())

        answer.then(LateResult(DONE))
        answer.then_state(state)
    later = created(state="scheduled")
    given(later, *RETRYING[1:]).when(complete()).then(LateResult(DONE))


def test_a_late_success_is_kept_once_a_digest_and_eight_times_a_job() -> None:
    """
    The same late result again is refused and not kept, and so is the ninth.
    """
    late = [LateResult(Report("complete", 1, str(number))) for number in range(LATE_RESULTS_MAX)]

    once, full, room = given(*FAILED, *late[:1]), given(*FAILED, *late), given(*FAILED, *late[1:])

    once.when(complete(digest="0")).then_refused(LeaseLost)
    full.when(complete()).then_refused(LeaseLost)
    room.when(complete()).then(LateResult(DONE))


def test_a_forged_fence_keeps_nothing() -> None:
    """
    A token that was never granted leaves no trace, in any state.
    """
    for story in (*LIVING, *ENDED):
        for fence in (-1, 0, 99):
            answer = given(*story).when(complete(fence=fence))

            answer.then_refused(LeaseLost)


def test_nothing_comes_back_to_an_erased_job() -> None:
    """
    A late result would be a payload after the erasure, so it is not kept.
    """
    for story in ENDED:
        erased = given(*story, Erased())

        answer = erased.when(complete())

        answer.then_refused(LeaseLost)


def test_a_failure_with_attempts_left_is_followed_by_another() -> None:
    """
    The lease is over, the next attempt has its time, and what went wrong is shown meanwhile.
    """
    running = given(*RUNNING)

    answer = running.when(fail(retry_after_us=7))

    answer.then(AttemptFailed(2, NOW + 7, BROKE))
    job = answer.then_state("retrying")
    assert (FAILURE, NOW + 7, NOW + 7, 1, None) == (job.failure, job.due_at, job.ready_at, job.attempt, job.worker)


@pytest.mark.parametrize(
    ("attempt", "chance", "delay_us"),
    [(1, 0.0, 0), (1, 0.5, 1_000_000), (2, 0.5, 2_000_000), (5, 0.5, 16_000_000), (9, 0.5, 30_000_000)],
)
def test_delays_grow_from_two_seconds_to_a_minute(attempt: int, chance: float, delay_us: int) -> None:
    """
    Chance picks from nothing to the bound, which doubles with each attempt until it is a minute.
    """
    terms = Terms(max_attempts=99)

    answer = given(created(terms), started(attempt=attempt)).when(fail(), chance=chance)

    answer.then(AttemptFailed(2, NOW + delay_us, BROKE))


def test_a_failure_ends_the_job_where_no_attempt_may_follow() -> None:
    """
    The last attempt, a failure that is not worth another, and one that would start too late each end the job.
    """
    stories_and_commands = [
        ((*QUEUED, started(attempt=3)), fail()),
        (RUNNING, fail(retryable=False, retry_after_us=1)),
        ((created(deadline=NOW + 5), started()), fail(retry_after_us=5)),
    ]

    answers = [given(*story).when(command) for story, command in stories_and_commands]

    for answer in answers:
        answer.then(Failed(2, 0, BROKE))
        ended = answer.then_state("failed")
        assert (FAILURE, NOW) == (ended.failure, ended.finished_at)


def test_a_failure_just_before_the_deadline_is_tried_again() -> None:
    """
    An attempt that starts before the deadline is worth it.
    """
    running = given(created(deadline=NOW + 5), started())

    answer = running.when(fail(retry_after_us=4))

    answer.then(AttemptFailed(2, NOW + 4, BROKE))


def test_a_failure_of_a_cancelling_job_cancels_it() -> None:
    """
    What was asked to stop has stopped; the reason is the cancel's.
    """
    cancelling = given(*CANCELLING)

    answer = cancelling.when(fail())

    answer.then(Cancelled(2, report=BROKE))
    assert "requested" == answer.then_state("cancelled").reason


def test_a_release_gives_the_attempt_back() -> None:
    """
    The job waits as if it had not been claimed, but for the fence.
    """
    running = given(*RUNNING)

    answer = running.when(release())

    answer.then(Released(2, 0, GIVEN_BACK))
    job = answer.then_state("queued")
    assert (0, 0, None, None) == (job.attempt, job.lost_leases, job.worker, job.started_at)


def test_a_release_of_a_cancelling_job_cancels_it() -> None:
    """
    A worker that gives a cancelled job back has stopped.
    """
    cancelling = given(*CANCELLING)

    answer = cancelling.when(release())

    answer.then(Cancelled(2, report=GIVEN_BACK, attempt=0))
    assert ("requested", 0) == (answer.then_state("cancelled").reason, answer.then_state("cancelled").attempt)


def test_fail_and_release_need_the_current_fence_of_a_held_job() -> None:
    """
    Nobody fails or gives back what it does not hold.
    """
    for command in (fail, release):
        for story in (SCHEDULED, QUEUED, RETRYING, *ENDED):
            refusal = given(*story).when(command()).then_refused(LeaseLost)

            assert not refusal.may_complete

        for story in HELD:
            given(*story).when(command(fence=2)).then_refused(LeaseLost)
            given(*story).when(command(fence=-1)).then_refused(LeaseLost)


def test_after_a_lapse_the_worker_is_told_that_it_may_still_complete() -> None:
    """
    Every other report is refused with the one way that is left.
    """
    for story in (LAPSED, LAPSED_AND_DUE):
        for command in (heartbeat(), progress(), fail(), release()):
            refusal = given(*story).when(command).then_refused(LeaseLost)

            assert refusal.may_complete


def test_the_same_report_again_gets_the_first_answer() -> None:
    """
    A report that was taken once is answered as then, whatever happened since.
    """
    first = job_of(COMPLETED)

    for command in (complete(), fail(), release()):
        decision = given(*CANCELLED).when(command, reported=first).then(outcome="repeated")

        assert first == decision.job


def test_an_end_of_its_own_makes_the_followup() -> None:
    """
    Completed or failed, the job that was to follow is born in the same breath, and each names the other.
    """
    running = given(*RUNNING, ASKED)

    answers = [running.when(complete(request_id="r")), running.when(fail(retryable=False, request_id="r"))]

    answers[0].then(Completed(DONE, followed_by=SPARE), FOLLOWER)
    decision = answers[1].then(Failed(2, 0, BROKE, followed_by=SPARE), FOLLOWER)
    assert [JOB, SPARE] == [event.job_id for event in decision.events]
    born = decision.events[1].payload
    assert (SUBMISSION, "system:sweeper", "r") == (born.submission, born.actor, born.request_id)
    ended = answers[0].then_state("completed")
    assert (SPARE, None) == (ended.followed_by, ended.followup)


def test_an_attempt_that_ends_keeps_the_followup_waiting() -> None:
    """
    The job still lives after a failed attempt or a release, and what follows it waits.
    """
    running = given(*RUNNING, ASKED)

    jobs = [running.when(fail()).then_state("retrying"), running.when(release()).then_state("queued")]

    assert [True, True] == [job.followup is not None for job in jobs]


def test_a_cancelled_job_makes_no_followup() -> None:
    """
    A worker that stops a cancelling job, or even completes it, brings nothing back that the cancel dropped.
    """
    cancelling = given(*RUNNING, ASKED, CANCELLING[-1])

    answers = [cancelling.when(command) for command in (fail(), release(), complete())]

    answers[0].then(Cancelled(2, report=BROKE))
    answers[1].then(Cancelled(2, report=GIVEN_BACK, attempt=0))
    answers[2].then(Completed(DONE))


def test_a_worker_touches_jobs_that_exist() -> None:
    """
    A report on nothing is told so.
    """
    nothing = given()

    for command in (start(), heartbeat(), progress(), complete(), fail(), release()):
        answer = nothing.when(command)

        answer.then_refused(JobNotFound)


def test_a_worker_without_the_kind_may_not_even_ask() -> None:
    """
    The kind is checked before anything else is told about the job.
    """
    expired = given(*QUEUED, Expired(1))
    other = Principal(role="worker", subject="w2", kinds=frozenset({"mail"}))

    answer = expired.when(complete(who=other))

    answer.then_refused(AccessDenied)

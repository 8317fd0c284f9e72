"""
What a create and a retry promise: one active job a key, whatever is there already.
"""

from __future__ import annotations

from msgspec import Raw
from msgspec.structs import replace

from jobsvc.domain.commands import Dedup
from jobsvc.domain.decisions.creating import FOLLOWUPS_MAX
from jobsvc.domain.errors import (
    AccessDenied,
    DuplicateActiveJob,
    InvalidCommand,
    JobActive,
    JobNotFound,
    SlowDown,
    VersionMismatch,
)
from jobsvc.domain.events import Cancelled, Created, Erased, FollowupRequested, Terms
from tests.unit.specification import (
    ACTIVE_MAX_US,
    CANCELLING,
    COMPLETED,
    ENDED,
    HOUR_US,
    JOB,
    KEYLESS,
    KIND,
    LIVING,
    NEW_ID,
    NOW,
    OPERATOR,
    OTHER,
    QUEUED,
    RUNNING,
    SCHEDULED,
    STRANGER,
    SUBMISSION,
    WAITING,
    Told,
    create,
    created,
    given,
    job_of,
    retry,
    told,
)

BORN = Created(kind=KIND, state="queued", terms=Terms(), active_until=NOW + ACTIVE_MAX_US)
GAVE_WAY = Cancelled(fence=2, superseded_by=NEW_ID)
OPEN = (*WAITING, RUNNING)
REPLACE, RUN_AFTER = Dedup(on_active="replace"), Dedup(on_active="run_after")


def test_a_create_makes_a_queued_job() -> None:
    """
    Where nobody does this work, a job for it waits from now on.
    """
    nothing = given()

    answer = nothing.when(create(request_id="r"))

    decision = answer.then(BORN, outcome="created")
    assert (NEW_ID, NEW_ID) == (decision.job_id, decision.events[0].job_id)
    assert ("guest:g", "r", SUBMISSION) == (
        decision.events[0].payload.actor,
        decision.events[0].payload.request_id,
        decision.events[0].payload.submission,
    )
    assert NOW == answer.then_state("queued").ready_at


def test_a_create_for_later_makes_a_scheduled_job() -> None:
    """
    A run_at that lies ahead is waited for, and every bound counts from there.
    """
    later = NOW + HOUR_US
    terms = Terms(run_at=later, deadline_us=10, start_within_us=5)

    answer = given().when(create(terms=terms))

    answer.then(
        Created(
            kind=KIND,
            state="scheduled",
            terms=terms,
            deadline=later + 10,
            start_by=later + 5,
            active_until=later + ACTIVE_MAX_US,
        ),
        outcome="created",
    )
    assert (later, later) == (answer.then_state("scheduled").due_at, answer.then_state("scheduled").ready_at)


def test_a_run_at_that_has_passed_is_now() -> None:
    """
    A create for a moment gone by waits at once, its bounds count from now, and it does not jump the queue.
    """
    terms = Terms(run_at=NOW, deadline_us=10)

    answer = given().when(create(terms=terms), now=NOW + 1)

    answer.then(
        Created(kind=KIND, state="queued", terms=terms, deadline=NOW + 11, active_until=NOW + 1 + ACTIVE_MAX_US),
        outcome="created",
    )
    assert NOW + 1 == answer.then_state("queued").ready_at


def test_a_create_attaches_to_the_holder() -> None:
    """
    The same work asked for again is answered with the job that does it, in each state but cancelling.
    """
    for story in OPEN:
        holder = job_of(story)

        decision = given().when(create(), holder=holder).then(outcome="attached")

        assert (JOB, False) == (decision.job_id, decision.input_differs)


def test_an_attach_tells_that_the_input_differs() -> None:
    """
    The caller learns that the holder was asked for with another input.
    """
    other = replace(SUBMISSION, input=Raw(b'{"a":2}'))

    decision = given().when(create(submission=other), holder=job_of(RUNNING)).then(outcome="attached")

    assert decision.input_differs


def test_a_create_may_reject_a_duplicate() -> None:
    """
    Who asked to be told of a holder is told, with the holder.
    """
    holder = job_of(RUNNING)

    refusal = given().when(create(dedup=Dedup(on_active="reject")), holder=holder).then_refused(DuplicateActiveJob)

    assert holder == refusal.job


def test_a_create_may_replace_the_holder() -> None:
    """
    The holder is cancelled for the new job in the same breath, whatever state it is in.
    """
    for story in LIVING:
        holder = job_of(story)
        gave_way = Cancelled(fence=holder.fence + 1, superseded_by=NEW_ID)

        answer = given().when(create(dedup=REPLACE), holder=holder)

        decision = answer.then(gave_way, BORN, outcome="created")
        assert ([JOB, NEW_ID], NEW_ID) == ([event.job_id for event in decision.events], decision.job_id)
        ended = answer.then_state("cancelled")
        assert ("superseded", NEW_ID, NOW) == (ended.reason, ended.superseded_by, ended.finished_at)


def test_a_cancelling_holder_gives_way_to_any_create() -> None:
    """
    A holder that was given up ends in the transaction of the new job, whatever the create says about duplicates.
    """
    for dedup in (Dedup(), Dedup(on_active="reject"), REPLACE, RUN_AFTER):
        holder = job_of(CANCELLING)

        answer = given().when(create(dedup=dedup), holder=holder)

        answer.then(GAVE_WAY, BORN, outcome="created")


def test_a_create_may_ask_to_run_after_the_holder() -> None:
    """
    The holder remembers the whole request, and the answer shows the holder.
    """
    for story in OPEN:
        holder, terms = job_of(story), Terms(priority=-3)

        answer = given().when(create(dedup=RUN_AFTER, terms=terms), holder=holder)

        decision = answer.then(FollowupRequested(kind=KIND, terms=terms, count=1), outcome="followup")
        assert (JOB, SUBMISSION) == (decision.job_id, decision.events[0].payload.submission)
        followup = answer.then_state(holder.state).followup
        assert followup is not None
        assert (terms, SUBMISSION) == (followup.terms, followup.submission)


def test_the_last_followup_request_counts() -> None:
    """
    A second run_after replaces the first, and says whether the holder's input differs.
    """
    asked = _asked(count=1)
    latest = replace(SUBMISSION, input=Raw(b"[]"))

    answer = given().when(create(dedup=RUN_AFTER, submission=latest), holder=job_of((*RUNNING, asked)))

    decision = answer.then(FollowupRequested(kind=KIND, terms=Terms(), count=2), outcome="followup")
    followup = answer.then_state("running").followup
    assert followup is not None
    assert (True, latest) == (decision.input_differs, followup.submission)


def test_a_holder_takes_a_hundred_followup_requests() -> None:
    """
    The hundredth is taken, the one after it is told to slow down.
    """
    holders = [job_of((*RUNNING, _asked(count=count))) for count in (FOLLOWUPS_MAX - 1, FOLLOWUPS_MAX)]

    answers = [given().when(create(dedup=RUN_AFTER), holder=holder) for holder in holders]

    answers[0].then(FollowupRequested(kind=KIND, terms=Terms(), count=100), outcome="followup")
    answers[1].then_refused(SlowDown)


def test_a_fresh_result_is_reused() -> None:
    """
    A completed job counts as fresh until it is older than the caller allows, and always without a bound.
    """
    completed = job_of(COMPLETED)
    age_us = NOW - (completed.finished_at or 0)

    for max_age_us in (None, age_us + 1):
        answer = given().when(create(dedup=Dedup(on_completed="reuse", max_age_us=max_age_us)), completed=completed)

        assert JOB == answer.then(outcome="fresh_result").job_id


def test_a_stale_result_is_not_reused() -> None:
    """
    A completed job that is as old as the caller allows makes room for a new one; so does any, without reuse.
    """
    completed = job_of(COMPLETED)
    age_us = NOW - (completed.finished_at or 0)

    for dedup in (Dedup(on_completed="reuse", max_age_us=age_us), Dedup()):
        answer = given().when(create(dedup=dedup), completed=completed)

        answer.then(BORN, outcome="created")


def test_a_create_may_reject_work_that_was_done() -> None:
    """
    Who asked not to repeat a completed job is refused, with that job.
    """
    completed = job_of(COMPLETED)

    answer = given().when(create(dedup=Dedup(on_completed="reject")), completed=completed)

    assert completed == answer.then_refused(DuplicateActiveJob).job


def test_nobody_creates_for_another_owner() -> None:
    """
    A guest makes its own jobs only.
    """
    stranger = create(who=STRANGER)

    answer = given().when(stranger)

    answer.then_refused(AccessDenied)


def test_a_retry_asks_for_the_same_again() -> None:
    """
    An ended job's retry has its kind, input and terms, with fresh bounds and no run_at of old.
    """
    terms = Terms(priority=-1, max_attempts=2, run_at=NOW - HOUR_US, deadline_us=7)
    for ended in ENDED:
        story = (created(terms), *ended[1:])

        answer = given(*story).when(retry())

        again = replace(terms, run_at=None)
        born = Created(
            kind=KIND,
            state="queued",
            terms=again,
            deadline=NOW + 7,
            active_until=NOW + ACTIVE_MAX_US,
            retry_of=JOB,
        )
        decision = answer.then(born, outcome="created")
        assert (NEW_ID, SUBMISSION) == (decision.job_id, decision.events[0].payload.submission)


def test_a_retry_of_an_active_job_is_refused() -> None:
    """
    While the job lives, there is nothing to retry.
    """
    for story in LIVING:
        job = given(*story)

        refusal = job.when(retry()).then_refused(JobActive)

        assert job.job == refusal.job


def test_a_retry_attaches_to_the_holder_of_the_key() -> None:
    """
    Work that is being done again already is not doubled by a retry.
    """
    holder = job_of(RUNNING, job_id=OTHER)

    decision = given(*COMPLETED).when(retry(), holder=holder).then(outcome="attached")

    assert OTHER == decision.job_id


def test_a_retry_ends_a_cancelling_holder() -> None:
    """
    A holder that was given up gives way to a retry as to any create.
    """
    holder = job_of(CANCELLING, job_id=OTHER)

    answer = given(*COMPLETED).when(retry(), holder=holder)

    decision = answer.then(GAVE_WAY, replace(BORN, retry_of=JOB), outcome="created")
    assert [OTHER, NEW_ID] == [event.job_id for event in decision.events]


def test_a_retry_without_a_key_attaches_to_its_active_retry() -> None:
    """
    Without a key nobody gives way: the retry that is active is the answer, cancelling or not.
    """
    ended = (created(submission=KEYLESS), *COMPLETED[1:])
    holder = job_of((created(submission=KEYLESS), *CANCELLING[1:]), job_id=OTHER)

    decision = given(*ended).when(retry(), holder=holder).then(outcome="attached")

    assert OTHER == decision.job_id


def test_an_erased_job_cannot_be_retried() -> None:
    """
    Nobody knows any more what an erased job was to do, not even an operator.
    """
    for ended in ENDED:
        erased = given(*ended, Erased())

        answer = erased.when(retry(who=OPERATOR))

        answer.then_refused(InvalidCommand)


def test_a_retry_needs_the_job_the_right_and_the_version() -> None:
    """
    No job, another's job, and a job that moved on are each told apart.
    """
    completed = given(*COMPLETED)

    answers = [given().when(retry()), completed.when(retry(who=STRANGER)), completed.when(retry(if_version=2))]

    for answer, error in zip(answers, (JobNotFound, AccessDenied, VersionMismatch), strict=True):
        answer.then_refused(error)
    completed.when(retry(if_version=3)).then(replace(BORN, retry_of=JOB), outcome="created")


def test_a_scheduled_holder_and_a_queued_one_keep_what_they_are() -> None:
    """
    Attaching writes nothing: the holder stands as before.
    """
    for story, state in ((SCHEDULED, "scheduled"), (QUEUED, "queued")):
        holder = job_of(story)

        answer = given().when(create(), holder=holder)

        assert holder == answer.then_state(state)


def _asked(*, count: int) -> Told:
    return told(FollowupRequested(kind=KIND, terms=Terms(), count=count), submission=SUBMISSION)


def test_a_retry_s_reason_goes_with_the_new_job_s_first_event() -> None:
    """
    Why it was asked for again is in the log.
    """
    answer = given(*COMPLETED).when(retry(reason="the site is back"))

    (born,) = answer.then(replace(BORN, retry_of=JOB), outcome="created").events
    assert "the site is back" == born.payload.reason

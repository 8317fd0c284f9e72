"""
What cancel, cleanup, a claim of the owner and an erasure promise.
"""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from jobsvc.domain import commands as c
from jobsvc.domain.decisions.owning import gives_way
from jobsvc.domain.errors import (
    AccessDenied,
    DuplicateActiveJob,
    InvalidCommand,
    JobActive,
    JobNotFound,
    SpentGuest,
    VersionMismatch,
)
from jobsvc.domain.events import (
    Cancelled,
    CancelRequested,
    Erased,
    Expired,
    FollowupRequested,
    OwnerChanged,
    Terms,
)
from jobsvc.domain.words import ERASED, Principal
from tests.unit.specification import (
    CANCELLING,
    COMPLETED,
    ENDED,
    GRACE_US,
    GUEST,
    HELD,
    JOB,
    KIND,
    LIVING,
    NOW,
    OPERATOR,
    OTHER,
    QUEUED,
    RUNNING,
    STRANGER,
    SUBMISSION,
    USER,
    WAITING,
    Told,
    bounded,
    cancel,
    clean_up,
    create,
    given,
    job_of,
    retry,
    told,
)


def test_a_waiting_job_is_cancelled_at_once() -> None:
    """
    Where nobody works on it, there is nobody to ask.
    """
    for story in WAITING:
        job = job_of(story)

        answer = given(*story).when(cancel())

        answer.then(Cancelled(fence=job.fence + 1))
        ended = answer.then_state("cancelled")
        assert ("requested", NOW, None) == (ended.reason, ended.finished_at, ended.due_at)


def test_a_running_job_is_asked_to_stop() -> None:
    """
    The worker gets its grace, and whoever looks sees that a cancel is pending and why.
    """
    running = given(*RUNNING)

    answer = running.when(cancel(reason="no longer wanted"))

    answer.then(CancelRequested(grace_until=NOW + GRACE_US))
    job = answer.then_state("cancelling")
    assert (True, "no longer wanted", 1) == (job.cancel_requested, job.reason, job.fence)


def test_a_second_cancel_changes_nothing() -> None:
    """
    A job that is stopping or has ended stays as it is.
    """
    for story in (CANCELLING, *ENDED):
        job = given(*story)

        answer = job.when(cancel())

        answer.then(outcome="unchanged")


def test_a_forced_cancel_ends_any_active_job() -> None:
    """
    With force nobody is asked, and the lease is void.
    """
    for story in LIVING:
        job = job_of(story)

        answer = given(*story).when(cancel(force=True))

        answer.then(Cancelled(fence=job.fence + 1))
        assert "forced" == answer.then_state("cancelled").reason


def test_a_forced_cancel_of_an_ended_job_changes_nothing() -> None:
    """
    Terminal is for ever, force or not.
    """
    for story in ENDED:
        job = given(*story)

        answer = job.when(cancel(force=True))

        answer.then(outcome="unchanged")


def test_cleanup_of_an_ended_job_changes_nothing() -> None:
    """
    An ended job is off the list already, however often and however hard somebody cleans it up.
    """
    for story in ENDED:
        for force in (False, True):
            answer = given(*story).when(clean_up(force=force))

            answer.then(outcome="unchanged")


def test_cleanup_ends_a_job_whose_lease_has_passed() -> None:
    """
    What the sweeper has not seen yet, a cleanup may see first.
    """
    for story in HELD:
        job = given(*story)

        answer = job.when(clean_up(), lease_live=False)

        answer.then(Expired(fence=2))
        assert "lease_expired" == answer.then_state("expired").reason


def test_cleanup_ends_a_job_whose_deadline_has_passed() -> None:
    """
    A live lease does not save a job that nobody wants any more, and no force is needed.
    """
    for story in LIVING:
        job = job_of(story)

        answer = given(*bounded(story, deadline=NOW)).when(clean_up(), lease_live=True)

        answer.then(Expired(fence=job.fence + 1))
        assert "deadline" == answer.then_state("expired").reason


def test_cleanup_of_a_live_job_is_refused() -> None:
    """
    A worker that is alive keeps its job.
    """
    for story in HELD:
        job = given(*story)

        refusal = job.when(clean_up(), lease_live=True).then_refused(JobActive)

        assert job.job == refusal.job


def test_cleanup_of_a_waiting_job_is_refused() -> None:
    """
    A job that waits has every right to be on the list.
    """
    for story in WAITING:
        job = given(*story)

        answer = job.when(clean_up(), lease_live=False)

        answer.then_refused(JobActive)


def test_cleanup_with_force_cancels_what_lives() -> None:
    """
    Force takes a job off the list that has the right to be there.
    """
    for story in LIVING:
        job = job_of(story)

        answer = given(*story).when(clean_up(force=True), lease_live=True)

        answer.then(Cancelled(fence=job.fence + 1))
        assert "cleaned_up" == answer.then_state("cancelled").reason


def test_cleanup_with_force_says_expired_where_the_lease_has_passed() -> None:
    """
    What has expired is said to have expired, whether it was forced or not; a reason that was given stands.
    """
    running = given(*RUNNING)

    answer = running.when(clean_up(force=True, reason="stuck"), lease_live=False)

    answer.then(Expired(fence=2))
    assert "stuck" == answer.then_state("expired").reason


def test_an_end_from_the_front_drops_the_followup() -> None:
    """
    Who cancels, cleans up or replaces a job wants nothing to follow it.
    """
    story = (*RUNNING, _asked())

    answers = [
        given(*story).when(cancel(force=True)),
        given(*story).when(clean_up(force=True), lease_live=True),
        given(*story).when(clean_up(), lease_live=False),
        given().when(create(dedup=c.Dedup(on_active="replace")), holder=job_of(story)),
    ]

    states = ["cancelled", "cancelled", "expired", "cancelled"]
    for answer, state in zip(answers, states, strict=True):
        ended = answer.then_state(state)
        assert (None, None) == (ended.followup, ended.followed_by)


def test_a_cancel_drops_the_followup_before_the_worker_has_stopped() -> None:
    """
    A success that comes before the stop does not bring back what the cancel gave up.
    """
    running = given(*RUNNING, _asked())

    answer = running.when(cancel())

    assert answer.then_state("cancelling").followup is None


def test_if_version_guards_cancel_and_cleanup() -> None:
    """
    Who acts on what it has seen is refused once the job has moved on.
    """
    running = given(*RUNNING)

    for command in (cancel(if_version=1), clean_up(if_version=1)):
        refusal = running.when(command).then_refused(VersionMismatch)

        assert running.job == refusal.job
    running.when(cancel(if_version=2)).then_state("cancelling")


def test_a_job_that_does_not_exist_is_not_found() -> None:
    """
    No door invents a job.
    """
    nothing = given()

    for command in (cancel(), clean_up(), _owner(), c.Merge(JOB, OTHER, USER), c.Erase(JOB, OPERATOR)):
        answer = nothing.when(command)

        answer.then_refused(JobNotFound)


def test_a_claim_moves_a_job_in_any_state() -> None:
    """
    The user has the job from now on, and both names stand in the event.
    """
    for story in (*LIVING, *ENDED):
        state = job_of(story).state

        answer = given(*story).when(_owner())

        payload = answer.then(OwnerChanged()).events[0].payload
        assert ("user:u", "guest:g") == (payload.owner, payload.previous_owner)
        assert "user:u" == answer.then_state(state).owner


def test_a_claim_moves_the_followup_too() -> None:
    """
    What follows a job is its owner's.
    """
    running = given(*RUNNING, _asked())

    followup = running.when(_owner()).then_state("running").followup

    assert followup is not None
    assert "user:u" == followup.submission.owner


def test_a_claim_never_makes_two_holders_of_a_key() -> None:
    """
    An active job whose key the user has in use already stays where it is; an ended one has no key to bring.
    """
    holder = replace(job_of(RUNNING, job_id=OTHER), submission=replace(SUBMISSION, owner="user:u"))

    for story in LIVING:
        refusal = given(*story).when(_owner(), holder=holder).then_refused(DuplicateActiveJob)

        assert holder == refusal.job
    for story in ENDED:
        given(*story).when(_owner(), holder=holder).then(OwnerChanged())


def test_what_was_erased_is_nobody_s_to_claim() -> None:
    """
    No owner comes back to a job that was to be forgotten.
    """
    for story in ENDED:
        erased = given(*story, Erased())

        answer = erased.when(_owner())

        assert "erased" in answer.then_refused(InvalidCommand).message


def test_a_job_that_is_the_user_s_already_does_not_move() -> None:
    """
    To claim it again changes nothing, whoever holds its key: that is the job itself.
    """
    for story in (*LIVING, *ENDED):
        own = given(*story, told(OwnerChanged(), owner="user:u", previous_owner="guest:g"))

        own.when(_owner(), holder=own.job).then(outcome="unchanged")


def test_of_two_jobs_for_one_key_the_younger_gives_way() -> None:
    """
    Whichever way round it is asked; the id tells of two that came in one microsecond.
    """
    first, second = job_of(QUEUED), job_of(QUEUED, job_id=OTHER)
    younger = replace(first, created_at=first.created_at + 1)

    answers = [gives_way(*pair, now=NOW) for pair in ((first, second), (second, first), (younger, second))]

    assert [False, True, True] == answers
    assert not gives_way(second, younger, now=NOW)


def test_of_two_jobs_for_one_key_one_that_was_given_up_gives_way() -> None:
    """
    However old: it would not have kept its key from a create either. Of two such the younger goes.
    """
    given_up, younger = job_of(CANCELLING), job_of(RUNNING, job_id=OTHER)

    answers = [gives_way(given_up, younger, now=NOW), gives_way(younger, given_up, now=NOW)]

    assert [True, False] == answers
    assert gives_way(job_of(CANCELLING, job_id=OTHER), given_up, now=NOW)


def test_nothing_is_made_for_a_guest_that_was_claimed() -> None:
    """
    The guest is told that it is no more, whoever acts for it that there is another owner now.
    """
    backend = Principal("service", "platform", owner="guest:g")

    for who, error in ((GUEST, SpentGuest), (backend, InvalidCommand), (OPERATOR, InvalidCommand)):
        given().when(create(who=who), spent=True).then_refused(error)
        given(*COMPLETED).when(retry(who=who), spent=True).then_refused(error)


def test_nobody_gives_a_job_to_another() -> None:
    """
    A claim is for oneself.
    """
    running = given(*RUNNING)

    answer = running.when(replace(_owner(), who=STRANGER))

    answer.then_refused(AccessDenied)


def test_a_merge_keeps_the_survivor() -> None:
    """
    Of two jobs for one key one is cancelled for the other, in any active state.
    """
    survivor = job_of(RUNNING, job_id=OTHER)
    for story in LIVING:
        job = job_of(story)

        answer = given(*story).when(c.Merge(JOB, OTHER, GUEST), holder=survivor)

        assert OTHER == answer.then(Cancelled(fence=job.fence + 1, superseded_by=OTHER)).job_id
        assert "superseded" == answer.then_state("cancelled").reason


def test_a_merge_hands_the_followup_to_the_survivor() -> None:
    """
    What was to follow the one follows the other, as its owner's.
    """
    survivor = replace(job_of(RUNNING, job_id=OTHER), submission=replace(SUBMISSION, owner="user:u"))

    answer = given(*RUNNING, _asked()).when(c.Merge(JOB, OTHER, USER), holder=survivor)

    asked = FollowupRequested(kind=KIND, terms=Terms(), count=1)
    decision = answer.then(Cancelled(fence=2, superseded_by=OTHER), asked)
    assert [JOB, OTHER] == [event.job_id for event in decision.events]
    assert replace(SUBMISSION, owner="user:u") == decision.events[1].payload.submission


def test_a_merge_hands_the_followup_to_a_survivor_that_is_stopping() -> None:
    """
    The survivor's cancel was about the survivor: should a success still come first, the other's follow-up counts.
    """
    survivor = job_of(CANCELLING, job_id=OTHER)

    answer = given(*RUNNING, _asked()).when(c.Merge(JOB, OTHER, GUEST), holder=survivor)

    answer.then(Cancelled(2, superseded_by=OTHER), FollowupRequested(kind=KIND, terms=Terms(), count=1))


def test_a_merge_leaves_the_survivor_the_followup_that_it_has() -> None:
    """
    A survivor that is followed already keeps what follows it.
    """
    survivor = job_of((*RUNNING, _asked()), job_id=OTHER)

    answer = given(*RUNNING, _asked()).when(c.Merge(JOB, OTHER, GUEST), holder=survivor)

    answer.then(Cancelled(fence=2, superseded_by=OTHER))


def test_a_merge_needs_two_active_jobs_and_a_right_to_one() -> None:
    """
    Without a survivor, with an ended job, or for a stranger nothing is merged.
    """
    survivor = job_of(RUNNING, job_id=OTHER)

    answers = [
        given(*RUNNING).when(c.Merge(JOB, OTHER, GUEST)),
        given(*COMPLETED).when(c.Merge(JOB, OTHER, GUEST), holder=survivor),
        given(*RUNNING).when(c.Merge(JOB, OTHER, STRANGER), holder=survivor),
    ]

    for answer, error in zip(answers, (JobNotFound, JobActive, AccessDenied), strict=True):
        answer.then_refused(error)


def test_an_ended_job_can_be_erased() -> None:
    """
    What could be forgotten is forgotten; what counts need stays.
    """
    for story in ENDED:
        before = job_of(story)

        answer = given(*story).when(c.Erase(JOB, OPERATOR, reason="asked by letter"))

        assert "asked by letter" == answer.then(Erased()).events[0].payload.reason
        erased = answer.then_state(before.state)
        assert (ERASED, None, UNSET, None) == (erased.owner, erased.key, erased.result, erased.failure)
        assert (before.fence, before.finished_at) == (erased.fence, erased.finished_at)


def test_an_active_job_cannot_be_erased() -> None:
    """
    A job that lives has to be ended first.
    """
    for story in LIVING:
        job = given(*story)

        answer = job.when(c.Erase(JOB, OPERATOR))

        answer.then_refused(JobActive)


def _owner() -> c.ChangeOwner:
    return c.ChangeOwner(JOB, USER, "user:u")


def _asked() -> Told:
    return told(FollowupRequested(kind=KIND, terms=Terms(), count=1), submission=SUBMISSION)

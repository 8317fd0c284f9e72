"""
The fold: it never rejects, never acts, and bears that payloads are gone.
"""

from __future__ import annotations

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from msgspec.structs import replace

from jobsvc.domain.events import (
    TYPE_OF_FACTS,
    CancelRequested,
    Due,
    Erased,
    Event,
    Facts,
    FollowupRequested,
    OwnerChanged,
    Payload,
    Progressed,
    Started,
    Terms,
)
from jobsvc.domain.job import evolve, fold
from jobsvc.domain.words import ERASED
from tests.unit.specification import (
    CANCELLING,
    COMPLETED,
    ENDED,
    FAILURE,
    JOB,
    KIND,
    LIVING,
    NOW,
    QUEUED,
    RESULT,
    RUNNING,
    SUBMISSION,
    forgotten,
    job_of,
    record,
    told,
)

MOMENTS = st.integers(min_value=0, max_value=2 * NOW)
SHORT = st.text(max_size=5)
RAWS = st.sampled_from([None, Raw(b"{}"), Raw(b"[1]")])
PAYLOADS = st.none() | st.builds(
    Payload,
    actor=SHORT,
    submission=st.sampled_from([None, SUBMISSION]),
    percent=st.none() | st.floats(0, 100),
    progress_data=RAWS,
    result=RAWS,
    failure=st.sampled_from([None, FAILURE]),
    reason=st.none() | SHORT,
    owner=st.none() | SHORT,
    message=st.none() | SHORT,
    request_id=st.none(),
    previous_owner=st.none(),
)
ANY_FACTS: st.SearchStrategy[Facts] = st.one_of(*(st.from_type(facts) for facts in TYPE_OF_FACTS))
EVENTS = st.builds(
    Event,
    position=st.integers(1),
    job_id=st.just(JOB),
    version=st.integers(2),
    at=MOMENTS,
    facts=ANY_FACTS,
    payload=PAYLOADS,
)


@given_any(st.lists(EVENTS, max_size=12))
def test_the_fold_never_rejects(events: list[Event]) -> None:
    """
    Whatever is said to have happened after a birth has happened, sense or none, remembered or forgotten.
    """
    born = record(QUEUED)

    job = fold([*born, *events])

    assert job is not None
    assert (events or born)[-1].version == job.version


@given_any(st.lists(EVENTS, max_size=12))
def test_the_fold_of_forgotten_events_never_rejects(events: list[Event]) -> None:
    """
    A stream of which nothing but facts is left still folds, and to a job of nobody.
    """
    stream = [forgotten(event) for event in [*record(QUEUED), *events]]

    job = fold(stream)

    assert job is not None
    assert (ERASED, UNSET, None) == (job.owner, job.result, job.failure)


@pytest.mark.parametrize("story", [*LIVING, *ENDED])
def test_facts_alone_tell_the_state(story: tuple[Facts, ...]) -> None:
    """
    An erasure changes nothing that counts and folds need.
    """
    job = job_of(story)

    again = fold([forgotten(event) for event in record(story)])

    assert again is not None
    assert (job.state, job.attempt, job.fence, job.lost_leases, job.finished_at, job.active) == (
        again.state,
        again.attempt,
        again.fence,
        again.lost_leases,
        again.finished_at,
        again.active,
    )


@pytest.mark.parametrize("story", ENDED)
def test_erasing_is_the_same_as_never_having_known(story: tuple[Facts, ...]) -> None:
    """
    A job folded before its erasure and one folded after it are the same.
    """
    erased = evolve(job_of(story), record((*story, Erased()))[-1])

    again = fold([*(forgotten(event) for event in record(story)), forgotten(record((*story, Erased()))[-1])])

    assert erased == again


def test_a_fold_goes_on_from_where_it_stopped() -> None:
    """
    Folding in two parts is folding at once, and folding nothing changes nothing.
    """
    events = record(COMPLETED)

    parts = fold(events[1:], fold(events[:1]))

    assert fold(events) == parts
    assert parts == fold([], parts)
    assert fold([]) is None


def test_a_stream_begins_with_a_birth() -> None:
    """
    A stream without its first event is damaged, and nobody guesses what it was.
    """
    headless = record(RUNNING)[1:]

    with pytest.raises(ValueError, match=r"does not begin with job\.created"):
        fold(headless)


def test_a_new_attempt_starts_without_progress() -> None:
    """
    What the last attempt told is gone when the next begins, and stays until then.
    """
    story = (*RUNNING, told(Progressed(), percent=80.0))

    waiting, again = job_of((*story, Due())), job_of((*story, Started(2, 2, 1, "w")))

    assert waiting.progress is not None
    assert again.progress is None


def test_a_cancel_request_is_shown() -> None:
    """
    Whoever looks sees that a cancel is pending, why, and until when the worker has time.
    """
    job = job_of((*RUNNING, told(CancelRequested(NOW), reason="enough")))

    shown = (job.cancel_requested, job.reason, job.grace_until, job.state)

    assert (True, "enough", NOW, "cancelling") == shown


def test_a_success_clears_what_went_wrong() -> None:
    """
    A completed job shows its result, no failure and no reason.
    """
    job = job_of((*CANCELLING, *COMPLETED[-1:]))

    shown = (job.state, job.result, job.failure, job.reason, job.cancel_requested)

    assert ("completed", RESULT, None, None, True) == shown


def test_a_forgotten_followup_is_none() -> None:
    """
    A follow-up request without its payload cannot become a job.
    """
    asked = FollowupRequested(KIND, Terms(), 1)

    job = fold([*record(QUEUED), forgotten(record((*QUEUED, asked))[-1])])

    assert job is not None
    assert job.followup is None


def test_a_forgotten_owner_is_nobody() -> None:
    """
    A claim without its payload leaves the job to nobody.
    """
    moved = forgotten(record((*QUEUED, OwnerChanged()))[-1])

    job = evolve(job_of(QUEUED), moved)

    assert ERASED == job.owner


def test_jobs_do_not_change() -> None:
    """
    An event makes another job; the one before stays as it was.
    """
    before = job_of(RUNNING)
    copy = replace(before)

    after = evolve(before, record((*RUNNING, Progressed()))[-1])

    assert copy == before
    assert before != after


def test_a_job_is_ready_while_it_waits_for_a_worker_alone() -> None:
    """
    Scheduled and retrying jobs wait for their time first, and are not ready yet.
    """
    jobs = [job_of(story) for story in (*LIVING, *ENDED)]

    ready = [job.state for job in jobs if job.ready]

    assert ["queued"] == ready

from __future__ import annotations

import re
from collections import defaultdict
from time import process_time
from typing import TYPE_CHECKING, Final, get_args

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from jobsvc.domain.events import (
    Cancelled,
    Completed,
    Due,
    Erased,
    EventType,
    Expired,
    Failed,
    Failure,
    FollowupRequested,
    LateResult,
    LeaseExpired,
    NewEvent,
    OwnerChanged,
    Payload,
    Progressed,
    Released,
    Report,
    Submission,
    Terms,
)
from jobsvc.domain.keys import PROFILES
from jobsvc.domain.words import ACTIVE, Reason, Role
from jobsvc.operate import sentences as s
from jobsvc.operate.explaining import compare_urls, explain
from tests.store.histories import History
from tests.unit.specification import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    FAILURE,
    JOB,
    KEYLESS,
    NOW,
    OTHER,
    QUEUED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    created,
    forgotten,
    record,
    told,
)
from tests.unit.test_histories import STEPS, play

if TYPE_CHECKING:
    from tests.unit.specification import Story
    from tests.unit.test_histories import Step

FAILING: Final = Report("fail", 1, "f")
BY_URL: Final = Submission(owner="guest:g", key="x:post:1", key_rule="x-post/1", url="https://x.com/a/status/1")
SWEPT: Final = Payload(actor="system:sweeper", reason="requested")


def cancelled(reason: str, **facts: object) -> NewEvent:
    """
    The end of a job that was given up.
    """
    return told(replace(Cancelled(2), **facts), reason=reason)


STORIES: Final[dict[str, dict[str, Story]]] = {
    "EVENTS": {
        "job.created": QUEUED,
        "job.due": (*SCHEDULED, Due()),
        "job.started": RUNNING,
        "job.progressed": (*RUNNING, told(Progressed(), percent=40.0, message="reading")),
        "job.attempt_failed": RETRYING,
        "job.lease_expired": (*RUNNING, LeaseExpired(attempt=0, lost_leases=1, due_at=NOW)),
        "job.released": (*RUNNING, Released(2, 0, Report("release", 1, "r"))),
        "job.cancel_requested": CANCELLING,
        "job.completed": COMPLETED,
        "job.failed": FAILED,
        "job.cancelled": CANCELLED,
        "job.expired": (*QUEUED, told(Expired(1), reason="deadline")),
        "job.late_result": (*COMPLETED, LateResult(Report("complete", 0, "late"))),
        "job.followup_requested": (*QUEUED, told(FollowupRequested("x-post", Terms(), 1), submission=KEYLESS)),
        "job.owner_changed": (*QUEUED, told(OwnerChanged(), owner="user:u", previous_owner="guest:g")),
        "job.erased": (*COMPLETED, Erased()),
    },
    "BIRTHS": {"scheduled": SCHEDULED, "queued": QUEUED},
    "ORIGINS": {"retry_of": (created(retry_of=OTHER),), "follows": (created(follows=OTHER),)},
    "ACTIVE": {
        "scheduled": SCHEDULED,
        "queued": QUEUED,
        "running": RUNNING,
        "retrying": RETRYING,
        "cancelling": CANCELLING,
    },
    "REASONS": {
        "requested": (*QUEUED, cancelled("requested")),
        "forced": (*RUNNING, cancelled("forced")),
        "cleaned_up": (*QUEUED, cancelled("cleaned_up")),
        "superseded": (*QUEUED, cancelled("superseded", superseded_by=OTHER)),
        "deadline": (*QUEUED, told(Expired(1), reason="deadline")),
        "not_started": (*QUEUED, told(Expired(1), reason="not_started")),
        "active_too_long": (*QUEUED, told(Expired(1), reason="active_too_long")),
        "lease_expired": (*RUNNING, told(Expired(2), reason="lease_expired")),
    },
    "FAILURES": {
        "worker_lost": (*RUNNING, told(Failed(2, 3, attempt=0), failure=Failure("worker_lost", "3 fell silent"))),
        "attempts_used": (
            created(Terms(max_attempts=1)),
            *RUNNING[1:],
            told(Failed(2, 0, FAILING), failure=FAILURE),
        ),
        "not_again": FAILED,
    },
    "STOPS": {
        "fail": (*CANCELLING, cancelled("requested", report=FAILING)),
        "release": (*CANCELLING, cancelled("requested", report=Report("release", 1, "r"), attempt=0)),
        "lapse": (*CANCELLING, cancelled("requested", attempt=0)),
        "grace": (*CANCELLING, NewEvent(JOB, Cancelled(2), SWEPT)),
    },
    "CANCELS": {
        "asked": CANCELLING,
        "ended": CANCELLED,
        "superseded": (*QUEUED, cancelled("superseded", superseded_by=OTHER)),
        "too_late": (*CANCELLING, told(Completed(Report("complete", 1, "first")))),
    },
    "GIVEN": {
        "alone": (created(submission=KEYLESS),),
        "active": QUEUED,
        "given_up": CANCELLING,
        "completed": COMPLETED,
        "ended": FAILED,
        "followup": (*QUEUED, told(FollowupRequested("x-post", Terms(), 1), submission=KEYLESS)),
    },
    "KEYS": {
        "rule": (created(submission=BY_URL),),
        "given": QUEUED,
        "none": (created(submission=KEYLESS),),
        "erased": (created(), *COMPLETED[1:], Erased()),
    },
}
"""
For each sentence a story of which it is true.
"""


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, stories in STORIES.items() for key in stories])
def test_each_sentence_is_said_where_it_is_true(table: str, key: str) -> None:
    """
    Every sentence that there is comes of some story, whole, with the events behind it.
    """
    events = record(STORIES[table][key])
    template = getattr(s, table)[key]

    said = explain(map(forgotten, events) if (table, key) == ("KEYS", "erased") else events, places={OTHER: 99})

    found = [each for each in said if matches(template, each.sentence)]
    assert found, [each.sentence for each in said]
    assert all(each.positions for each in said)
    assert {position for each in said for position in each.positions} <= {99, *(event.position for event in events)}


def matches(template: str, sentence: str) -> bool:
    """
    True if *sentence* holds *template* with something in the place of each name.
    """
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", template)]
    return re.search(".+".join(parts), sentence, re.IGNORECASE) is not None


def test_every_sentence_has_its_story() -> None:
    """
    A sentence that is added gets a story here, or this fails.
    """
    tables = {table: set(getattr(s, table)) for table in STORIES}

    assert tables == {table: set(stories) for table, stories in STORIES.items()}


def test_nothing_that_can_be_the_case_is_without_a_sentence() -> None:
    """
    Every type of event, active state, reason, role, profile and question has its words.
    """
    assert set(get_args(EventType)) == s.EVENTS.keys()
    assert s.ACTIVE.keys() == ACTIVE
    assert set(get_args(Reason)) == s.REASONS.keys()
    assert set(get_args(Role)) == s.ACTORS.keys()
    assert PROFILES.keys() == s.PROFILES.keys()
    assert set(get_args(s.Question)) == s.QUESTIONS.keys()


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_any_history_can_be_explained(steps: list[Step]) -> None:
    """
    Whatever happened to a job, and whether or not it was forgotten since: every event of it is told of once, every
    sentence is whole, and the only reasons that nobody gave in words of their own are those that have a sentence.
    """
    world = play(steps)
    streams = defaultdict(list)
    for event in world.events:
        streams[event.job_id].append(event)

    for stream in streams.values():
        for events in (stream, list(map(forgotten, stream))):
            said = explain(events, role_only=True)

            told_of = [position for each in said if each.question == "what_happened" for position in each.positions]
            assert [event.position for event in events] == told_of
            assert ("why_active" if world.jobs[events[0].job_id].active else "why_ended") == said[0].question
            assert not any("{" in each.sentence or "None" in each.sentence for each in said)
    reasons = {event.payload.reason for event in world.events if event.payload is not None}
    assert reasons <= {None, *get_args(Reason)}


def test_who_acted_is_told_by_role_only_where_that_is_all_that_may_be_told() -> None:
    """
    Guests and users learn that an operator cancelled, not which.
    """
    events = record((*QUEUED, NewEvent(JOB, Cancelled(1), Payload(actor="operator:olga", reason="requested"))))

    to_operators, to_owners = explain(events), explain(events, role_only=True)

    assert "It ended because operator olga cancelled it." == to_operators[0].sentence
    assert "It ended because an operator cancelled it." == to_owners[0].sentence
    assert not any("olga" in each.sentence for each in to_owners)


def test_progress_that_nothing_interrupts_is_told_once() -> None:
    """
    A thousand ticks are one sentence with the last of them, and the positions of all.
    """
    ticks = [told(Progressed(), percent=float(number % 100)) for number in range(1_000)]

    said = [each for each in explain(record((*RUNNING, *ticks))) if "progress" in each.sentence]

    assert ["Worker w1 reported progress 1000 times: 99 %."] == [each.sentence for each in said]
    assert list(range(3, 1_003)) == said[0].positions


def test_the_end_of_a_job_names_where_its_successor_was_made() -> None:
    """
    Of a job that another took the place of, the birth of the other is behind the sentence too.
    """
    events = record((*QUEUED, cancelled("superseded", superseded_by=OTHER)))

    ended = explain(events, places={OTHER: 7})[0]

    assert [2, 7] == ended.positions
    assert OTHER in ended.sentence


def test_text_of_a_caller_is_never_read_as_a_template() -> None:
    """
    A reason in braces is told as it was given.
    """
    events = record((*QUEUED, cancelled("{actor} {0} {key!r}")))

    assert explain(events)[0].sentence.endswith("for this reason: {actor} {0} {key!r}.")


@pytest.mark.parametrize(
    ("profile", "other", "same"),
    [
        ("x-post", "https://twitter.com/i/web/status/1?s=20", True),
        ("x-post", "https://x.com/a/status/2", False),
        ("default", "https://twitter.com/i/web/status/1", False),
        ("strip-tracking", "http://www.x.com/a/status/1?utm_source=b", True),
    ],
)
def test_two_urls_are_the_same_work_under_a_rule(profile: str, other: str, *, same: bool) -> None:
    """
    The sentence names the profile, the version of its rules and the key, or both keys.
    """
    said = compare_urls(("https://x.com/a/status/1", other), profile=profile, positions={"x:post:1": [4, 3]})

    assert same == matches(s.URLS["same"], said.sentence)
    assert same != matches(s.URLS["different"], said.sentence)
    assert f"profile {profile}, rules 1" in said.sentence
    assert ([3, 4] if profile == "x-post" else []) == said.positions


def test_ten_times_as_much_takes_ten_times_as_long() -> None:
    """
    And not a hundred times: the life of a job may be long, and whoever owns it may ask.
    """
    spent_s = []
    for times in (400, 4_000):
        history = History()
        history.create(0)
        for fence in range(1, times + 1):
            history.start(0, fence=fence)
            history.release(0, fence=fence)
        began = process_time()
        explain(history.events)
        spent_s.append(process_time() - began)

    assert spent_s[1] < 30 * spent_s[0]

"""
The explanation of a job: from its events to sentences, each with the positions of the events behind it.

Pure: the events come in, whatever else is needed of other jobs comes in with them, and the same events always give the
same sentences. The wording is sentences.py's; here is only which of them are true. What must bear an erasure bears it:
a text that is gone is said to be.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from msgspec import Struct

from jobsvc.domain.events import (
    AttemptFailed,
    Cancelled,
    CancelRequested,
    Completed,
    Created,
    Event,
    Failed,
    FollowupRequested,
    LeaseExpired,
    OwnerChanged,
    Progressed,
    Started,
)
from jobsvc.domain.job import Job, evolve
from jobsvc.domain.keys import RULE_VERSION, key_from_url
from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.domain.words import SYSTEM, Reason
from jobsvc.operate import sentences as s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jobsvc.domain.events import Payload
    from jobsvc.domain.words import JobId

_REASONS: Final[frozenset[str]] = frozenset(get_args(Reason))


class Sentence(Struct, frozen=True):
    """
    One thing that is true of a job or a URL, in words.

    Attributes:
        question: What it answers.
        sentence: The words.
        positions: The events by which it is true, in order; empty where no event makes it so.
    """

    question: s.Question
    sentence: str
    positions: list[int]


class Step(NamedTuple):
    """An event of the job, with the job before and after it."""

    event: Event
    before: Job | None
    after: Job


def explain(
    events: Iterable[Event],
    *,
    places: Mapping[JobId, int] | None = None,
    role_only: bool = False,
    avoided: int = 0,
) -> list[Sentence]:
    """
    All that can be said of a job, question by question.

    Args:
        events: Its stream from the beginning, up to the position as of which it is explained. At least one.
        places: Of other jobs that it names: the position of the event that concerns it.
        role_only: Of whoever acted tell the role only, as guests and users are told.
        avoided: How many duplicates it has spared, as far as that is known.
    """
    account = _Account(list(_steps(events)), places or {}, role_only=role_only)
    job = account.job
    return [
        *([account.why_active()] if job.active else [account.why_ended()]),
        *account.who_cancelled(),
        *account.why_this_job(),
        *([_avoided(avoided)] if avoided else []),
        account.which_rule(),
        *account.what_happened(),
    ]


def compare_urls(urls: tuple[str, str], *, profile: str, positions: Mapping[str, Sequence[int]]) -> Sentence:
    """
    Whether both *urls* are the same work under *profile*, and by which key.

    Args:
        urls: As they are sent.
        profile: A name in PROFILES.
        positions: By key, where jobs with it were made.

    Raises:
        UnusableUrl: One of them has no key.
    """
    one, other = (key_from_url(url, profile=profile) for url in urls)
    text = s.URLS["same" if one == other else "different"].format(
        profile=profile, rule_version=RULE_VERSION, key=one, other_key=other, says=s.PROFILES[profile]
    )
    behind = {position for key in (one, other) for position in positions.get(key, ())}
    return Sentence("which_rule", text, sorted(behind))


def _steps(events: Iterable[Event]) -> Iterator[Step]:
    job: Job | None = None
    for event in events:
        after = evolve(job, event)
        yield Step(event, job, after)
        job = after


class _Account:
    """What can be said of one job, an answer a question."""

    def __init__(self, steps: list[Step], places: Mapping[JobId, int], *, role_only: bool) -> None:
        self._steps = steps
        self._places = places
        self._role_only = role_only
        self.job = steps[-1].after
        # Asked for once a sentence, of which there is one an event.
        self._requests = self._of(CancelRequested)

    def why_active(self) -> Sentence:
        """By the event that brought the job into the state in which it is."""
        step = self._last_change()
        return self._said("why_active", s.ACTIVE[self.job.state], step)

    def why_ended(self) -> Sentence:
        """By its terminal event, and those that led there."""
        step = self._last_change()
        match step.event.facts:
            case Completed():
                return self._said("why_ended", s.COMPLETED, *self._of(Started)[-1:], step)
            case Failed() as facts:
                return self._why_failed(step, facts)
            case Cancelled() as facts:
                return self._why_cancelled(step, facts)
            case _:
                return self._said("why_ended", self._reason_of(step), self._steps[0], step)

    def _why_failed(self, step: Step, facts: Failed) -> Sentence:
        if facts.report is None:
            return self._said("why_ended", s.FAILURES["worker_lost"], *self._of(LeaseExpired), step)
        used = step.after.attempt >= step.after.terms.max_attempts
        template = s.FAILURES["attempts_used" if used else "not_again"]
        return self._said("why_ended", template, *self._of(AttemptFailed), step)

    def _why_cancelled(self, step: Step, facts: Cancelled) -> Sentence:
        stopping = _stopping(step, facts)
        if stopping is None:
            return self._said("why_ended", self._reason_of(step), step)
        return self._said("why_ended", s.STOPS[stopping], *self._of(CancelRequested), step)

    def who_cancelled(self) -> Iterator[Sentence]:
        """By the request to stop, if there was one, and the end, where somebody wanted that."""
        for step in self._of(CancelRequested, Cancelled, Completed):
            match step.event.facts:
                case CancelRequested():
                    yield self._said("who_cancelled", s.CANCELS["asked"], step)
                case Cancelled(superseded_by=other) if other is not None:
                    yield self._said("who_cancelled", s.CANCELS["superseded"], step)
                case Cancelled() as facts if _stopping(step, facts) is None:
                    yield self._said("who_cancelled", s.CANCELS["ended"], step)
                case Completed() if step.after.cancel_requested:
                    yield self._said("who_cancelled", s.CANCELS["too_late"], step)
                case _:
                    continue

    def why_this_job(self) -> Iterator[Sentence]:
        """By the key that it holds or held, by whom it was asked for again, and by the job that it came from."""
        job, born = self.job, self._steps[0]
        if job.key is None:
            yield self._said("why_this_job", s.KEYS["erased"] if _is_forgotten(born) else s.GIVEN["alone"], born)
        else:
            ended = [] if job.active else [self._last_change()]
            moves = self._of(OwnerChanged)
            yield self._said("why_this_job", s.GIVEN[_hold(job)], born, *moves, *ended, filled_by=self._steps[-1])
        for step in self._of(FollowupRequested):
            yield self._said("why_this_job", s.GIVEN["followup"], step)
        if job.retry_of is not None:
            yield self._said("why_this_job", s.ORIGINS["retry_of"], born)
        elif job.follows is not None:
            yield self._said("why_this_job", s.ORIGINS["follows"], born)

    def which_rule(self) -> Sentence:
        """By its birth, which says how the key came about."""
        born = self._steps[0]
        submission = self.job.submission
        if _is_forgotten(born):
            return self._said("which_rule", s.KEYS["erased"], born)
        if submission.key is None:
            return self._said("which_rule", s.KEYS["none"], born)
        return self._said("which_rule", s.KEYS["given" if submission.key_rule is None else "rule"], born)

    def what_happened(self) -> Iterator[Sentence]:
        """Event by event; progress that nothing interrupted is told once."""
        for is_progress, run in groupby(self._steps, key=lambda step: isinstance(step.event.facts, Progressed)):
            if is_progress:
                yield self._said("what_happened", s.EVENTS["job.progressed"], *run)
                continue
            for step in run:
                yield self._said("what_happened", s.EVENTS[step.event.type], step)

    def _said(self, question: s.Question, template: str, *steps: Step, filled_by: Step | None = None) -> Sentence:
        """*template* as the last of *steps* fills it, with the positions of all of them and of the job it names."""
        step = filled_by or steps[-1]
        texts = self._texts(step) | {"times": _times(len(steps))}
        text = template.format_map(texts)
        positions = {each.event.position for each in steps}
        other = _other(step) if "{other}" in template else None
        if other is not None and other in self._places:
            positions.add(self._places[other])
        return Sentence(question, text[0].upper() + text[1:], sorted(positions))

    def _texts(self, step: Step) -> dict[str, str]:
        """All that a sentence about *step* may name."""
        event, job = step.event, step.after
        payload = event.payload
        request = self._request_before(step)
        submission = job.submission
        profile, _, rule_version = (submission.key_rule or "").partition("/")
        return _moments(step) | {
            "actor": self._actor(payload),
            "requester": self._actor(None if request is None else request.event.payload),
            "kind": job.kind,
            "owner": _known(None if payload is None else payload.owner or job.owner),
            "previous_owner": _known(None if payload is None else payload.previous_owner),
            "key": _known(submission.key),
            "url": _known(submission.url),
            "profile": profile,
            "rule_version": rule_version,
            "says": s.PROFILES.get(profile, "a profile that this version does not know"),
            "other": _known(_other(step)),
            "reason": _known(job.reason if payload is None else payload.reason or job.reason),
            "birth": s.BIRTHS.get(job.state, "").format_map(_moments(step)),
            **_attempt(step),
        }

    def _actor(self, payload: Payload | None) -> str:
        """Who acted: by name, or by role where that is all that may be told."""
        if payload is None:
            return s.UNKNOWN
        role, _, subject = payload.actor.partition(":")
        return s.ACTORS.get(role, s.UNKNOWN) if self._role_only or role == SYSTEM.role else f"{role} {subject}"

    def _reason_of(self, step: Step) -> str:
        return s.REASONS.get(step.after.reason or "", s.OTHER_REASON)

    def _request_before(self, step: Step) -> Step | None:
        return next((each for each in reversed(self._requests) if each.event.version <= step.event.version), None)

    def _last_change(self) -> Step:
        """The step that brought the job into the state in which it is."""
        return next(
            step for step in reversed(self._steps) if step.before is None or step.before.state != step.after.state
        )

    def _of(self, *kinds: type) -> list[Step]:
        return [step for step in self._steps if isinstance(step.event.facts, kinds)]


def _avoided(count: int) -> Sentence:
    return Sentence("why_this_job", s.AVOIDED.format(times=_times(count)), [])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _is_forgotten(born: Step) -> bool:
    return born.event.payload is None


def _hold(job: Job) -> s.Hold:
    """How *job* stands to its key."""
    if job.active:
        return "given_up" if job.state == "cancelling" else "active"
    return "completed" if job.state == "completed" else "ended"


def _stopping(step: Step, facts: Cancelled) -> s.Stopping | None:
    """How a request to stop led to this end; None if somebody ended the job there and then."""
    before = step.before
    if before is None or before.grace_until is None or facts.superseded_by is not None:
        return None
    if facts.report is not None:
        return "fail" if facts.report.verb == "fail" else "release"
    if facts.attempt is not None:
        return "lapse"
    payload = step.event.payload
    by_itself = step.event.at >= before.grace_until if payload is None else payload.actor == SYSTEM.actor
    return "grace" if by_itself else None


def _other(step: Step) -> JobId | None:
    """The other job that a sentence about *step* may name."""
    facts = step.event.facts
    if isinstance(facts, Cancelled):
        return facts.superseded_by
    return facts.retry_of or facts.follows if isinstance(facts, Created) else None


def _moments(step: Step) -> dict[str, str]:
    job = step.after
    # An end takes away until when its worker had time; the job before it knows.
    earlier = step.before or job
    return {
        "at": rfc3339(step.event.at),
        "since": rfc3339(step.event.at),
        "created_at": rfc3339(job.created_at),
        "run_at": _moment(job.terms.run_at),
        "due_at": _moment(job.due_at),
        "deadline": _moment(job.deadline),
        "start_by": _moment(job.start_by),
        "active_until": _moment(job.active_until),
        "grace_until": _moment(job.grace_until or earlier.grace_until),
        "finished_at": _moment(job.finished_at),
    }


def _attempt(step: Step) -> dict[str, str]:
    """The attempt in which *step* happened: what gives it back or up is told of with the job before it."""
    job, earlier = step.after, step.before or step.after
    now = job if isinstance(step.event.facts, Started) else earlier
    name = now.worker
    progress, failure = job.progress, job.failure
    return {
        "attempt": str(now.attempt),
        "max_attempts": str(job.terms.max_attempts),
        "lease_s": f"{(now.lease_us or 0) / SECOND_US:g}",
        "lost_leases": str(job.lost_leases),
        "worker": "its worker" if name is None else f"worker {name}",
        "progress": _progress_text(progress),
        "failure": s.UNKNOWN if failure is None else f"{failure.code}: {failure.message}",
    }


def _progress_text(progress: object) -> str:
    percent, message = getattr(progress, "percent", None), getattr(progress, "message", None)
    told = [*([] if percent is None else [f"{percent:g} %"]), *([] if message is None else [message])]
    return ", ".join(told) or "nothing in words"


def _moment(moment: int | None) -> str:
    return s.UNKNOWN if moment is None else rfc3339(moment)


def _known(text: str | None) -> str:
    return s.UNKNOWN if text is None else text

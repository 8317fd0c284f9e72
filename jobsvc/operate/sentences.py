"""
The sentences: what can be said about a job, as data. Which of them are true of it is explaining.py's.

Each is a template whose names stand for texts: ``{actor}``, ``{worker}``, ``{reason}`` and so on. No rule about jobs
and no code ever lives here, so that the wording can be changed without a thought for anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from jobsvc.domain.words import ERASED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.domain.events import EventType
    from jobsvc.domain.words import State

Question = Literal["why_active", "why_ended", "who_cancelled", "why_this_job", "which_rule", "what_happened"]

QUESTIONS: Final[Mapping[Question, str]] = {
    "why_active": "Why is it active?",
    "why_ended": "Why did it end?",
    "who_cancelled": "Who cancelled it?",
    "why_this_job": "Why was I given this job?",
    "which_rule": "Which rule made its key?",
    "what_happened": "What happened?",
}
"""Each question that an explanation answers, in the order in which a reader asks them."""

EVENTS: Final[Mapping[EventType, str]] = {
    "job.created": "{actor} asked for it, a job of kind {kind}, {birth}.",
    "job.due": "Its time had come, and it waited for a worker.",
    "job.started": "{worker} took it: attempt {attempt} of {max_attempts}, with a lease of {lease_s} s.",
    "job.progressed": "{worker} reported progress {times}: {progress}.",
    "job.attempt_failed": "Attempt {attempt} of {max_attempts} failed with {failure}; the next was due at {due_at}.",
    "job.lease_expired": "{worker} fell silent and lost the lease, loss {lost_leases}; the attempt did not count.",
    "job.released": "{worker} gave it back unharmed, and the attempt did not count.",
    "job.cancel_requested": "{actor} asked for it to stop ({reason}); its worker had until {grace_until}.",
    "job.completed": "{worker} reported that it was done, and it ended completed.",
    "job.failed": "It ended failed, with {failure}.",
    "job.cancelled": "It ended cancelled ({reason}), by {actor}.",
    "job.expired": "It ended expired ({reason}), by {actor}.",
    "job.late_result": "A result came under a lease that was over; it was kept aside and changed nothing.",
    "job.followup_requested": "{actor} asked for the same once more after this job; of such requests the last counts.",
    "job.owner_changed": "It went from {previous_owner} to {owner}, who claimed it.",
    "job.erased": "{actor} had everything forgotten that it held; what is left is that it was, and how it went.",
}
"""What happened, for each type of event."""

BIRTHS: Final[Mapping[State, str]] = {
    "scheduled": "to start no sooner than {run_at}",
    "queued": "to start as soon as a worker is free",
}
"""How a job begins, for each state at birth."""

ORIGINS: Final[Mapping[Literal["retry_of", "follows"], str]] = {
    "retry_of": "It was made by a retry of the job {other}, which had ended.",
    "follows": "It was made by the end of the job {other}, during which somebody had asked for the same once more.",
}
"""What it came from, where it came from another job."""

ACTIVE: Final[Mapping[State, str]] = {
    "scheduled": "It is active because its time, {run_at}, has not come.",
    "queued": "It is active because it waits for a worker that takes jobs of kind {kind}, since {since}.",
    "running": "It is active because {worker} has worked on it since {since}, attempt {attempt} of {max_attempts}.",
    "retrying": "It is active because an attempt did not end it and the next is due at {due_at}.",
    "cancelling": "It is active because {worker}, who was asked to stop, has until {grace_until} to do so.",
}
"""Why it is active, for each active state."""

REASONS: Final[Mapping[str, str]] = {
    "requested": "It ended because {actor} cancelled it.",
    "forced": "It ended because {actor} cancelled it by force, without waiting for its worker.",
    "cleaned_up": "It ended because {actor} cleaned it up by force.",
    "superseded": "It ended because the job {other} took its place, as {actor} wanted.",
    "deadline": "It ended because its deadline, {deadline}, had passed.",
    "not_started": "It ended because no worker had started it by {start_by}.",
    "active_too_long": "It ended because it had been active as long as a job may be, until {active_until}.",
    "lease_expired": "It ended because {worker} had fallen silent when {actor} cleaned it up.",
}
"""Why it was cancelled or expired, for each reason that the service itself gives."""

OTHER_REASON: Final = "It ended because {actor} ended it, for this reason: {reason}."
"""The same for a reason in the words of whoever ended it."""

Failing = Literal["worker_lost", "attempts_used", "not_again"]

FAILURES: Final[Mapping[Failing, str]] = {
    "worker_lost": "It ended because its workers fell silent {lost_leases} times, which is as often as may be.",
    "attempts_used": "It ended because attempt {attempt} of {max_attempts}, the last, failed with {failure}.",
    "not_again": "It ended because attempt {attempt} failed with {failure}, and another was ruled out or too late.",
}
"""Why it failed, for each way there is."""

COMPLETED: Final = "It ended because {worker} reported success in attempt {attempt} of {max_attempts}."

Stopping = Literal["fail", "release", "lapse", "grace"]

STOPS: Final[Mapping[Stopping, str]] = {
    "fail": "It ended because {requester} asked for it to stop ({reason}), and then its worker failed.",
    "release": "It ended because {requester} asked for it to stop ({reason}), and its worker gave it back.",
    "lapse": "It ended because {requester} asked for it to stop ({reason}), and then its worker fell silent.",
    "grace": "It ended because {requester} asked for it to stop ({reason}), and its worker had not by {grace_until}.",
}
"""Why it was cancelled after a request, for each way in which its worker answered that."""

CANCELS: Final[Mapping[Literal["asked", "ended", "superseded", "too_late"], str]] = {
    "asked": "{actor} asked for it to stop at {at} ({reason}).",
    "ended": "{actor} cancelled it at {at} ({reason}).",
    "superseded": "{actor} did, at {at}, by making the job {other} or keeping it instead.",
    "too_late": "A success came before the request was carried out, so it ended completed.",
}
"""Who cancelled it."""

Hold = Literal["active", "given_up", "completed", "ended"]

GIVEN: Final[Mapping[Hold | Literal["alone", "followup"], str]] = {
    "alone": "It has no key, so it was made for the one request that asked for it, and given to no other.",
    "active": (
        "It holds the key {key} of {owner} for kind {kind} since {created_at}: while it is active, whoever asks for "
        "that work is given this job instead of a new one (deduplicated, reason active), which leaves no event."
    ),
    "given_up": (
        "It holds the key {key} of {owner} for kind {kind}, but has been asked to stop: "
        "the next request for that work ends it and makes a new job."
    ),
    "completed": (
        "It held the key {key} of {owner} for kind {kind} until {finished_at}, and whoever asked for that work was "
        "given it; since then only a request that says to reuse a result is (deduplicated, reason fresh_result)."
    ),
    "ended": (
        "It held the key {key} of {owner} for kind {kind} until {finished_at}, and whoever asked for that work was "
        "given it; it ended without a result, so it stands in no new job's way."
    ),
    "followup": "{actor} asked for the same work with run_after at {at}, and was given this job.",
}
"""Why somebody who asked for a job was given this one."""

AVOIDED: Final = "Since the service started it was given {times} to a request for that work, instead of a new job."
"""How many duplicates it has spared, which no event says."""

KEYS: Final[Mapping[Literal["rule", "given", "none", "erased"], str]] = {
    "rule": ("Its key {key} was made from the URL {url} by the profile {profile}, rules {rule_version}: {says}."),
    "given": "Its key {key} came with the request, so no rule made it: the same key is the same work.",
    "none": "It has no key: neither the request nor its URL gave it one.",
    "erased": "Its key was erased.",
}
"""Which rule made its key."""

PROFILES: Final[Mapping[str, str]] = {
    "default": (
        "scheme and host in lower case, default port and fragment left out, dot segments and percent-escapes in their "
        "normal form, all else kept"
    ),
    "x-post": "every address of a post on x.com or twitter.com is the post's number, any other address as in default",
    "strip-tracking": "as in default, over https, without www. and tracking parameters, the others sorted by name",
}
"""What each profile takes for one address."""

URLS: Final[Mapping[Literal["same", "different"], str]] = {
    "same": "Under the profile {profile}, rules {rule_version}, both URLs give the key {key}: {says}.",
    "different": ("Under the profile {profile}, rules {rule_version}, they give {key} and {other_key}: {says}."),
}
"""Whether two URLs are the same work."""

ACTORS: Final[Mapping[str, str]] = {
    "guest": "the guest",
    "user": "the user",
    "service": "the platform",
    "worker": "a worker",
    "operator": "an operator",
    "viewer": "a viewer",
    "system": "the service itself",
}
"""How somebody is called of whom only the role is to be told."""

UNKNOWN: Final = f"({ERASED})"
"""Stands for whatever an erasure took away."""

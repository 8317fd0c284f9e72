"""
What a create asks for: a body, within the bounds of the settings and of the caller's role, as a command.

The shape of a body is bodies.py's; here is what depends on the settings, on who asks and on the clock, each refused
with a pointer to the field. What must never live here: whether there is such a job already, which the domain decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain import commands as c
from jobsvc.domain.errors import InvalidCommand
from jobsvc.domain.events import Submission, Terms
from jobsvc.domain.keys import RULE_VERSION, UnusableUrl, key_from_url, profile_for
from jobsvc.domain.moments import SECOND_US, parse_rfc3339
from jobsvc.http import bodies
from jobsvc.http.call import LIMITED_ROLES

if TYPE_CHECKING:
    from msgspec import Raw

    from jobsvc.http.call import Call
    from jobsvc.settings import Settings

_HOWEVER: Final = c.Dedup()
_RUN_AT_END: Final = parse_rfc3339("9900-01-01T00:00:00Z")
"""Deadlines that count from a run_at, which reach ten years, can then be written as dates too."""


def create_command(call: Call, body: bodies.CreateBody) -> c.Create:
    """The command that *body* asks for, within the bounds of the settings and of the caller's role."""
    who = call.acting(body.owner or call.query("owner"))
    if who.owner is None:
        message = "say for which owner the job is"
        raise InvalidCommand(message, pointer="/owner")
    _check_length(body.kind, call.service.settings.kind_characters_max, "/kind", least=1)
    terms = _terms(body)
    if who.role in LIMITED_ROLES:
        _check_guest(call, body, terms)
    return c.Create(
        call.service.ledger.new_id(),
        who,
        body.kind,
        _submission(call.service.settings, body, who.owner),
        terms,
        _dedup(body.dedup),
        request_id=call.request_id,
    )


def _submission(settings: Settings, body: bodies.CreateBody, owner: str) -> Submission:
    key, rule = body.key, None
    if key is not None:
        _check_length(key, settings.key_characters_max, "/key", least=1)
    if body.title is not None:
        _check_length(body.title, settings.title_characters_max, "/title")
    given, metadata = body.input, body.metadata
    # Mostly there is none of either, and what stands for that need not be looked at.
    if given is not bodies.EMPTY_OBJECT:
        given = bodies.plain(given)
    if metadata is not bodies.EMPTY_OBJECT:
        metadata = bodies.plain(metadata)
        if not _is_object(metadata, settings.metadata_bytes_max):
            message = f"metadata is an object of at most {settings.metadata_bytes_max} bytes"
            raise InvalidCommand(message, pointer="/metadata")
    if body.url is not None:
        profile = profile_for(body.kind, settings.profiles)
        made = _key(body.url, profile, settings.key_characters_max)
        if key is None:
            key, rule = made, f"{profile}/{RULE_VERSION}"
    return Submission(owner, key, rule, body.url, body.title, given, metadata)


def _is_object(raw: Raw, bytes_max: int) -> bool:
    return len(memoryview(raw)) <= bytes_max and bytes(raw).lstrip().startswith(b"{")


def _key(url: str, profile: str, characters_max: int) -> str:
    try:
        return key_from_url(url, profile=profile, characters_max=characters_max)
    except UnusableUrl as error:
        raise InvalidCommand(error.reason, pointer="/url") from error


def _terms(body: bodies.CreateBody) -> Terms:
    if body.run_at is None and body.deadline_s is None and body.start_within_s is None:
        return Terms(body.priority, body.max_attempts)
    return Terms(
        body.priority, body.max_attempts, _moment(body.run_at), _micros(body.deadline_s), _micros(body.start_within_s)
    )


def _dedup(body: bodies.DedupBody) -> c.Dedup:
    if body is bodies.HOWEVER:
        return _HOWEVER
    if body.max_age_s is not None and body.on_completed != "reuse":
        message = "max_age_s says how fresh a result must be to be reused; it goes with on_completed: reuse"
        raise InvalidCommand(message, pointer="/dedup/max_age_s")
    return c.Dedup(body.on_active, body.on_completed, _micros(body.max_age_s))


def _check_guest(call: Call, body: bodies.CreateBody, terms: Terms) -> None:
    """What a guest or user may not ask for, since guests are free to make."""
    settings = call.service.settings
    if terms.priority > 0:
        raise InvalidCommand("guests and users ask for priority 0 or less", pointer="/priority")
    if terms.max_attempts > settings.guest_max_attempts_max:
        message = f"guests and users ask for at most {settings.guest_max_attempts_max} attempts"
        raise InvalidCommand(message, pointer="/max_attempts")
    if terms.run_at is not None:
        latest = call.service.clock.now() + int(settings.guest_run_at_max_s * SECOND_US)
        if terms.run_at > latest:
            message = f"guests and users schedule at most {settings.guest_run_at_max_s:g} seconds ahead"
            raise InvalidCommand(message, pointer="/run_at")
    if settings.guest_kinds and body.kind not in settings.guest_kinds:
        raise InvalidCommand("guests and users may not create jobs of this kind", pointer="/kind")


def _check_length(text: str, most: int, pointer: str, *, least: int = 0) -> None:
    if not least <= len(text) <= most:
        raise InvalidCommand(f"{pointer[1:]} has {least} to {most} characters", pointer=pointer)


def _micros(length_s: float | None) -> int | None:
    return None if length_s is None else int(length_s * SECOND_US)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = parse_rfc3339(text)
    except (ValueError, OverflowError) as error:
        message = "run_at is a time with its offset, for example 2026-11-24T06:46:39Z"
        raise InvalidCommand(message, pointer="/run_at") from error
    if not 0 <= moment < _RUN_AT_END:
        raise InvalidCommand("run_at lies in the years 1970 to 9899", pointer="/run_at")
    return moment

"""
The front end's endpoints: create, look, wait, list, cancel, retry, clean up.

Each parses once into a command, asks the ledger, and renders what came back. Whether it may be is decided in the
domain; nothing here names a state or compares an owner but to choose what to show.
"""

from __future__ import annotations

import asyncio
import re
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec import UNSET

from jobsvc.answers import Answer
from jobsvc.channel import Scope
from jobsvc.domain import commands as c
from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound, SlowDown
from jobsvc.domain.events import Submission, Terms
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.keys import RULE_VERSION, UnusableUrl, key_from_url, keys_for_any, profile_for, profiles_in_use
from jobsvc.domain.moments import SECOND_US, parse_rfc3339
from jobsvc.domain.words import State
from jobsvc.http import bodies, past
from jobsvc.http.call import LIMITED_ROLES, respond
from jobsvc.http.limits import TOO_MANY_WAIT
from jobsvc.http.problems import Malformed, Unauthenticated, problem
from jobsvc.http.several import decide_each
from jobsvc.http.shapes import (
    ActiveAnswer,
    BatchAnswer,
    CancelAnswer,
    CleanupAnswer,
    CreateAnswer,
    EventsAnswer,
    JobAnswer,
    JobsAnswer,
    Links,
)
from jobsvc.resource import encode, event_resource, job_resource
from jobsvc.store.codec import read_record
from jobsvc.store.seam import HistoryQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web
    from msgspec import UnsetType

    from jobsvc.domain.job import Job
    from jobsvc.http.call import Call
    from jobsvc.http.service import Service
    from jobsvc.http.shapes import DedupReason
    from jobsvc.resource import JobResource

_TAG: Final = re.compile(r'(?:W/)?"(\d{1,12})"')
_STATES: Final = frozenset(get_args(State))
_REASON_OF_OUTCOME: Final[dict[str, DedupReason]] = {
    "attached": "active",
    "followup": "active",
    "fresh_result": "fresh_result",
}


# Creating


async def create(call: Call) -> web.Response:
    """``POST /api/jobs``."""
    content = await call.content()
    command = create_command(call, call.parse(bodies.CreateBody, content))
    wait_s = _preferred_wait_s(call)
    answer = await call.service.ledger.execute(command, mark=call.mark(content))
    if wait_s is None:
        return _created(call, answer)
    try:
        ended = await _after_end(call, answer, wait_s)
        call.check_not_revoked()
    except (SlowDown, Unauthenticated):
        # It is made; that it waits for the end was only a preference (RFC 7240), and may be nobody's business any more.
        return _created(call, answer)
    return _created(call, ended, waited=True)


async def create_batch(call: Call) -> web.Response:
    """``POST /api/jobs/batch``: each job on its own, the results in order."""
    content = await call.content()
    results, replayed = await decide_each(
        call,
        call.parse(bodies.BatchBody, content).jobs,
        shape=bodies.CreateBody,
        make=lambda body: create_command(call, body),
        mark=call.mark(content),
    )
    answers = [_result(call, result) for result in results]
    return respond(encode(BatchAnswer(answers)), headers=_replay_header(replayed=replayed))


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
        job_id=call.service.ledger.new_id(),
        who=who,
        kind=body.kind,
        submission=_submission(call.service, body, who.owner),
        terms=terms,
        dedup=_dedup(body.dedup),
        request_id=call.request_id,
    )


def _submission(service: Service, body: bodies.CreateBody, owner: str) -> Submission:
    settings = service.settings
    key, rule = body.key, None
    _check_length(body.key, settings.key_characters_max, "/key", least=1)
    _check_length(body.title, settings.title_characters_max, "/title")
    metadata = bodies.plain(body.metadata)
    if len(memoryview(metadata)) > settings.metadata_bytes_max or not bytes(metadata).lstrip().startswith(b"{"):
        message = f"metadata is an object of at most {settings.metadata_bytes_max} bytes"
        raise InvalidCommand(message, pointer="/metadata")
    if body.url is not None:
        profile = profile_for(body.kind, settings.profiles)
        made = _key(body.url, profile, settings.key_characters_max)
        if key is None:
            key, rule = made, f"{profile}/{RULE_VERSION}"
    return Submission(
        owner=owner,
        key=key,
        key_rule=rule,
        url=body.url,
        title=body.title,
        input=bodies.plain(body.input),
        metadata=metadata,
    )


def _key(url: str, profile: str, characters_max: int) -> str:
    try:
        return key_from_url(url, profile=profile, characters_max=characters_max)
    except UnusableUrl as error:
        raise InvalidCommand(error.reason, pointer="/url") from error


def _terms(body: bodies.CreateBody) -> Terms:
    return Terms(
        priority=body.priority,
        max_attempts=body.max_attempts,
        run_at=_moment(body.run_at),
        deadline_us=_micros(body.deadline_s),
        start_within_us=_micros(body.start_within_s),
    )


def _dedup(body: bodies.DedupBody) -> c.Dedup:
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
    latest = call.service.clock.now() + int(settings.guest_run_at_max_s * SECOND_US)
    if terms.run_at is not None and terms.run_at > latest:
        message = f"guests and users schedule at most {settings.guest_run_at_max_s:g} seconds ahead"
        raise InvalidCommand(message, pointer="/run_at")
    if settings.guest_kinds and body.kind not in settings.guest_kinds:
        raise InvalidCommand("guests and users may not create jobs of this kind", pointer="/kind")


def create_answer(service: Service, answer: Answer) -> CreateAnswer:
    """What a create says of *answer*; a duplicate that it avoided is counted."""
    job = answer.job
    reason = _REASON_OF_OUTCOME.get(answer.outcome)
    if reason is not None and not answer.replayed:
        service.tally.avoid(service.clock.now())
        service.metrics.duplicates_avoided.labels(reason).inc()
    return CreateAnswer(
        job=job_resource(job, lease_expires_at=service.ledger.lease_of(job)),
        deduplicated=answer.outcome != "created",
        dedup_reason=reason,
        input_differs=answer.input_differs,
        cursor=service.feed.cursor(answer.position),
        links=Links(f"/api/jobs/{job.id}", f"/api/jobs/{job.id}/events", f"/api/stream?job={job.id}"),
    )


def _created(call: Call, answer: Answer, *, waited: bool = False) -> web.Response:
    headers = _replay_header(replayed=answer.replayed)
    if waited:
        headers["Preference-Applied"] = "wait"
    status = 200
    if answer.outcome == "created":
        status = 201
        headers["Location"] = f"/api/jobs/{answer.job.id}"
    return respond(encode(create_answer(call.service, answer)), status=status, headers=headers)


def _replay_header(*, replayed: bool) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if replayed else {}


def _result(call: Call, result: Any) -> Any:  # noqa: ANN401  # a Result in, JSON out
    """One result of a batch, with the status that it would have had alone."""
    if isinstance(result, Answer):
        status = 201 if result.outcome == "created" else 200
        answer = create_answer(call.service, result)
        return {"status": status} | {name: getattr(answer, name) for name in answer.__struct_fields__}
    return problem(result, instance=call.request.path, request_id=call.request_id)


async def _after_end(call: Call, answer: Answer, wait_s: float) -> Answer:
    """*answer* with the job as it stood when it ended, or when *wait_s* had passed."""
    ended = await wait_for(call, answer.job.id, lambda job: not job.active, wait_s)
    position = max(answer.position, ended.position)
    return Answer(answer.outcome, ended, position, input_differs=answer.input_differs, replayed=answer.replayed)


def _preferred_wait_s(call: Call) -> float | None:
    """The N of ``Prefer: wait=N``; more than may be is cut, since a preference is not a demand."""
    preference = call.request.headers.get("Prefer")
    if preference is None:
        return None
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})\b", preference)
    return None if found is None else min(float(found[1]), call.service.settings.prefer_wait_max_s)


# Looking


async def active(call: Call) -> web.Response:
    """``GET /api/jobs/active``: the caller's active jobs and nothing else."""
    service, who = call.service, call.acting(call.query("owner"))
    page_max = service.settings.active_page_max
    limit = call.whole_number("limit", default=page_max, least=1, most=page_max)
    kind, after = call.query("kind"), _after_job(call)
    if call.query("as_of") is not None:
        return await _active_as_of(call, who.owner, limit=limit if who.role in _SEES_MANY else None)
    scope = Scope(owner=who.owner, kinds=frozenset() if kind is None else frozenset({kind}))
    cursor = service.feed.cursor(service.feed.position)
    keys = _asked_keys(call, kind)
    jobs = [job for job in service.feed.snapshot(scope) if keys is None or job.key in keys]
    following: str | UnsetType | None = UNSET
    if who.role in _SEES_MANY:
        jobs = sorted((job for job in jobs if after is None or job.id > after), key=lambda job: job.id)
        following = jobs[limit - 1].id if len(jobs) > limit else None
        jobs = jobs[:limit]
    return respond(encode(ActiveAnswer([shown(service, job) for job in jobs], cursor, following)))


async def _active_as_of(call: Call, owner: str | None, *, limit: int | None) -> web.Response:
    """The same as of an earlier position: what was *owner*'s then, in pages of *limit* for those who see many."""
    service, kind = call.service, call.query("kind")
    keys, position = _asked_keys(call, kind), await past.position_asked(call, "as_of")
    many = service.settings.active_per_owner_max if limit is None else limit + 1
    jobs = await past.active_as_of(
        call,
        position,
        owner=owner,
        after=None if limit is None else _after_job(call),
        limit=many,
        wants=lambda job: (kind is None or job.kind == kind) and (keys is None or job.key in keys),
    )
    following: str | UnsetType | None = UNSET
    if limit is not None:
        following = jobs[limit - 1].id if len(jobs) > limit else None
        jobs = jobs[:limit]
    shown_then = [job_resource(job, brief=True) for job in jobs]
    return respond(encode(ActiveAnswer(shown_then, service.feed.cursor(position), following)))


_SEES_MANY: Final = frozenset({"viewer", "operator"})


def _asked_keys(call: Call, kind: str | None) -> frozenset[str] | None:
    """The keys that the query asks for; None if it asks for none."""
    url, key, settings = call.query("url"), call.query("key"), call.service.settings
    keys = None if key is None else frozenset({key})
    if url is None:
        return keys
    try:
        if kind is not None:
            made = frozenset({key_from_url(url, profile=profile_for(kind, settings.profiles))})
        else:
            made = frozenset(keys_for_any(url, profiles_in_use(settings.profiles)))
    except UnusableUrl as error:
        raise InvalidCommand(error.reason, pointer="/url") from error
    return made if keys is None else made & keys


async def list_jobs(call: Call) -> web.Response:
    """``GET /api/jobs``: newest first, ended ones included."""
    service, who = call.service, call.acting(call.query("owner"))
    limit = call.whole_number("limit", default=50, least=1, most=service.settings.page_rows_max)
    after = _after_job(call)
    query = HistoryQuery(
        limit=limit + 1,
        owner=who.owner,
        kind=call.query("kind"),
        key=call.query("key"),
        states=_asked_states(call),
        before=after,
    )
    # Memory first: a job that ends while the store is read is then in both, never in neither.
    living = {job.id: job for job in _living(service, query)}
    rows = await service.store.read_history(query)
    found = sorted({*living, *(row.job_id for row in rows)}, reverse=True)
    page = found[:limit]
    ended = await service.store.read_jobs({job_id: None for job_id in page if job_id not in living})
    jobs = [living.get(job_id) or ended.get(job_id) for job_id in page]
    answer = [shown(service, job) for job in jobs if job is not None]
    return respond(encode(JobsAnswer(answer, page[-1] if len(found) > limit else None)))


def _after_job(call: Call) -> str | None:
    """The job after which the page begins, if it is not the first."""
    after = call.query("after")
    if after is not None and not is_job_id(after):
        raise InvalidCommand("after is the next of the page before", pointer="/after")
    return after


def _living(service: Service, query: HistoryQuery) -> list[Job]:
    """The active jobs that *query* asks for, newest first, as many as it asks for."""
    memory = service.ledger.memory
    jobs = memory.jobs.values() if query.owner is None else memory.of_owner(query.owner)
    asked = (job for job in jobs if _is_asked(job, query))
    return nlargest(query.limit, asked, key=lambda job: job.id)


def _is_asked(job: Job, query: HistoryQuery) -> bool:
    return (
        (query.before is None or job.id < query.before)
        and (query.kind is None or job.kind == query.kind)
        and (query.key is None or job.key == query.key)
        and (query.states is None or job.state in query.states)
    )


def _asked_states(call: Call) -> frozenset[State] | None:
    asked = [state for text in call.request.query.getall("state", []) for state in text.split(",") if state]
    if not asked:
        return None
    unknown = sorted(set(asked) - _STATES)
    if unknown:
        message = f"there is no state {unknown[0]!r}; there are {', '.join(sorted(_STATES))}"
        raise InvalidCommand(message, pointer="/state")
    return frozenset(asked)  # type: ignore[arg-type]  # checked in the line above


async def get(call: Call) -> web.Response:
    """``GET /api/jobs/{id}``, held with ``wait_s`` until the version is newer."""
    service = call.service
    job = await visible_job(call)
    wait_s = call.seconds("wait_s", most=service.settings.read_wait_max_s)
    since = call.whole_number("since", default=job.version, least=0, most=10**12)
    lease_expires_at = service.ledger.lease_of(job)
    if call.query("as_of") is not None:
        job, lease_expires_at = await past.as_of(call, job, position=await past.position_asked(call, "as_of")), None
    elif wait_s is not None:
        job = await wait_for(call, job.id, lambda current: current.version > since or not current.active, wait_s)
        call.check_not_revoked()
        lease_expires_at = service.ledger.lease_of(job)
    tag = f'W/"{job.version}"'
    headers = {"ETag": tag}
    if _is_known(call.request.headers.get("If-None-Match", ""), job.version):
        return respond(b"", status=304, headers=headers)
    resource = job_resource(job, lease_expires_at=lease_expires_at)
    return respond(encode(JobAnswer(resource)), headers=headers)


async def explain(call: Call) -> web.Response:
    """``GET /api/jobs/{id}/explain``: what happened to the job, and why it is as it is, in sentences."""
    return await past.explain(call, await visible_job(call))


async def history(call: Call) -> web.StreamResponse:
    """``GET /api/jobs/{id}/events``: what happened to the job, or its stream for those who ask for one."""
    accepted = call.request.headers.get("Accept", "")
    if "text/event-stream" in accepted or "application/x-ndjson" in accepted:
        return await call.service.streams.of_job(call, await visible_job(call))
    job = await visible_job(call)
    limit = call.whole_number("limit", default=call.service.settings.page_rows_max, least=1, most=2_000)
    after = call.whole_number("after", default=0, least=0, most=10**15)
    records = await call.service.store.read_records(after=after, limit=limit, job_id=job.id)
    role_only = call.principal.role in LIMITED_ROLES
    events = [event_resource(read_record(record), record.chain, role_only=role_only) for record in records]
    following = records[-1].position if records and records[-1].position < job.position else None
    return respond(encode(EventsAnswer(events, following)))


# Ending


async def cancel(call: Call) -> web.Response:
    """``POST /api/jobs/{id}/cancel``: 200 ended, 202 cancelling."""
    body = await call.body(bodies.CancelBody)
    command = c.Cancel(
        job_id=_known_id(call),
        who=call.acting(body.owner or call.query("owner")),
        force=body.force,
        reason=call.reason(body.reason),
        if_version=_if_version(call),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command)
    job = job_resource(answer.job, lease_expires_at=call.service.ledger.lease_of(answer.job))
    cursor = call.service.feed.cursor(answer.position)
    return respond(encode(CancelAnswer(job, cursor)), status=202 if answer.job.active else 200)


async def retry(call: Call) -> web.Response:
    """``POST /api/jobs/{id}/retry``: a create of the same."""
    content = await call.content()
    body = call.parse(bodies.ReasonBody, content)
    command = c.Retry(
        job_id=_known_id(call),
        new_id=call.service.ledger.new_id(),
        who=call.acting(body.owner or call.query("owner")),
        if_version=_if_version(call),
        reason=call.reason(body.reason),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command, mark=call.mark(content))
    return _created(call, answer)


async def clean_up(call: Call) -> web.Response:
    """``POST /api/jobs/cleanup/{id}``: off the list if it has no right to be there; harmless to repeat."""
    body = await call.body(bodies.CancelBody)
    command = c.CleanUp(
        job_id=_known_id(call),
        who=call.acting(body.owner or call.query("owner")),
        force=body.force,
        reason=call.reason(body.reason),
        if_version=_if_version(call),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command)
    removed = answer.outcome == "changed"
    reason = answer.job.state if removed else "already_ended"
    return respond(encode(CleanupAnswer(success=True, removed=removed, reason=reason)))


# What they share


async def visible_job(call: Call) -> Job:
    """
    The job of the path, if the caller may see it.

    Raises:
        JobNotFound, AccessDenied: There is none; it is another's.
    """
    job = await call.service.ledger.read_job(_known_id(call))
    if not call.acting(call.query("owner")).may_see(job.owner):
        raise AccessDenied
    return job


def _known_id(call: Call) -> str:
    job_id = call.named
    if not is_job_id(job_id):
        raise JobNotFound
    return job_id


async def wait_for(call: Call, job_id: str, is_enough: Callable[[Job], bool], wait_s: float) -> Job:
    """
    The job as soon as it *is_enough*, or as it stands after *wait_s*, or when the service stops.

    Raises:
        SlowDown: It is not enough yet, and as many requests are held as may be.
    """
    service, loop = call.service, asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        # An active job is read from memory, so nothing can happen between this look and the wait.
        job = await service.ledger.read_job(job_id)
        left_s = until - loop.time()
        if is_enough(job) or left_s <= 0 or not service.waits:
            return job
        with service.limits.waits.held(call.holder, TOO_MANY_WAIT):
            await service.ledger.job_waiters.wait(job_id, timeout_s=left_s)


def shown(service: Service, job: Job) -> JobResource:
    """*job* as a list shows it."""
    return job_resource(job, lease_expires_at=service.ledger.lease_of(job), brief=True)


def _is_known(if_none_match: str, version: int) -> bool:
    """True if the caller has *version* already: a list of tags, or ``*`` (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or str(version) in _TAG.findall(if_none_match)


def _if_version(call: Call) -> int | None:
    text = call.request.headers.get("If-Match")
    if text is None or text.strip() == "*":
        return None
    found = _TAG.fullmatch(text.strip())
    if found is None:
        raise Malformed('If-Match is an ETag of the job, for example W/"3"')
    return int(found[1])


def _check_length(text: str | None, most: int, pointer: str, *, least: int = 0) -> None:
    if text is not None and not least <= len(text) <= most:
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


_RUN_AT_END: Final = parse_rfc3339("9900-01-01T00:00:00Z")
"""Deadlines that count from a run_at, which reach ten years, can then be written as dates too."""

"""
The endpoints of one job: look, wait, explain, its events, cancel, clean up.

Each parses once into a command, asks the ledger, and renders what came back. Whether it may be is decided in the
domain; nothing here names a state or compares an owner but to choose what to show.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jobsvc.domain import commands as c
from jobsvc.domain.errors import AccessDenied, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.http import bodies, past
from jobsvc.http.call import LIMITED_ROLES, respond
from jobsvc.http.limits import TOO_MANY_WAIT
from jobsvc.http.problems import Malformed
from jobsvc.http.reply import JSON_HEADERS
from jobsvc.http.shapes import CancelAnswer, CleanupAnswer, EventsAnswer, JobAnswer
from jobsvc.resource import encode, event_resource, job_resource
from jobsvc.store.codec import read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsvc.domain.job import Job
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response

_TAG: Final = re.compile(r'(?:W/)?"(\d{1,12})"')


async def get(call: Call) -> Response:
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
        return web.Response(status=304, headers=JSON_HEADERS | headers)
    resource = job_resource(job, lease_expires_at=lease_expires_at)
    return respond(encode(JobAnswer(resource)), headers=headers)


async def explain(call: Call) -> Response:
    """``GET /api/jobs/{id}/explain``: what happened to the job, and why it is as it is, in sentences."""
    return await past.explain(call, await visible_job(call))


async def history(call: Call) -> Response:
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


async def cancel(call: Call) -> Response:
    """``POST /api/jobs/{id}/cancel``: 200 ended, 202 cancelling."""
    body = call.body(bodies.CancelBody)
    command = c.Cancel(
        job_id=known_id(call),
        who=call.acting(body.owner or call.query("owner")),
        force=body.force,
        reason=call.reason(body.reason),
        if_version=if_version(call),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command)
    job = job_resource(answer.job, lease_expires_at=call.service.ledger.lease_of(answer.job))
    cursor = call.service.feed.cursor(answer.position)
    return respond(encode(CancelAnswer(job, cursor)), status=202 if answer.job.active else 200)


async def clean_up(call: Call) -> Response:
    """``POST /api/jobs/cleanup/{id}``: off the list if it has no right to be there; harmless to repeat."""
    body = call.body(bodies.CancelBody)
    command = c.CleanUp(
        job_id=known_id(call),
        who=call.acting(body.owner or call.query("owner")),
        force=body.force,
        reason=call.reason(body.reason),
        if_version=if_version(call),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command)
    removed = answer.outcome == "changed"
    reason = answer.job.state if removed else "already_ended"
    return respond(encode(CleanupAnswer(success=True, removed=removed, reason=reason)))


async def visible_job(call: Call) -> Job:
    """
    The job of the path, if the caller may see it.

    Raises:
        JobNotFound, AccessDenied: There is none; it is another's.
    """
    job = await call.service.ledger.read_job(known_id(call))
    if not call.acting(call.query("owner")).may_see(job.owner):
        raise AccessDenied
    return job


def known_id(call: Call) -> str:
    """
    The id in the path, which may be a job's.

    Raises:
        JobNotFound: No job can have it.
    """
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


def _is_known(if_none_match: str, version: int) -> bool:
    """True if the caller has *version* already: a list of tags, or ``*`` (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or str(version) in _TAG.findall(if_none_match)


def if_version(call: Call) -> int | None:
    """
    The version that ``If-Match`` names; None if the caller takes any.

    Raises:
        Malformed: It is no ETag of a job.
    """
    text = call.request.headers.get("If-Match")
    if text is None or text.strip() == "*":
        return None
    found = _TAG.fullmatch(text.strip())
    if found is None:
        raise Malformed('If-Match is an ETag of the job, for example W/"3"')
    return int(found[1])

"""
The workers' endpoints: claim, and report singly or many at once.

A lease token is checked here and becomes a fence; whether that fence still counts is decided in one place, the domain.
A claim that waits holds nothing but a future, and is gone with its connection. A grant that could not be written to
its worker is undone.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, assert_never

from aiohttp import web
from msgspec import UNSET, structs

from jobsvc.answers import Answer
from jobsvc.domain import commands as c
from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound, JobsvcError
from jobsvc.domain.events import Failure
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.moments import SECOND_US, rfc3339_or_none
from jobsvc.http import bodies
from jobsvc.http.call import respond
from jobsvc.http.limits import TOO_MANY_WAIT
from jobsvc.http.problems import Unauthenticated, problem
from jobsvc.http.several import decide_each
from jobsvc.http.shapes import ClaimAnswer, Grant, JobAnswer, LeaseAnswer, ReportsAnswer
from jobsvc.resource import encode, job_resource
from jobsvc.tokens import lease_token, read_lease_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.domain.job import Job
    from jobsvc.domain.words import Micros
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service


# Claiming


async def claim(call: Call) -> Response:
    """``POST /api/worker/claim``: jobs, at once or as soon as there are some; 204 if none came in time."""
    body = call.body(bodies.ClaimBody)
    command = _claim_command(call, body)
    jobs, fresh = await _granted(call, command, body.wait_s)
    if not jobs:
        return web.Response(status=204)
    ends = call.service.ledger.leases_of(jobs)
    grants = [_grant(call.service, job, expires_at) for job, expires_at in zip(jobs, ends, strict=True)]
    return await _hand_over(call, respond(encode(ClaimAnswer(grants))), fresh)


async def _granted(call: Call, command: c.Claim, wait_s: float) -> tuple[Sequence[Job], Sequence[Job]]:
    """
    The jobs granted, and those of them that this call got first; none after *wait_s*, or when the service stops.

    Raises:
        SlowDown: There are none yet, and as many requests are held as may be.
        Unauthenticated: The worker was revoked while it waited.
    """
    service, loop = call.service, asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        grants = await service.ledger.claim(command)
        left_s = until - loop.time()
        if grants.jobs or left_s <= 0 or not service.waits:
            return grants.jobs, grants.fresh
        # Asked in the same loop turn as the wait begins: a job that came between answer and wait is not slept through.
        if not service.ledger.waiting(command.kinds):
            await _wait(call, command, left_s)
        if not service.ledger.accepting:
            return (), ()


async def _wait(call: Call, command: c.Claim, timeout_s: float) -> None:
    """A job that *command* asks for may be ready, or *timeout_s* has passed."""
    waiters = call.service.ledger.worker_waiters
    with call.service.limits.waits.held(command.who.actor, TOO_MANY_WAIT):
        await waiters.wait(command.kinds, timeout_s=timeout_s)
    try:
        call.check_not_revoked()
    except Unauthenticated:
        # Perhaps it was woken for a job that somebody else would take.
        waiters.pass_on()
        raise


async def _hand_over(call: Call, response: Response, fresh: Sequence[Job]) -> Response:
    """*response* written; if it cannot be, the grants are undone, attempt and losses unchanged."""
    try:
        transport = call.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        response.headers["X-Request-Id"] = call.request_id
        await response.prepare(call.request.aiohttp)
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        call.service.ledger.undo(fresh)
        raise
    return response


def _claim_command(call: Call, body: bodies.ClaimBody) -> c.Claim:
    settings, who = call.service.settings, call.principal
    lease_s = settings.lease_default_s if body.lease_s is None else body.lease_s
    _check_at_most(body.max, settings.items_max, "max")
    _check_at_most(body.wait_s, settings.claim_wait_max_s, "wait_s")
    _check_at_most(lease_s, settings.lease_max_s, "lease_s")
    worker = body.worker or who.subject
    if len(worker) > settings.worker_characters_max:
        raise InvalidCommand(f"worker has at most {settings.worker_characters_max} characters", pointer="/worker")
    kinds = frozenset(body.kinds) or who.kinds
    if who.kinds and not kinds <= who.kinds:
        message = f"this worker's token names the kinds {', '.join(sorted(who.kinds))}"
        raise AccessDenied(message)
    return c.Claim(
        who=who,
        kinds=kinds,
        limit=body.max,
        lease_us=int(lease_s * SECOND_US),
        worker=worker,
        claim=None if body.claim_id is None else _claim_name(call, worker, body.claim_id),
        request_id=call.request_id,
    )


def _check_at_most(asked: float, most: float, name: str) -> None:
    if asked > most:
        raise InvalidCommand(f"{name} is at most {most:g}", pointer=f"/{name}")


def _claim_name(call: Call, worker: str, claim_id: str) -> str:
    """What the claim is known by: the claim_id counts per token and worker name. A digest, so that no token is kept."""
    token = "" if call.credential is None else call.credential.text
    return hashlib.sha256(f"{token}\0{worker}\0{claim_id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _grant(service: Service, job: Job, expires_at: Micros | None) -> Grant:
    token = lease_token(service.settings.secret, service.ledger.memory.epoch, job_id=job.id, fence=job.fence)
    resource = job_resource(job, lease_expires_at=expires_at)
    return Grant(resource, token, job.fence, resource.lease_expires_at)


# Reporting


async def heartbeat(call: Call) -> Response:
    """``POST /api/worker/jobs/{id}/heartbeat``."""
    return await _report(call, bodies.HeartbeatBody)


async def progress(call: Call) -> Response:
    """``POST /api/worker/jobs/{id}/progress``: renews the lease too."""
    return await _report(call, bodies.ProgressBody)


async def complete(call: Call) -> Response:
    """``POST /api/worker/jobs/{id}/complete``."""
    return await _report(call, bodies.CompleteBody)


async def fail(call: Call) -> Response:
    """``POST /api/worker/jobs/{id}/fail``."""
    return await _report(call, bodies.FailBody)


async def release(call: Call) -> Response:
    """``POST /api/worker/jobs/{id}/release``."""
    return await _report(call, bodies.ReleaseBody)


async def reports(call: Call) -> Response:
    """``POST /api/worker/reports``: each report on its own, the results in order."""
    items = call.body(bodies.ReportsBody).reports
    results, _ = await decide_each(
        call, items, shape=bodies.AnyReport, make=lambda body: _command(call, body.job_id, body)
    )
    return respond(encode(ReportsAnswer([_result(call, result) for result in results])))


async def _report(call: Call, shape: type[bodies.Body]) -> Response:
    command = _command(call, call.named, call.body(shape))
    answer = await call.service.ledger.execute(command)
    return respond(encode(_reported(call.service, answer)))


def _result(call: Call, result: Answer | JobsvcError) -> Any:  # noqa: ANN401  # JSON
    if isinstance(result, Answer):
        return {"status": 200} | structs.asdict(_reported(call.service, result))
    return problem(result, instance=call.request.path, request_id=call.request_id)


def _reported(service: Service, answer: Answer) -> LeaseAnswer | JobAnswer:
    """What a worker is told: of a lease that goes on how it stands, of one that ended the job."""
    job = answer.job
    if answer.outcome == "renewed":
        expires_at = rfc3339_or_none(answer.lease_expires_at)
        return LeaseAnswer(expires_at, job.cancel_requested, rfc3339_or_none(job.deadline))
    return JobAnswer(job_resource(job, lease_expires_at=service.ledger.lease_of(job)))


def _command(call: Call, job_id: str, body: Any) -> c.JobCommand:  # noqa: ANN401  # any of the report bodies
    """The command that a report is."""
    service, who = call.service, call.principal
    if not is_job_id(job_id):
        raise JobNotFound
    settings, epoch = service.settings, service.ledger.memory.epoch
    fence = read_lease_token(
        settings.secret, epoch, job_id=job_id, token=body.lease_token, previous=settings.secret_previous
    )
    # The commonest first: each case that is asked costs.
    match body:
        case bodies.CompleteReport() | bodies.CompleteBody():
            result = bodies.plain(body.result)
            return c.Complete(job_id, who, fence, _digest(bytes(result)), result, call.request_id)
        case bodies.HeartbeatBody() | bodies.HeartbeatReport():
            return c.Heartbeat(job_id, who, fence, call.request_id)
        case bodies.ProgressBody() | bodies.ProgressReport():
            return _progress_command(call, job_id, fence, body)
        case bodies.FailBody() | bodies.FailReport():
            return _fail_command(call, job_id, fence, body)
        case bodies.ReleaseBody() | bodies.ReleaseReport():
            return c.Release(job_id, who, fence, _digest(b""), call.request_id)
        case _:
            assert_never(body)


def _progress_command(
    call: Call, job_id: str, fence: int, body: bodies.ProgressBody | bodies.ProgressReport
) -> c.ReportProgress:
    settings = call.service.settings
    _check_message(call, body.message, "/message")
    told = bodies.plain(body.data)
    if len(memoryview(told)) > settings.progress_data_bytes_max:
        raise InvalidCommand(f"data has at most {settings.progress_data_bytes_max} bytes", pointer="/data")
    progress_data = UNSET if bytes(told) == b"null" else told
    return c.ReportProgress(job_id, call.principal, fence, body.percent, body.message, progress_data, call.request_id)


def _fail_command(call: Call, job_id: str, fence: int, body: bodies.FailBody | bodies.FailReport) -> c.Fail:
    _check_message(call, body.error.message, "/error/message")
    said = encode((body.error.code, body.error.message, body.retryable, body.retry_after_s))
    return c.Fail(
        job_id=job_id,
        who=call.principal,
        fence=fence,
        digest=_digest(said),
        failure=Failure(body.error.code, body.error.message),
        retryable=body.retryable,
        retry_after_us=None if body.retry_after_s is None else int(body.retry_after_s * SECOND_US),
        request_id=call.request_id,
    )


def _check_message(call: Call, message: str | None, pointer: str) -> None:
    most = call.service.settings.message_characters_max
    if message is not None and len(message) > most:
        raise InvalidCommand(f"a message has at most {most} characters", pointer=pointer)


def _digest(said: bytes) -> str:
    return hashlib.sha256(said).hexdigest()

"""
What operators and monitors read: the log, its head, whether the service lives and takes work, its metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from aiohttp import web

from jobsvc.domain.errors import AccessDenied, Draining, InvalidCommand, StoreDown, Unsound
from jobsvc.domain.events import EventType
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.moments import parse_rfc3339, rfc3339
from jobsvc.http import bodies
from jobsvc.http.call import respond
from jobsvc.http.reply import JSON_HEADERS
from jobsvc.http.revocations import Revocation, name_of_token
from jobsvc.http.shapes import EventsAnswer, HeadAnswer, RevokeAnswer
from jobsvc.http.standings import observe
from jobsvc.oneline import one_line
from jobsvc.resource import encode, event_resource
from jobsvc.store.codec import read_record
from jobsvc.telemetry import log as log_line

if TYPE_CHECKING:
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response

_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))
_DIGITS_MAX: Final = 18


async def log(call: Call) -> Response:
    """``GET /api/log``: the log from a position on, as JSON or as lines, a page at a time."""
    limit = call.whole_number("limit", default=call.service.settings.page_rows_max, least=1, most=2_000)
    after = _position(call)
    job_id, asked = call.query("job"), call.query("type")
    if job_id is not None and not is_job_id(job_id):
        raise InvalidCommand("job is the id of a job", pointer="/job")
    if asked is not None and asked not in _TYPES:
        raise InvalidCommand(f"there is no event type {asked!r}", pointer="/type")
    event_type = cast("EventType | None", asked)
    records = await call.service.store.read_records(after=after, limit=limit, job_id=job_id, type=event_type)
    events = [event_resource(read_record(record), record.chain, role_only=False) for record in records]
    if "application/x-ndjson" in call.request.headers.get("Accept", ""):
        lines = b"".join(one_line(encode(event)) + b"\n" for event in events)
        return web.Response(body=lines, headers=JSON_HEADERS | {"Content-Type": "application/x-ndjson"})
    head = call.service.ledger.memory.position
    following = events[-1].position if events and events[-1].position < head else None
    return respond(encode(EventsAnswer(events, following)))


def _position(call: Call) -> int:
    """The position to read after: a number, or a cursor of this log."""
    text = call.query("after")
    if text is None:
        return 0
    digits = text.removeprefix(f"{call.service.ledger.memory.epoch}.")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX):
        raise InvalidCommand("after is a position, or a cursor of this log", pointer="/after")
    return int(digits)


async def head(call: Call) -> Response:
    """``GET /api/log/head``: what to keep beside a backup, so that a cut tail is found."""
    newest = await call.service.store.read_head()
    return respond(encode(HeadAnswer(newest.position, newest.chain.hex(), newest.epoch)))


async def revoke(call: Call) -> Response:
    """``POST /api/operator/revoke``: a subject's tokens count no more, or one token; their streams end."""
    body = call.body(bodies.RevokeBody)
    call.noted["reason"] = body.reason[: call.service.settings.message_characters_max]
    revocation = _revocation(body, reason_characters_max=call.service.settings.message_characters_max)
    expires_at = await call.service.revocations.revoke(revocation)
    log_line("token.revoked", actor=call.principal.actor, whose=revocation.whose, reason=revocation.reason)
    return respond(encode(RevokeAnswer(revocation.whose, rfc3339(expires_at))))


def _revocation(body: bodies.RevokeBody, *, reason_characters_max: int) -> Revocation:
    """
    The revocation that *body* asks for.

    Raises:
        InvalidCommand: It names neither or both, gives no reason or too long a one, or a moment that is none.
    """
    if (body.subject is None) == (body.token_id is None):
        raise InvalidCommand("name a subject or a token_id", pointer="/subject")
    if not 0 < len(body.reason) <= reason_characters_max:
        raise InvalidCommand(f"a reason has 1 to {reason_characters_max} characters", pointer="/reason")
    try:
        issued_before = None if body.issued_before is None else parse_rfc3339(body.issued_before)
    except ValueError as error:
        message = "issued_before is a time with its offset, for example 2026-11-24T06:46:39Z"
        raise InvalidCommand(message, pointer="/issued_before") from error
    return Revocation(body.subject or name_of_token(str(body.token_id)), body.reason, issued_before)


async def healthz(call: Call) -> Response:
    """``GET /healthz``: the process answers."""
    del call
    return respond(b'{"status":"alive"}')


async def readyz(call: Call) -> Response:
    """``GET /readyz``: commands are taken and can be written, and nothing is known to be wrong."""
    if call.service.ledger.stopping or call.service.streams.draining:
        raise Draining
    if not call.service.ledger.accepting:
        raise StoreDown
    if not call.service.settings.ready_in_spite_of_findings:
        _check_sound(call)
    return respond(b'{"status":"ready"}')


def _check_sound(call: Call) -> None:
    """
    No projection has events parked, or holds, and the doctor's rounds have found nothing.

    Raises:
        Unsound: One does.
    """
    for one in call.service.runner.standings.values():
        if one.parked:
            raise Unsound(f"the projection {one.name} has the events of {len(one.parked)} jobs parked")
        if one.failure is not None:
            raise Unsound(f"the projection {one.name} stands still")
    findings = call.service.rounds.findings
    if findings:
        raise Unsound(f"the doctor finds fault with {', '.join(sorted({one.check for one in findings}))}")


async def metrics(call: Call) -> Response:
    """``GET /metrics``: for Prometheus; for viewers and operators, unless a setting opens it."""
    service = call.service
    if not service.settings.metrics_open:
        principal = (await service.identity.prove(call.request)).bearer.principal
        if principal.role not in ("viewer", "operator"):
            raise AccessDenied
    await observe(service)
    gauges = service.metrics
    gauges.jobs_active.set(len(service.ledger.memory.jobs))
    gauges.jobs_ready.set(service.ledger.ready)
    gauges.claims_waiting.set(len(service.ledger.worker_waiters))
    gauges.leases_open.set(len(service.ledger.leases))
    gauges.queue_depth.set(service.ledger.queued)
    gauges.head_position.set(service.ledger.memory.position)
    gauges.archived_through.set(service.ledger.memory.archived_through)
    gauges.store_ready.set(1 if service.ledger.accepting else 0)
    for one in service.runner.standings.values():
        gauges.projection_lag.labels(one.name).set(service.ledger.memory.position - one.position)
        gauges.projection_parked.labels(one.name).set(len(one.parked))
    for check in service.rounds.checks:
        gauges.doctor_findings.labels(check.check).set(0 if check.ok else 1)
    gauges.doctor_position.set(service.rounds.position)
    gauges.doctor_rounds.set(service.rounds.completed)
    gauges.ring_bytes.set(service.feed.ring.bytes)
    return web.Response(body=gauges.exposition(), headers={"Content-Type": gauges.content_type})

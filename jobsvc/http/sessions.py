"""
Sessions: guests, how a guest becomes a user, the one-use link of the dashboard, and one-use tickets for streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from aiohttp import web
from msgspec import structs

from jobsvc.domain.errors import InvalidCommand, Rejected
from jobsvc.domain.moments import SECOND_US, rfc3339
from jobsvc.domain.words import Principal
from jobsvc.http import bodies
from jobsvc.http.call import respond
from jobsvc.http.limits import ALL_ADDRESSES, network_of
from jobsvc.http.problems import Unauthenticated
from jobsvc.http.reply import JSON_HEADERS
from jobsvc.http.shapes import ClaimedAnswer, LinkAnswer, SessionAnswer, TicketAnswer
from jobsvc.resource import encode
from jobsvc.takeovers import TakeOver

if TYPE_CHECKING:
    from jobsvc.domain.words import Role
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.tokens import Bearer

_LINK_TTL_S: Final = 12 * 3600.0


async def guest(call: Call) -> Response:
    """``POST /api/sessions/guest``: a new guest, or the same one again for who proves to be one."""
    service, request = call.service, call.request
    origins = service.identity.origins
    origins.check_origin(request)
    call.body(bodies.EmptyBody)
    known = await _known_guest(call)
    if known is not None:
        owner, token, expires_at, status = *known, 200
    else:
        # The address first: what it is refused takes nothing from the others.
        service.limits.guests_of_network.count(network_of(request.aiohttp.remote))
        service.limits.guests.count(ALL_ADDRESSES)
        owner, token, expires_at = service.identity.make_guest(service.ledger.new_id())
        status = 201
    response = web.Response(
        body=encode(SessionAnswer(owner, token, rfc3339(expires_at))), status=status, headers=JSON_HEADERS
    )
    max_age_s = max(0, (expires_at - service.clock.now()) // SECOND_US)
    # Path is / and there is no Domain, without which a browser would not take the name with __Host- (RFC 6265bis).
    name, secure = origins.cookie_name(request), origins.is_secure(request)
    response.set_cookie(name, token, max_age=max_age_s, path="/", httponly=True, samesite="Lax", secure=secure)
    return response


async def _known_guest(call: Call) -> tuple[str, str, int] | None:
    """
    (owner, token, expires_at) of the guest that the request proves, if it proves one.

    Raises:
        StoreDown: Nobody can be proved just now; a new guest would take the cookie of the one that it may be.
    """
    try:
        credential = await call.service.identity.prove(call.request)
    except Rejected:
        return None
    bearer = credential.bearer
    if bearer.principal.role != "guest":
        return None
    return bearer.principal.subject, credential.text.strip(), bearer.expires_at


async def claim(call: Call) -> Response:
    """
    ``POST /api/sessions/claim``: what a guest has is the user's, and the guest is no more.

    Each of the guest's jobs counts once: as merged if the user had an active one for the same work, else as moved. The
    active ones have moved when this answers, the ended ones unless there are so many that they take longer than
    ``handover_wait_max_s``; those become readable soon after, and are not counted.
    """
    service, body = call.service, call.body(bodies.SessionClaimBody)
    who = call.acting(body.owner)
    if who.owner is None or not who.owner.startswith("user:"):
        message = "a guest is claimed for a user"
        raise InvalidCommand(message, pointer="/owner")
    guest = (await service.identity.guest_of(body.guest_token)).principal.subject
    spent_until = service.revocations.keep_until()
    taken = await service.ledger.take_over(TakeOver(who, guest, who.owner, spent_until, call.request_id))
    handed = await service.handovers.wait(guest, service.settings.handover_wait_max_s)
    response = web.Response(body=encode(ClaimedAnswer(taken.moved + handed, taken.merged)), headers=JSON_HEADERS)
    origins = service.identity.origins
    name = origins.cookie_name(call.request)
    if call.request.aiohttp.cookies.get(name) == body.guest_token:
        # Whoever claims by this very cookie would be a guest, so the user came with something else.
        response.del_cookie(name, path="/", secure=origins.is_secure(call.request))
    return response


async def link(call: Call) -> Response:
    """``POST /api/sessions/link``: an operator's token for the code that ``serve`` printed, once."""
    body = call.body(bodies.LinkBody)
    bearer = call.service.identity.links.spend(body.code)
    if bearer is None:
        message = "this link was used or has run out; start the service again for another, or make a token"
        raise Unauthenticated(message)
    token = call.service.identity.make_operator(bearer.principal.subject, _LINK_TTL_S)
    return respond(encode(LinkAnswer(token)), status=201)


async def ticket(call: Call) -> Response:
    """
    ``POST /api/stream/tickets``: opens a stream once, for an EventSource that can send no header.

    The caller's own stream, or that of the owner that it names and may act for: a back end's ticket goes to a browser.
    """
    body = call.body(bodies.TicketBody)
    owner = body.owner or call.query("owner")
    bearer = call.bearer if owner is None else _as_owner(call.bearer, call.acting(owner).owner)
    code, expires_at = call.service.identity.tickets.make(bearer)
    return respond(encode(TicketAnswer(code, rfc3339(expires_at))), status=201)


def _as_owner(bearer: Bearer, owner: str | None) -> Bearer:
    """*bearer*, but no more than *owner* would be: seen, counted and revoked as the owner, for as long as its token."""
    if owner is None or owner == bearer.principal.owner:
        return bearer
    role = cast("Role", owner.partition(":")[0])
    return structs.replace(bearer, principal=Principal(role, owner, owner))

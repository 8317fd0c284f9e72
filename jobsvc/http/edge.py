"""
The edge: where a request becomes a call, and every way in which it can fail becomes a problem.

Each path of the route table is answered by one function here, which picks the method, checks host, credential and
role, and runs the route. Not a stack of middlewares: one function, since each layer would cost every request.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from msgspec import Struct

from jobsvc.domain.errors import AccessDenied, InvalidCommand, Rejected, Unavailable
from jobsvc.domain.words import Role
from jobsvc.http.call import Call
from jobsvc.http.dispatch import Dispatch, welcome_body
from jobsvc.http.problems import (
    InternalFault,
    MethodNotAllowed,
    NotFound,
    problem_response,
)
from jobsvc.http.told import tell_act, tell_fault, tell_refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jobsvc.http.reply import Response
    from jobsvc.http.request import Request
    from jobsvc.http.service import Service

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
_RUN: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count(1)


class Route(Struct, frozen=True):
    """
    One method of one path.

    Attributes:
        method: The HTTP method.
        path: With ``{id}`` for a job, ``{name}`` for a projection; at most one of them.
        roles: Who may call; None for anybody, with or without a credential.
        handler: What answers.
        says: What it is for, in a sentence.
        cleanup: Problems carry the members that callers of the cleanup path look for.
        query: For a list, the query parameters that it takes: one that it passed over would show more than was asked
            for, so any other is refused. None where others are not looked at: a stream's callers add their own.
        ticket: A one-use ticket in the query proves its principal; no other credential is ever taken from a URL.
    """

    method: str
    path: str
    roles: frozenset[Role] | None
    handler: Any
    says: str
    cleanup: bool = False
    ticket: bool = False
    query: frozenset[str] | None = None


def dispatching(routes: tuple[Route, ...], service: Service) -> Dispatch:
    """Every path of *routes* is answered, and every other path with a problem."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    for by_method in by_path.values():
        if "GET" in by_method:
            # The answer of a GET, whose body aiohttp leaves out (RFC 9110, section 9.3.2).
            by_method["HEAD"] = by_method["GET"]
    answers = {path: _answering(by_method, service) for path, by_method in by_path.items()}
    return Dispatch(answers, otherwise=_answering({}, service))


def _answering(by_method: Mapping[str, Route], service: Service) -> Callable[[Request, str], Awaitable[Response]]:
    """What answers one path."""
    path = next((route.path for route in by_method.values()), None)
    cleanup = any(route.cleanup for route in by_method.values())
    methods = ", ".join([*by_method, "OPTIONS"])
    origins = service.identity.origins
    answered = dict.fromkeys([*by_method, "OPTIONS"], 0)
    if path is not None:
        service.metrics.answered[path] = answered

    async def answer(request: Request, named: str) -> Response:
        call = Call(request, service, _request_id(request), named=named)
        try:
            passes = _passes_again(call)
            if not passes:
                origins.check_host(request.head)
            route = by_method.get(request.method)
            if route is None:
                response: Response = _unrouted(call, methods if by_method else None)
            elif not (passes or route.roles is None or _is_remembered(route, call) or await _is_proved(route, call)):
                # Used or out of time: what makes an EventSource stop asking.
                response = web.Response(status=204)
            else:
                if not passes:
                    _check(route, call)
                if request.method == "POST":
                    call.count_write()
                if request.whole is None:
                    await _wait_for_body(call)
                response = await route.handler(call)
        except (Rejected, Unavailable, InternalFault) as error:
            tell_refusal(call, error.code, route=path)
            return problem_response(error, instance=request.path, request_id=call.request_id, cleanup=cleanup)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as fault:  # noqa: BLE001  # the edge: the caller gets a problem, and we the trace
            tell_fault(call, fault, route=path)
            return problem_response(InternalFault(), instance=request.path, request_id=call.request_id, cleanup=cleanup)
        answered[request.method] += 1
        if not response.prepared:
            response.headers["X-Request-Id"] = call.request_id
        if call.credential is not None and call.credential.bearer.principal.role == "operator":
            tell_act(call, route=path)
        return response

    return answer


def _unrouted(call: Call, methods: str | None) -> Response:
    """The answer to a method that no route has, on a path that takes *methods*, or is none."""
    if methods is None:
        raise NotFound
    if call.request.method == "OPTIONS":
        return call.service.browsers.preflight(call.request.headers, methods)
    raise MethodNotAllowed(methods)


def _passes_again(call: Call) -> bool:
    """
    True if its caller passed with this very head before, and is believed still.

    Host, method and role, and what the query asks, are then the same that passed, and are not looked at again.
    """
    passed_as = call.request.head.passed_as
    if passed_as is None or call.service.identity.remembered(call.request) is not passed_as:
        return False
    call.credential = passed_as
    return True


def _is_remembered(route: Route, call: Call) -> bool:
    """True if it is known already who calls, which mostly it is; nothing is waited for."""
    if route.ticket and "ticket" in call.request.query:
        return False
    call.credential = call.service.identity.remembered(call.request)
    return call.credential is not None


async def _is_proved(route: Route, call: Call) -> bool:
    """True if the caller has proved who it is; False if it came with a ticket that is no more."""
    identity, request = call.service.identity, call.request
    ticket = request.query.get("ticket") if route.ticket else None
    call.credential = await (identity.prove(request) if ticket is None else identity.redeem(ticket))
    return call.credential is not None


def _check(route: Route, call: Call) -> None:
    """Refuses who may not call *route*, or asks it for what it does not take; anybody else has passed with its head."""
    if route.roles is not None:
        role = call.principal.role
        if role not in route.roles:
            message = f"the role {role} may not do this"
            raise AccessDenied(message)
    if route.query is not None:
        _check_query(call.request, route.query)
    call.request.head.passed_as = call.credential


async def _wait_for_body(call: Call) -> None:
    """The body, which aiohttp's loop left on its way, is there if the method has one that counts."""
    if "Expect" in call.request.headers:
        await welcome_body(call.request)
    if call.request.method == "POST":
        await call.wait_for_body()


def _check_query(request: Request, known: frozenset[str]) -> None:
    for name in request.query:
        if name not in known:
            message = f"this list takes {', '.join(sorted(known))}"
            raise InvalidCommand(message, pointer=f"/{name}")


def _request_id(request: Request) -> str:
    """The caller's own request id if it is a sane one, else ours."""
    sent = request.head.request_id
    if sent is not None and _REQUEST_ID.fullmatch(sent) is not None:
        return sent
    return new_request_id()


def new_request_id() -> str:
    """An id that no other request of this run has."""
    return f"{_RUN}-{next(_NUMBERS):x}"

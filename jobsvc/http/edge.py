"""
The edge: where a request becomes a call, and every way in which it can fail becomes a problem.

Each path of the route table has one handler here, which picks the method, checks host, credential and role, and runs
the route. Not a stack of middlewares: one function, since each layer would cost every request.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from msgspec import Struct

from jobsvc.answers import MarkRequest
from jobsvc.domain.errors import AccessDenied, InvalidCommand, Rejected, Unavailable
from jobsvc.domain.words import Principal, Role
from jobsvc.http.bodies import parse
from jobsvc.http.problems import (
    InternalFault,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
    problem_response,
)
from jobsvc.telemetry import log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from jobsvc.http.identity import Credential
    from jobsvc.http.service import Service

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
_OWNER: Final = re.compile(r"(guest|user):[!-~]{1,200}")
_RUN: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count(1)


class Call:
    """One request with who sent it: what a handler is given."""

    __slots__ = ("credential", "request", "request_id", "service")

    def __init__(self, request: web.Request, service: Service, credential: Credential | None, request_id: str) -> None:
        self.request = request
        self.service = service
        self.credential = credential
        self.request_id = request_id

    @property
    def principal(self) -> Principal:
        """Who asks. Routes that take anybody do not ask for it."""
        if self.credential is None:
            raise AccessDenied
        return self.credential.bearer.principal

    def acting(self, owner: str | None) -> Principal:
        """
        Who asks, acting for *owner* where the role has none of its own.

        Raises:
            InvalidCommand: A service named no owner, or what was named is no owner.
            AccessDenied: A guest or user named another.
        """
        principal = self.principal
        if owner is not None and _OWNER.fullmatch(owner) is None:
            message = "an owner is guest:<id> or user:<id>"
            raise InvalidCommand(message, pointer="/owner")
        if principal.owner is not None:
            if owner not in (None, principal.owner):
                raise AccessDenied
            return principal
        if owner is None and principal.role == "service":
            message = "a service says for which owner it acts"
            raise InvalidCommand(message, pointer="/owner")
        return Principal(principal.role, principal.subject, owner, principal.kinds)

    def query(self, name: str) -> str | None:
        """The query parameter *name*, if it was sent."""
        return self.request.query.get(name)

    def whole_number(self, name: str, *, default: int, least: int, most: int) -> int:
        """
        The query parameter *name* as a number within bounds.

        Raises:
            InvalidCommand: It is none.
        """
        text = self.query(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
            message = f"{name} is a whole number from {least} to {most}"
            raise InvalidCommand(message, pointer=f"/{name}")
        return int(text)

    def seconds(self, name: str, *, most: float) -> float | None:
        """
        The query parameter *name* as a length of time from 0 to *most*, None if it was not sent.

        Raises:
            InvalidCommand: It is none.
        """
        text = self.query(name)
        return None if text is None else seconds(text, name, most=most)

    async def content(self) -> bytes:
        """
        The body as sent.

        Raises:
            TooLarge, UnsupportedMediaType, Malformed: It is more than may be, not JSON, or cannot be decoded.
        """
        try:
            content = await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            message = f"a body holds at most {self.service.settings.body_bytes_max} bytes"
            raise TooLarge(message) from error
        except web.RequestPayloadError as error:
            message = "the body is not what its Content-Encoding or Transfer-Encoding says"
            raise Malformed(message) from error
        if content and self.request.content_type != "application/json":
            raise UnsupportedMediaType
        return content

    async def body(self, shape: type[Any]) -> Any:  # noqa: ANN401  # an instance of *shape*
        """The body as a record of *shape*; an absent body is an empty object."""
        return self.parse(shape, await self.content())

    def parse(self, shape: type[Any], content: bytes) -> Any:  # noqa: ANN401  # an instance of *shape*
        """*content* as a record of *shape*."""
        return parse(shape, content or b"{}", depth_max=self.service.settings.json_depth_max)

    def mark(self, content: bytes) -> MarkRequest | None:
        """
        What the request's Idempotency-Key asks to be remembered, if it has one.

        Raises:
            InvalidCommand: The key is empty or too long.
        """
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return None
        if not 0 < len(key) <= self.service.settings.idempotency_key_characters_max:
            message = "an Idempotency-Key has 1 to 255 characters"
            raise InvalidCommand(message)
        scope = f"{self.request.method} {self.request.path}"
        digest = hashlib.sha256(content).hexdigest()
        return MarkRequest(self.principal.actor, scope, key, digest)


Handler = "Callable[[Call], Awaitable[web.StreamResponse]]"


class Route(Struct, frozen=True):
    """
    One method of one path.

    Attributes:
        method: The HTTP method.
        path: As aiohttp writes it, with ``{id}`` for a job.
        roles: Who may call; None for anybody, with or without a credential.
        handler: What answers.
        says: What it is for, in a sentence.
        cleanup: Problems carry the members that callers of the cleanup path look for.
    """

    method: str
    path: str
    roles: frozenset[Role] | None
    handler: Any
    says: str
    cleanup: bool = False


def install(app: web.Application, routes: tuple[Route, ...], service: Service) -> None:
    """Every path of *routes* is answered by *app*, and every other path with a problem."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    for path, by_method in by_path.items():
        if "GET" in by_method:
            # The answer of a GET, whose body aiohttp leaves out (RFC 9110, section 9.3.2).
            by_method["HEAD"] = by_method["GET"]
        app.router.add_route("*", path, _answering(by_method, service))
    app.router.add_route("*", "/{anything:.*}", _answering({}, service))


def _answering(
    by_method: Mapping[str, Route], service: Service
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of one path."""
    cleanup = any(route.cleanup for route in by_method.values())
    answered = {method: service.metrics.requests.labels(method, route.path) for method, route in by_method.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        request_id = _request_id(request)
        try:
            response = await _call(by_method, request, service, request_id)
        except (Rejected, Unavailable) as error:
            service.metrics.refusals.labels(error.code).inc()
            return problem_response(error, instance=request.path, request_id=request_id, cleanup=cleanup)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as fault:  # noqa: BLE001  # the edge: the caller gets a problem, and we the trace
            log_failure("request.failed", fault, request_id=request_id, method=request.method)
            return problem_response(InternalFault(), instance=request.path, request_id=request_id, cleanup=cleanup)
        answered[request.method].inc()
        return response

    return answer


async def _call(
    by_method: Mapping[str, Route], request: web.Request, service: Service, request_id: str
) -> web.StreamResponse:
    service.identity.check_host(request)
    route = by_method.get(request.method)
    if route is None:
        raise MethodNotAllowed(", ".join(by_method)) if by_method else NotFound
    credential = None
    if route.roles is not None:
        credential = service.identity.prove(request)
        if credential.bearer.principal.role not in route.roles:
            message = f"the role {credential.bearer.principal.role} may not do this"
            raise AccessDenied(message)
    return await route.handler(Call(request, service, credential, request_id))  # type: ignore[no-any-return]


def respond(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that nobody may keep."""
    response = web.Response(body=content, status=status, headers=_JSON_HEADERS)
    if headers:
        response.headers.update(headers)
    return response


_JSON_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


def seconds(text: str, name: str, *, most: float) -> float:
    """
    *text* as a length of time from 0 to *most*.

    Raises:
        InvalidCommand: It is none.
    """
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) is None or float(text) > most:
        message = f"{name} is a number of seconds from 0 to {most:g}"
        raise InvalidCommand(message, pointer=f"/{name}")
    return float(text)


def _request_id(request: web.Request) -> str:
    """The caller's own request id if it is a sane one, else ours."""
    sent = request.headers.get("X-Request-Id")
    if sent is not None and _REQUEST_ID.fullmatch(sent) is not None:
        return sent
    return f"{_RUN}-{next(_NUMBERS):x}"

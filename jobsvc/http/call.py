"""
The call: one request with who sent it, as a handler is given it, and the JSON that a handler answers.

What a request says is read here, within its bounds; what it means is the handlers' business, and how it came to be
called the edge's.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobsvc.answers import MarkRequest
from jobsvc.domain.errors import AccessDenied, InvalidCommand
from jobsvc.domain.words import Principal
from jobsvc.http.bodies import parse
from jobsvc.http.problems import Malformed, TooLarge, Unauthenticated, UnsupportedMediaType
from jobsvc.http.reply import Reply
from jobsvc.http.request import JSON

if TYPE_CHECKING:
    from jobsvc.http.identity import Credential
    from jobsvc.http.request import Request
    from jobsvc.http.service import Service
    from jobsvc.telemetry import Fields
    from jobsvc.tokens import Bearer

_OWNER: Final = re.compile(r"(guest|user):[!-~]{1,200}")
LIMITED_ROLES: Final = frozenset({"guest", "user"})
"""Who is held to bounds that trusted roles are not."""
_SCOPE: Final = "request"
"""What a mark of an Idempotency-Key is about; other marks are about other things."""
_DIGITS_MAX: Final = 18
"""More would not fit where positions and versions are kept."""


class Call:
    """
    One request with who sent it: what a handler is given.

    ``named`` is what the path names in the place of its parameter: a job's id, a projection. ``noted`` is what a line
    about an operator's act is to tell besides, as far as it was read.
    """

    __slots__ = ("begun_s", "credential", "named", "noted", "request", "request_id", "service")

    def __init__(self, request: Request, service: Service, request_id: str, *, named: str) -> None:
        self.request = request
        self.service = service
        self.credential: Credential | None = None
        self.request_id = request_id
        self.named = named
        self.noted: Fields = {}
        self.begun_s = time.monotonic()

    @property
    def bearer(self) -> Bearer:
        """What the caller's token says. Routes that take anybody do not ask for it."""
        if self.credential is None:
            raise AccessDenied
        return self.credential.bearer

    @property
    def principal(self) -> Principal:
        """Who asks, as above."""
        if self.credential is None:
            raise AccessDenied
        return self.credential.bearer.principal

    @property
    def is_limited(self) -> bool:
        """True for a guest or user, who is held to bounds that trusted roles are not."""
        return self.credential is not None and self.credential.bearer.principal.role in LIMITED_ROLES

    @property
    def holder(self) -> str:
        """In whose name the call holds what is bounded for each."""
        return "" if self.credential is None else self.credential.bearer.principal.actor

    def count_write(self) -> None:
        """
        The caller writes; only guests and users are counted.

        Raises:
            SlowDown: More often than it may.
        """
        if self.credential is None:
            return
        principal = self.credential.bearer.principal
        if principal.role in LIMITED_ROLES:
            self.service.limits.writes.count(principal.actor)

    def count_further_writes(self, count: int) -> None:
        """
        What was counted as one write turns out to be *count* more.

        Raises:
            SlowDown: More than the caller may, and not its first in this minute.
        """
        if self.is_limited:
            self.service.limits.writes.count_further(self.holder, count)

    def check_not_revoked(self) -> None:
        """
        Whoever asks may still have what the request was held for.

        Raises:
            Unauthenticated: Its token was revoked meanwhile.
        """
        if self.service.revocations.covered_lately(self.bearer):
            raise Unauthenticated("this token was revoked")

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

    def reason(self, given: str | None) -> str | None:
        """
        What was *given* as a reason, which a line about an operator's act tells as well.

        Raises:
            InvalidCommand: It is too long.
        """
        longest = self.service.settings.message_characters_max
        if given is not None and len(given) > longest:
            message = f"reason has 0 to {longest} characters"
            raise InvalidCommand(message, pointer="/reason")
        self.noted["reason"] = given
        return given

    def query(self, name: str) -> str | None:
        """The query parameter *name*, if it was sent."""
        return self.request.query.get(name) if self.request.url.raw_query_string else None

    def whole_number(self, name: str, *, default: int, least: int, most: int) -> int:
        """
        The query parameter *name* as a number within bounds.

        Raises:
            InvalidCommand: It is none.
        """
        text = self.query(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and least <= int(text) <= most):
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

    def content(self) -> bytes:
        """
        The body, which the edge has waited for.

        Raises:
            UnsupportedMediaType: It is not JSON as it is.
        """
        content = self.request.whole or b""
        # As nearly all send it, it is not taken apart.
        if not self.request.head.is_plain_json:
            self._check_media(content)
        return content

    def _check_media(self, content: bytes) -> None:
        encoding = self.request.headers.get("Content-Encoding")
        if encoding is not None and encoding.lower() != "identity":
            message = "a body comes as it is: Content-Encoding is not taken"
            raise UnsupportedMediaType(message)
        if content and self.request.aiohttp.content_type != JSON:
            raise UnsupportedMediaType

    async def wait_for_body(self) -> None:
        """
        All of the body is there, whatever it is.

        Raises:
            TooLarge, Malformed: It is more than may be, or did not come as it was announced.
        """
        if self.request.whole is not None:
            return
        try:
            stream = self.request.aiohttp.content
            content = stream.read_nowait() if stream.is_eof() else await self._incoming()
        except web.HTTPRequestEntityTooLarge as error:
            raise _too_large(self.service.settings.body_bytes_max) from error
        except web.RequestPayloadError as error:
            message = "the body is not what its Content-Length or Transfer-Encoding says"
            raise Malformed(message) from error
        if len(content) > self.service.settings.body_bytes_max:
            raise _too_large(self.service.settings.body_bytes_max)
        self.request.whole = content

    async def _incoming(self) -> bytes:
        """The body that is still coming in, of which there may be so many, for so long."""
        settings = self.service.settings
        with self.service.limits.bodies.held(self.holder, "many bodies are coming in; send this one again"):
            try:
                async with asyncio.timeout(settings.body_wait_s):
                    return await self.request.aiohttp.read()
            except TimeoutError as error:
                message = f"the body did not come in within {settings.body_wait_s:g} seconds"
                raise Malformed(message) from error

    def body(self, shape: type[Any]) -> Any:  # noqa: ANN401  # an instance of *shape*
        """The body as a record of *shape*; an absent body is an empty object."""
        return self.parse(shape, self.content())

    def parse(self, shape: type[Any], content: bytes) -> Any:  # noqa: ANN401  # an instance of *shape*
        """*content* as a record of *shape*."""
        return parse(shape, content or b"{}", depth_max=self.service.settings.json_depth_max)

    def mark(self, content: bytes) -> MarkRequest | None:
        """
        What the request's Idempotency-Key asks to be remembered, if it has one.

        Raises:
            InvalidCommand: The key is empty or too long.
        """
        key = self.request.head.idempotency_key
        if key is None:
            return None
        longest = self.service.settings.idempotency_key_characters_max
        if not (0 < len(key) <= longest and key.isascii() and key.isprintable()):
            message = f"an Idempotency-Key has 1 to {longest} printable ASCII characters"
            raise InvalidCommand(message)
        # The key is one for all that the caller does: the same one for another path is another request, and so it is
        # for another owner, which may stand in the query.
        target = f"{self.request.method} {self.request.url!s}\n".encode()
        digest = hashlib.sha256(target + content).hexdigest()
        return MarkRequest(self.principal.actor, _SCOPE, key, digest)


def respond(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A JSON answer that nobody may keep; *headers* are its own from now on."""
    return Reply(content, status, {} if headers is None else headers)


def _too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"a body holds at most {bytes_max} bytes")


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

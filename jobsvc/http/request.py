"""
The request: what was asked, as our handlers see it, whether the fast path or aiohttp's own loop read it.

It holds the little that nearly every handler wants; what its head says is looked up once, and stays with the head where
that comes again. aiohttp's own request, which knows cookies, addresses and how an answer is written piece by piece, is
made when somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http import RawRequestMessage
    from multidict import MultiMapping

    from jobsvc.http.fast_path import FastPath  # noqa: TC004  # it is told to type checkers alone
    from jobsvc.http.identity import Credential
    from jobsvc.http.service import Service

JSON: Final = "application/json"


class Adorned(web.BaseRequest):
    """aiohttp's request, whose answer tells browsers what it has to, whoever makes it."""

    def __init__(self, *parts: Any, service: Service) -> None:  # noqa: ANN401  # message, payload, protocol, writer, ...
        """
        It may be answered.

        Args:
            parts: Message, payload, protocol, writer, task and loop.
            service: Its settings bound the body, its browsers are told of.
        """
        super().__init__(*parts, client_max_size=service.settings.body_bytes_max)
        self._browsers = service.browsers

    @property
    def told(self) -> bytes:
        """What its answer tells a browser, as the lines of a head."""
        return self._browsers.lines(self.headers)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        self._browsers.adorn(self.headers, response)


class Head:
    """
    What a request's head says, of which more than one request may have the same, byte for byte, on one connection.

    Attributes:
        read: As aiohttp read it: its message or, where its own loop did, its request.
        method: In capitals.
        url: What is asked for, from its path on.
        headers: As sent.
        authorization, host, request_id, prefer, idempotency_key: The headers of these names; None if not sent.
        is_plain_json: It announces JSON, as it is, in the words that nearly all use.
        passed_as: As whom it last passed every check that says the same of the same head and caller each time.
    """

    __slots__ = (
        "authorization",
        "headers",
        "host",
        "idempotency_key",
        "is_plain_json",
        "method",
        "passed_as",
        "prefer",
        "read",
        "request_id",
        "url",
    )

    def __init__(self, read: RawRequestMessage | Adorned, url: URL) -> None:
        """Nobody has passed with it."""
        self.read = read
        self.method: str = read.method
        self.url = url
        self.headers: CIMultiDictProxy[str] = read.headers
        sent = self.headers.get
        self.authorization = sent("Authorization")
        self.host = sent("Host")
        self.request_id = sent("X-Request-Id")
        self.prefer = sent("Prefer")
        self.idempotency_key = sent("Idempotency-Key")
        self.is_plain_json = sent("Content-Type") == JSON and "Content-Encoding" not in self.headers
        self.passed_as: Credential | None = None


class Request(Struct, eq=False):
    """
    A request whose head was read.

    Attributes:
        head: What its head says.
        method: In capitals.
        url: What was asked for, from its path on.
        headers: As sent.
        whole: The body, no larger than may be, where it is there; None where it has to be waited for.
        connection: What read it; None where aiohttp's own loop did.

    A record, since each request makes one, and msgspec makes records at a fraction of what ``__init__`` costs.
    """

    head: Head
    method: str
    url: URL
    headers: CIMultiDictProxy[str]
    whole: bytes | None
    connection: FastPath | None
    _adorned: Adorned | None = None

    @property
    def aiohttp(self) -> Adorned:
        """The same as aiohttp has it, on which an answer can be written piece by piece."""
        if self._adorned is None:
            read = self.head.read
            if isinstance(read, Adorned):
                self._adorned = read
            else:
                assert self.connection is not None  # noqa: S101  # what read the message
                self._adorned = self.connection.adorned(read)
        return self._adorned

    @property
    def path(self) -> str:
        """What was asked for, decoded."""
        return self.url.path

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters in the URL, decoded."""
        return self.url.query

    @property
    def transport(self) -> asyncio.Transport | None:
        """What the answer goes out by; None once the client is gone."""
        return self.aiohttp.transport if self.connection is None else self.connection.transport

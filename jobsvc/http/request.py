"""
The request: what was asked, as our handlers see it, whether the fast path or aiohttp's own loop read it.

It holds the little that nearly every handler wants. aiohttp's own request, which knows cookies, addresses and how an
answer is written piece by piece, is made when somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http import RawRequestMessage
    from multidict import CIMultiDictProxy, MultiMapping
    from yarl import URL

    from jobsvc.http.fast_path import FastPath
    from jobsvc.http.service import Service


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


class Request:
    """
    A request whose head was read.

    Attributes:
        method: In capitals.
        url: What was asked for, from its path on.
        headers: As sent.
        whole: The body, no larger than may be, where it is there; None where it has to be waited for.
        connection: What read it; None where aiohttp's own loop did.
    """

    __slots__ = ("_read", "connection", "headers", "method", "url", "whole")

    def __init__(
        self, read: RawRequestMessage | Adorned, url: URL, whole: bytes | None, connection: FastPath | None
    ) -> None:
        """
        It was *read*; either its message and *connection* are given, or aiohttp's request.
        """
        self._read = read
        self.method: str = read.method
        self.headers: CIMultiDictProxy[str] = read.headers
        self.url = url
        self.whole = whole
        self.connection = connection

    @property
    def aiohttp(self) -> Adorned:
        """The same as aiohttp has it, on which an answer can be written piece by piece."""
        read = self._read
        if not isinstance(read, Adorned):
            assert self.connection is not None  # noqa: S101  # who gave a message gave the connection too
            self._read = read = self.connection.adorned(read)
        return read

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

"""
Requests over a bare socket: what was sent is known to the byte, and so is whether an answer came.

A connection knows nothing of retries, pools or redirects; when its peer dies, whoever asked learns that no answer came,
which is not the same as that nothing was done.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

JSON: TypeAlias = Any
"""
What a parser makes of JSON.
"""

PATIENCE_S: Final = 20.0


class NoAnswer(Exception):
    """
    The connection ended before a whole answer had come.
    """


@dataclass(frozen=True)
class Request:
    """
    What is sent, and what it is for.

    Attributes:
        verb: A word for what it asks: ``create``, ``claim``, ``complete`` …
        token: The bearer's.
        idempotency_key: If it has one, it may be sent again.
    """

    verb: str
    method: str
    path: str
    token: str
    body: JSON = None
    idempotency_key: str | None = None
    owner: str | None = None

    def content(self, host: str) -> bytes:
        """
        The request as it goes over the wire.
        """
        body = b"" if self.body is None else json.dumps(self.body).encode()
        head = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {self.token}"]
        if self.body is not None:
            head.append("Content-Type: application/json")
        if self.idempotency_key is not None:
            head.append(f"Idempotency-Key: {self.idempotency_key}")
        head.append(f"Content-Length: {len(body)}")
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Answer:
    """
    What came back, whole.
    """

    status: int
    headers: Mapping[str, str]
    body: JSON = field(default=None)


class RawConnection:
    """
    One connection that is kept alive, for one request at a time.
    """

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> RawConnection:
        """
        A connection to the service at *url*.
        """
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**22)
        return cls(parts.netloc, reader, writer)

    async def ask(self, request: Request) -> Answer:
        """
        The answer to *request*.

        Raises:
            NoAnswer: None came, or not all of one.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._writer.write(request.content(self._host))
                return await self._answer()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise NoAnswer from error

    async def close(self) -> None:
        """
        The connection is gone.
        """
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return

    async def _answer(self) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split(" ")[1]), headers, json.loads(content) if content else None)

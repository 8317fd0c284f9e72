"""
The request: aiohttp's, with what every answer to it tells a browser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from jobsvc.http.service import Service


class Request(web.BaseRequest):
    """
    A request whose answer is adorned, whoever makes it: a handler, a stream, the edge, or aiohttp itself.

    Attributes:
        whole: The body, where all of it came with the head; None where it has to be waited for.
    """

    def __init__(self, *parts: Any, service: Service, whole: bytes | None = None) -> None:  # noqa: ANN401  # aiohttp's
        """
        It may be answered.

        Args:
            parts: Message, payload, protocol, writer, task and loop.
            service: Its settings bound the body, its browsers are told of.
            whole: See above.
        """
        super().__init__(*parts, client_max_size=service.settings.body_bytes_max)
        self._browsers = service.browsers
        self.whole = whole

    @property
    def told(self) -> bytes:
        """What its answer tells a browser, as the lines of a head."""
        return self._browsers.lines(self)

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        self._browsers.adorn(self, response)

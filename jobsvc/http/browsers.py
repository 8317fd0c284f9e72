"""
The browsers: of which origins pages may read our answers, and what every answer tells a browser besides.

All headers are made once, at start; an answer costs a look-up. Never ``*`` and never ``null``: an origin is named in a
setting or it is a stranger. Whether a *write* of another origin counts is origins.py's; here is only who may read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SENT: Final = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer, X-Request-Id"
)
_EXPOSED: Final = (
    "Allow, ETag, Idempotency-Replayed, Location, Preference-Applied, Retry-After, WWW-Authenticate, X-Request-Id"
)
_PREFLIGHT_MAX_AGE_S: Final = 7_200
"""No browser keeps what a preflight said for longer than this, whatever it is told (Chromium's bound)."""

_GUARDS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # Of what is no page nothing is ever run or framed; a page brings its own.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""On every answer that does not say otherwise itself."""
_SERVER: Final = "jobsvc"
"""Instead of aiohttp's own, which names its version and Python's to whoever looks for an old one."""


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode()


class Browsers:
    """
    What answers tell browsers. One per service.

    Attributes:
        strangers_lines: What they tell pages of no allowed origin, and whoever was not heard, as the lines of a head.
    """

    def __init__(self, allowed: Iterable[str], *, hsts_max_age_s: int = 0) -> None:
        """
        Pages of the *allowed* origins may read answers, with credentials; nobody else's.

        Args:
            allowed: As browsers write them: ``https://app.example``, without a slash at the end.
            hsts_max_age_s: For so long they shall come over TLS alone; 0 where that is not for us to say.
        """
        # For this host only: what else there is on its domain is not ours to speak for.
        hsts = (("Strict-Transport-Security", f"max-age={hsts_max_age_s}"),) if hsts_max_age_s else ()
        self._guards = _GUARDS + hsts
        self._told = {
            origin: {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Expose-Headers": _EXPOSED,
                "Vary": "Origin",
            }
            for origin in allowed
        }
        # A cache must know that somebody else might be answered otherwise, strangers' answers included.
        self._strangers = {"Vary": "Origin"} if self._told else {}
        always = _lines((("Server", _SERVER), *self._guards))
        self._lines = {origin: always + _lines(told.items()) for origin, told in self._told.items()}
        self.strangers_lines = always + _lines(self._strangers.items())

    def adorn(self, asked: Mapping[str, str], response: web.StreamResponse) -> None:
        """*response*, about to answer a request with the headers *asked*, says what browsers may do with it."""
        headers = response.headers
        headers[hdrs.SERVER] = _SERVER
        for name, value in self._guards:
            if name not in headers:
                headers.add(name, value)
        if self._told:
            headers.extend(self._told.get(asked.get(hdrs.ORIGIN, ""), self._strangers))

    def lines(self, asked: Mapping[str, str]) -> bytes:
        """The same as ``adorn`` adds, as the lines of a head, where the answer says nothing of it itself."""
        if not self._told:
            return self.strangers_lines
        return self._lines.get(asked.get(hdrs.ORIGIN, ""), self.strangers_lines)

    def preflight(self, asked: Mapping[str, str], methods: str) -> web.Response:
        """The answer to OPTIONS: what the path takes, and for a page of an allowed origin what it may send."""
        headers = {"Allow": methods}
        if asked.get(hdrs.ORIGIN, "") in self._told and "Access-Control-Request-Method" in asked:
            headers["Access-Control-Allow-Methods"] = methods
            headers["Access-Control-Allow-Headers"] = _SENT
            headers["Access-Control-Max-Age"] = str(_PREFLIGHT_MAX_AGE_S)
        return web.Response(status=204, headers=headers)

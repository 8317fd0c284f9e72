"""
The page at ``/``: the active jobs, live, in one small file of HTML and one of script; a client of the public API only.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from jobsvc.http.call import Call

_FOLDER: Final = files("jobsvc.http") / "page"
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


async def home(call: Call) -> web.Response:
    """``GET /``: the page."""
    return _file(call, "home.html", "text/html")


async def script(call: Call) -> web.Response:
    """``GET /home.js``: its script."""
    return _file(call, "home.js", "text/javascript")


async def style(call: Call) -> web.Response:
    """``GET /home.css``: its style."""
    return _file(call, "home.css", "text/css")


def _file(call: Call, name: str, content_type: str) -> web.Response:
    del call
    content = (_FOLDER / name).read_bytes()
    return web.Response(body=content, headers=_HEADERS, content_type=content_type, charset="utf-8")

"""
The page at ``/``: the active jobs, live, in one small file of HTML and one of script; a client of the public API only.

Here are the files of the pages and the headers that all pages carry; what stands at ``/docs`` is made in reference.py.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from jobsvc.http.call import Call

_FOLDER: Final = files("jobsvc.http") / "page"
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of everything that a browser shows: nothing from elsewhere, in nobody's frame."""


async def reference_style(call: Call) -> web.Response:
    """``GET /docs.css``: the style of the reference."""
    return _file(call, "docs.css", "text/css")


def _file(call: Call, name: str, content_type: str) -> web.Response:
    del call
    content = (_FOLDER / name).read_bytes()
    return web.Response(body=content, headers=HEADERS, content_type=content_type, charset="utf-8")

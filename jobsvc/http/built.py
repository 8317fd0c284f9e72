"""
What npm built from clients/ and this service serves: the browser client under its version, and the dashboard.

They are built by ``make setup``, which needs Node; a service that was installed without them says so, and everything
else works. What must never live here: a file of anybody else's.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jobsvc.http.pages import HEADERS
from jobsvc.http.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.http.call import Call

_FOLDER: Final = files("jobsvc.http")
_TYPES: Final = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
_CLIENT: Final = frozenset({"jobsvc.js", "worker.js", "react.js", "compat.js"})
_DASHBOARD: Final = frozenset({"app.js", "app.css"})

_OF_MODULES: Final = {
    "Cache-Control": "public, no-cache",
    # A worker lives under the policy that it came with, not under its page's.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'",
}
_OF_THE_PAGE: Final = HEADERS | {
    # Charts have sizes of their own, which they set by script and not as attributes.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; worker-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


async def module(call: Call) -> web.Response:
    """
    ``GET /client/v1/{name}``: one module of the browser client.

    Raises:
        NotFound: There is none of that name, or the client was not built.
    """
    if call.named not in _CLIENT:
        raise NotFound(f"the client has {', '.join(sorted(_CLIENT))}")
    return _answer(call, f"client/{call.named}", _OF_MODULES)


async def dashboard_file(call: Call) -> web.Response:
    """
    ``GET /dashboard/{name}``: its script or its style.

    Raises:
        NotFound: There is none of that name, or the dashboard was not built.
    """
    if call.named not in _DASHBOARD:
        raise NotFound(f"the dashboard has {', '.join(sorted(_DASHBOARD))}")
    return _answer(call, f"dashboard/{call.named}", _OF_MODULES)


async def dashboard(call: Call) -> web.Response:
    """``GET /``: the dashboard, or how to get it."""
    try:
        return _answer(call, "dashboard/index.html", _OF_THE_PAGE)
    except NotFound:
        return web.Response(body=_UNBUILT, headers=_OF_THE_PAGE, content_type="text/html", charset="utf-8")


def _answer(call: Call, name: str, headers: Mapping[str, str]) -> web.Response:
    content, tag = _read(name)
    headers = {**headers, "ETag": tag}
    if call.request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers=headers, content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8")


@lru_cache(maxsize=len(_CLIENT) + len(_DASHBOARD) + 1)
def _read(name: str) -> tuple[bytes, str]:
    place = _FOLDER / name
    if not place.is_file():
        raise NotFound("this was not built: run make setup where there is Node 20, or install a wheel")
    content = place.read_bytes()
    return content, f'"{sha256(content).hexdigest()[:32]}"'


_UNBUILT: Final = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>jobsvc</title><h1>The dashboard is not built</h1>'
    b"<p>The service works. For the dashboard run <code>make setup</code> where there is Node 20, and start it again; "
    b'or install a wheel, which has it. The API is described at <a href="/docs">/docs</a>.</p></html>'
)

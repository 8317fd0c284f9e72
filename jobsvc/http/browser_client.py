"""
The browser client as the service serves it: a few built modules under a path that names their version.

They are built from clients/browser by ``make setup``, which needs Node; a service that was installed without them says
so, and everything else works.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

from jobsvc.http.problems import NotFound

if TYPE_CHECKING:
    from jobsvc.http.call import Call

NAMES: Final = ("jobsvc.js", "worker.js", "react.js", "compat.js")
_FOLDER: Final = files("jobsvc.http") / "client"
_POLICY: Final = "default-src 'none'; script-src 'self'; connect-src 'self'"
"""A worker lives under the policy that it came with, not under its page's."""


async def module(call: Call) -> web.Response:
    """
    ``GET /client/v1/{name}``: one module.

    Raises:
        NotFound: There is none of that name, or the client was not built.
    """
    if call.named not in NAMES:
        raise NotFound(f"the client has {', '.join(NAMES)}")
    content, tag = _read(call.named)
    headers = {"ETag": tag, "Cache-Control": "public, no-cache", "Content-Security-Policy": _POLICY}
    if call.request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=content, headers=headers, content_type="text/javascript", charset="utf-8")


@lru_cache(maxsize=len(NAMES))
def _read(name: str) -> tuple[bytes, str]:
    place = _FOLDER / name
    if not place.is_file():
        raise NotFound("the browser client was not built: run make setup where there is Node 20, or install a wheel")
    content = place.read_bytes()
    return content, f'"{sha256(content).hexdigest()[:32]}"'

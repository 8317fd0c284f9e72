"""
Held: a verb is done by the service that holds the file, where one does, else by this process on the file itself.

The lock file beside the database says where the service is. It is asked as an operator, with a token signed here by
JOBSVC_SECRET or the secret beside the database, under the name of whoever is logged in.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from jobsvc.cli.options import Misused, Wrong, secret_of
from jobsvc.cli.progress import counting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobsvc.operate.owner import Owner
    from jobsvc.settings_loading import Loaded

Result = TypeVar("Result")

_TOKEN_TTL_S: Final = 86_400.0
"""An act may take long, but not so long."""

_LINES: Final = "application/x-ndjson"

_LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""The last line holds all that was found."""


class _Line(msgspec.Struct):
    done: int = 0
    of: int = 0
    result: msgspec.Raw = msgspec.Raw()
    problem: dict[str, Any] | None = None


class NotKnown(Exception):
    """The service that holds the file does not know our secret."""


def through_service(
    loaded: Loaded,
    verb: str,
    *,
    body: Mapping[str, Any],
    answer: type[Result],
    looks_only: bool = False,
    path: str | None = None,
) -> Result | None:
    """
    What the service that holds the file answers to ``POST /api/operator/{verb}``; None if there is none.

    Args:
        loaded: The settings: which database, and which secret.
        verb: As it stands in the path.
        body: What to send; what is None is left out.
        answer: The record that the answer is.
        looks_only: The verb can as well look at the file itself: that is what None says, too, where the service cannot
            be asked for want of its secret.
        path: Where to ask, if not there.

    Raises:
        Misused: The request was refused as it stands, or the service does not know us.
        Wrong: The service met something wrong, or went away.
    """
    from jobsvc.operate.owner import owner_of

    owner = owner_of(loaded.settings.database_path)
    if owner is None:
        return None
    try:
        token = _token(secret_of(loaded))
        said = {name: value for name, value in body.items() if value is not None}
        return msgspec.json.decode(
            asyncio.run(_ask(owner, verb, said, token=token, path=path or f"/api/operator/{verb}")), type=answer
        )
    except (NotKnown, Misused) as error:
        if looks_only:
            return None
        if isinstance(error, Misused):
            raise
        raise Misused(
            "a service holds this database, and knows another secret: set JOBSVC_SECRET to the one that it was given"
        ) from error


async def _ask(owner: Owner, verb: str, body: Mapping[str, Any], *, token: str, path: str) -> bytes:
    """The result, as it was answered; whoever waits sees how far it is."""
    import aiohttp

    headers = {"Accept": _LINES, "Authorization": f"Bearer {token}"}
    if owner.host is not None:
        headers["Host"] = owner.host
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, read_bufsize=_LINE_BYTES_MAX) as session,
            session.post(owner.url + path, json=body, headers=headers) as response,
        ):
            if response.status != 200:  # noqa: PLR2004
                raise _refusal(await response.json(content_type=None))
            return await (_last(response, verb) if response.content_type == _LINES else response.read())
    except (aiohttp.ClientError, ConnectionError) as error:
        raise Wrong(f"the service at {owner.url} went away: {error}") from error


async def _last(response: Any, verb: str) -> bytes:  # noqa: ANN401  # aiohttp's own, which is imported late
    with counting(verb, 0) as progress:
        async for text in response.content:
            line = msgspec.json.decode(text, type=_Line)
            if line.problem is not None:
                raise _refusal(line.problem)
            if line.result:
                return bytes(line.result)
            progress(line.done, line.of)
    raise Wrong("the service ended before it was done")


def _refusal(problem: Mapping[str, Any]) -> Exception:
    status, detail = problem.get("status", 500), str(problem.get("detail"))
    if status == 401:  # noqa: PLR2004
        return NotKnown()
    return Misused(detail) if status == 422 else Wrong(detail)  # noqa: PLR2004


def _token(secret: str) -> str:
    from jobsvc.tokens import issue

    return issue(secret, "operator", subject=_who(), ttl_s=_TOKEN_TTL_S, now=time.time_ns() // 1000)


def _who() -> str:
    """Whoever is logged in, for the service's log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"

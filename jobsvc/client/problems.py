"""
What can go wrong for a client: no answer, or an answer that says why not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from jobsvc.client.records import Job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp


class ClientError(Exception):
    """The service did not do what was asked."""


class Unreachable(ClientError):
    """No answer came, or only that the service cannot answer now, for as long as the client was willing to repeat."""


class Problem(ClientError):
    """
    The service refused, and said why.

    Attributes:
        status: Of HTTP.
        code: Stable, for programs: ``not-found``, ``job-active``, ``lease-lost``, and so on.
        title: For people, the same for each code.
        detail: For people, about this refusal.
        request_id: To be named to an operator.
        retry_after_s: When it may be tried again, if the service said so.
        errors: Which fields of the body are wrong: ``[{pointer, message}]``.
        job: The job as it stands, where that is why it was refused.
        may_complete: True if a lost lease still allows a complete.
    """

    def __init__(self, status: int, body: Mapping[str, Any], *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.code = str(body.get("code", "unknown"))
        self.title = str(body.get("title", "The service refused"))
        self.detail = str(body.get("detail") or "")
        self.request_id = body.get("request_id")
        self.retry_after_s = retry_after_s
        self.errors: Sequence[Mapping[str, str]] = body.get("errors") or ()
        self.job: Job | None = None if body.get("job") is None else msgspec.convert(body["job"], Job)
        self.may_complete = bool(body.get("may_complete"))
        super().__init__(f"{status} {self.code}: {self.detail or self.title}")


async def read_problem(response: aiohttp.ClientResponse) -> Problem:
    """The refusal in *response*, whatever its body is: a proxy in between writes its own."""
    try:
        body = msgspec.json.decode(await response.read())
    except msgspec.DecodeError:
        body = {}
    after = response.headers.get("Retry-After", "")
    retry_after_s = float(after) if after.replace(".", "", 1).isdigit() else None
    return Problem(response.status, body if isinstance(body, dict) else {}, retry_after_s=retry_after_s)

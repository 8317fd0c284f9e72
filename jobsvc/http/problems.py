"""
The problems: every refusal and fault as ``application/problem+json`` (RFC 9457), with a stable code.

The one place where the domain's errors meet HTTP's numbers. No stack trace, SQL or path ever leaves through here: a
fault of ours says only that there was one, and under which request id to look for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobsvc.domain.errors import (
    InvalidCommand,
    JobsvcError,
    LeaseLost,
    Rejected,
    RejectedWithJob,
    SlowDown,
    TooManyActive,
    Unavailable,
)
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "malformed": 400,
    "unauthenticated": 401,
    "access-denied": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "duplicate-job": 409,
    "lease-lost": 409,
    "job-active": 409,
    "version-mismatch": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    "misdirected": 421,
    "invalid": 422,
    "idempotency-key-reused": 422,
    "slow-down": 429,
    "too-many-active": 429,
    "internal": 500,
    "unavailable": 503,
    "draining": 503,
}

TITLE_OF_CODE: Final[Mapping[str, str]] = {
    "malformed": "Malformed request",
    "unauthenticated": "Authentication needed",
    "access-denied": "Access denied",
    "not-found": "Not found",
    "method-not-allowed": "Method not allowed",
    "duplicate-job": "Duplicate job",
    "lease-lost": "Lease lost",
    "job-active": "Job is active",
    "version-mismatch": "Version mismatch",
    "too-large": "Too large",
    "unsupported-media-type": "Unsupported media type",
    "misdirected": "Misdirected request",
    "invalid": "Invalid request",
    "idempotency-key-reused": "Idempotency-Key reused",
    "slow-down": "Slow down",
    "too-many-active": "Too many active jobs",
    "internal": "Internal error",
    "unavailable": "Unavailable",
    "draining": "Draining",
}

CONTENT_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 1


class Unauthenticated(Rejected):
    """A valid bearer token or session cookie is needed."""

    code = "unauthenticated"


class Malformed(Rejected):
    """The request is not well formed."""

    code = "malformed"


class NotFound(Rejected):
    """There is nothing at this path."""

    code = "not-found"


class MethodNotAllowed(Rejected):
    """This path does not take that method."""

    code = "method-not-allowed"

    def __init__(self, allowed: str, *, message: str | None = None) -> None:
        super().__init__(message or f"this path takes {allowed}")
        self.allowed = allowed


class TooLarge(Rejected):
    """The request holds more than it may."""

    code = "too-large"


class UnsupportedMediaType(Rejected):
    """The body must be JSON; say so with Content-Type: application/json."""

    code = "unsupported-media-type"


class Misdirected(Rejected):
    """This host name is not served here; the setting allowed_hosts names those that are."""

    code = "misdirected"


class InternalFault(JobsvcError):
    """Something went wrong on our side; the log has it under this request id."""

    code = "internal"


def problem(error: JobsvcError, *, instance: str, request_id: str) -> dict[str, Any]:
    """The members of the problem document of *error*, the job that it shows included."""
    code = error.code
    members: dict[str, Any] = {
        "type": f"urn:jobsvc:problem:{code}",
        "title": TITLE_OF_CODE[code],
        "status": STATUS_OF_CODE[code],
        "detail": error.message,
        "instance": instance,
        "code": code,
        "request_id": request_id,
    }
    if isinstance(error, InvalidCommand):
        members["errors"] = [{"pointer": error.pointer, "message": error.message}]
    if isinstance(error, RejectedWithJob) and error.job is not None:
        members["job"] = job_resource(error.job)
    if isinstance(error, LeaseLost):
        members["may_complete"] = error.may_complete
    return members


def problem_response(error: JobsvcError, *, instance: str, request_id: str, cleanup: bool = False) -> web.Response:
    """The answer that tells *error*; on the cleanup path with what its callers have always looked for."""
    members = problem(error, instance=instance, request_id=request_id)
    if cleanup:
        members |= {"success": False, "error": {"message": error.message}}
    response = web.Response(status=members["status"], body=encode(members))
    response.content_type = CONTENT_TYPE
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Request-Id"] = request_id
    if isinstance(error, (Unavailable, SlowDown, TooManyActive)):
        response.headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after_s", _RETRY_AFTER_S)))
    if error.code == Unauthenticated.code:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    return response

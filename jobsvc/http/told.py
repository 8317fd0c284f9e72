"""
What is told of requests that were not done as asked, and of operators' acts: log lines and counts, beside the answer.

What stands in a line is of ours (codes, route patterns, roles), an id, or an operator's own reason. Never a path as it
was sent, nor a method that HTTP does not know: a caller can write anything there.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import JobsvcError
from jobsvc.domain.ids import is_job_id
from jobsvc.telemetry import log, log_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.answers import Result
    from jobsvc.http.call import Call
    from jobsvc.telemetry import Fields

PUT_OFF: Final = frozenset({"slow-down", "too-many-active", "unavailable", "draining"})
"""Codes that tell a caller to come back later: somebody waits."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READS: Final = frozenset({"GET", "HEAD"})


def tell_refusal(call: Call, code: str, *, route: str | None) -> None:
    """One line and one count say that the request was refused with *code*; an operator's is an act as well."""
    call.service.metrics.refusals.labels(code).inc()
    _log_refused(call, code, route=route)
    tell_act(call, route=route, code=code)


def tell_refused_parts(call: Call, results: Sequence[Result]) -> None:
    """One line by code, and a count each, say which of the request's parts were refused."""
    for code, count in Counter(one.code for one in results if isinstance(one, JobsvcError)).items():
        call.service.metrics.refusals.labels(code).inc(count)
        _log_refused(call, code, route=call.request.path, count=count)


def tell_fault(call: Call, fault: Exception, *, route: str | None) -> None:
    """One line says that the request met *fault*, a fault of ours."""
    log_failure("request.failed", fault, **_of_request(call, route))
    tell_act(call, route=route, code="internal")


def tell_act(call: Call, *, route: str | None, code: str | None = None) -> None:
    """If an operator asked for more than to read, one line says so, and with which *code* it was refused, if it was."""
    credential, method = call.credential, _method(call)
    if credential is None or credential.bearer.principal.role != "operator" or method in _READS:
        return
    told: Fields = {
        "actor": credential.bearer.principal.actor,
        "act": f"{method} {route}",
        "job_id": call.named if is_job_id(call.named) else None,
        "code": code,
        "request_id": call.request_id,
    }
    log("operator.acted", **(told | call.noted))


def _log_refused(call: Call, code: str, *, route: str | None, count: int | None = None) -> None:
    parts: Fields = {"code": code, "count": count}
    log("request.put_off" if code in PUT_OFF else "request.refused", **(parts | _of_request(call, route)))


def _of_request(call: Call, route: str | None) -> Fields:
    """Who asked for what, in words of ours, and how long it took."""
    credential = call.credential
    return {
        "method": _method(call),
        "route": route,
        "role": None if credential is None else credential.bearer.principal.role,
        "request_id": call.request_id,
        "duration_ms": round((time.monotonic() - call.begun_s) * 1000, 3),
    }


def _method(call: Call) -> str:
    return call.request.method if call.request.method in _METHODS else "other"

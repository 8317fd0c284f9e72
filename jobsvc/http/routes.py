"""
The routes, as data: method, path, who may call, what answers.

The one table; documents, tests and the router read it. Who may do what with *which* job is not here but in the domain,
and what a request may say and is answered stands in catalogue, an entry for each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.http import (
    built,
    creates,
    figures,
    jobs,
    lists,
    operators,
    pages,
    past,
    projections,
    reference,
    sessions,
    standings,
    verbs,
    workers,
)
from jobsvc.http.edge import Route

if TYPE_CHECKING:
    from jobsvc.domain.words import Role
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response

_OWNERS: Final[frozenset[Role]] = frozenset({"guest", "user", "service", "operator"})
_USERS: Final[frozenset[Role]] = frozenset({"user", "service", "operator"})
_READERS: Final[frozenset[Role]] = _OWNERS | {"viewer"}
_WORKERS: Final[frozenset[Role]] = frozenset({"worker", "operator"})
_OPERATORS: Final[frozenset[Role]] = frozenset({"operator"})


async def _stream(call: Call) -> Response:
    return await call.service.streams.of_caller(call)


async def _document(call: Call) -> Response:
    return await reference.answer_json(call, ROUTES)


async def _reference(call: Call) -> Response:
    return await reference.answer_page(call, ROUTES)


ROUTES: Final[tuple[Route, ...]] = (
    Route("POST", "/api/sessions/guest", None, sessions.guest, "A guest, and its cookie."),
    Route("POST", "/api/sessions/claim", _USERS, sessions.claim, "All that a guest has becomes the user's."),
    Route("POST", "/api/sessions/link", None, sessions.link, "A token for the code of a dashboard link."),
    Route("POST", "/api/jobs", _OWNERS, creates.create, "Make a job, or attach to the one that does the same work."),
    Route(
        "GET",
        "/api/jobs",
        _READERS,
        lists.list_jobs,
        "Jobs, newest first, ended ones included.",
        query=frozenset({"state", "kind", "key", "owner", "limit", "after"}),
    ),
    Route("POST", "/api/jobs/batch", _OWNERS, creates.create_batch, "Up to 500 creates, each on its own."),
    Route(
        "GET",
        "/api/jobs/active",
        _READERS,
        lists.active,
        "The active jobs and nothing else.",
        query=frozenset({"url", "key", "kind", "owner", "limit", "after", "as_of"}),
    ),
    Route("POST", "/api/jobs/cleanup/{id}", _OWNERS, jobs.clean_up, "Off the list what is over.", cleanup=True),
    Route("GET", "/api/jobs/{id}", _READERS, jobs.get, "A job; held with wait_s until it moves on."),
    Route("GET", "/api/jobs/{id}/events", _READERS, jobs.history, "What happened to a job, or its stream."),
    Route("GET", "/api/jobs/{id}/explain", _READERS, jobs.explain, "Why a job is as it is, in sentences."),
    Route("POST", "/api/jobs/{id}/cancel", _OWNERS, jobs.cancel, "Stop a job."),
    Route("POST", "/api/jobs/{id}/retry", _OWNERS, creates.retry, "Make a job that asks for the same as an ended one."),
    Route("GET", "/api/stream", _READERS, _stream, "Everything that the caller may see, live.", ticket=True),
    Route("POST", "/api/stream/tickets", _READERS, sessions.ticket, "A stream once, for who can send no header."),
    Route("POST", "/api/worker/claim", _WORKERS, workers.claim, "Jobs for a worker."),
    Route("POST", "/api/worker/reports", _WORKERS, workers.reports, "Up to 500 reports, each on its own."),
    Route("POST", "/api/worker/jobs/{id}/heartbeat", _WORKERS, workers.heartbeat, "A sign of life."),
    Route("POST", "/api/worker/jobs/{id}/progress", _WORKERS, workers.progress, "How far it is."),
    Route("POST", "/api/worker/jobs/{id}/complete", _WORKERS, workers.complete, "The result."),
    Route("POST", "/api/worker/jobs/{id}/fail", _WORKERS, workers.fail, "That it failed."),
    Route("POST", "/api/worker/jobs/{id}/release", _WORKERS, workers.release, "That it is given back."),
    Route(
        "GET",
        "/api/log",
        _OPERATORS,
        operators.log,
        "The log from a position on.",
        query=frozenset({"after", "limit", "job", "type"}),
    ),
    Route("GET", "/api/log/head", _OPERATORS, operators.head, "The end of the log."),
    Route("GET", "/api/streams", _OPERATORS | {"viewer"}, standings.streams, "How the open streams stand."),
    Route("GET", "/api/workers", _OPERATORS | {"viewer"}, figures.workers, "Who holds what."),
    Route(
        "GET",
        "/api/stats",
        _OPERATORS | {"viewer"},
        figures.stats,
        "What happened lately, step by step.",
        query=frozenset({"window_s", "step_s"}),
    ),
    Route("GET", "/api/projections", _OPERATORS | {"viewer"}, projections.projections, "How far each view is."),
    Route("POST", "/api/projections/{name}/rebuild", _OPERATORS, projections.rebuild_projection, "A view anew."),
    Route(
        "POST",
        "/api/projections/{name}/parked",
        _OPERATORS,
        projections.settle_parked,
        "What a view could not take in.",
    ),
    Route("POST", "/api/operator/verify", _OPERATORS, verbs.verify, "Whether the log and its views are whole."),
    Route("POST", "/api/operator/doctor", _OPERATORS, verbs.doctor, "What each check finds, a sentence each."),
    Route("POST", "/api/operator/backup", _OPERATORS, verbs.backup, "A verified copy beside the service."),
    Route(
        "GET",
        "/api/operator/state-at",
        _OPERATORS,
        past.state_at,
        "A job, or all active ones, as of a position or a time.",
        query=frozenset({"at", "job", "limit", "after"}),
    ),
    Route(
        "GET",
        "/api/operator/diff",
        _OPERATORS,
        past.diff,
        "What changed between two positions or times.",
        query=frozenset({"since", "until", "limit", "after"}),
    ),
    Route(
        "GET",
        "/api/operator/bisect",
        _OPERATORS,
        past.search,
        "Which event made something so.",
        query=frozenset({"predicate", "job", "since", "until"}),
    ),
    Route(
        "GET",
        "/api/operator/explain",
        _OPERATORS,
        past.urls,
        "Whether two URLs are the same work, and by which rule.",
        query=frozenset({"url", "kind"}),
    ),
    Route("POST", "/api/operator/erase", _OPERATORS, verbs.erase, "What is to be forgotten, is gone."),
    Route("POST", "/api/operator/archive", _OPERATORS, verbs.archive, "What ended long ago, in segments."),
    Route("POST", "/api/operator/revoke", _OPERATORS, operators.revoke, "Whose tokens count no more."),
    Route("GET", "/healthz", None, operators.healthz, "The process answers."),
    Route("GET", "/readyz", None, operators.readyz, "Commands are taken and can be written."),
    Route("GET", "/metrics", None, operators.metrics, "Metrics for Prometheus."),
    Route("GET", "/", None, built.dashboard, "The dashboard."),
    Route("GET", "/dashboard/{name}", None, built.dashboard_file, "Its script and its style."),
    Route("GET", "/openapi.json", None, _document, "All of this as an OpenAPI 3.1 document."),
    Route("GET", "/docs", None, _reference, "That document to read."),
    Route("GET", "/client/v1/{name}", None, built.module, "The browser client, as modules."),
    Route("GET", "/docs.css", None, pages.reference_style, "How it looks."),
)

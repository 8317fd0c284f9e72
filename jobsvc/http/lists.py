"""
The endpoints that show many jobs: the active ones, and all of them.

The active ones are read from memory, with the cursor of the very same turn, so that a stream can go on from the list;
ended ones are found in the view history and folded from their events. What must never live here: who may see a job,
which is asked of the caller's principal, or anything that changes one.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, Final, get_args

from msgspec import UNSET

from jobsvc.channel import Scope
from jobsvc.domain.errors import InvalidCommand
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.keys import UnusableUrl, key_from_url, keys_for_any, profile_for, profiles_in_use
from jobsvc.domain.words import State
from jobsvc.http import past
from jobsvc.http.call import respond
from jobsvc.http.shapes import ActiveAnswer, JobsAnswer
from jobsvc.resource import encode, job_resource
from jobsvc.store.seam import HistoryQuery

if TYPE_CHECKING:
    from msgspec import UnsetType

    from jobsvc.domain.job import Job
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service
    from jobsvc.resource import JobResource

_STATES: Final = frozenset(get_args(State))
_SEES_MANY: Final = frozenset({"viewer", "operator"})


async def active(call: Call) -> Response:
    """``GET /api/jobs/active``: the caller's active jobs and nothing else."""
    service, who = call.service, call.acting(call.query("owner"))
    page_max = service.settings.active_page_max
    limit = call.whole_number("limit", default=page_max, least=1, most=page_max)
    kind, after = call.query("kind"), _after_job(call)
    if call.query("as_of") is not None:
        return await _active_as_of(call, who.owner, limit=limit if who.role in _SEES_MANY else None)
    scope = Scope(owner=who.owner, kinds=frozenset() if kind is None else frozenset({kind}))
    cursor = service.feed.cursor(service.feed.position)
    keys = _asked_keys(call, kind)
    jobs = [job for job in service.feed.snapshot(scope) if keys is None or job.key in keys]
    following: str | UnsetType | None = UNSET
    if who.role in _SEES_MANY:
        jobs = sorted((job for job in jobs if after is None or job.id > after), key=lambda job: job.id)
        following = jobs[limit - 1].id if len(jobs) > limit else None
        jobs = jobs[:limit]
    return respond(encode(ActiveAnswer([_shown(service, job) for job in jobs], cursor, following)))


async def _active_as_of(call: Call, owner: str | None, *, limit: int | None) -> Response:
    """The same as of an earlier position: what was *owner*'s then, in pages of *limit* for those who see many."""
    service, kind = call.service, call.query("kind")
    keys, position = _asked_keys(call, kind), await past.position_asked(call, "as_of")
    many = service.settings.active_per_owner_max if limit is None else limit + 1
    jobs = await past.active_as_of(
        call,
        position,
        owner=owner,
        after=None if limit is None else _after_job(call),
        limit=many,
        wants=lambda job: (kind is None or job.kind == kind) and (keys is None or job.key in keys),
    )
    following: str | UnsetType | None = UNSET
    if limit is not None:
        following = jobs[limit - 1].id if len(jobs) > limit else None
        jobs = jobs[:limit]
    shown_then = [job_resource(job, brief=True) for job in jobs]
    return respond(encode(ActiveAnswer(shown_then, service.feed.cursor(position), following)))


def _asked_keys(call: Call, kind: str | None) -> frozenset[str] | None:
    """The keys that the query asks for; None if it asks for none."""
    url, key, settings = call.query("url"), call.query("key"), call.service.settings
    keys = None if key is None else frozenset({key})
    if url is None:
        return keys
    try:
        if kind is not None:
            made = frozenset({key_from_url(url, profile=profile_for(kind, settings.profiles))})
        else:
            made = frozenset(keys_for_any(url, profiles_in_use(settings.profiles)))
    except UnusableUrl as error:
        raise InvalidCommand(error.reason, pointer="/url") from error
    return made if keys is None else made & keys


async def list_jobs(call: Call) -> Response:
    """``GET /api/jobs``: newest first, ended ones included."""
    service, who = call.service, call.acting(call.query("owner"))
    limit = call.whole_number("limit", default=50, least=1, most=service.settings.page_rows_max)
    after = _after_job(call)
    query = HistoryQuery(
        limit=limit + 1,
        owner=who.owner,
        kind=call.query("kind"),
        key=call.query("key"),
        states=_asked_states(call),
        before=after,
    )
    # Memory first: a job that ends while the store is read is then in both, never in neither.
    living = {job.id: job for job in _living(service, query)}
    rows = await service.store.read_history(query)
    found = sorted({*living, *(row.job_id for row in rows)}, reverse=True)
    page = found[:limit]
    ended = await service.store.read_jobs({job_id: None for job_id in page if job_id not in living})
    jobs = [living.get(job_id) or ended.get(job_id) for job_id in page]
    answer = [_shown(service, job) for job in jobs if job is not None]
    return respond(encode(JobsAnswer(answer, page[-1] if len(found) > limit else None)))


def _after_job(call: Call) -> str | None:
    """The job after which the page begins, if it is not the first."""
    after = call.query("after")
    if after is not None and not is_job_id(after):
        raise InvalidCommand("after is the next of the page before", pointer="/after")
    return after


def _living(service: Service, query: HistoryQuery) -> list[Job]:
    """The active jobs that *query* asks for, newest first, as many as it asks for."""
    memory = service.ledger.memory
    jobs = memory.jobs.values() if query.owner is None else memory.of_owner(query.owner)
    asked = (job for job in jobs if _is_asked(job, query))
    return nlargest(query.limit, asked, key=lambda job: job.id)


def _is_asked(job: Job, query: HistoryQuery) -> bool:
    return (
        (query.before is None or job.id < query.before)
        and (query.kind is None or job.kind == query.kind)
        and (query.key is None or job.key == query.key)
        and (query.states is None or job.state in query.states)
    )


def _asked_states(call: Call) -> frozenset[State] | None:
    asked = [state for text in call.request.query.getall("state", []) for state in text.split(",") if state]
    if not asked:
        return None
    unknown = sorted(set(asked) - _STATES)
    if unknown:
        message = f"there is no state {unknown[0]!r}; there are {', '.join(sorted(_STATES))}"
        raise InvalidCommand(message, pointer="/state")
    return frozenset(asked)  # type: ignore[arg-type]  # checked in the line above


def _shown(service: Service, job: Job) -> JobResource:
    """*job* as a list shows it."""
    return job_resource(job, lease_expires_at=service.ledger.lease_of(job), brief=True)

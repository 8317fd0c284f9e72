"""
What was: ``as_of`` on the reads of jobs, a job's explanation, and the operators' ways to look back.

A look at one job reads its own stream. A look at all that happened runs aside, so that nobody waits for it, and of
those only so many are under way at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobsvc.domain.errors import AccessDenied, InvalidCommand, JobNotFound
from jobsvc.domain.ids import is_job_id
from jobsvc.domain.keys import UnusableUrl, profile_for, profiles_in_use
from jobsvc.http.call import LIMITED_ROLES, respond
from jobsvc.http.shapes import StateAtAnswer
from jobsvc.operate.aside import aside
from jobsvc.operate.bisecting import UnusablePredicate, bisect, parse_predicate
from jobsvc.operate.differing import Differences, differences
from jobsvc.operate.evidence import explain_job, explain_urls
from jobsvc.operate.past import active_at, job_at
from jobsvc.operate.places import parse_place, position_of
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from jobsvc.domain.job import Job
    from jobsvc.domain.words import JobId
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.operate.aside import Progress
    from jobsvc.operate.bisecting import Bisected
    from jobsvc.operate.differing import Difference
    from jobsvc.store.seam import Store

    Found = TypeVar("Found")

_MANY: Final = "as many looks at the whole log are under way as may be; ask again when one has ended"


# As of


async def position_asked(call: Call, name: str, *, default: int | None = None) -> int:
    """
    The position that the query parameter *name* means; *default* if it was not sent, the head for None.

    Raises:
        InvalidCommand: It is no place in a log.
    """
    text = call.query(name)
    if text is None and default is not None:
        return default
    try:
        place = None if text is None else parse_place(text)
    except ValueError as error:
        message = f"{name} is a position, or a time with its offset, for example 2026-11-24T06:46:39Z"
        raise InvalidCommand(message, pointer=f"/{name}") from error
    return await position_of(call.service.store, place)


async def as_of(call: Call, job: Job, *, position: int) -> Job:
    """
    *job*, which the caller may see as it is, as it stood at *position*.

    Raises:
        JobNotFound: It was not there yet.
        AccessDenied: It was another's then.
    """
    then = job if job.position <= position else await job_at(call.service.store, job.id, position=position)
    if then is None:
        message = "there was no such job yet"
        raise JobNotFound(message)
    if not call.acting(call.query("owner")).may_see(then.owner):
        raise AccessDenied
    return then


async def active_as_of(
    call: Call, position: int, *, owner: str | None, after: JobId | None, limit: int, wants: Callable[[Job], bool]
) -> list[Job]:
    """
    Jobs that were active, and *owner*'s, at *position*, by id: up to *limit* of those above *after* that *wants* has.

    Raises:
        SlowDown: As many looks at the whole log are under way as may be.
    """

    async def look(store: Store, progress: Progress) -> list[Job]:
        found: list[Job] = []
        tell = _telling(progress, position)
        async for job in active_at(store, position, owner=owner, after=after, progress=tell):
            if wants(job):
                found.append(job)
            if len(found) == limit:
                break
        return found

    return await _aside(call, look)


async def explain(call: Call, job: Job) -> Response:
    """
    The explanation of *job*, which the caller may see, as of ``as_of``.

    How many duplicates it has spared is known of the present only, so of the past it is not told.
    """
    position = await position_asked(call, "as_of")
    await as_of(call, job, position=position)
    role_only = call.principal.role in LIMITED_ROLES
    avoided = call.service.avoided.of(job.id) if call.query("as_of") is None else 0
    explained = await explain_job(call.service.store, job.id, position=position, role_only=role_only, avoided=avoided)
    return respond(encode(explained))


# Operators


async def state_at(call: Call) -> Response:
    """``GET /api/operator/state-at``: a job, or all active ones, as of a position or a time."""
    position = await position_asked(call, "at")
    job_id = _job_asked(call)
    if job_id is not None:
        job = await job_at(call.service.store, job_id, position=position)
        if job is None:
            await call.service.ledger.read_job(job_id)
        return respond(encode(StateAtAnswer(position, [] if job is None else [job_resource(job)], None)))
    limit, after = _limit(call), _job_asked(call, "after")
    jobs = await active_as_of(call, position, owner=None, after=after, limit=limit + 1, wants=lambda _: True)
    following = jobs[limit - 1].id if len(jobs) > limit else None
    return respond(encode(StateAtAnswer(position, [job_resource(job, brief=True) for job in jobs[:limit]], following)))


async def diff(call: Call) -> Response:
    """``GET /api/operator/diff``: what changed between two places, a page at a time."""
    since = await position_asked(call, "since", default=0)
    until = await position_asked(call, "until")
    since, until = sorted((since, until))
    after = call.whole_number("after", default=since, least=0, most=10**18 - 1)
    limit = _limit(call)

    async def look(store: Store, progress: Progress) -> list[Difference]:
        found: list[Difference] = []
        async for difference in differences(store, since=since, until=until, after=after):
            found.append(difference)
            progress(difference.position, until)
            if len(found) > limit:
                break
        return found

    found = await _aside(call, look)
    following = found[limit - 1].position if len(found) > limit else None
    return respond(encode(Differences(since, until, found[:limit], following)))


async def search(call: Call) -> Response:
    """``GET /api/operator/bisect``: which event made it so."""
    job_id = _job_asked(call)
    try:
        predicate = parse_predicate(call.query("predicate") or "", of_job=job_id is not None)
    except UnusablePredicate as error:
        raise InvalidCommand(str(error), pointer="/predicate") from error
    since = await position_asked(call, "since", default=0)
    until = await position_asked(call, "until")
    if job_id is not None:
        await call.service.ledger.read_job(job_id)

    async def look(store: Store, progress: Progress) -> Bisected:
        tell = _telling(progress, until)
        return await bisect(store, predicate, job_id=job_id, since=since, until=until, progress=tell)

    return respond(encode(await _aside(call, look)))


async def urls(call: Call) -> Response:
    """``GET /api/operator/explain``: whether two URLs are the same work, and by which rule."""
    asked, kind = call.request.query.getall("url", []), call.query("kind")
    if len(asked) != 2:  # noqa: PLR2004  # two to compare
        message = "url stands twice: the two URLs to compare"
        raise InvalidCommand(message, pointer="/url")
    named = call.service.settings.profiles
    profiles = profiles_in_use(named) if kind is None else {profile_for(kind, named)}
    try:
        compared = await explain_urls(call.service.store, (asked[0], asked[1]), profiles=profiles)
    except UnusableUrl as error:
        raise InvalidCommand(error.reason, pointer="/url") from error
    return respond(encode(compared))


def _job_asked(call: Call, name: str = "job") -> str | None:
    """The job that the query parameter *name* names, if it was sent."""
    job_id = call.query(name)
    if job_id is not None and not is_job_id(job_id):
        message = f"{name} is the id of a job"
        raise InvalidCommand(message, pointer=f"/{name}")
    return job_id


def _limit(call: Call) -> int:
    return call.whole_number("limit", default=100, least=1, most=call.service.settings.active_page_max)


async def _aside(call: Call, look: Callable[[Store, Progress], Awaitable[Found]]) -> Found:
    """What *look* finds, aside, if there is room for one more."""
    with call.service.limits.looks.held(call.holder, _MANY):
        return await aside(call.service.settings.database_path, look, lambda _done, _of: None)


def _telling(progress: Progress, of: int) -> Callable[[int], None]:
    return lambda done: progress(done, of)

"""
The projections for operators: how far each is, a rebuild, and what becomes of the events that one could not take in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsvc.domain.errors import JobNotFound
from jobsvc.http import bodies
from jobsvc.http.call import respond
from jobsvc.http.problems import NotFound
from jobsvc.http.shapes import ProjectionsAnswer, Standing
from jobsvc.memory import INLINE
from jobsvc.operate.parked import settle, told
from jobsvc.operate.views import INLINE_NAMES, rebuild
from jobsvc.resource import encode
from jobsvc.telemetry import log

if TYPE_CHECKING:
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from projections.runner import Standing as RunnerStanding


async def projections(call: Call) -> Response:
    """``GET /api/projections``: how far each view is, and what is wrong with it."""
    position = call.service.ledger.memory.position
    inline = [Standing(one.name, one.version, inline=True, position=position, lag=0) for one in INLINE]
    catching_up = [_standing(one, position) for one in call.service.runner.standings.values()]
    return respond(encode(ProjectionsAnswer([*inline, *catching_up], position)))


async def rebuild_projection(call: Call) -> Response:
    """``POST /api/projections/{name}/rebuild``: the view anew, swapped in while the service goes on."""
    name, service = call.named, call.service
    call.reason(call.body(bodies.RebuildBody).reason)
    if name in INLINE_NAMES:
        alone = service.ledger.alone
    else:
        _known(call)
        alone = lambda action: service.runner.alone(name, action)  # noqa: E731  # the same with a name before it
    call.noted["projection"] = name
    rebuilt = await rebuild(service.store, name, alone=alone)
    log("projection.rebuilt", projection=name, actor=call.principal.actor, count=rebuilt.rows)
    return respond(encode(rebuilt))


async def settle_parked(call: Call) -> Response:
    """``POST /api/projections/{name}/parked``: a parked job is tried again, with or without the event it waits at."""
    name = _known(call).name
    body = call.body(bodies.ParkedBody)
    call.noted["projection"] = name
    call.reason(body.reason)
    try:
        return respond(encode(await settle(call.service.runner, name, body.job_id, discard=body.act == "discard")))
    except KeyError as error:
        raise JobNotFound(f"{name} has nothing of this job parked") from error


def _known(call: Call) -> RunnerStanding:
    standing = call.service.runner.standings.get(call.named)
    if standing is None:
        raise NotFound(f"there is no projection {call.named!r} that catches up")
    return standing


def _standing(one: RunnerStanding, head: int) -> Standing:
    return Standing(
        one.name,
        one.version,
        inline=False,
        position=one.position,
        lag=head - one.position,
        failure=one.failure,
        parked_jobs=len(one.parked),
        parked=told(one.parked.values()),
    )

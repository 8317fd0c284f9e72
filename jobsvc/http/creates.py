"""
The endpoints that make jobs: create, create in a batch, retry.

What is answered is the job with the one thing more that a create says: whether a duplicate was avoided, and why.
What must never live here: what a body may ask for, which is submissions.py's, or which job an answer carries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from jobsvc.answers import Answer
from jobsvc.domain import commands as c
from jobsvc.domain.errors import SlowDown
from jobsvc.http import bodies
from jobsvc.http.call import respond
from jobsvc.http.jobs import if_version, known_id, wait_for
from jobsvc.http.problems import Unauthenticated, problem
from jobsvc.http.several import decide_each
from jobsvc.http.shapes import BatchAnswer, CreateAnswer, Links
from jobsvc.http.submissions import create_command
from jobsvc.resource import encode, job_resource

if TYPE_CHECKING:
    from jobsvc.http.call import Call
    from jobsvc.http.reply import Response
    from jobsvc.http.service import Service
    from jobsvc.http.shapes import DedupReason

_REASON_OF_OUTCOME: Final[dict[str, DedupReason]] = {
    "attached": "active",
    "followup": "active",
    "fresh_result": "fresh_result",
}


async def create(call: Call) -> Response:
    """``POST /api/jobs``."""
    content = call.content()
    command = create_command(call, call.parse(bodies.CreateBody, content))
    wait_s = _preferred_wait_s(call)
    answer = await call.service.ledger.execute(command, mark=call.mark(content))
    if wait_s is None:
        return _created(call, answer)
    try:
        ended = await _after_end(call, answer, wait_s)
        call.check_not_revoked()
    except (SlowDown, Unauthenticated):
        # It is made; that it waits for the end was only a preference (RFC 7240), and may be nobody's business any more.
        return _created(call, answer)
    return _created(call, ended, waited=True)


async def create_batch(call: Call) -> Response:
    """``POST /api/jobs/batch``: each job on its own, the results in order."""
    content = call.content()
    results, replayed = await decide_each(
        call,
        call.parse(bodies.BatchBody, content).jobs,
        shape=bodies.CreateBody,
        make=lambda body: create_command(call, body),
        mark=call.mark(content),
    )
    answers = [_result(call, result) for result in results]
    return respond(encode(BatchAnswer(answers)), headers=_replay_header(replayed=replayed))


async def retry(call: Call) -> Response:
    """``POST /api/jobs/{id}/retry``: a create of the same."""
    content = call.content()
    body = call.parse(bodies.ReasonBody, content)
    command = c.Retry(
        job_id=known_id(call),
        new_id=call.service.ledger.new_id(),
        who=call.acting(body.owner or call.query("owner")),
        if_version=if_version(call),
        reason=call.reason(body.reason),
        request_id=call.request_id,
    )
    answer = await call.service.ledger.execute(command, mark=call.mark(content))
    return _created(call, answer)


def create_answer(service: Service, answer: Answer) -> CreateAnswer:
    """What a create says of *answer*; a duplicate that it avoided is counted."""
    job = answer.job
    reason = _REASON_OF_OUTCOME.get(answer.outcome)
    if reason is not None and not answer.replayed:
        service.tally.avoid(service.clock.now())
        service.avoided.add(job.id)
        service.metrics.duplicates_avoided.labels(reason).inc()
    return CreateAnswer(
        job=job_resource(job, lease_expires_at=service.ledger.lease_of(job)),
        deduplicated=answer.outcome != "created",
        dedup_reason=reason,
        input_differs=answer.input_differs,
        cursor=service.feed.cursor(answer.position),
        links=Links(f"/api/jobs/{job.id}", f"/api/jobs/{job.id}/events", f"/api/stream?job={job.id}"),
    )


def _created(call: Call, answer: Answer, *, waited: bool = False) -> Response:
    headers = _replay_header(replayed=answer.replayed)
    if waited:
        headers["Preference-Applied"] = "wait"
    status = 200
    if answer.outcome == "created":
        status = 201
        headers["Location"] = f"/api/jobs/{answer.job.id}"
    return respond(encode(create_answer(call.service, answer)), status=status, headers=headers)


def _replay_header(*, replayed: bool) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if replayed else {}


def _result(call: Call, result: Any) -> Any:  # noqa: ANN401  # a Result in, JSON out
    """One result of a batch, with the status that it would have had alone."""
    if isinstance(result, Answer):
        status = 201 if result.outcome == "created" else 200
        answer = create_answer(call.service, result)
        return {"status": status} | {name: getattr(answer, name) for name in answer.__struct_fields__}
    return problem(result, instance=call.request.path, request_id=call.request_id)


async def _after_end(call: Call, answer: Answer, wait_s: float) -> Answer:
    """*answer* with the job as it stood when it ended, or when *wait_s* had passed."""
    ended = await wait_for(call, answer.job.id, lambda job: not job.active, wait_s)
    position = max(answer.position, ended.position)
    return Answer(answer.outcome, ended, position, input_differs=answer.input_differs, replayed=answer.replayed)


def _preferred_wait_s(call: Call) -> float | None:
    """The N of ``Prefer: wait=N``; more than may be is cut, since a preference is not a demand."""
    preference = call.request.head.prefer
    if preference is None:
        return None
    found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})\b", preference)
    return None if found is None else min(float(found[1]), call.service.settings.prefer_wait_max_s)

"""
The callers: who asks the servers for what. Requests are made of prebuilt pieces, answers searched and not parsed.

Every create names a post that no other create of the run names, so each is answered 201. Posts rise, as in life.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.load import request
from bench.servers import token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.load import Caller, Reply

OWNERS: Final = 16
CLAIM_MAX: Final = 100
_CREATED: Final = 201
_OK: Final = 200
_ID: Final = b'"id":"'
_LEASE: Final = b'"lease_token":"'
_posts: Final[Iterator[int]] = itertools.count(1_850_000_000_000_000_000)


@dataclass(slots=True)
class Tally:
    """What the callers of one stretch have together done so far."""

    waiting: int = 0
    completed: int = 0


class Guest:
    """One of the run's guests, who asks for posts to be saved."""

    def __init__(self, number: int) -> None:
        self._token = token("guest", f"bench-{number % OWNERS}")

    def create(self) -> bytes:
        """A create of a post that nobody has asked for."""
        body = b'{"kind":"x-post","url":"https://x.com/somebody/status/%d?s=20"}' % next(_posts)
        return request("POST", "/api/jobs", token=self._token, body=body)

    def create_many(self, jobs: int) -> bytes:
        """So many creates, each of a post that nobody has asked for, in one batch."""
        form = b'{"kind":"x-post","url":"https://x.com/somebody/status/%d?s=20"}'
        body = b'{"jobs":[%b]}' % b",".join(form % next(_posts) for _ in range(jobs))
        return request("POST", "/api/jobs/batch", token=self._token, body=body)

    def stream(self) -> bytes:
        """The guest's own stream."""
        return request("GET", "/api/stream", token=self._token)


class Worker:
    """A worker that takes any job and is done with it at once."""

    def __init__(self) -> None:
        self._token = token("worker", "bench")

    def claim(self, limit: int, *, wait_s: float = 0) -> bytes:
        """A claim of up to *limit* jobs."""
        body = json.dumps({"max": limit, "wait_s": wait_s, "kinds": ["x-post"]}).encode()
        return request("POST", "/api/worker/claim", token=self._token, body=body)

    def complete(self, job_id: bytes, lease_token: bytes) -> bytes:
        """The end of one job."""
        body = b'{"lease_token":"%b","result":{"saved":true}}' % lease_token
        return request("POST", f"/api/worker/jobs/{job_id.decode()}/complete", token=self._token, body=body)

    def complete_all(self, grants: list[tuple[bytes, bytes]]) -> bytes:
        """The ends of all these jobs in one request."""
        form = b'{"report":"complete","job_id":"%b","lease_token":"%b","result":{"saved":true}}'
        body = b'{"reports":[%b]}' % b",".join(form % grant for grant in grants)
        return request("POST", "/api/worker/reports", token=self._token, body=body)


def creates(number: int, *, count: int | None = None) -> Caller:
    """A guest that creates for ever, or *count* times."""
    guest = Guest(number)
    for _ in itertools.count() if count is None else range(count):
        _expect(_CREATED, (yield guest.create()))


def lifecycles(number: int, tally: Tally) -> Caller:
    """A guest's create, then a worker's claim of one job and its completion, for ever."""
    guest, worker = Guest(number), Worker()
    while True:
        _expect(_CREATED, (yield guest.create()))
        [grant] = granted(_expect(_OK, (yield worker.claim(1))))
        _expect(_OK, (yield worker.complete(*grant)))
        tally.completed += 1


def batched_lifecycles(number: int, tally: Tally) -> Caller:
    """As ``lifecycles``, but whoever sees a full load waiting claims it in one request and ends it in another."""
    guest, worker = Guest(number), Worker()
    while True:
        _expect(_CREATED, (yield guest.create()))
        tally.waiting += 1
        if tally.waiting < CLAIM_MAX:
            continue
        tally.waiting -= CLAIM_MAX
        grants = granted(_expect(_OK, (yield worker.claim(CLAIM_MAX))))
        _expect(_OK, (yield worker.complete_all(grants)))
        tally.completed += len(grants)


def granted(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The (job, lease token) pairs of a claim's answer."""
    jobs = (_after(part, _ID) for part in reply.body.split(b'{"job":')[1:])
    leases = (part.partition(b'"')[0] for part in reply.body.split(_LEASE)[1:])
    return list(zip(jobs, leases, strict=True))


def _after(text: bytes, mark: bytes) -> bytes:
    return text.partition(mark)[2].partition(b'"')[0]


def _expect(status: int, reply: Reply) -> Reply:
    assert reply.status == status, f"{reply.status} instead of {status}: {reply.body[:300]!r}"
    return reply

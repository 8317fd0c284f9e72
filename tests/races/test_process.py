"""
Races against the real process, over real connections: callers and workers that hang up at any moment.

Here the moments are the machine's, so a seed says who does what and not when. What a kill -9 does to keys, marks and
claims (races 1, 2, 4, 5, 7, 12, 19) is shown by the fifty kills of tests/system/test_chaos.py, workers that are killed
(8, 9, 10) by tests/system/test_workers_die.py.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest

from jobsvc.operate.verify import verify
from jobsvc.store.sqlite import SqliteStore
from tests.ledger.rig import whole_log
from tests.process import running_process, token
from tests.races.laws import folded
from tests.system.raw import Answer, RawConnection, Request

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.raw import JSON

SCHEDULES = 60
USER = token("user", "user:ann")
WORKER = token("worker", "w1")


async def _asks(url: str, request: Request) -> Answer:
    connection = await RawConnection.open(url)
    try:
        return await connection.ask(request)
    finally:
        await connection.close()


async def _hangs_up(url: str, request: Request, chance: Random) -> None:
    """
    Whoever sent *request* is gone within a few milliseconds; a worker that was given a job just before gives it back.
    """
    asked = asyncio.create_task(_asks(url, request))
    # The random moment, and not to wait for anything.
    await asyncio.sleep(chance.choice((0, 0.001, 0.002, 0.005)))
    asked.cancel()
    (told,) = await asyncio.gather(asked, return_exceptions=True)
    if isinstance(told, Answer) and request.verb == "claim" and told.status == 200:
        for grant in told.body["jobs"]:
            await _asks(url, _report(grant, "release"))


def _create(key: str) -> Request:
    return Request("create", "POST", "/api/jobs", USER, {"kind": "k", "key": key})


def _claim() -> Request:
    # As short as it may be: an answer that was on the wire when its reader left is a loss that nobody can undo.
    body = {"kinds": ["k"], "lease_s": 1, "wait_s": 10}
    return Request("claim", "POST", "/api/worker/claim", WORKER, body)


def _report(grant: JSON, verb: str) -> Request:
    path = f"/api/worker/jobs/{grant['job']['id']}/{verb}"
    return Request(verb, "POST", path, WORKER, {"lease_token": grant["lease_token"]})


async def _schedule(url: str, number: int) -> None:
    """
    Callers compete for a key and workers for its job, and some of each hang up: it is made once, and who stays has it.
    """
    chance, key = Random(number), f"{number}"
    requests = [_create(key), _create(key), _claim(), _claim()]
    chance.shuffle(requests)
    gone = asyncio.gather(*(_hangs_up(url, request, chance) for request in requests))

    made, claimed = await asyncio.gather(_asks(url, _create(key)), _asks(url, _claim()))

    await gone
    (grant,) = claimed.body["jobs"]
    assert (made.body["job"]["id"], 1) == (grant["job"]["id"], grant["job"]["attempt"]), f"schedule {number}"
    assert 200 == (await _asks(url, _report(grant, "complete"))).status


@pytest.mark.process
async def test_whoever_hangs_up_costs_the_others_nothing(tmp_path: Path) -> None:
    """
    Races 1 and 15 and the claim that is given up, sixty times: one job a key, and the worker that stays has it.
    """
    async with running_process(tmp_path / "jobs.db", environ={"JOBSVC_LOG_LEVEL": "warning"}) as service:
        for number in range(SCHEDULES):
            await _schedule(service.url, number)

        store = SqliteStore(service.database, read_only=True)
        await store.open()
        verified, events = await verify(store), await whole_log(store)
        await store.close()

    jobs = folded(events, after=0)
    assert [] == verified.findings
    assert (SCHEDULES, {"completed"}) == (len(jobs), {job.state for job in jobs.values()})

"""
Guests are free to make: a script that makes ten thousand of them takes nobody's room, and little memory.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.process import running_process, token
from tests.system.raw import RawConnection, Request

if TYPE_CHECKING:
    from tests.process import ServiceProcess

GUESTS: Final = 10_000
CONNECTIONS: Final = 8
ACTIVE_GUESTS_MAX: Final = 500
QUEUE_GUESTS_MAX: Final = 100
GROWTH_MIB_MAX: Final = 100
ANSWER_S_MAX: Final = 5.0


@pytest.mark.process
async def test_ten_thousand_guests_take_neither_memory_nor_the_users_room(tmp_path: Path) -> None:
    """
    Each makes a job, until guests together have as many as they may; a user's creates are answered all the while.
    """
    environ = {
        "JOBSVC_GUESTS_PER_MINUTE_MAX": str(10 * GUESTS),
        "JOBSVC_ACTIVE_GUESTS_MAX": str(ACTIVE_GUESTS_MAX),
        "JOBSVC_QUEUE_COMMANDS_GUESTS_MAX": str(QUEUE_GUESTS_MAX),
        "JOBSVC_LOG_LEVEL": "warning",
    }
    async with running_process(tmp_path / "jobs.db", environ=environ) as service:
        before = resident_mib(service.pid)
        script = asyncio.gather(*(abuse(service, GUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))
        slowest_s, creates = await use(service, meanwhile=script)
        statuses = [status for part in await script for status in part]
        grown = resident_mib(service.pid) - before
        active = await ask(service, Request("list", "GET", "/api/jobs/active", token("operator")))

    made = [status for status in statuses if status == 201]
    owners = [job["owner"].split(":")[0] for job in active["jobs"]]
    assert GUESTS == len(statuses)
    assert ACTIVE_GUESTS_MAX == len(made) == owners.count("guest")
    assert {201, 429} == set(statuses)
    assert creates > 0
    assert creates == owners.count("user")
    assert slowest_s < ANSWER_S_MAX
    assert grown < GROWTH_MIB_MAX


async def abuse(service: ServiceProcess, count: int) -> list[int]:
    """
    How the creates of *count* new guests were answered.
    """
    connection = await RawConnection.open(service.url)
    statuses = []
    for _ in range(count):
        guest = await connection.ask(Request("guest", "POST", "/api/sessions/guest", ""))
        assert guest.status == 201, guest.body
        answer = await connection.ask(Request("create", "POST", "/api/jobs", guest.body["token"], {"kind": "x"}))
        statuses.append(answer.status)
    await connection.close()
    return statuses


async def use(service: ServiceProcess, *, meanwhile: asyncio.Future[list[list[int]]]) -> tuple[float, int]:
    """
    How long the slowest of a user's creates took while that went on, and how many there were, all of them 201.
    """
    connection, loop = await RawConnection.open(service.url), asyncio.get_running_loop()
    slowest_s, count = 0.0, 0
    while not meanwhile.done() and count < ACTIVE_GUESTS_MAX:
        begun = loop.time()
        answer = await connection.ask(Request("create", "POST", "/api/jobs", token("user"), {"kind": "x"}))
        assert answer.status == 201, answer.body
        slowest_s, count = max(slowest_s, loop.time() - begun), count + 1
    await connection.close()
    return slowest_s, count


async def ask(service: ServiceProcess, request: Request) -> dict[str, list[dict[str, str]]]:
    """
    What is answered on a connection of its own.
    """
    connection = await RawConnection.open(service.url)
    answer = await connection.ask(request)
    await connection.close()
    assert answer.status == 200, answer.body
    body: dict[str, list[dict[str, str]]] = answer.body
    return body


def resident_mib(pid: int) -> float:
    """
    The memory that the process has.
    """
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

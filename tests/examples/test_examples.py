"""
The examples in other languages, against the service as a process of its own.
"""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

import pytest

from jobsvc.client import Client, Event
from tests.examples.programs import EXAMPLES, Program, program
from tests.process import ServiceProcess, running_process, start_process, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from jobsvc.client import Job

pytestmark = pytest.mark.process

KIND: Final = "page"
SHORT_S: Final = {"node": "1", "sh": "3"}
"""The shortest lease that each can keep."""

WORKERS: Final = ("node", "sh")
WATCHERS: Final = ("node", "sh")

Running = AbstractAsyncContextManager[Program]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ServiceProcess]:
    """
    A service with an empty log.
    """
    async with running_process(tmp_path / "jobs.db") as running:
        yield running


def _client(service: ServiceProcess) -> Client:
    return Client(service.url, token=token("user", "ada"), patience_s=10)


def _worker(language: str, service: ServiceProcess, *, work_s: float = 0.1, lease_s: str | None = None) -> Running:
    """
    A worker that takes *work_s* for a job and gives what it would hand on as its idempotency key.
    """
    told = {"url": service.url, "token": token("worker", "w1"), "JOBSVC_LEASE_S": lease_s or SHORT_S[language]}
    if language == "node":
        return program("node", EXAMPLES / "node" / "worker.mjs", KIND, **told)
    work = f'sleep {work_s} && printf \'{{"effect_key": "%s:%s"}}\' "$JOB_ID" "$FENCE"'
    return program("sh", EXAMPLES / "shell" / "worker.sh", KIND, "sh", "-c", work, **told)


def _watcher(language: str, service: ServiceProcess, *arguments: str) -> Running:
    file = EXAMPLES / ("node/watcher.mjs" if language == "node" else "shell/watcher.sh")
    return program(language, file, *arguments, url=service.url, token=token("user", "ada"))


async def _made(client: Client, *, key: str = "one", work_s: float = 0.1) -> Job:
    return await client.create(KIND, key=key, input={"steps": 1, "step_ms": 1000 * work_s})


async def _history(client: Client, job: Job) -> list[Event]:
    return [event async for event in client.history(job.id)]


def _told(watcher: Program) -> list[tuple[str, int]]:
    """
    The changes that a watcher printed, as job and version, save progress, of which a stream may leave out what is old.
    """
    told = []
    for line in watcher.lines:
        match line.split(" "):
            case ["job", *_]:
                change = json.loads(line.removeprefix("job "))
                told.append((change["type"], change["job"]["id"], change["version"]))
            case [position, type_, job_id, version, *_] if position.isdigit() and type_ != "snapshot":
                told.append((type_, job_id, int(version)))
    return [(job_id, version) for type_, job_id, version in told if type_ != "job.progressed"]


async def _happened(client: Client, *jobs: Job) -> list[tuple[str, int]]:
    """
    What a watcher must have told of *jobs*.
    """
    return [
        (job.id, event.version)
        for job in jobs
        for event in await _history(client, job)
        if event.type != "job.progressed"
    ]


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("watcher", WATCHERS)
async def test_a_job_is_done_by_a_worker_and_seen_by_a_watcher_to_its_end(
    service: ServiceProcess, worker: str, watcher: str
) -> None:
    """
    Made over HTTP, claimed once, its result as the worker gave it; the watcher of the job ends with the job.
    """
    async with _client(service) as client:
        job = await _made(client)
        async with _watcher(watcher, service, job.id) as watching, _worker(worker, service) as working:
            code = await watching.ended()
            said = await working.says(lambda line: job.id in line)
        ended = await client.get(job.id)

    assert ("completed", 1) == (ended.state, ended.attempt)
    assert f"{job.id}:1" == ended.result["effect_key"]
    assert 0 == code
    assert watching.lines[-1].startswith("end ")
    assert "completed" in watching.lines[-1]
    assert said in {f"{job.id} completed", f"{job.id} complete 200"}


@pytest.mark.parametrize("worker", WORKERS)
async def test_heartbeats_keep_the_lease_of_a_job_that_takes_longer(service: ServiceProcess, worker: str) -> None:
    """
    A job of more than a lease's length is done in one go.
    """
    work_s = 1.4 * float(SHORT_S[worker])
    async with _client(service) as client, _worker(worker, service, work_s=work_s):
        job = await _made(client, work_s=work_s)
        ended = await client.wait(job.id, timeout_s=15)

    assert ("completed", 1, 0) == (ended.state, ended.attempt, ended.lost_leases)


@pytest.mark.parametrize("worker", WORKERS)
async def test_a_stopping_worker_gives_its_job_back(service: ServiceProcess, worker: str) -> None:
    """
    After SIGTERM the worker is gone, and the job waits again with its attempt unspent.
    """
    async with _client(service) as client, _worker(worker, service, work_s=60) as working:
        job = await _made(client, work_s=60)
        await _reaches(client, job, "running")
        code = await working.stopped()
        waiting = await client.get(job.id)

    assert 0 == code
    assert ("queued", 0, 0) == (waiting.state, waiting.attempt, waiting.lost_leases)


@pytest.mark.parametrize("worker", WORKERS)
async def test_a_stopping_worker_leaves_no_claim_behind(service: ServiceProcess, worker: str) -> None:
    """
    Stopped while it waits for a job, it is gone at once, and what comes afterwards is not granted to it.
    """
    async with _client(service) as client:
        async with _worker(worker, service) as working:
            first = await _made(client)
            await client.wait(first.id, timeout_s=10)
            await working.says(lambda line: first.id in line)
            code = await working.stopped()
        second = await _made(client, key="two")
        waiting = await client.get(second.id)

    assert 0 == code
    assert ("queued", 1) == (waiting.state, waiting.version)


@pytest.mark.parametrize("worker", WORKERS)
async def test_a_worker_hears_of_a_cancel_and_lets_go(service: ServiceProcess, worker: str) -> None:
    """
    The heartbeat's answer says so, and the job is cancelled long before its grace is over.
    """
    async with _client(service) as client, _worker(worker, service, work_s=60):
        job = await _made(client, work_s=60)
        await _reaches(client, job, "running")
        asked = await client.cancel(job.id)
        ended = await client.wait(job.id, timeout_s=10)
        last = (await _history(client, job))[-1]

    assert ("cancelling", "cancelled") == (asked.state, ended.state)
    assert "worker" == last.actor


async def test_a_command_that_fails_fails_the_attempt(service: ServiceProcess) -> None:
    """
    The shell worker reports what is wrong: an exit code, or a result that is no JSON, which no other attempt can help.
    """
    told = {"url": service.url, "token": token("worker", "w1")}
    script = EXAMPLES / "shell" / "worker.sh"
    async with _client(service) as client:
        async with program("sh", script, KIND, "sh", "-c", "exit 3", **told):
            failing = await client.create(KIND, key="code", max_attempts=1)
            first = await client.wait(failing.id, timeout_s=10)
        async with program("sh", script, KIND, "echo", "not JSON", **told):
            unreadable = await client.create(KIND, key="result")
            second = await client.wait(unreadable.id, timeout_s=10)

    assert first.error is not None
    assert second.error is not None
    assert ("failed", "the command ended with 3") == (first.state, first.error.message)
    assert ("failed", "result_refused") == (second.state, second.error.code)


@pytest.mark.parametrize("watcher", WATCHERS)
async def test_nothing_is_lost_or_told_twice_over_a_kill_of_the_service(tmp_path: Path, watcher: str) -> None:
    """
    Worker and watcher go on over a kill -9 and a restart: the job in hand is completed, every change is seen once.
    """
    service = await start_process(tmp_path / "jobs.db")
    try:
        async with _client(service) as client, _watcher(watcher, service) as watching:
            await watching.says(lambda line: line.startswith("ready"))
            before = await _made(client, key="before", work_s=0.5)
            async with _worker("node", service, lease_s="30"):
                await watching.says(lambda line: "job.started" in line)
                await service.kill()
                service = await start_process(tmp_path / "jobs.db", port=int(service.url.rpartition(":")[2]))
                await client.wait(before.id, timeout_s=20)
                after = await _made(client, key="after")
                await watching.says(lambda line: after.id in line and "job.completed" in line)
            expected = await _happened(client, before, after)
            ended = await client.get(before.id)
    finally:
        await service.kill()

    assert expected == _told(watching)
    assert ("completed", 1, 0) == (ended.state, ended.attempt, ended.lost_leases)


async def test_a_watcher_begins_anew_where_its_cursor_is_of_another_log(tmp_path: Path) -> None:
    """
    At the same address there is another log: reset, its snapshot, and on from there.
    """
    service = await start_process(tmp_path / "jobs.db")
    try:
        async with _watcher("node", service) as watching:
            async with _client(service) as client:
                await _made(client, key="here")
            await watching.says(lambda line: "job.created" in line or "snapshot" in line)
            await service.kill()
            service = await start_process(tmp_path / "other.db", port=int(service.url.rpartition(":")[2]))
            async with _client(service) as client:
                there = await _made(client, key="there")
                await watching.says(lambda line: line == "reset other-epoch")
                first = await watching.says(lambda line: there.id in line)
    finally:
        await service.kill()

    assert f"{there.position} snapshot {there.id} 1 queued" in first


async def test_a_watcher_that_may_not_watch_says_so(service: ServiceProcess) -> None:
    """
    Another's job is an error, not something to be tried for ever.
    """
    async with _client(service) as client:
        job = await _made(client)
    file = EXAMPLES / "node" / "watcher.mjs"
    async with (
        program("node", file, job.id, url=service.url, token=token("user", "eve")) as node,
        program("sh", EXAMPLES / "shell" / "watcher.sh", job.id, url=service.url, token=token("user", "eve")) as shell,
    ):
        codes = (await node.ended(), await shell.ended())

    assert (1, 1) == codes


async def _reaches(client: Client, job: Job, state: str) -> None:
    """
    Returns once the job is in *state*.
    """
    now = await client.get(job.id)
    while now.state != state:
        answer = await client.call("GET", f"/api/jobs/{job.id}", query={"wait_s": 10, "since": now.version})
        now = await client.get(answer["job"]["id"])

"""
The verbs that need a running service, as processes: what a person at a terminal gets.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from jobsvc.client import Client
from tests.process import SECRET, running_process, start_process, token

pytestmark = pytest.mark.process


async def _jobsvc(*arguments: str, secret: str = SECRET) -> tuple[int, str, str]:
    """
    Exit code, output and errors of a verb.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "jobsvc",
        *arguments,
        env=os.environ | {"JOBSVC_SECRET": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def _make_jobs(url: str, *keys: str) -> None:
    """
    Two events a key: a job made and cancelled.
    """
    async with Client(url, token=token("user", "ada")) as client:
        for key in keys:
            job = await client.create("page", key=key)
            await client.cancel(job.id)


async def test_the_demo_makes_one_job_of_each_post_and_leaves_none_active() -> None:
    """
    Alone, with a service of its own, it shows the stream and ends with the right counts.
    """
    code, output, errors = await _jobsvc("demo")

    assert (0, "") == (code, errors)
    assert output.endswith(
        "submitted = 66\njobs = 44 (distinct posts: 44)\ndeduplicated = 22\ncompleted = 44\nactive = 0\n"
    )
    assert 44 == output.count("  job.created ")
    assert 44 == output.count("  job.completed ")
    assert "reading replies" in output


async def test_the_demo_gives_the_same_counts_against_a_running_service(tmp_path: Path) -> None:
    """
    On a service that runs, and again on the same one, whatever its log holds by then.
    """
    async with running_process(tmp_path / "jobs.db") as service:
        results = [await _jobsvc("demo", "--against", service.url, "-o", "json") for _ in range(2)]

    expected = {"submitted": 66, "distinct_posts": 44, "jobs": 44, "deduplicated": 22, "completed": 44, "active": 0}
    assert [(0, expected)] * 2 == [(code, json.loads(output)) for code, output, _ in results]


async def test_the_demo_says_what_is_wrong_with_the_service() -> None:
    """
    A service that is not there is something wrong, not wrong usage.
    """
    code, output, errors = await _jobsvc("demo", "--against", "http://127.0.0.1:1")

    assert 1 == code
    assert "Error: " in errors
    assert "Traceback" not in output + errors


async def test_tail_prints_the_log_and_goes_on_from_a_cursor(tmp_path: Path) -> None:
    """
    Every event is a line; from a cursor on, only what came after it; a cursor of another log is an error.
    """
    async with running_process(tmp_path / "jobs.db") as service:
        await _make_jobs(service.url, "one", "two")
        tail = ("tail", "--against", service.url, "--no-follow")
        _, whole, _ = await _jobsvc(*tail, "-o", "json")
        events = [json.loads(line) for line in whole.splitlines()]
        _, rest, _ = await _jobsvc(*tail, "--after", str(len(events) - 2))
        _, of_one, _ = await _jobsvc(*tail, "--job", events[0]["job_id"], "-o", "json")
        other_code, _, other = await _jobsvc(*tail, "--after", "another.1")

    assert list(range(1, len(events) + 1)) == [event["position"] for event in events]
    assert 2 == len(rest.splitlines())
    assert [event for event in events if event["job_id"] == events[0]["job_id"]] == [
        json.loads(line) for line in of_one.splitlines()
    ]
    assert 1 == other_code
    assert "belongs to another log" in other


async def test_tail_prints_what_comes(tmp_path: Path) -> None:
    """
    At the end of the log it waits, and prints the next event when it happens.
    """
    async with running_process(tmp_path / "jobs.db") as service:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobsvc", "tail", "--against", service.url, "--token", token("operator")),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        await _make_jobs(service.url, "one")
        first = (await process.stdout.readline()).decode()
        await _make_jobs(service.url, "two")
        second = (await process.stdout.readline()).decode()
        process.terminate()
        await process.communicate()

    assert "job.created" in first
    assert "job.cancelled" in second


async def test_serve_says_where_it_listens_and_ends_with_sigterm(tmp_path: Path) -> None:
    """
    With a configured secret one line is all that is printed, and SIGTERM is a clean end.
    """
    service = await start_process(tmp_path / "jobs.db")

    code = await service.stop()

    assert service.url.startswith("http://127.0.0.1:")
    assert (0, "") == (code, await service.read_line())
    assert not (tmp_path / "jobs.db.secret").exists()


async def test_serve_without_a_secret_prints_a_link_to_the_dashboard(tmp_path: Path) -> None:
    """
    With a secret of its own making, on loopback, the second line is a link with a one-use code in its fragment.
    """
    service = await start_process(tmp_path / "jobs.db", environ={"JOBSVC_SECRET": ""})

    link = await service.read_line()
    await service.stop()

    assert f"{service.url}/#" in link
    assert (tmp_path / "jobs.db.secret").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "192.0.2.1"), "needs a configured secret"),
        (("--set", "heartbeat_s=0"), "heartbeat"),
        (("--database", "postgresql://db/jobs"), "PostgreSQL is not built yet"),
    ],
)
async def test_serve_refuses_what_cannot_be_served(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """
    Wrong settings are exit code 2 and one sentence.
    """
    code, output, errors = await _jobsvc("serve", "--database", str(tmp_path / "jobs.db"), *arguments, secret="")

    assert (2, "") == (code, output)
    assert said in errors


async def test_serve_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    """
    Where somebody listens already, it says so and leaves.
    """
    async with running_process(tmp_path / "jobs.db") as service:
        port = service.url.rpartition(":")[2]
        code, _, errors = await _jobsvc("serve", "--port", port, "--database", str(tmp_path / "other.db"))

    assert 2 == code
    assert f"cannot listen on 127.0.0.1 port {port}" in errors

"""
``jobsvc tail`` on a file, as anyone would run it.
"""

import asyncio
import sys
from pathlib import Path

from jobsvc.client import Client
from tests.process import running_process, token


async def _tail(database: Path, *options: str) -> list[str]:
    """The lines that ``tail --no-follow`` prints of *database*."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobsvc", "tail", "--no-follow", "--database", str(database), *options),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


async def test_a_file_is_tailed_while_its_service_writes(tmp_path: Path) -> None:
    """
    The log is read beside the service, one line an event, from any position on.
    """
    async with (
        running_process(tmp_path / "jobs.db") as service,
        Client(service.url, token=token("user", "ada")) as client,
    ):
        first = await client.create("a")
        second = await client.create("a")

        lines = await _tail(service.database)

        assert [first.id, second.id] == [line.split()[3] for line in lines]
        assert [second.id] == [line.split()[3] for line in await _tail(service.database, "--after", "1")]
        assert [first.id] == [line.split()[3] for line in await _tail(service.database, "--job", first.id)]

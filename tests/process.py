"""
The real ``jobsvc serve`` as a process of its own: started on a free port, stopped, or killed without warning.

For tests of what only a process can show: a kill -9, a restart on the same file, signals, what is printed. What runs
inside the test's own loop stands in tests/http/conftest.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from jobsvc.tokens import issue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from jobsvc.domain.words import Role

SECRET: Final = "a secret of forty characters, open to all"
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 20.0
_ANNOUNCED: Final = "listening on "
_MICROSECONDS: Final = 1_000_000


class ServiceProcess:
    """
    One running ``jobsvc serve``.

    Attributes:
        url: Where it listens, without a slash at the end.
        database: Its file.
        log_path: Its standard error, appended to over restarts.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, url: str, database: Path, log_path: Path) -> None:
        self._process = process
        self.url = url
        self.database = database
        self.log_path = log_path

    @property
    def pid(self) -> int:
        """
        The process's number.
        """
        return self._process.pid

    @property
    def running(self) -> bool:
        """
        True until the process has ended and somebody waited for it.
        """
        return self._process.returncode is None

    async def stop(self) -> int:
        """
        Its exit code after SIGTERM, which drains it.
        """
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """
        Its exit code after SIGKILL, which it cannot see coming. Killing what has ended does nothing.
        """
        return await self._end(signal.SIGKILL)

    async def read_line(self) -> str:
        """
        The next line that it prints, without its end; empty once it prints no more.
        """
        return (await _lines_of(self._process).readline()).decode().rstrip("\n")

    async def _end(self, number: signal.Signals) -> int:
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            code = await self._process.wait()
        # The pipe is read to its end, so that its transport is closed before the loop is.
        await _lines_of(self._process).read()
        return code


async def start_process(
    database: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    port: int = 0,
    verb: Sequence[str] = ("serve",),
) -> ServiceProcess:
    """
    A service on *database* that is ready. Whoever starts it stops it.

    Args:
        database: Its file; made if there is none.
        arguments: More flags of ``serve``.
        environ: ``JOBSVC_*`` variables; an empty ``JOBSVC_SECRET`` has the service make its own.
        port: 0 for a free one.
        verb: What is run, where that is not ``serve``.

    Raises:
        AssertionError: It ended, or said nothing in time.
    """
    command = (sys.executable, "-m", "jobsvc", *verb, "--port", str(port), "--database", str(database), *arguments)
    log_path = database.with_name(f"{database.name}.log")
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {"JOBSVC_SECRET": SECRET} | dict(environ or {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = (await _lines_of(process).readline()).decode()
    except TimeoutError:
        process.kill()
        raise
    assert line.startswith(_ANNOUNCED), f"{line!r}, then: {log_path.read_text(errors='replace')[-2_000:]}"
    url = line.removeprefix(_ANNOUNCED).strip()
    return ServiceProcess(process, url=url, database=database, log_path=log_path)


@asynccontextmanager
async def running_process(
    database: Path, *arguments: str, environ: Mapping[str, str] | None = None, verb: Sequence[str] = ("serve",)
) -> AsyncIterator[ServiceProcess]:
    """
    A ready service, which has ended when the block has.
    """
    process = await start_process(database, *arguments, environ=environ, verb=verb)
    try:
        yield process
    finally:
        await process.kill()


def token(
    role: Role, subject: str = "", *, secret: str = SECRET, kinds: Iterable[str] = (), ttl_s: float = 3_600.0
) -> str:
    """
    A bearer token that services with *secret* accept; the subject is the role's name if none is given.
    """
    now = time.time_ns() * _MICROSECONDS // 1_000_000_000
    return issue(secret, role, subject=subject or role, ttl_s=ttl_s, now=now, kinds=kinds)


def _lines_of(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stdout is not None
    return process.stdout

"""
The examples as programs of their own: started as a person would, read line by line, stopped by a signal.

A program that is missing on this machine fails the test that needs it: an example that nobody ran is not an example.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PATIENCE_S: Final = 20.0
_LINE_BYTES_MAX: Final = 1_048_576


class Program:
    """
    A running example.

    Attributes:
        lines: What it has printed so far, as far as it was read.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def says(self, is_it: Callable[[str], bool]) -> str:
        """
        The first line from here on that *is_it*.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode().rstrip("\n"):
                self.lines.append(line)
                if is_it(line):
                    return line
        raise AssertionError(f"it ended, after: {self.lines}")

    async def ended(self) -> int:
        """
        Its exit code, once it has ended by itself; the rest of its lines were read.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            rest = await self._process.stdout.read()
            code = await self._process.wait()
        self.lines += rest.decode().splitlines()
        return code

    async def stopped(self) -> int:
        """
        Its exit code after SIGTERM.
        """
        self._process.terminate()
        return await self.ended()

    async def close(self) -> None:
        """
        It runs no more. SIGTERM, since what a killed program has started would outlive it.
        """
        if self._process.returncode is None:
            await self.stopped()


@asynccontextmanager
async def program(*command: str | Path, url: str, token: str, **environ: str) -> AsyncIterator[Program]:
    """
    *command* as it runs against the service at *url*; ended when the block is.
    """
    found = shutil.which(command[0])
    assert found is not None, f"{command[0]} is not on this machine, so the examples cannot be tried"
    process = await asyncio.create_subprocess_exec(
        found,
        *command[1:],
        env=os.environ | {"JOBSVC_URL": url, "JOBSVC_TOKEN": token} | environ,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES_MAX,
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.close()

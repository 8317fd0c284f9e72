"""
The servers under load: processes of their own on the first core, and what they cost there.

Whoever measures runs on the other core, so that the server is the limit and not who asks it. A machine with one core
measures too, but its figures say less; the report names the cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from jobsvc.clock import SystemClock
from jobsvc.tokens import issue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobsvc.domain.words import Role

SECRET: Final = "bench-" * 8
_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORES: Final = frozenset(_CORES[:1])
LOAD_CORES: Final = frozenset(_CORES[1:2] or _CORES[:1])
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UNBOUNDED: Final = {
    "JOBSVC_SECRET": SECRET,
    "JOBSVC_ACTIVE_PER_OWNER_MAX": "100000000",
    "JOBSVC_ACTIVE_TOTAL_MAX": "100000000",
    "JOBSVC_LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that listens."""

    pid: int
    host: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    def cpu_s(self) -> float:
        """How long it has been on a core so far, all its threads together, in steps of a clock tick."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def resident_bytes(self) -> int:
        """How much of its memory is in the machine's."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise LookupError("Rss")


@contextmanager
def serving(database: Path, *, settings: Mapping[str, str] | None = None, module: str = "jobsvc") -> Iterator[Server]:
    """The service as anyone starts it, on *database*, with bounds on active jobs out of the way."""
    command = [sys.executable, "-m", module, "serve", "--port", "0", "--database", str(database)]
    with listening(command, _UNBOUNDED | dict(settings or {})) as server:
        yield server


@contextmanager
def bare(answer: Path, *, plain: bool = False) -> Iterator[Server]:
    """The bare handler, answering what stands in *answer*; on the service's kind of loop, or on a *plain* one."""
    command = [sys.executable, "-m", "bench.bare", str(answer)]
    with listening([*command, "--plain"] if plain else command, {}) as server:
        yield server


def token(role: Role, subject: str) -> str:
    """A bearer token that the service takes."""
    return issue(SECRET, role, subject=subject, ttl_s=86_400, now=SystemClock().now())


@contextmanager
def listening(command: list[str], settings: Mapping[str, str]) -> Iterator[Server]:
    """What *command* starts on the server's core, once it has printed ``listening on URL``."""
    with started(command, settings) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = urlsplit(line.rpartition(" ")[2].strip())
        assert url.hostname, f"{command[1:4]} does not listen: {line!r}"
        assert url.port
        yield Server(process.pid, url.hostname, url.port)


@contextmanager
def started(command: list[str], settings: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """What *command* starts on the server's core; stopped when the block ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBSVC_")} | dict(settings)
    os.sched_setaffinity(0, SERVER_CORES)  # inherited by the child and all its threads
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, LOAD_CORES)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        process.wait()

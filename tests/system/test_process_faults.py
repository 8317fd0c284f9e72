"""
What fails in the real process outside of any request: still a line of JSON each, without what anybody sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.process import SECRET, running_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.client import JSON

pytestmark = pytest.mark.process

CANARY: Final = "the token of somebody"
FAILING_THREAD: Final = f"""
import asyncio, threading, warnings

class Untidy:
    def __del__(self):
        raise ValueError({CANARY!r})

def fail():
    raise RuntimeError({CANARY!r})

def new_event_loop():
    warnings.warn({CANARY!r}, RuntimeWarning)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    Untidy()
    return asyncio.new_event_loop()
"""
"""
A loop that comes up although much goes wrong meanwhile.
"""
NO_LOOP: Final = f"def new_event_loop():\n    raise RuntimeError({CANARY!r})\n"


def loop_of(folder: Path, source: str) -> dict[str, str]:
    """
    The environment of a process whose faster loop is *source*.
    """
    (folder / "uvloop.py").write_text(source, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def lines_of(text: str) -> list[JSON]:
    """
    The log, of which nothing is no JSON and nothing is what somebody sent.
    """
    assert CANARY not in text
    return [json.loads(line) for line in text.splitlines()]


async def test_a_thread_a_finalizer_and_a_warning_are_a_line_each(tmp_path: Path) -> None:
    """
    The service goes on.
    """
    async with running_process(tmp_path / "jobs.db", environ=loop_of(tmp_path, FAILING_THREAD)) as service:
        lines = lines_of(service.log_path.read_text())

    told = {line["reason"]: line for line in lines if line["event"] == "process.fault"}
    assert {"thread", "finalizer"} == set(told)
    assert ["RuntimeError", "ValueError"] == [told[name]["traceback"][0] for name in ("thread", "finalizer")]
    assert {"error"} == {line["level"] for line in told.values()}
    (warned,) = (line for line in lines if line["event"] == "library.message")
    assert ("warnings", "RuntimeWarning: %s") == (warned["library"], warned["message"])
    assert warned["place"].startswith("uvloop.")


async def test_a_program_that_cannot_go_on_says_why_in_a_line(tmp_path: Path) -> None:
    """
    And ends with an exit code that is no success.
    """
    environ = {"JOBSVC_SECRET": SECRET} | loop_of(tmp_path, NO_LOOP)
    command = (sys.executable, "-m", "jobsvc", "serve", "--port", "0", "--database", str(tmp_path / "jobs.db"))
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environ, stderr=asyncio.subprocess.PIPE)

    _, told = await process.communicate()

    (line,) = lines_of(told.decode())
    assert 1 == process.returncode
    assert ("process.fault", "program", "RuntimeError") == (line["event"], line["reason"], line["traceback"][0])

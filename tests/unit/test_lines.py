import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pytest

from jobsvc.lines import Ration, configure_logging, tell_loop_faults
from jobsvc.telemetry import log, log_failure

CANARY = "canary-9f3"


@contextmanager
def configured(output: TextIO, **bounds: int) -> Iterator[None]:
    """
    Log lines go to *output*; afterwards logging is as it was.
    """
    root, ours = logging.getLogger(), logging.getLogger("jobsvc")
    before = list(root.handlers), root.level, ours.level
    configure_logging("info", output=output, **bounds)
    yield
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """
    Where the lines of this test go, ten of one rationed event a second.
    """
    written = io.StringIO()
    with configured(written, lines_per_s_max=10):
        yield written


def _lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


# How a line looks


def test_one_outcome_is_one_line_of_json(output: io.StringIO) -> None:
    """
    Event, level, time and the fields that have a value stand in one line, whatever text they hold.
    """
    log("stream.cut", reason="two\nlines", method="GET", code=None, duration_ms=1.5)

    [line] = _lines(output)
    assert line.pop("at").endswith("Z")
    expected = {"level": "warning", "event": "stream.cut"}
    assert expected | {"reason": "two\nlines", "method": "GET", "duration_ms": 1.5} == line


def test_lines_below_the_level_are_not_written() -> None:
    """
    With the level at warning facts are left out.
    """
    output = io.StringIO()
    with configured(output):
        logging.getLogger("jobsvc").setLevel("WARNING")
        log("ledger.answered", position=7)

    assert [] == _lines(output)


def test_a_failure_carries_where_it_came_through_and_not_what_it_said(output: io.StringIO) -> None:
    """
    Types and places of it and of what led to it; the text holds what somebody sent.
    """
    try:
        try:
            raise KeyError(CANARY)  # noqa: TRY301  # stands for what somebody else raises
        except KeyError as error:
            raise ValueError(f"no {CANARY}") from error
    except ValueError as error:
        log_failure("sweeper.failed", error, position=7)

    [line] = _lines(output)
    assert ("error", 7) == (line["level"], line["position"])
    here = [place for place in line["traceback"] if "test_a_failure_carries" in place]
    assert ["ValueError", here[0], "KeyError", here[1]] == line["traceback"]
    assert CANARY not in output.getvalue()


def test_libraries_write_the_same_form_without_what_they_were_given(output: io.StringIO) -> None:
    """
    A library's warning is a line of JSON too: its template and its place, never its arguments or a text put together.
    """
    logging.getLogger("aiohttp.server").warning("odd %s", CANARY)
    logging.getLogger("asyncio").error(f"never retrieved: {CANARY}")  # noqa: G004  # as asyncio does it

    first, second = _lines(output)
    assert ("library.message", "aiohttp.server", "odd %s") == (first["event"], first["library"], first["message"])
    assert "message" not in second
    assert second["place"].startswith("test_lines.test_libraries_write_the_same_form")
    assert CANARY not in output.getvalue()


async def test_what_nobody_waited_for_is_a_line_too(output: io.StringIO) -> None:
    """
    A callback that fails in the loop is told as a fault, without its values.
    """

    def fail() -> None:
        raise RuntimeError(CANARY)

    loop = asyncio.get_running_loop()
    tell_loop_faults(loop)
    try:
        loop.call_soon(fail)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)

    [line] = _lines(output)
    assert ("loop.fault", "RuntimeError") == (line["event"], line["traceback"][0])
    assert CANARY not in output.getvalue()


# Floods


def test_a_flood_is_so_many_lines_a_second_and_a_count(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Ten of thirty refusals are written; the first line after that second comes with the count of the others.
    """
    moment = 1_000_000_000.0
    monkeypatch.setattr("time.time", lambda: moment)
    for _ in range(30):
        log("request.refused", code="invalid")
    log("service.draining", count=0)
    moment += 1

    log("request.refused", code="invalid")

    lines = _lines(output)
    assert ["request.refused"] * 10 + ["service.draining", "log.left_out", "request.refused"] == [
        line["event"] for line in lines
    ]
    assert (20, {"request.refused": 20}) == (lines[11]["count"], lines[11]["events"])


def test_a_ration_is_of_one_event() -> None:
    """
    A flood of one event leaves the lines of another alone.
    """
    ration = Ration(2)

    assert [True, True, False] == [ration.admits("request.refused", at=5.0 + n / 10) for n in range(3)]
    assert ration.admits("request.put_off", at=5.5)
    assert ration.is_spent(at=5.9)
    assert not ration.is_spent(at=6.0)
    assert ration.admits("request.refused", at=6.0)


# Where lines go


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """
    Past what the pipe holds lines are left out, a begun one goes on first, and the next that fits comes with the count.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer, configured(writer):
        for number in range(2_000):
            log("stream.cut", count=number, reason="x" * 9_000)
        first = reader.read()
        log("service.stopped")
        second = reader.read()

    lines = [json.loads(line) for line in (first + second).splitlines()]
    whole = [line for line in lines if line["event"] == "stream.cut"]
    assert list(range(len(whole))) == [line["count"] for line in whole]
    assert ["log.left_out", "service.stopped"] == [line["event"] for line in lines[-2:]]
    assert {"stream.cut": 2_000 - len(whole)} == lines[-2]["events"]


def test_a_log_whose_reader_is_gone_stops_nobody() -> None:
    """
    A closed pipe takes nothing, and that is all.
    """
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "w") as writer, configured(writer):
        log("service.stopped")

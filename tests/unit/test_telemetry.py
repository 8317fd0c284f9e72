import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from jobsvc.telemetry import FIELD_NAMES, LEVELS, Metrics, configure_logging, log, log_failure


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """
    Where the lines of this test go; afterwards logging is as it was.
    """
    root, ours = logging.getLogger(), logging.getLogger("jobsvc")
    before = list(root.handlers), root.level, ours.level
    written = io.StringIO()
    configure_logging("info", output=written)
    yield written
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


def _lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_one_outcome_is_one_line_of_json(output: io.StringIO) -> None:
    """
    Event, level, time and the fields that have a value stand in one line, whatever text they hold.
    """
    log("stream.cut", reason="two\nlines", method="GET", code=None, duration_ms=1.5)

    [line] = _lines(output)
    assert line.pop("at").endswith("Z")
    expected = {"level": "warning", "event": "stream.cut"}
    assert expected | {"reason": "two\nlines", "method": "GET", "duration_ms": 1.5} == line


def test_lines_below_the_level_are_not_written(output: io.StringIO) -> None:
    """
    What only helps to look into one thing is not there until it is asked for.
    """
    log("ledger.committed", position=7)

    assert [] == _lines(output)


def test_a_failure_carries_its_traceback(output: io.StringIO) -> None:
    """
    Whoever must act sees where it happened.
    """
    error = RuntimeError("broken")

    log_failure("sweeper.failed", error, position=7)

    [line] = _lines(output)
    assert ("error", 7) == (line["level"], line["position"])
    assert "RuntimeError: broken" in line["traceback"]


def test_libraries_write_the_same_form(output: io.StringIO) -> None:
    """
    A library's warning is a line of JSON too, told apart by its event.
    """
    logging.getLogger("aiohttp.server").warning("odd %s", "request")

    [line] = _lines(output)
    assert ("library.message", "aiohttp.server", "odd request") == (line["event"], line["library"], line["message"])


def test_no_field_of_a_line_can_hold_what_must_stay_private() -> None:
    """
    The catalogue has no field for payloads, tokens or cookies, nor for who a guest or user is.
    """
    private = {
        "token",
        "secret",
        "cookie",
        "authorization",
        "owner",
        "input",
        "result",
        "metadata",
        "url",
        "key",
        "body",
    }

    assert set() == private & FIELD_NAMES


def test_every_event_has_one_level_and_a_dotted_name() -> None:
    """
    The catalogue can be searched by family.
    """
    odd = [name for name in LEVELS if name.count(".") != 1]

    assert [] == odd
    assert {logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR} == set(LEVELS.values())


def test_two_services_do_not_share_metrics() -> None:
    """
    Each service of a process counts for itself, under the names that the contract gives.
    """
    one, other = Metrics(), Metrics()

    one.streams_open.inc()
    one.refusals.labels(code="lease-lost").inc()

    assert b"\njobsvc_streams_open 1.0\n" in one.exposition()
    assert b'\njobsvc_refusals_total{code="lease-lost"} 1.0\n' in one.exposition()
    assert b"\njobsvc_streams_open 0.0\n" in other.exposition()

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import jobsvc
from jobsvc.metrics import Metrics
from jobsvc.telemetry import FIELD_NAMES, LEVELS, LINES, RATIONED, LogEvent

MADE_BY_THE_FORM = {"library.message": {"library", "message", "place"}, "log.left_out": {"count", "events"}}
"""
Lines that no call of ``log`` writes, with the fields that they have.
"""


def test_no_field_of_a_line_can_hold_what_must_stay_private() -> None:
    """
    The catalogue has no field for payloads, tokens or cookies, nor for who a guest or user is.
    """
    private = {"token", "secret", "cookie", "authorization", "owner"}
    payload = {"input", "result", "metadata", "url", "key", "title", "message", "body"}

    assert set() == (private | payload) & FIELD_NAMES


def test_every_event_has_one_level_and_a_dotted_name() -> None:
    """
    The catalogue can be searched by family.
    """
    odd = [name for name in LEVELS if name.count(".") != 1]

    assert [] == odd
    assert {logging.INFO, logging.WARNING, logging.ERROR} == set(LEVELS.values())


def test_the_catalogue_has_every_line_and_no_other() -> None:
    """
    What may be written is described, and only that.
    """
    declared = {event for events in get_args(LogEvent) for event in get_args(events) or [events]}

    assert declared == set(LEVELS) == set(LINES)
    assert set() == RATIONED - set(LINES)


def test_the_lines_that_are_written_have_the_fields_that_they_are_said_to_have() -> None:
    """
    By the calls in the code: each event is written somewhere, with no field more than the catalogue names.
    """
    declared = {str(event): {*line.fields} for event, line in LINES.items()}
    written: dict[str, set[str]] = {event: set(fields) for event, fields in MADE_BY_THE_FORM.items()}
    for event, fields in _calls():
        written.setdefault(event, set()).update(fields)

    assert set(declared) == set(written)
    assert {} == {event: more for event, fields in written.items() if (more := fields - declared[event])}


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


def _calls() -> Iterator[tuple[str, set[str]]]:
    """
    The events of each call of ``log`` and ``log_failure`` in the package, with the names of its fields.
    """
    for path in Path(jobsvc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"log", "log_line", "log_failure"}:
                named = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                named |= {"traceback"} if getattr(node.func, "id", "") == "log_failure" else set()
                texts = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                yield from ((text, named) for text in texts if isinstance(text, str) and text in LINES)

"""
The generated parts of the documentation: drawn from the code, so that they cannot say anything else.

`make docs` writes them; tests/system/test_docs.py fails when one is stale. A part stands between two markers,
``<!-- NAME: made by make docs -->`` and ``<!-- /NAME -->``; what is around the markers is written by hand.

What must never live here: a fact of its own. Each part reads the one place where the code declares its subject.
"""
# ruff: noqa: INP001  # A program beside the pages that it writes, not a package.

from __future__ import annotations

import ast
import inspect
import logging
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from jobsvc import metrics, telemetry
from jobsvc import settings as settings_module
from jobsvc.cli.demo import read_posts
from jobsvc.domain.errors import JobsvcError
from jobsvc.domain.events import FACTS_OF_TYPE
from jobsvc.domain.keys import key_from_url
from jobsvc.domain.machine import ENDED, LIVING, NEW, ROWS, WAITING, Case
from jobsvc.http.problems import STATUS_OF_CODE, TITLE_OF_CODE
from jobsvc.http.routes import ROUTES
from jobsvc.settings import Settings
from jobsvc.settings_loading import ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jobsvc.domain.machine import Row
    from jobsvc.telemetry import LogEvent

ROOT: Final = Path(__file__).parents[1]


def main() -> int:
    """
    Every generated part says what the code says.
    """
    for path, text in rendered().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"docs: wrote {path.relative_to(ROOT)}\n")
    return 0


def rendered() -> dict[Path, str]:
    """
    Each page that has generated parts, as it should be.

    Raises:
        ValueError: A page lacks the markers of one of its parts.
    """
    pages: dict[Path, str] = {}
    for (name, part), make in PARTS.items():
        path = ROOT / name
        text = pages[path] if path in pages else path.read_text(encoding="utf-8")
        pages[path] = _replaced(text, part, made="\n".join(make()))
    return pages


def _replaced(text: str, part: str, *, made: str) -> str:
    begin, end = f"<!-- {part}: made by make docs -->", f"<!-- /{part} -->"
    if begin not in text or end not in text:
        raise ValueError(f"no place for {part}: the page needs the lines {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end, 1)[1]}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def _sentences(documented: object) -> str:
    """
    The docstring of *documented* on one line.
    """
    return _on_one_line(inspect.getdoc(documented) or "")


def _on_one_line(docstring: str) -> str:
    return " ".join(docstring.split()).replace("``", "`")


# The machine


def _diagram() -> Iterator[str]:
    """
    The states and what leads from one to another; rows that change no state are in the table only.
    """
    whole = [row for row in _moving() if row.sources == LIVING]
    single = [row for row in _moving() if row.sources != LIVING]
    yield from ("```mermaid", "stateDiagram-v2")
    yield from _arrows((row for row in single if NEW in row.sources), indent="    ")
    yield "    state active {"
    yield from _arrows((row for row in single if NEW not in row.sources and row.dest not in ENDED), indent=" " * 8)
    yield "    }"
    yield from _arrows((row for row in single if row.dest in ENDED), indent="    ")
    yield from _arrows((row._replace(sources=("active",)) for row in whole), indent="    ")
    yield from (f"    {state} --> [*]" for state in ENDED)
    yield "```"


def _moving() -> Iterator[Row]:
    return (row for row in ROWS if row.dest is not None)


def _arrows(rows: Iterable[Row], *, indent: str) -> Iterator[str]:
    """
    One arrow for each pair of states, with all that leads along it.
    """
    labels: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for source in row.sources:
            labels.setdefault((source, str(row.dest)), []).append(row.trigger)
    for (source, dest), triggers in labels.items():
        begin = "[*]" if source == NEW else source
        yield f"{indent}{begin} --> {dest}: {', '.join(dict.fromkeys(triggers))}"


def _states() -> Iterator[str]:
    yield from _table(
        ("in", "trigger", "if", "then", "event", "fence"),
        (
            (
                _sources(row.sources),
                f"`{row.trigger}`",
                " and ".join(f"`{guard}`" for guard in row.guards) or "–",
                "the same" if row.dest is None else f"`{row.dest}`",
                "none" if row.event is None else f"`{row.event}`",
                "+1" if _raises_fence(row) else "",
            )
            for row in ROWS
        ),
    )


def _sources(sources: tuple[str, ...]) -> str:
    match sources:
        case (single,) if single == NEW:
            return "–"
        case _ if sources == LIVING:
            return "any active"
        case _ if sources == WAITING:
            return "any waiting"
        case _ if sources == ENDED:
            return "any ended"
        case _ if set(sources) == {*LIVING, *ENDED}:
            return "any"
        case _:
            return ", ".join(f"`{source}`" for source in sources)


def _raises_fence(row: Row) -> bool:
    """
    An event that carries a fence carries the next one.
    """
    return row.event is not None and "fence" in FACTS_OF_TYPE[row.event].__struct_fields__


def _guards() -> Iterator[str]:
    named = dict.fromkeys(guard for row in ROWS for guard in row.guards)
    yield from _table(("if", "means"), ((f"`{name}`", _sentences(getattr(Case, name))) for name in named))


# The surface


def _routes() -> Iterator[str]:
    yield from _table(
        ("method", "path", "for", "says"),
        ((route.method, f"`{route.path}`", _callers(route.roles), route.says) for route in ROUTES),
    )


def _callers(roles: frozenset[str] | None) -> str:
    return "anybody" if roles is None else ", ".join(sorted(roles))


def _problems() -> Iterator[str]:
    meanings = _meanings()
    yield from _table(
        ("status", "code", "title", "says, where nothing more exact is said"),
        (
            (str(status), f"`{code}`", TITLE_OF_CODE[code], meanings.get(code, ""))
            for code, status in STATUS_OF_CODE.items()
        ),
    )


def _meanings() -> dict[str, str]:
    """
    By code, the first lines of the most exact errors that bring it.
    """
    found: dict[str, dict[type[JobsvcError], None]] = {}
    for error in _errors(JobsvcError):
        if "code" in vars(error):
            others = found.setdefault(error.code, {})
            for other in [other for other in others if issubclass(error, other)]:
                del others[other]
            others[error] = None
    return {code: " ".join(_first_line(error) for error in errors) for code, errors in found.items()}


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").splitlines()[0]


def _errors(root: type[JobsvcError]) -> Iterator[type[JobsvcError]]:
    yield root
    for error in root.__subclasses__():
        yield from _errors(error)


def _events() -> Iterator[str]:
    yield from _table(("event", "says"), ((f"`{name}`", _sentences(facts)) for name, facts in FACTS_OF_TYPE.items()))


def _metrics() -> Iterator[str]:
    found = (each for each in vars(metrics.Metrics()).values() if isinstance(each, MetricWrapperBase))
    yield from _table(("metric", "type", "labels", "says"), (_metric(each) for each in found))


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    (described,) = metric.describe()
    name = f"{described.name}_total" if isinstance(metric, Counter) else described.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001  # what the library shows in no other way
    return f"`{name}`", described.type, labels, described.documentation


def _lines() -> Iterator[str]:
    yield from _table(("event", "level", "when", "fields", "what to do"), map(_line, telemetry.LEVELS))


def _line(event: LogEvent) -> tuple[str, ...]:
    line = telemetry.LINES[event]
    level = logging.getLevelName(telemetry.LEVELS[event]).lower()
    return f"`{event}`", level, line.says, ", ".join(f"`{name}`" for name in line.fields), line.act


# The settings


def _settings() -> Iterator[str]:
    """
    The settings under the headings of the source, with what stands under each name there.
    """
    defaults = {each.name: _default(each) for each in fields(Settings)}
    headings = _headings()
    for heading, names in headings.items():
        yield from (f"## {heading}", "")
        yield from _table(
            ("setting", "default", "says"),
            ((f"`{name}`", defaults[name], meaning) for name, meaning in names.items()),
        )
        yield ""
    yield f"Variables are named `{ENVIRONMENT_PREFIX}` and the setting in upper case."


def _default(field: Any) -> str:  # noqa: ANN401  # dataclasses.Field of any type
    value = field.default if field.default is not MISSING else field.default_factory()
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"`{value:.12g}`"
        case str() if value:
            return f"`{value}`"
        case _:
            return "empty"


def _headings() -> dict[str, dict[str, str]]:
    """
    By heading, each setting and its docstring, in the order of the source.
    """
    source = inspect.getsource(settings_module)
    lines = source.splitlines()
    (record,) = (each for each in ast.parse(source).body if isinstance(each, ast.ClassDef) and each.name == "Settings")
    found: dict[str, dict[str, str]] = {}
    for place, statement in enumerate(record.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = ast.literal_eval(record.body[place + 1].value)  # type: ignore[attr-defined]  # fails if it has none
            found.setdefault(_heading(lines[: statement.lineno]), {})[statement.target.id] = _on_one_line(said)
    return found


def _heading(lines: list[str]) -> str:
    named = (re.fullmatch(r"    # --- (.+?) -+", line) for line in reversed(lines))
    return next(found.group(1) for found in named if found is not None)


# The demo


def posts_and_jobs() -> tuple[int, int]:
    """
    How many URLs the demo submits, and how many jobs they become.
    """
    posts = read_posts()
    return len(posts), len({key_from_url(post, profile="x-post") for post in posts})


PARTS: Final[dict[tuple[str, str], Callable[[], Iterator[str]]]] = {
    ("README.md", "routes"): _routes,
    ("docs/workers.md", "diagram"): _diagram,
    ("docs/workers.md", "states"): _states,
    ("docs/workers.md", "guards"): _guards,
    ("docs/settings.md", "settings"): _settings,
    ("docs/reference.md", "problems"): _problems,
    ("docs/reference.md", "events"): _events,
    ("docs/operations.md", "metrics"): _metrics,
    ("docs/operations.md", "lines"): _lines,
}
"""
By page and part, what makes it.
"""

if __name__ == "__main__":
    sys.exit(main())

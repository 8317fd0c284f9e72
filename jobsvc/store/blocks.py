"""
Named blocks: SQL out of the .sql files beside the engine, ready to run.

A block is `-- name: word`, a line of description, and the statement. The marks that a block may hold ({rows:n},
{table}, {side}, {packed}) stand at the top of queries.sql; each filling is made once and kept, so that the driver's
statement cache meets the same text again. Parameters are the driver's; no value of a caller is ever written into SQL.
"""

from __future__ import annotations

import re
from functools import cache, reduce
from importlib.resources import files
from operator import iconcat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Statement = tuple[str, "Sequence[Any]"]
"""SQL and its parameters by place."""

ROWS_PER_STATEMENT_MAX: Final = 64
"""A power of two: sizes halve from here, so that few texts fill the statement cache."""

_NAME: Final = re.compile(r"^-- name: (\w+)\n((?:--.*\n)+)", re.MULTILINE)
_SECTION: Final = re.compile(r"^-- ==.*(?:\n--.*)*", re.MULTILINE)
_ROWS: Final = re.compile(r"\{rows:(\d+)\}")


@cache
def block(name: str, *, table: str = "", side: str = "", rows: int = 0) -> str:
    """
    The statement under *name*, its marks filled in.

    Args:
        name: As it stands in queries.sql.
        table: For ``{table}``: a view or its shadow.
        side: For ``{side}``: ``a`` or ``b``.
        rows: For ``{rows:n}``: how many rows of n values.

    Raises:
        KeyError: There is no such block.
    """
    text = _blocks()[name].replace("{table}", table).replace("{side}", side)
    for part in _PARTS:
        if (mark := f"{{{part}}}") in text:
            text = text.replace(mark, _blocks()[part])
    return _ROWS.sub(lambda mark: _values(int(mark[1]), rows=rows), text)


def statements(name: str, rows: list[tuple[Any, ...]], *, table: str = "") -> list[Statement]:
    """
    Statements that write all of *rows* by the block *name*: 64 rows at a time, then 32, 16 … 1.
    """
    made: list[Statement] = []
    start, size = 0, ROWS_PER_STATEMENT_MAX
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        parameters: list[Any] = reduce(iconcat, rows[start : start + size], [])
        made.append((block(name, table=table, rows=size), parameters))
        start += size
    return made


def create_view(view: str, *, table: str, side: str) -> list[str]:
    """
    The statements that make *table* in the form of *view*, its indexes named for *side*.
    """
    names = [f"create_{view}", *(name for name in _blocks() if name.startswith(f"create_{view}_"))]
    return [block(name, table=table, side=side) for name in names]


_PARTS: Final = ("packed", "size", "page_end", "archived_through")
"""Blocks that stand in others, where their name is in braces."""


@cache
def schema_steps() -> tuple[str, ...]:
    """
    The scripts that bring an empty file to this version's schema, in order; a file's user_version counts them.
    """
    folder = files("jobsvc.store").joinpath("sqlite_schema")
    named = sorted((step.name, step.read_text("utf-8")) for step in folder.iterdir() if step.name.endswith(".sql"))
    return tuple(text for _, text in named)


@cache
def _blocks() -> dict[str, str]:
    text = files("jobsvc.store").joinpath("queries.sql").read_text("utf-8")
    parts = _NAME.split(_SECTION.sub("", text))
    return {name: body.strip().removesuffix(";") for name, body in zip(parts[1::3], parts[3::3], strict=True)}


def _values(columns: int, *, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)

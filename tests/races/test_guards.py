"""
The table of guards is whole: ``make guards`` shows that each is missed, this that none was forgotten or moved.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.guards import GUARDS, ROOT, Guard


def test_every_race_names_the_line_that_guards_it() -> None:
    """
    Those that explore schedules, no more and no fewer.
    """
    races = {
        f"{path.name}::{name}"
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^async def (test_\w+)\(explore: ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert races == set(GUARDS)


@pytest.mark.parametrize("guard", sorted({guard for guards in GUARDS.values() for guard in guards}))
def test_a_guard_stands_where_the_table_says(guard: Guard) -> None:
    """
    Once and nowhere else in its file; whoever rewrites that line brings the table with it.
    """
    text = (ROOT / guard.path).read_text(encoding="utf-8")

    assert 1 == text.count(guard.line)
    assert guard.line != guard.instead

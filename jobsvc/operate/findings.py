"""
What a look at a log may find wrong, each as a sentence.

Whoever looks makes them; whoever asked is told them, gravest first. Nothing is looked at here.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

FINDINGS_MAX: Final = 100
"""How many are kept: one may be the cause of thousands, and nobody reads those."""


class Finding(Struct, frozen=True):
    """Something wrong: at which position of the log (None: in a view), and what."""

    position: int | None
    what: str

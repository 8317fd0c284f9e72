"""
What is done to each request before it is sent: waits are made short, so that the run is bounded.

A wait that is out of bounds stays so, since it must be refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, HookContext

LONG: Final = re.compile(r"([1-5]?\d|60)(\.\d+)?")
"""
As the service would read it.
"""


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """
    No request waits longer than it must.
    """
    del context, kwargs
    for part in (case.query, case.body):
        if isinstance(part, dict) and LONG.fullmatch(str(part.get("wait_s"))):
            part["wait_s"] = 0
    if "Prefer" in case.headers:
        case.headers["Prefer"] = "wait=0"

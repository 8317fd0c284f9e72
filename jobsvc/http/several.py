"""
Many in one request: each item becomes a command on its own or a refusal in its place, and all are decided in one go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobsvc.domain.errors import Rejected
from jobsvc.http import bodies
from jobsvc.http.problems import TooLarge
from jobsvc.http.told import tell_refused_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from msgspec import Raw

    from jobsvc.answers import MarkRequest, Result
    from jobsvc.domain.commands import JobCommand
    from jobsvc.http.call import Call


async def decide_each(
    call: Call,
    items: Sequence[Raw],
    *,
    shape: Any,  # noqa: ANN401  # any type that msgspec reads
    make: Callable[[Any], JobCommand],
    mark: MarkRequest | None = None,
) -> tuple[Sequence[Result], bool]:
    """
    The result of each of *items*, in order; and whether the same request had them before.

    Refusals go through the ledger too, so that a mark remembers them in their places.

    Raises:
        TooLarge: There are more items than a request may hold.
    """
    settings = call.service.settings
    if len(items) > settings.items_max:
        message = f"a request holds at most {settings.items_max} of these"
        raise TooLarge(message)
    if len(items) > 1:
        call.count_further_writes(len(items) - 1)
    wanted: list[JobCommand | Rejected] = []
    for item in items:
        try:
            wanted.append(make(bodies.parse(shape, item, depth_max=settings.json_depth_max)))
        except Rejected as refusal:
            wanted.append(refusal)
    results, replayed = await call.service.ledger.execute_all(wanted, mark=mark)
    tell_refused_parts(call, results)
    return results, replayed

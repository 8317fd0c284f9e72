"""
A projection as any user may write one: how much was finished on each day.
"""

from __future__ import annotations

from jobsvc.domain.events import Completed, Event


class FinishedByDay:
    """
    Completions by the day on which they came.
    """

    name = "finished"
    version = 1

    def key(self, event: Event) -> str:
        """
        The day, counted from the epoch.
        """
        return str(event.at // 86_400_000_000)

    def apply(self, row: int | None, event: Event) -> int | None:
        """
        One more for each completion.
        """
        return (row or 0) + 1 if isinstance(event.facts, Completed) else row


class NoProjection:
    """
    Has nothing that a projection has.
    """


class Nameless:
    """
    A projection that leaves its name to its class.
    """

    version = 1

    def apply(self, row: int | None, event: Event) -> int | None:
        """
        The newest position of each job.
        """
        return max(row or 0, event.position)

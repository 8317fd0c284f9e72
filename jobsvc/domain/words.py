"""
The words of the domain as types: states, event types, roles, and who is asking.

One meaning each (docs/glossary.md). What belongs here is a noun that several files of the domain share and that
has no behaviour beyond naming itself. Rules never live here: they are the machine's guards and the decider's.

Records of the domain are frozen and ``gc=False``: none can be part of a cycle, so the collector need not walk a hundred
thousand active jobs to find out.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

JobId = str
"""
UUIDv7 text, lower case, with hyphens.
"""

Micros = int
"""
A moment as whole microseconds since the Unix epoch, UTC; or a length of time in microseconds (names end in ``_us``).
"""

State = Literal[
    "scheduled", "queued", "running", "retrying", "cancelling", "completed", "failed", "cancelled", "expired"
]

ACTIVE: Final = frozenset({"scheduled", "queued", "running", "retrying", "cancelling"})
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})

Role = Literal["guest", "user", "service", "worker", "operator", "viewer", "system"]
"""
``system`` is the service itself (the sweeper); no token can carry it.
"""

Verb = Literal["heartbeat", "progress", "complete", "fail", "release"]
"""
What a worker may report about a job that it holds.
"""

Reason = Literal[
    "requested",
    "forced",
    "cleaned_up",
    "superseded",
    "deadline",
    "not_started",
    "active_too_long",
    "lease_expired",
]
"""
Why a job ended or was asked to, where nobody gave a reason in words of their own.
"""

ERASED: Final = "erased"
"""
Stands where an owner stood before an erasure took the payload away. It is no owner: nobody's token names it.
"""


class Principal(Struct, frozen=True, gc=False):
    """
    Who is asking, as proved by a token or cookie. Immutable for the life of a request.

    Attributes:
        role: What the bearer may do in general.
        subject: Who it is within the role: ``guest:<uuid>``, ``user:<id>``, or the name of a worker or operator.
        owner: The owner it acts as: its own for guests and users, the named one for a service, else None.
        kinds: The only kinds a worker may touch; empty means any.
        actor: The text that stands in an event's ``actor``: ``<role>:<subject>``, without saying the role twice. It
            follows from the two, whatever is given.
    """

    role: Role
    subject: str
    owner: str | None = None
    kinds: frozenset[str] = frozenset()
    actor: str = ""

    def __post_init__(self) -> None:
        """
        Made once, since each request asks for it more than once.
        """
        prefix = f"{self.role}:"
        force_setattr(self, "actor", self.subject if self.subject.startswith(prefix) else prefix + self.subject)

    def may_see(self, owner: str) -> bool:
        """
        True if jobs of *owner* may be shown to this principal.
        """
        return self.role in _SEES_ALL or self.owner == owner

    def may_change(self, owner: str) -> bool:
        """
        True if jobs of *owner* may be created, cancelled, retried or cleaned up by this principal.
        """
        return self.role in _CHANGES_ALL or (self.role in _CHANGES_OWN and self.owner == owner)

    def may_work_on(self, kind: str) -> bool:
        """
        True if this principal may claim jobs of *kind* and report on them.
        """
        return self.role in _WORKS and (not self.kinds or kind in self.kinds)


SYSTEM: Final = Principal(role="system", subject="sweeper")

_SEES_ALL: Final = frozenset({"viewer", "operator", "system"})
_CHANGES_ALL: Final = frozenset({"operator", "system"})
_CHANGES_OWN: Final = frozenset({"guest", "user", "service"})
_WORKS: Final = frozenset({"worker", "operator", "system"})

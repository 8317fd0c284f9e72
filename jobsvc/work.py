"""
The work: all that may wait in the ledger's queue, how much it is, and in whose name it waits.

A command is work by itself; the others are several at once, or what the ledger wants of its own accord. Frozen records
and nothing else: what becomes of them is the desk's to say.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from jobsvc.domain import commands as c
from jobsvc.domain.errors import Rejected
from jobsvc.domain.words import JobId
from jobsvc.store.seam import Mark
from jobsvc.takeovers import HandOver, TakeOver


class Flush(Struct, frozen=True):
    """Progress of these jobs was held back long enough and is to be written."""

    job_ids: tuple[JobId, ...]


class Several(Struct, frozen=True):
    """Commands to be decided in order in one transaction, each on its own; or refused before, in its place."""

    commands: tuple[c.JobCommand | Rejected, ...]


class Undo(Struct, frozen=True):
    """These grants never reached their worker; one that the same claim was given again since has, and stays."""

    commands: tuple[c.Release, ...]


class Remember(Struct, frozen=True):
    """This mark is to be kept, about something that is no job: a revocation."""

    mark: Mark


Work = c.JobCommand | c.Claim | TakeOver | HandOver | Several | Undo | Flush | Remember
"""What may wait in the ledger's queue."""

_TAKE_OVER_WEIGHT: Final = 256
"""As much as any batch holds: it may be a thousand decisions and more, and goes in a batch of its own."""


def share_of(work: Work) -> tuple[str, int]:
    """In whose name *work* waits (empty for workers', operators' and our own), and how many decisions it may take."""
    match work:
        case c.Create():
            return work.who.owner or "", 1
        case c.Claim():
            return work.who.owner or "", work.limit
        case Several():
            named = (command.who.owner for command in work.commands if not isinstance(command, Rejected))
            return next(named, None) or "", len(work.commands)
        case TakeOver():
            return work.who.owner or "", _TAKE_OVER_WEIGHT
        case Undo():
            return "", len(work.commands)
        case Flush() | HandOver():
            return "", len(work.job_ids)
        case Remember():
            return "", 1
        case _:
            return work.who.owner or "", 1

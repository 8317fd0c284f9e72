from __future__ import annotations

from jobsvc.domain import errors
from jobsvc.domain.errors import (
    Conflict,
    Corrupt,
    InvalidCommand,
    JobNotFound,
    JobsvcError,
    LeaseLost,
    Rejected,
    StoreDown,
    Unavailable,
)

SIDES: set[type[object]] = {JobsvcError, Rejected, Conflict, Unavailable, Corrupt}


def test_an_error_says_what_its_class_says_where_nothing_else_is_said() -> None:
    """
    The first line of the docstring is the message, and a message that is given stands.
    """
    errors = [JobNotFound(), Rejected("no"), InvalidCommand(pointer="/url"), LeaseLost(may_complete=True)]

    messages = [error.message for error in errors]

    assert [
        "There is no such job.",
        "no",
        "What was asked for is not possible.",
        "This lease no longer gives the right to report on the job.",
    ] == messages


def test_every_error_says_who_must_act() -> None:
    """
    Each error stands under exactly one of the four who may have to act, and in the tree at the top of the file.
    """
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, JobsvcError)]

    sides = {each.__name__: [side for side in SIDES - {JobsvcError} if issubclass(each, side)] for each in classes}

    assert [] == [name for name, found in sides.items() if len(found) != 1 and name != "JobsvcError"]
    assert [] == [name for name in sides if name not in (errors.__doc__ or "") and name != "RejectedWithJob"]


def test_every_error_has_a_code_of_the_contract() -> None:
    """
    Codes are lower case words with hyphens, and every refusal has one of its own.
    """
    refusals = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Rejected)]

    codes = {each.code for each in refusals}

    assert {
        "invalid",
        "access-denied",
        "not-found",
        "job-active",
        "lease-lost",
        "duplicate-job",
        "version-mismatch",
        "idempotency-key-reused",
        "too-many-active",
        "slow-down",
        "unauthenticated",
    } == codes


def test_a_store_that_is_down_says_what_it_complained_of() -> None:
    """
    A fault without a name is any other.
    """
    faults = [StoreDown(), StoreDown(kind="full")]

    kinds = [fault.kind for fault in faults]

    assert ["other", "full"] == kinds

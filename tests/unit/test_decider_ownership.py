"""
Who may do what: every command, asked by every role, about its own job and about another's.
"""

from __future__ import annotations

from typing import Final, get_args

import pytest

from jobsvc.domain import commands as c
from jobsvc.domain.errors import AccessDenied
from jobsvc.domain.words import Principal, Role
from tests.unit.specification import (
    COMPLETED,
    JOB,
    LIVING,
    OTHER,
    QUEUED,
    RUNNING,
    SUBMISSION,
    Answer,
    Story,
    cancel,
    clean_up,
    complete,
    create,
    fail,
    given,
    heartbeat,
    job_of,
    progress,
    release,
    retry,
    start,
)

OWNER: Final = SUBMISSION.owner
ROLES: Final = get_args(Role)

FRONT: Final[dict[type, Story]] = {
    c.Create: (),
    c.Retry: COMPLETED,
    c.Cancel: RUNNING,
    c.CleanUp: RUNNING,
    c.ChangeOwner: RUNNING,
    c.Merge: RUNNING,
    c.Erase: COMPLETED,
}
"""
What owners do, each with a story in which it is possible.
"""

WORK: Final[dict[type, Story]] = {
    c.Start: QUEUED,
    c.Heartbeat: RUNNING,
    c.ReportProgress: RUNNING,
    c.Complete: RUNNING,
    c.Fail: RUNNING,
    c.Release: RUNNING,
}
"""
What workers do, likewise.
"""

MOMENTS: Final = (c.ComeDue, c.Lapse, c.Expire, c.EndGrace)
"""
What only says that a moment has come: true or not, whoever says it.
"""

ANYBODYS: Final = {"operator", "system"}
OWN: Final = {"guest", "user", "service"}
WORKERS: Final = {"worker"}


def principal(role: Role, *, owner: str | None, kinds: frozenset[str] = frozenset()) -> Principal:
    """
    A caller in *role* who acts for *owner*, where the role acts for one.
    """
    return Principal(role=role, subject="somebody", owner=owner if role in OWN else None, kinds=kinds)


def front_command(kind: type, who: Principal) -> c.JobCommand:
    """
    A command of this *kind* by *who*, on the job of the stories.
    """
    commands: dict[type, c.JobCommand] = {
        c.Create: create(who=who),
        c.Retry: retry(who=who),
        c.Cancel: cancel(who=who),
        c.CleanUp: clean_up(who=who, force=True),
        c.ChangeOwner: c.ChangeOwner(JOB, who, OWNER),
        c.Merge: c.Merge(JOB, OTHER, who),
        c.Erase: c.Erase(JOB, who),
    }
    return commands[kind]


def work_command(kind: type, who: Principal) -> c.JobCommand:
    """
    A worker's command of this *kind* by *who*.
    """
    commands: dict[type, c.JobCommand] = {
        c.Start: start(who=who),
        c.Heartbeat: heartbeat(who=who),
        c.ReportProgress: progress(who=who),
        c.Complete: complete(who=who),
        c.Fail: fail(who=who),
        c.Release: release(who=who),
    }
    return commands[kind]


def ask_front(kind: type, who: Principal) -> Answer:
    """
    What comes of *who* asking for this *kind* of command where the machine allows it.
    """
    if kind is c.Merge:
        return given(*FRONT[kind]).when(front_command(kind, who), holder=job_of(RUNNING, job_id=OTHER))
    return given(*FRONT[kind]).when(front_command(kind, who))


def test_every_command_is_asked_about_here() -> None:
    """
    A command that is added without a say on who may give it fails this test.
    """
    commands = set(get_args(c.JobCommand))

    spoken_for = {*FRONT, *WORK, *MOMENTS}

    assert commands == spoken_for


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", FRONT)
def test_owners_and_operators_act_on_an_own_job(kind: type, role: Role) -> None:
    """
    The owner, who acts for it, and who may do all: nobody else, workers and viewers least.
    """
    who = principal(role, owner=OWNER)

    answer = ask_front(kind, who)

    assert (role in OWN | ANYBODYS) == (not isinstance(answer.came_of_it, AccessDenied))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", FRONT)
def test_nobody_but_an_operator_acts_on_anothers_job(kind: type, role: Role) -> None:
    """
    Another's job is refused at every door.
    """
    who = principal(role, owner="guest:stranger")

    answer = ask_front(kind, who)

    assert (role in ANYBODYS) == (not isinstance(answer.came_of_it, AccessDenied))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("owner", [OWNER, "guest:stranger"])
def test_only_workers_and_operators_work(owner: str, kind: type, role: Role) -> None:
    """
    Not even the owner of a job reports on it.
    """
    who = principal(role, owner=owner)

    answer = given(*WORK[kind]).when(work_command(kind, who))

    assert (role in WORKERS | ANYBODYS) == (not isinstance(answer.came_of_it, AccessDenied))


@pytest.mark.parametrize("kind", WORK)
def test_a_worker_touches_its_kinds_only(kind: type) -> None:
    """
    A token that names kinds is good for those and no others.
    """
    workers = [principal("worker", owner=None, kinds=frozenset({name})) for name in ("x-post", "mail")]

    answers = [given(*WORK[kind]).when(work_command(kind, who)) for who in workers]

    assert [False, True] == [isinstance(answer.came_of_it, AccessDenied) for answer in answers]


def test_who_sees_what() -> None:
    """
    Viewers and operators see all, owners and who acts for them see their own, workers see nothing that way.
    """
    own = {role for role in ROLES if principal(role, owner=OWNER).may_see(OWNER)}

    others = {role for role in ROLES if principal(role, owner=OWNER).may_see("guest:stranger")}

    assert OWN | ANYBODYS | {"viewer"} == own
    assert ANYBODYS | {"viewer"} == others


def test_an_actor_names_its_role_once() -> None:
    """
    Where the subject says the role already, the actor does not say it again.
    """
    guest, worker = Principal(role="guest", subject="guest:1"), Principal(role="worker", subject="w1")

    actors = [guest.actor, worker.actor]

    assert ["guest:1", "worker:w1"] == actors


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", MOMENTS)
def test_a_moment_that_has_not_come_is_nobodys_to_say(kind: type, role: Role) -> None:
    """
    Whoever says so, a moment comes when the machine says so.
    """
    who = principal(role, owner=OWNER)

    answers = [given(*story).when(kind(JOB, who), now=0, lease_live=True) for story in LIVING]

    for answer in answers:
        answer.then(outcome="unchanged")

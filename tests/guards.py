"""
``python -m tests.guards``: each line that guards against a race is taken out in turn, and the race's test must fail.

A test that passes without the line it is about tests something else. The tree is copied, so the checkout is left alone;
each copy loses one line, nothing more. Exit 1 if any guard can be removed unnoticed, or is no longer where it was.
What must never live here: a race (tests/races), or a guard that no race names.
"""
# ruff: noqa: T201  # what it prints is its result

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
COPIED: Final = ("jobsvc", "projections", "tests")
SCHEDULES: Final = 120
PATIENCE_S: Final = 60.0
_FAILED: Final = 1
"""
pytest's exit code where tests ran and one failed; any other is no proof.
"""


class Guard(NamedTuple):
    """
    The line, or the few, of *path* without which the race is lost, and what stands there once the guard is out.
    """

    path: str
    line: str
    instead: str


_DECIDED_ON_WHAT_IS_STAGED: Final = Guard(
    "jobsvc/desk.py",
    "        job = stage.job(command.job_id)\n"
    "        return Situation(\n            self._now,\n            self._new_id() if",
    "        job = self._memory.jobs.get(command.job_id) or stage.job(command.job_id)\n"
    "        return Situation(\n            self._now,\n            self._new_id() if",
)
_A_KEY_FREED_IN_A_BATCH_IS_FREE: Final = Guard(
    "jobsvc/memory.py", "self._holders[submission.owner, job.kind, submission.key] = None", "pass"
)
_LEASE_AS_IT_RUNS: Final = Guard(
    "jobsvc/desk.py",
    "lease_live=self.leases.live(command.job_id, elapsed=self._elapsed),",
    "lease_live=False,",
)

GUARDS: Final[dict[str, tuple[Guard, ...]]] = {
    "test_claims.py::test_a_claim_leaves_the_guest_nothing_whatever_was_under_way": (
        Guard(
            "jobsvc/domain/decisions/creating.py",
            "    if situation.spent:\n        raise _spent(command)\n    if situation.holder",
            "    if situation.holder",
        ),
        Guard("jobsvc/memory.py", "for guest in stage.spent:", "for guest in ():"),
        Guard("jobsvc/takeovers.py", "if stage.is_spent(work.guest):", "if False:"),
    ),
    "test_claims.py::test_a_claim_and_creates_for_one_key_leave_one_job": (
        Guard("jobsvc/takeovers.py", "if holder is not None:\n        ends", "if False:\n        ends"),
        Guard(
            "jobsvc/takeovers.py",
            "(job, holder) if gives_way(job, holder, now=stage.last_at) else (holder, job)",
            "(job, holder)",
        ),
    ),
    "test_claims.py::test_a_job_moves_only_where_its_key_is_free": (
        Guard("jobsvc/domain/machine.py", "return self.holder is None", "return True"),
    ),
    "test_claims.py::test_a_claim_is_whole_or_not_at_all_whatever_fails": (
        Guard("jobsvc/takeovers.py", 'stage.remember(Mark(HANDOVERS, work.guest, "", "", owner, _NEVER))', "pass"),
        Guard("jobsvc/writer.py", "                self._memory.spend(guest)\n", "                pass\n"),
    ),
    "test_keys.py::test_many_creators_of_one_key_get_one_job": (
        Guard(
            "jobsvc/memory.py",
            "holder = self._holders[key] if key in self._holders else self._memory.holders.get(key)",
            "holder = self._memory.holders.get(key)",
        ),
    ),
    "test_keys.py::test_a_create_finds_its_holder_alive_or_not_at_all": (_A_KEY_FREED_IN_A_BATCH_IS_FREE,),
    "test_keys.py::test_nobody_is_told_of_a_job_that_was_not_written": (
        Guard(
            "jobsvc/writer.py",
            "entry.outcome = self._desk.work(entry.work, entry.mark, stage)",
            "entry.outcome = self._desk.work(entry.work, entry.mark, stage); self._answer(entry)",
        ),
    ),
    "test_keys.py::test_a_job_is_replaced_or_completed_and_never_both": (
        _DECIDED_ON_WHAT_IS_STAGED,
        Guard(
            "jobsvc/domain/decisions/creating.py",
            "(ended, born(command, situation, retry_of=retry_of))",
            "(born(command, situation, retry_of=retry_of),)",
        ),
    ),
    "test_keys.py::test_what_is_to_run_after_a_job_is_never_lost": (_DECIDED_ON_WHAT_IS_STAGED,),
    "test_keys.py::test_an_old_job_never_takes_the_key_of_the_new_one": (
        Guard(
            "jobsvc/memory.py",
            "before if before.active else None, ACTIVE",
            "before, ACTIVE",
        ),
    ),
    "test_keys.py::test_a_crash_leaves_no_key_without_its_job": (
        Guard(
            "jobsvc/store/sqlite.py",
            "            raw.execute(sql, parameters)\n",
            '            raw.execute(sql, parameters)\n            raw.execute("COMMIT")\n'
            '            raw.execute("BEGIN IMMEDIATE")\n',
        ),
    ),
    "test_keys.py::test_asking_again_for_a_running_job_changes_nothing_of_it": (
        Guard(
            "jobsvc/domain/decisions/creating.py",
            'return _attach(command, holder, outcome="attached")',
            "return _replace(command, holder, situation=situation)",
        ),
    ),
    "test_keys.py::test_a_guest_that_becomes_a_user_leaves_no_second_job_behind": (
        _A_KEY_FREED_IN_A_BATCH_IS_FREE,
        Guard(
            "jobsvc/memory.py",
            "if row is None or row.owner != before.owner:",
            "if row is None:",
        ),
    ),
    "test_keys.py::test_one_request_sent_many_times_makes_one_job": (
        Guard(
            "jobsvc/memory.py",
            "return self.marks.get(key) or self._found.marks.get(key)",
            "return self._found.marks.get(key)",
        ),
    ),
    "test_leases.py::test_a_lease_that_lapses_beats_or_completes_does_one_of_them": (
        _LEASE_AS_IT_RUNS,
        Guard("jobsvc/domain/machine.py", 'Row("complete", ("retrying", "queued")', 'Row("complete", ("retrying",)'),
    ),
    "test_leases.py::test_two_who_rescue_a_job_count_one_loss": (
        Guard("jobsvc/domain/machine.py", "return not self.lease_live", "return True"),
    ),
    "test_leases.py::test_a_worker_that_comes_back_under_its_name_keeps_what_it_is_given": (
        Guard(
            "jobsvc/desk.py",
            "for command in work.commands if not self._arrived(command)]",
            "for command in work.commands]",
        ),
    ),
    "test_leases.py::test_a_cancel_a_claim_and_a_success_agree_on_one_end": (_DECIDED_ON_WHAT_IS_STAGED,),
    "test_leases.py::test_a_fence_is_not_good_again_after_a_release": (
        Guard("jobsvc/domain/decisions/working.py", "Released(job.fence + 1,", "Released(job.fence,"),
    ),
    "test_leases.py::test_a_job_that_cannot_be_written_keeps_no_other_from_rescue": (
        Guard("jobsvc/sweeper.py", "await self._bring_singly(commands)", "pass"),
    ),
    "test_leases.py::test_a_stepped_clock_ends_no_lease_and_leaves_none_for_ever": (
        Guard(
            "jobsvc/desk.py",
            "self.leases.grant(job.id, lease_us=event.facts.lease_us, elapsed=self._elapsed)",
            "self.leases.grant(job.id, lease_us=event.facts.lease_us, elapsed=self._clock.now())",
        ),
        Guard("jobsvc/clock.py", "if wall < slow:", "if False:"),
    ),
    "test_leases.py::test_a_claim_given_up_costs_nobody_anything": (
        Guard("jobsvc/writer.py", "if not reached and isinstance(entry.outcome, Grants):", "if False:"),
        Guard("jobsvc/ledger.py", "if isinstance(entry.outcome, Grants) and entry.answered:", "if False:"),
    ),
    "test_leases.py::test_a_cleanup_and_the_sweeper_end_a_lapsed_job_once": (
        Guard(
            "jobsvc/domain/machine.py",
            'Row("clean_up", HELD, "expired", "job.expired", ("lease_is_over",))',
            'Row("clean_up", LIVING, "expired", "job.expired", ("lease_is_over",))',
        ),
    ),
    "test_readers.py::test_a_reader_that_comes_at_any_moment_misses_nothing": (
        Guard(
            "jobsvc/writer.py",
            "self._news.publish(stage.changes, spent=stage.spent)",
            "asyncio.get_running_loop().call_soon(lambda: self._news.publish(stage.changes, spent=stage.spent))",
        ),
        Guard(
            "jobsvc/http/connection.py",
            "self._around.feed.position if quiet is None else max(self.position, quiet)",
            "self._around.feed.position",
        ),
    ),
    "test_readers.py::test_a_caller_that_hangs_up_leaves_its_job_to_be_done": (
        Guard("jobsvc/entries.py", "if self.future is None or self.future.done():", "if self.future is None:"),
    ),
    "test_readers.py::test_a_worker_never_sleeps_through_a_job": (
        Guard("jobsvc/http/workers.py", "if not service.ledger.waiting(command.kinds):", "if True:"),
        Guard(
            "jobsvc/waiters.py",
            "                self.pass_on()\n            raise",
            "                pass\n            raise",
        ),
    ),
    "test_readers.py::test_a_projection_that_dies_in_the_middle_counts_each_event_once": (
        Guard(
            "jobsvc/store/sqlite_views.py",
            "if not await self._write(lambda raw: transaction(raw, write)):",
            "if not await self._write(write):",
        ),
    ),
}
"""
By race, as pytest names it within tests/races, the lines that guard it.
"""


class Verdict(NamedTuple):
    """
    What became of a run: whether it is as it should be, and a word for it.
    """

    good: bool
    word: str


def main() -> int:
    """
    0 if every guard is missed as soon as it is out.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.guards", description="Take each guard of a race out in turn."
    )
    parser.add_argument(
        "names", nargs="*", metavar="WORD", help="only races whose names have one of these words in them"
    )
    names = parser.parse_args().names
    chosen = [(race, guard) for race, guard in _all() if not names or any(name in race for name in names)]
    with tempfile.TemporaryDirectory(prefix="jobsvc-guards-") as folder:
        copy = Path(folder)
        _copy_tree(copy)
        begun = _shown(f"0/{len(chosen)}", "tests/races", "no guard taken out", _run(copy, "", must_fail=False))
        verdicts = [
            _shown(
                f"{number}/{len(chosen)}", race, f"{guard.path}: {_first_line(guard.line)}", _without(copy, race, guard)
            )
            for number, (race, guard) in enumerate(chosen, start=1)
        ]
    missed = sum(not verdict.good for verdict in (begun, *verdicts))
    print(f"guards: {len(chosen)} taken out, {missed} wrong")
    return 1 if missed else 0


def _all() -> Iterator[tuple[str, Guard]]:
    return ((race, guard) for race, guards in GUARDS.items() for guard in guards)


def _shown(place: str, race: str, what: str, judged: tuple[Verdict, float]) -> Verdict:
    verdict, took_s = judged
    mark = "ok  " if verdict.good else "BAD "
    print(
        f"{mark}{place:>6}  {took_s:5.1f} s  {verdict.word:<20} {race.partition('::')[2] or race}\n{'':23}{what}",
        flush=True,
    )
    return verdict


def _without(copy: Path, race: str, guard: Guard) -> tuple[Verdict, float]:
    """
    What *race* says to the copy without *guard*, which has it again afterwards.
    """
    path = copy / guard.path
    whole = path.read_text(encoding="utf-8")
    if whole.count(guard.line) != 1:
        return Verdict(good=False, word=f"stands {whole.count(guard.line)} times"), 0.0
    path.write_text(whole.replace(guard.line, guard.instead), encoding="utf-8")
    try:
        return _run(copy, race, must_fail=True)
    finally:
        path.write_text(whole, encoding="utf-8")


def _run(copy: Path, race: str, *, must_fail: bool) -> tuple[Verdict, float]:
    """
    How the tests went in *copy*, and how long it took.
    """
    tests = f"tests/races/{race}" if race else "tests/races"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not soak", "-p", "no:cacheprovider", tests]
    environ = os.environ | {"RACE_SCHEDULES": str(SCHEDULES), "PYTHONDONTWRITEBYTECODE": "1"}
    environ.pop("RACE_SEED", None)
    begun = time.monotonic()
    try:
        ended = subprocess.run(
            command, cwd=copy, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(good=False, word="hangs"), time.monotonic() - begun
    return _verdict(ended.returncode, ended.stdout, must_fail=must_fail), time.monotonic() - begun


def _verdict(code: int, said: str, *, must_fail: bool) -> Verdict:
    """
    Missed is a guard only if a schedule or the check after them failed: no other error is its test's.
    """
    if code == 0:
        return Verdict(good=not must_fail, word="NOT MISSED" if must_fail else "passes")
    if not must_fail or code != _FAILED or "1 failed" not in said:
        return Verdict(good=False, word=f"FAILS, exit {code}")
    seed = re.search(r"RACE_SEED=(\d+)", said)
    return Verdict(good=True, word="missed at the end" if seed is None else f"missed at seed {seed[1]}")


def _copy_tree(copy: Path) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())

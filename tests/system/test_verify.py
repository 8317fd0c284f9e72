"""
Verify finds what a tamperer did, names the first position that is wrong, and finds nothing where nothing is.
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from jobsvc.domain.events import Completed, Created, Erased, Event, Payload, Report, Submission, Terms
from jobsvc.operate.verify import verify
from jobsvc.store.seam import Batch
from jobsvc.store.sqlite import SqliteStore
from tests.http.world import started
from tests.store.histories import START, History, job_id
from tests.system.logs import copied, jobsvc, looking_at, rechain, said, select, tamper, verified, write_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.world import World

COLUMNS = (
    "job_id",
    "version",
    "type",
    "schema",
    "at",
    "owner",
    "facts",
    "payload",
    "salt",
    "payload_digest",
    "chain",
)
TEXTS = ("job_id", "type", "owner", "facts")
ALL = f"position, {', '.join(COLUMNS)}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A stopped log that the service wrote; nobody may change it.
    """
    path = tmp_path_factory.mktemp("written") / "jobs.db"
    asyncio.run(write_log(path))
    return path


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    """
    A copy of it, to be tampered with.
    """
    return copied(written, tmp_path / "jobs.db")


def head_of(path: Path) -> tuple[int, bytes]:
    """
    Position and chain of the head.
    """
    ((position, chain),) = select(path, "SELECT position, chain FROM head")
    return position, chain


def places(path: Path) -> list[int]:
    """
    The first position, one in the middle, the last.
    """
    last, _ = head_of(path)
    return [1, last // 2, last]


def changed(value: Any, chance: Random) -> Any:  # noqa: ANN401  # what a column holds
    """
    *value* with one byte, or the number itself, changed.
    """
    if isinstance(value, int):
        return value + 100
    content = bytearray(value.encode() if isinstance(value, str) else value)
    content[chance.randrange(len(content))] ^= 1
    return content.decode() if isinstance(value, str) else bytes(content)


# What is whole


async def test_what_the_service_wrote_is_whole(log: Path) -> None:
    """
    Nothing is found; the head is told, to be kept beside a backup.
    """
    position, chain = head_of(log)

    result = await verified(log, against=(position, chain))

    assert [] == result.findings
    assert (position, chain.hex()) == (result.position, result.chain)


async def test_a_log_that_has_grown_passes_through_its_saved_head(log: Path) -> None:
    """
    Any head of the past stands for all that came before it.
    """
    rows = select(log, "SELECT position, chain FROM events ORDER BY position")

    results = [await verified(log, against=(position, chain)) for position, chain in rows]

    assert [[]] * len(rows) == [result.findings for result in results]


async def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    """
    Where nothing happened nothing can be wrong.
    """
    store = SqliteStore(tmp_path / "jobs.db")
    await store.open()
    await store.close()

    result = await verified(tmp_path / "jobs.db")

    assert (0, []) == (result.position, result.findings)


async def test_it_may_run_while_the_service_writes(tmp_path: Path) -> None:
    """
    A steady stream of commits between its reads is no finding, and not a reason to give up.
    """
    async with started(tmp_path / "jobs.db") as world, looking_at(tmp_path / "jobs.db") as store:
        writing = [asyncio.create_task(_keep_busy(world)) for _ in range(4)]
        results = [await verify(store)]
        while results[-1].position < 400:
            results.append(await verify(store))
        for one in writing:
            one.cancel()
        ends = await asyncio.gather(*writing, return_exceptions=True)

    assert {asyncio.CancelledError} == {type(end) for end in ends}
    assert [] == [finding for result in results for finding in result.findings]
    assert len({result.position for result in results}) > 10


async def _keep_busy(world: World) -> None:
    while True:
        await world.guest.create(input={"some": "thing"})
        for grant in await world.worker.claims(max=2):
            await world.worker.complete(grant, {"n": 1})


# Events


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_changed_byte_in_any_column_is_found(written: Path, tmp_path: Path, column: str) -> None:
    """
    Whatever is changed of an event, at the first, a middle or the last position, is found at that position.
    """
    chance = Random(column)
    for position in places(written):
        log = copied(written, tmp_path / f"{position}.db")
        ((value,),) = select(log, f"SELECT {column} FROM events WHERE position = ?", position)  # noqa: S608
        sql = f"UPDATE events SET {column} = ? WHERE position = ?"  # noqa: S608
        tamper(log, (sql, (changed(value, chance), position)))

        result = await verified(log)

        assert position == result.findings[0].position, result.findings


@pytest.mark.parametrize("column", TEXTS)
async def test_a_byte_that_is_no_text_is_found(log: Path, column: str) -> None:
    """
    A row that cannot even be read is found at its position too.
    """
    position = places(log)[1]
    sql = f"UPDATE events SET {column} = CAST(x'ff' || {column} AS TEXT) WHERE position = ?"  # noqa: S608
    tamper(log, (sql, (position,)))

    result = await verified(log)

    assert position == result.findings[0].position


async def test_a_moved_row_is_found_where_it_was(log: Path) -> None:
    """
    A position that changed leaves a hole, and the hole is what is named.
    """
    tamper(log, "UPDATE events SET position = position + 1000 WHERE position = 4")

    result = await verified(log)

    assert 4 == result.findings[0].position


async def test_a_deleted_row_is_found(written: Path, tmp_path: Path) -> None:
    """
    The hole is named, at the end of the log too.
    """
    for position in places(written):
        log = copied(written, tmp_path / f"{position}.db")
        tamper(log, ("DELETE FROM events WHERE position = ?", (position,)))

        result = await verified(log)

        assert position == result.findings[0].position, result.findings


async def test_swapped_rows_are_found(log: Path) -> None:
    """
    Two events in each other's place are found at the first of them.
    """
    moves = ((5, 900), (6, 5), (900, 6))
    tamper(log, *(("UPDATE events SET position = ? WHERE position = ?", (to, at)) for at, to in moves))

    result = await verified(log)

    assert 5 == result.findings[0].position


@pytest.mark.parametrize("place", ["before", "between", "after"])
async def test_an_inserted_row_is_found(log: Path, place: str) -> None:
    """
    An event that was never recorded is found before the first, between two, and after the last.
    """
    last, _ = head_of(log)
    position = {"before": -7, "between": 5, "after": last + 1}[place]
    shifted = "UPDATE events SET position = position + 1 WHERE position = ?"
    copy = f"INSERT INTO events ({ALL}) SELECT ?, job_id, 999, {ALL.split(', ', 3)[3]} FROM events WHERE position = 2"  # noqa: S608
    moves = [(shifted, (at,)) for at in range(last, position - 1, -1)] if place == "between" else []
    tamper(log, *moves, (copy, (position,)))

    result = await verified(log)

    assert position == result.findings[0].position, result.findings


async def test_a_cut_tail_is_found_by_its_head(log: Path) -> None:
    """
    Without the last rows the head names what is not there.
    """
    last, _ = head_of(log)
    tamper(log, ("DELETE FROM events WHERE position > ?", (last - 3,)))

    result = await verified(log)

    assert last - 2 == result.findings[0].position


async def test_a_tail_that_was_cut_with_care_is_found_by_a_saved_head(log: Path) -> None:
    """
    Head and views put back too, nothing inside the file tells; a head that was saved does, by position or by chain.
    """
    last, chain = head_of(log)
    cut_at = last - 3
    ((kept, at),) = select(log, "SELECT chain, at FROM events WHERE position = ?", cut_at)
    tamper(
        log,
        ("DELETE FROM events WHERE position > ?", (cut_at,)),
        ("UPDATE head SET position = ?, chain = ?, at = ?", (cut_at, kept, at)),
    )
    rebuilt = [(await said("rebuild", view, "--database", str(log))).exit_code for view in PLANTED]

    inside, outside = await verified(log), await verified(log, against=(last, chain))
    rewritten = await verified(log, against=(cut_at - 1, chain))

    assert [0, 0, 0, 0] == rebuilt
    assert [] == inside.findings
    assert [cut_at + 1] == [finding.position for finding in outside.findings]
    assert [cut_at - 1] == [finding.position for finding in rewritten.findings]


@pytest.mark.parametrize(
    "change", ["position = position - 1", "position = position + 1", "chain = zeroblob(32)", "at = 1"]
)
async def test_a_head_that_does_not_fit_is_found(log: Path, change: str) -> None:
    """
    The head is one row, and it repeats the last event.
    """
    last, _ = head_of(log)
    tamper(log, f"UPDATE head SET {change}")  # noqa: S608

    result = await verified(log)

    assert {last + 1 if "+" in change else last} == {finding.position for finding in result.findings}


# What no job can have lived, in a chain that holds


ONCE_MORE = """
    INSERT INTO events (position, job_id, version, type, schema, at, owner, previous_owner, facts, payload, salt,
                        payload_digest, chain)
    SELECT (SELECT max(position) + 1 FROM events), job_id,
           (SELECT max(version) + 1 FROM events AS other WHERE other.job_id = one.job_id), type, schema,
           (SELECT max(at) FROM events), owner, previous_owner, facts, payload, salt, payload_digest, chain
    FROM events AS one WHERE type = ? ORDER BY position LIMIT 1
"""
STARTED_BEFORE_IT_WAS_MADE = """
    UPDATE events SET type = 'job.started', facts = (SELECT facts FROM events WHERE type = 'job.started' LIMIT 1)
    WHERE position = 1
"""


@pytest.mark.parametrize(
    ("statement", "last", "what"),
    [
        ((ONCE_MORE, ("job.created",)), True, "a second job.created"),
        ((ONCE_MORE, ("job.completed",)), True, "which had ended already"),
        ((STARTED_BEFORE_IT_WAS_MADE, ()), False, "begins with job.started"),
    ],
)
async def test_a_life_that_no_version_can_have_recorded_is_found_though_the_chain_holds(
    log: Path, statement: tuple[str, tuple[str, ...]], what: str, *, last: bool
) -> None:
    """
    The log was rewritten with care, head, chain and views: what it tells cannot have happened.
    """
    tamper(log, statement)
    rechain(log)
    for view in PLANTED:
        await said("rebuild", view, "--database", str(log))

    (finding,) = (await verified(log)).findings

    assert (head_of(log)[0] if last else 1) == finding.position
    assert what in finding.what


async def test_what_only_todays_machine_would_refuse_is_sound(tmp_path: Path) -> None:
    """
    A log that another version wrote is whole, whichever rows its state machine had; to list them is replay's.
    """
    path, history = tmp_path / "jobs.db", History()
    history.create(1)
    history.release(1)
    history.create(2)
    history.start(2)
    history.complete(2)
    history.progress(2, percent=50.0)
    store = SqliteStore(path)
    await store.open()
    await store.append(history.batch(), decided_at=0)
    await store.close()

    found, listed = await verified(path), await said("replay", "--check-machine", "--database", str(path))

    assert [] == found.findings
    assert ("job.released", "job.progressed") == tuple(line.split()[1] for line in listed.output.splitlines()[:2])


# Erasure


async def log_with_erased_job(path: Path, *, said: bool) -> None:
    """
    A log in which a job's payloads are gone; the log says that they were erased, or not.
    """
    name = job_id(1)
    submission = Submission(owner="user:ada", key="k")
    born = Created(kind="post", state="queued", terms=Terms())
    events = [
        Event(1, name, 1, START, born, Payload(actor="user:ada", submission=submission)),
        Event(2, name, 2, START, Completed(Report("complete", 1, "d")), Payload(actor="worker:w1")),
        Event(3, name, 3, START, Erased(), Payload(actor="operator:olga")),
    ]
    store = SqliteStore(path)
    await store.open()
    count = 3 if said else 2
    await store.append(Batch(events[:count], ["user:ada", "user:ada", "erased"][:count]), decided_at=0)
    await store.close()
    raw_erasure = "UPDATE events SET payload = NULL, salt = NULL, owner = NULL WHERE position < 3"
    tamper(path, raw_erasure)


async def test_an_erasure_leaves_the_log_whole(tmp_path: Path) -> None:
    """
    Payload, salt and owner are gone, the digest stays, and the chain still verifies.
    """
    path = tmp_path / "jobs.db"
    await log_with_erased_job(path, said=True)

    result = await verified(path)

    assert [] == result.findings


async def test_a_payload_that_is_gone_without_an_erasure_is_found(tmp_path: Path) -> None:
    """
    Forgetting is an act, and the log says so; where it does not, the first such event is named.
    """
    path = tmp_path / "jobs.db"
    await log_with_erased_job(path, said=False)

    result = await verified(path)

    assert [1] == [finding.position for finding in result.findings]


async def test_an_owner_who_outlived_the_erasure_is_found(tmp_path: Path) -> None:
    """
    The owner's column is to be forgotten with the payload.
    """
    path = tmp_path / "jobs.db"
    await log_with_erased_job(path, said=True)
    tamper(path, "UPDATE events SET owner = 'user:ada' WHERE position = 2")

    result = await verified(path)

    assert [2] == [finding.position for finding in result.findings]


async def test_a_previous_owner_that_no_event_names_is_found(log: Path) -> None:
    """
    Who finds an event by that column is one who may see it, so it says what the event says.
    """
    tamper(log, "UPDATE events SET previous_owner = 'guest:eve' WHERE position = 2")

    result = await verified(log)

    assert [2] == [finding.position for finding in result.findings]


# Views

PLANTED = {
    "active": "INSERT INTO active SELECT 'zz', position, state, body FROM active LIMIT 1",
    "keys": "INSERT INTO keys VALUES ('zz', 'user:ada', 'post', 'planted')",
    "history": "INSERT INTO history VALUES ('zz', 'user:ada', 'post', NULL, 'failed', 1, 2)",
    "counts": "INSERT INTO projection_rows VALUES ('counts', 'job.planted', x'7b7d')",
}
ALTERED = {
    "active": (
        "UPDATE active SET body = CAST(replace(CAST(body AS TEXT), 'guest:ann', 'guest:bob') AS BLOB)",
        "UPDATE active SET body = x'00' WHERE job_id = (SELECT max(job_id) FROM active)",
        "UPDATE active SET state = 'cancelling' WHERE state = 'queued'",
        "UPDATE active SET position = position + 1 WHERE job_id = (SELECT min(job_id) FROM active)",
    ),
    "keys": ("UPDATE keys SET key = 'other' WHERE job_id = (SELECT max(job_id) FROM keys)",),
    "history": (
        "UPDATE history SET state = 'expired' WHERE state = 'completed'",
        "UPDATE history SET finished_at = finished_at + 1 WHERE state = 'failed'",
        "UPDATE history SET owner = CAST(x'ff' AS TEXT) WHERE state = 'failed'",
    ),
    "counts": ("UPDATE projection_rows SET body = CAST(replace(body, ':', ': ') AS BLOB) WHERE key = 'job.started'",),
}
MISSING = {
    "active": "DELETE FROM active WHERE job_id = (SELECT min(job_id) FROM active)",
    "keys": "DELETE FROM keys WHERE job_id = (SELECT max(job_id) FROM keys)",
    "history": "DELETE FROM history WHERE job_id = (SELECT min(job_id) FROM history)",
    "counts": "DELETE FROM projection_rows WHERE key = 'job.created'",
}
WRONGS = [
    *((view, sql) for view, sql in PLANTED.items()),
    *((view, sql) for view, changes in ALTERED.items() for sql in changes),
    *((view, sql) for view, sql in MISSING.items()),
    ("counts", "UPDATE checkpoints SET position = position + 1"),
]


@pytest.mark.parametrize(("view", "sql"), WRONGS)
async def test_a_row_that_no_replay_makes_is_found(log: Path, view: str, sql: str) -> None:
    """
    A planted, an altered and a missing row of any view are found, in no position, and the view is named.
    """
    tamper(log, sql)

    result = await verified(log)

    assert {None} == {finding.position for finding in result.findings}
    assert all(finding.what.startswith(f"{view} ") for finding in result.findings), result.findings


async def test_rebuild_mends_what_verify_found(log: Path) -> None:
    """
    Each view that was spoilt, one beyond reading too, is right again after its rebuild.
    """
    tamper(log, *PLANTED.values(), *ALTERED["active"], *ALTERED["history"], *MISSING.values())

    exits = [(await said("rebuild", view, "--database", str(log))).exit_code for view in PLANTED]

    assert [0, 0, 0, 0] == exits
    assert [] == (await verified(log)).findings


async def test_a_projection_that_never_ran_is_not_missed(log: Path) -> None:
    """
    Where there is no checkpoint, or one of another version, there is nothing to compare.
    """
    tamper(log, "UPDATE checkpoints SET version = 9")

    result = await verified(log)

    assert [] == result.findings


# The command line


def test_exit_code_0_says_that_all_is_well(log: Path) -> None:
    """
    The head is printed, and can be given back as --against, as text or as the file of an answer.
    """
    position, chain = head_of(log)
    answer = log.with_name("head.json")
    answer.write_text(json.dumps({"position": position, "chain": chain.hex(), "epoch": "e"}))

    plain = jobsvc("verify", "--database", str(log))
    told = jobsvc("verify", "--database", str(log), "--against", str(answer), "-o", "json")
    again = jobsvc("verify", "--database", str(log), "--against", f"{position}:{chain.hex()}")

    assert (0, 0, 0) == (plain.exit_code, told.exit_code, again.exit_code)
    assert f"head {position}:{chain.hex()}" in plain.output.splitlines()
    assert {
        "ok": True,
        "position": position,
        "chain": chain.hex(),
        "first_wrong_position": None,
        "findings": [],
    } == json.loads(told.output)


def test_exit_code_1_says_what_is_wrong_and_where(log: Path) -> None:
    """
    The first wrong position is named, in words and as JSON.
    """
    tamper(log, "UPDATE events SET facts = replace(facts, ':', ' :') WHERE position = 3")

    plain = jobsvc("verify", "--database", str(log))
    told = jobsvc("verify", "--database", str(log), "-o", "json")

    assert (1, 1) == (plain.exit_code, told.exit_code)
    assert plain.output.startswith("position 3: ")
    answer = json.loads(told.output)
    assert (False, 3, 3) == (answer["ok"], answer["first_wrong_position"], answer["findings"][0]["position"])


def test_exit_code_1_names_a_cut_tail(log: Path) -> None:
    """
    A log that its own head does not fit can still be looked at, and the answer is not that it was asked wrongly.
    """
    last, _ = head_of(log)
    tamper(log, ("DELETE FROM events WHERE position = ?", (last,)))

    told = jobsvc("verify", "--database", str(log), "-o", "json")

    assert 1 == told.exit_code
    assert last == json.loads(told.output)["first_wrong_position"]


def test_exit_code_1_names_a_spoilt_view(log: Path) -> None:
    """
    Where the log is whole and a view is not, the view is named.
    """
    tamper(log, "UPDATE active SET body = x'00'")

    plain = jobsvc("verify", "--database", str(log))

    assert 1 == plain.exit_code
    assert plain.output.startswith("views: active ")


def test_exit_code_2_says_that_it_was_asked_wrongly(log: Path, tmp_path: Path) -> None:
    """
    No such file, no log in it, and a head that is none, each named.
    """
    other = tmp_path / "other.db"
    other.write_text("this is no database, however long it is looked at. " * 40)
    cases = {
        ("--database", str(tmp_path / "none.db")): "there is no log at",
        ("--database", str(other)): "not a database",
        ("--database", str(log), "--against", "seven"): "POSITION:CHAIN",
        ("--database", str(log), "--against", "7:xyz"): "64 hexadecimal digits",
        ("--database", str(log), "--against", "7:abcd"): "64 hexadecimal digits",
    }

    results = {arguments: jobsvc("verify", *arguments) for arguments in cases}

    assert {2} == {result.exit_code for result in results.values()}
    assert [] == [text for arguments, text in cases.items() if text not in results[arguments].output]

"""
A log is exported and imported byte for byte; sealed, it moves with its identity.
"""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from jobsvc.cli import main
from jobsvc.domain.events import SCHEMA, Completed, Created, Erased, Event, Payload, Report, Submission, Terms
from jobsvc.operate.carrying import FORMAT, EndLine, HeaderLine, event_line, write_lines
from jobsvc.store.chain import GENESIS, digest_payload, link
from jobsvc.store.codec import encode_facts, encode_payload
from jobsvc.store.driver import DriverError, connect
from jobsvc.store.seam import Batch, Mark, Record
from jobsvc.store.sqlite import SqliteStore
from tests.http.world import started
from tests.store.histories import START, job_id
from tests.system.chaos import seed
from tests.system.logs import copied, fill, jobsvc, said, select, tamper, verified, write_log

if TYPE_CHECKING:
    from tests.http.client import JSON

CHANCE = seed()
CHANGES = 60
TABLES = (
    "SELECT * FROM events ORDER BY position",
    "SELECT * FROM active ORDER BY job_id",
    "SELECT * FROM keys ORDER BY job_id",
    "SELECT * FROM history ORDER BY job_id",
    "SELECT * FROM marks",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every file of a test is in a folder of its own, which is the current one.
    """
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def log() -> Path:
    """
    A stopped log with something of everything: the service's own, an erased job, a moved one, marks of each kind.
    """
    path = Path("jobs.db")
    asyncio.run(write_log(path))
    asyncio.run(_add_rarities(path))
    tamper(
        path,
        ("UPDATE events SET payload = NULL, salt = NULL, owner = NULL WHERE job_id = ? AND version < 3", (job_id(1),)),
    )
    return path


async def _add_rarities(path: Path) -> None:
    store = SqliteStore(path)
    head = (await store.open()).head
    at, first = head.at, head.position + 1
    submission = Submission(owner="user:ada", key="forgotten")
    events = [
        Event(first, job_id(1), 1, at, Created("post", "queued", Terms()), Payload("user:ada", submission=submission)),
        Event(first + 1, job_id(1), 2, at, Completed(Report("complete", 1, "d")), Payload("worker:w1")),
        Event(first + 2, job_id(1), 3, at, Erased(), Payload("operator:olga")),
    ]
    marks = [
        Mark("user:ada", "request", "k1", "d" * 64, b'{"job": 1}', START),
        Mark("user:eve", "revoked", "", "", b"\xff\x00", at),
        Mark("handovers", "guest:ann", "", "", b"user:zoe", 2**62),
    ]
    await store.append(Batch(events, ["user:ada", "user:ada", "erased"], marks=marks), decided_at=head.position)
    await store.close()


def rows(path: Path) -> list[object]:
    """
    Everything in the file at *path* that is the log or follows from it.
    """
    return [select(path, table) for table in TABLES]


def epoch(path: Path) -> str:
    """
    The identity of the log at *path*.
    """
    text: str = select(path, "SELECT epoch FROM head")[0][0]
    return text


def test_an_export_of_an_import_is_the_same_bytes(log: Path) -> None:
    """
    Positions, ids, chain, owners, payloads and marks come as they were recorded, and the views are what they were.
    """
    done = [
        jobsvc("export", "first", "--database", str(log)),
        jobsvc("import", "first", "--database", "other.db"),
        jobsvc("export", "second", "--database", "other.db"),
        jobsvc("verify", "--database", "other.db"),
    ]

    assert [0, 0, 0, 0] == [one.exit_code for one in done], [one.output for one in done]
    assert Path("first").read_bytes() == Path("second").read_bytes()
    assert rows(log) == rows(Path("other.db"))
    assert epoch(log) != epoch(Path("other.db"))


def test_what_was_archived_is_carried_with_the_rest(log: Path) -> None:
    """
    An export reads through the segments: it is the same before and after, and so is one of its import.
    """
    jobsvc("export", "before", "--database", str(log))
    moved = asyncio.run(_archived(log))
    done = [
        jobsvc("export", "after", "--database", str(log)),
        jobsvc("import", "after", "--database", "other.db"),
        jobsvc("export", "again", "--database", "other.db"),
        jobsvc("backup", "copy.db", "--database", str(log)),
        jobsvc("restore", "copy.db", "--database", "restored.db"),
        jobsvc("export", "restored", "--database", "restored.db"),
    ]

    assert moved > 0
    assert [0] * 6 == [one.exit_code for one in done], [one.output for one in done]
    assert 1 == len({Path(name).read_bytes() for name in ("before", "after", "again", "restored")})


async def _archived(path: Path) -> int:
    """
    How many jobs were archived: all that have ended.
    """
    store = SqliteStore(path)
    head = (await store.open()).head
    jobs = reached = 0
    while reached < head.position:
        step = await store.archive(after=reached, until=head.position, at=head.at + 1)
        jobs, reached = jobs + step.jobs, step.reached
    await store.close()
    return jobs


def test_standard_streams_carry_a_log(log: Path) -> None:
    """
    ``-`` and no name at all stand for standard output and input; what was done is told beside it.
    """
    out = jobsvc("export", "--database", str(log), "-o", "json")
    back = CliRunner().invoke(main, ["import", "-", "--database", "other.db", "-o", "json"], input=out.stdout_bytes)

    told, done = json.loads(out.stderr), json.loads(back.stdout)
    assert (told["position"], told["chain"], told["marks"]) == (done["position"], done["chain"], done["marks"])
    assert rows(log) == rows(Path("other.db"))


def test_a_sealed_log_moves_with_its_identity_and_takes_nothing_more(log: Path) -> None:
    """
    The import has the epoch; the source can be read, exported again to the same bytes, and never appended to.
    """
    done = [
        jobsvc("export", "first", "--seal", "--database", str(log)),
        jobsvc("import", "first", "--database", "moved.db"),
        jobsvc("export", "again", "--seal", "--database", str(log)),
        jobsvc("verify", "--database", str(log)),
        jobsvc("serve", "--port", "0", "--database", str(log)),
    ]

    assert [0, 0, 0, 0, 1] == [one.exit_code for one in done], [one.output for one in done]
    assert Path("first").read_bytes() == Path("again").read_bytes()
    assert epoch(log) == epoch(Path("moved.db"))
    raw = connect(log, read_only=False)
    for act in ("UPDATE head SET position = position + 1", "INSERT INTO maintenance (act) VALUES ('erase')"):
        with pytest.raises(DriverError, match="this log is sealed"):
            raw.execute(act)
    raw.close()


@pytest.mark.parametrize(("seal", "expected"), [(False, ["reset", "snapshot"]), (True, ["job"])])
async def test_a_client_goes_on_where_a_sealed_log_is_imported_and_begins_anew_elsewhere(
    expected: list[str], *, seal: bool
) -> None:
    """
    With the identity the cursor goes along; without it there is a reset, never a stream of another log's positions.
    """
    async with started(Path("jobs.db")) as world:
        await fill(world)
        cursor = (await world.operator.get("/api/jobs/active")).body["cursor"]
    await said("export", "log", "--database", "jobs.db", *(["--seal"] if seal else []))
    await said("import", "log", "--database", "moved.db")

    async with started(Path("moved.db")) as moved:
        await moved.guest.made(key="afterwards")
        answer = await moved.viewer.get("/api/stream", after=cursor, wait_s=5)

    names = [frame["event"] for frame in answer.body["frames"]]
    assert expected == [name for name in names if name not in {"hello", "ready", "hb"}]


async def test_what_a_claimed_guest_had_still_goes_over_after_an_import() -> None:
    """
    A handover that was under way when the log was exported goes on where it was imported, and the guest stays spent.
    """
    async with started(Path("jobs.db")) as world:
        ended = [(await world.guest.made(key=f"k{number}"))["id"] for number in range(3)]
        for each in ended:
            await world.guest.cancel(each)
    await _leave_undone(Path("jobs.db"))
    await said("export", "log", "--database", "jobs.db")
    await said("import", "log", "--database", "moved.db")

    async with started(Path("moved.db")) as moved:
        await moved.service.handovers.wait("guest:ann", 10)
        listed = (await moved.user.get("/api/jobs")).body["jobs"]

    assert sorted(ended) == sorted(job["id"] for job in listed)


async def _leave_undone(path: Path) -> None:
    store = SqliteStore(path)
    head = (await store.open()).head
    mark = Mark("handovers", "guest:ann", "", "", b"user:carol", 2**62)
    await store.append(Batch([], [], marks=[mark]), decided_at=head.position)
    await store.close()


def test_an_import_goes_into_an_empty_database_only(log: Path) -> None:
    """
    What has a log keeps it; a database that was opened and holds nothing takes one.
    """
    jobsvc("export", "log", "--database", str(log))
    before = rows(log)

    onto_itself = jobsvc("import", "log", "--database", str(log))
    asyncio.run(_opened_once(Path("fresh.db")))
    onto_fresh = jobsvc("import", "log", "--database", "fresh.db")

    assert (2, 0) == (onto_itself.exit_code, onto_fresh.exit_code)
    assert before == rows(log) == rows(Path("fresh.db"))


async def _opened_once(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()


def test_an_export_that_was_changed_is_refused_at_the_right_place(log: Path) -> None:
    """
    Whatever is changed of an event line, nothing is opened that came of it, and the position is named.
    """
    jobsvc("export", "log", "--database", str(log))
    whole = Path("log").read_bytes().splitlines(keepends=True)
    chance = Random(6)
    changes: list[tuple[str, JSON]] = [
        ("job_id", job_id(9)),
        ("version", 77),
        ("type", "job.due"),
        ("schema", 9),
        ("at_us", 1),
        ("owner", "guest:eve"),
        ("previous_owner", "guest:eve"),
        ("facts", {"kind": "other"}),
        ("payload", {"actor": "guest:eve"}),
        ("salt", "00" * 16),
        ("payload_digest", "00" * 32),
        ("chain", "00" * 32),
    ]

    for number, (name, value) in enumerate(changes):
        place = chance.randrange(1, 15)
        changed = json.dumps(json.loads(whole[place]) | {name: value}).encode() + b"\n"
        Path("changed").write_bytes(b"".join([*whole[:place], changed, *whole[place + 1 :]]))
        result = jobsvc("import", "changed", "--database", f"{number}.db")
        assert 1 == result.exit_code, (name, result.output)
        assert f"position {place}" in result.output, (name, result.output)
        assert 1 == jobsvc("serve", "--port", "0", "--database", f"{number}.db").exit_code


def test_an_export_that_is_not_whole_is_refused(log: Path) -> None:
    """
    Cut anywhere, in or between lines, or gone on with: it is no log, and nobody can open what came of it.
    """
    jobsvc("export", "log", "--database", str(log))
    whole = Path("log").read_bytes()
    lines = whole.splitlines(keepends=True)
    versions = {
        "nothing": b"",
        "no end": b"".join(lines[:-1]),
        "a mark less": b"".join([*lines[:-2], lines[-1]]),
        "an event less": b"".join([*lines[:5], *lines[6:]]),
        "half a line": whole[: len(whole) // 2],
        "twice": whole + whole,
        "no header": b"".join(lines[1:]),
        "no text": b"\xff" + whole,
    }

    for number, (name, content) in enumerate(versions.items()):
        Path("cut").write_bytes(content)
        result = jobsvc("import", "cut", "--database", f"{number}.db")
        assert result.exit_code in {1, 2}, (name, result.output)
        head = select(Path(f"{number}.db"), "SELECT standing, position FROM head")
        assert ("loading" == head[0][0]) or (0 == head[0][1]), name


def test_no_change_of_an_export_is_taken_in(log: Path) -> None:
    """
    A bit, a byte more or less, two lines in each other's place: wherever it is, it is refused, with a word about why.
    """
    jobsvc("export", "log", "--database", str(log))
    whole = Path("log").read_bytes()
    chance = Random(CHANCE)

    for _ in range(CHANGES):
        changed = _changed(whole, chance)
        Path("changed").write_bytes(changed)
        result = jobsvc("import", "changed", "--database", "other.db")
        assert isinstance(result.exception, SystemExit), (CHANCE, changed, result.exception)
        assert result.exit_code in {1, 2}, (CHANCE, changed, result.output)
        Path("other.db").unlink(missing_ok=True)


def _changed(whole: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(whole))
    match chance.randrange(4):
        case 0:
            return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        case 1:
            return whole[:place] + whole[place + chance.randrange(1, 40) :]
        case 2:
            return whole[:place] + chance.randbytes(3) + whole[place:]
        case _:
            lines = whole.splitlines(keepends=True)
            one, other = chance.sample(range(len(lines)), 2)
            lines[one], lines[other] = lines[other], lines[one]
            return b"".join(lines)


@pytest.mark.parametrize("wrong", ["a version twice", "never born"])
def test_events_that_are_chained_and_yet_no_log_are_refused(wrong: str) -> None:
    """
    Whoever forges an export can chain it too; what makes no sense as a log is still not opened.
    """
    submission = Submission(owner="user:ada", key="k")
    birth = (Created("post", "queued", Terms()), Payload("user:ada", submission=submission))
    end = (Completed(Report("complete", 1, "d")), Payload("worker:w1"))
    said: dict[str, list[JSON]] = {
        "a version twice": [(1, birth), (2, end), (2, end)],
        "never born": [(1, end), (2, end)],
    }
    Path("forged").write_bytes(_forged(said[wrong]))

    result = jobsvc("import", "forged", "--database", "other.db")

    assert 1 == result.exit_code, result.output
    assert "position" in result.output
    assert 1 == jobsvc("serve", "--port", "0", "--database", "other.db").exit_code


def _forged(events: list[JSON]) -> bytes:
    """
    An export of *events* of one job, chained as if they had happened.
    """
    records, chain = list[Record](), GENESIS
    for position, (version, (facts, payload)) in enumerate(events, start=1):
        body, fact = bytes(encode_payload(payload)), encode_facts(facts)
        digest, name = digest_payload(b"s", body), Event(1, "", 1, 1, facts, None).type
        told: JSON = {
            "job_id": job_id(1),
            "version": version,
            "type": name,
            "schema": SCHEMA,
            "at": START,
            "facts": fact,
        }
        chain = link(chain, position, payload_digest=digest, **told)
        owner = "user:ada"
        records.append(
            Record(position=position, owner=owner, payload=body, salt=b"s", payload_digest=digest, chain=chain, **told)
        )
    lines = write_lines([HeaderLine(FORMAT, len(records), chain.hex()), *map(event_line, records)])
    return lines + write_lines([EndLine(0, sha256(lines).hexdigest())])


def test_an_import_that_broke_off_goes_on_with_the_same_log_only(log: Path) -> None:
    """
    Half of it there, the whole of it makes it whole; another log does not.
    """
    jobsvc("export", "log", "--database", str(log))
    lines = Path("log").read_bytes().splitlines(keepends=True)
    asyncio.run(write_log(Path("another.db")))
    jobsvc("export", "another", "--database", "another.db")
    Path("half").write_bytes(b"".join(lines[:9]))
    jobsvc("import", "half", "--database", "moved.db")
    copied(Path("moved.db"), Path("moved2.db"))

    whole = jobsvc("import", "log", "--database", "moved.db", "-o", "json")
    other = jobsvc("import", "another", "--database", "moved2.db")

    assert (0, 8) == (whole.exit_code, json.loads(whole.stdout)["resumed_from"])
    assert rows(log) == rows(Path("moved.db"))
    assert 2 == other.exit_code
    assert [] == asyncio.run(verified(Path("moved.db"))).findings


def test_an_export_leaves_alone_what_stands_there(log: Path) -> None:
    """
    Unless it is forced; and a log that was tampered with is not exported as if it were whole.
    """
    Path("log").write_text("precious")
    refused = jobsvc("export", "log", "--database", str(log))
    kept = Path("log").read_text()
    forced = jobsvc("export", "log", "--force", "--database", str(log))
    tamper(log, "UPDATE events SET at = at + 1 WHERE position = 3")
    tampered = jobsvc("export", "bad", "--database", str(log))

    assert (2, "precious", 0, 1) == (refused.exit_code, kept, forced.exit_code, tampered.exit_code)
    assert "position 3" in tampered.output
    assert not Path("bad").exists()
    assert [] == list(Path().glob("*.part"))
    assert 0o600 == Path("log").stat().st_mode & 0o777


async def test_an_export_of_a_running_service_is_the_log_as_of_one_moment() -> None:
    """
    The service goes on; a seal it refuses, since it holds the file.
    """
    async with started(Path("jobs.db")) as world:
        await fill(world)
        making = asyncio.create_task(_make(world.guest))
        exported = await said("export", "log", "--database", "jobs.db", "-o", "json")
        sealed = await said("export", "sealed", "--seal", "--database", "jobs.db")
        making.cancel()
    imported = await said("import", "log", "--database", "other.db", "-o", "json")

    assert (0, 2, 0) == (exported.exit_code, sealed.exit_code, imported.exit_code)
    assert json.loads(exported.stdout)["chain"] == json.loads(imported.stdout)["chain"]


async def _make(caller: JSON) -> None:
    number = 0
    while True:
        number += 1
        await caller.made(key=f"meanwhile-{number}")

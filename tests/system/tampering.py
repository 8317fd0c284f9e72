"""
What a tamperer may do to one place of a log, chosen by chance, and the position at which that has to be found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobsvc.store.driver import DriverError

if TYPE_CHECKING:
    from random import Random

    from jobsvc.store.driver import RawConnection

COLUMNS: Final = (
    "position",
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
    "previous_owner",
)
NULLABLE: Final = frozenset({"owner", "payload", "salt", "previous_owner"})
BLOBS: Final = frozenset({"payload", "salt", "payload_digest", "chain"})
INTEGERS: Final = frozenset({"position", "version", "schema", "at"})
_ALL: Final = ", ".join(COLUMNS)


class Mutation(NamedTuple):
    """
    What was done, where it has to be found, and whether the saved head is needed to see it.
    """

    what: str
    position: int
    needs_head: bool = False


def mutate(raw: RawConnection, chance: Random, *, last: int) -> Mutation:
    """
    One thing is changed in the log of *last* events that *raw* holds.
    """
    act = chance.choice([_change, _change, _change, _change, _delete, _insert, _swap, _cut])
    while True:
        try:
            return act(raw, chance, last)
        except DriverError as refused:
            # An index refuses two versions of one number, also to a tamperer.
            assert "UNIQUE" in str(refused)  # noqa: PT017


def _change(raw: RawConnection, chance: Random, last: int) -> Mutation:
    column, position = chance.choice(COLUMNS), chance.randint(1, last)
    select = f"SELECT {column} FROM events WHERE position = ?"  # noqa: S608
    ((value,),) = raw.execute(select, (position,)).fetchall()
    other = _other(value, column, chance, last)
    # A text may be given as bytes that are none.
    cast = "CAST(? AS TEXT)" if isinstance(other, bytes) and column not in BLOBS else "?"
    raw.execute(f"UPDATE events SET {column} = {cast} WHERE position = ?", (other, position))  # noqa: S608
    found_at = min(position, other) if column == "position" else position
    return Mutation(f"{column} of {position}: {value!r} became {other!r}", found_at)


def _other(value: Any, column: str, chance: Random, last: int) -> Any:  # noqa: ANN401  # what a column holds
    """
    What *column* may hold instead of *value*, but never *value*.
    """
    if column == "position":
        return chance.choice([-chance.randint(1, 99), 0, last + chance.randint(1, 99)])
    if column in INTEGERS:
        return value + chance.choice([-1, 1]) * chance.choice([1, 2, chance.randint(1, 2**40)])
    if value is None:
        return chance.choice([b"", chance.randbytes(16)]) if column in BLOBS else chance.choice(["", "guest:eve"])
    if column in NULLABLE and chance.random() < 0.2:
        return None
    content = bytearray(value if isinstance(value, bytes) else value.encode())
    place = chance.randrange(len(content))
    match chance.randrange(4):
        case 0:
            content[place] ^= 1 << chance.randrange(8)
        case 1:
            content.insert(place, chance.randrange(256))
        case 2:
            del content[place]
        case _:
            content.append(chance.randrange(256))
    return bytes(content)


def _delete(raw: RawConnection, chance: Random, last: int) -> Mutation:
    position = chance.randint(1, last)
    raw.execute("DELETE FROM events WHERE position = ?", (position,))
    return Mutation(f"{position} was deleted", position)


def _insert(raw: RawConnection, chance: Random, last: int) -> Mutation:
    """
    A copy of some event, as a job's next version, before all, between two, or after all.
    """
    position = chance.choice([-7, chance.randint(1, last), last + 1])
    copied = raw.execute(f"SELECT {_ALL} FROM events WHERE position = ?", (chance.randint(1, last),)).fetchall()[0]  # noqa: S608
    if 0 < position <= last:
        for place in range(last, position - 1, -1):
            raw.execute("UPDATE events SET position = ? WHERE position = ?", (place + 1, place))
    ((version,),) = raw.execute("SELECT max(version) FROM events WHERE job_id = ?", (copied[1],)).fetchall()
    marks = ", ".join("?" * len(COLUMNS))
    row = (position, copied[1], version + 1, *copied[3:])
    raw.execute(f"INSERT INTO events ({_ALL}) VALUES ({marks})", row)  # noqa: S608
    return Mutation(f"a copy was inserted at {position}", position)


def _swap(raw: RawConnection, chance: Random, last: int) -> Mutation:
    first, second = sorted(chance.sample(range(1, last + 1), 2))
    for of, to in ((first, -1), (second, first), (-1, second)):
        raw.execute("UPDATE events SET position = ? WHERE position = ?", (to, of))
    return Mutation(f"{first} and {second} were swapped", first)


def _cut(raw: RawConnection, chance: Random, last: int) -> Mutation:
    """
    The tail is gone, and the head says so too.
    """
    kept = chance.randrange(last)
    rows = raw.execute("SELECT chain, at FROM events WHERE position = ?", (kept,)).fetchall()
    chain, at = rows[0] if rows else (bytes(32), 0)
    raw.execute("DELETE FROM events WHERE position > ?", (kept,))
    raw.execute("UPDATE head SET position = ?, chain = ?, at = ?", (kept, chain, at))
    return Mutation(f"all above {kept} was cut", kept + 1, needs_head=True)

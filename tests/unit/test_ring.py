from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from jobsvc.framing import weighed
from jobsvc.pieces import Piece, Pieces
from jobsvc.ring import Ring
from tests.streams.history import history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobsvc.changes import Change

PLENTY = 2**30


def filled(changes: Sequence[Change], *, start: int = 0, events_max: int = 100, bytes_max: int = PLENTY) -> Ring:
    """
    A ring in which *changes* were kept, one after the other.
    """
    ring = Ring(events_max=events_max, bytes_max=bytes_max)
    ring.start(start)
    for one in changes:
        ring.keep(weighed(one, "e"))
    return ring


def positions(ring: Ring, after: int, owner: str | None = None) -> list[int]:
    """
    Where what *ring* has above *after* stands.
    """
    return [one.position for one in ring.after(after, owner)]


def of_owner(changes: Sequence[Change], owner: str | None) -> list[int]:
    """
    Where those of *owner* stand.
    """
    return [one.event.position for one in changes if owner is None or owner in {one.job.owner, one.previous_owner}]


@given(history(), st.integers(1, 12), st.sampled_from([None, "user:a", "user:b", "guest:g", "nobody"]))
def test_a_ring_holds_the_newest_of_everybody_in_order(
    changes: list[Change], events_max: int, owner: str | None
) -> None:
    """
    As many as it may, from a place on that it says, to each owner what is its own; a change of owner to both.
    """
    ring = filled(changes, events_max=events_max)

    kept = changes[-events_max:]
    assert (len(kept), len(changes)) == (len(ring), ring.position)
    assert ring.position + 1 - len(kept) == ring.first
    for after in range(ring.first - 1, ring.position + 1):
        assert ring.reaches(after)
        assert [place for place in of_owner(kept, owner) if place > after] == positions(ring, after, owner)
    assert ring.first == 1 or not ring.reaches(ring.first - 2)


@given(history(), st.integers(1, 60_000))
def test_a_ring_weighs_no_more_than_it_may_save_its_newest(changes: list[Change], bytes_max: int) -> None:
    """
    The newest is always there, whatever it weighs; what is forgotten is forgotten of every owner.
    """
    ring = filled(changes, bytes_max=bytes_max)

    assert sum(one.size for one in ring.after(ring.first - 1, None)) == ring.bytes
    assert ring.bytes <= bytes_max or len(ring) == 1
    assert len(ring) == min(len(changes), max(1, len(ring)))
    assert {owner for one in ring.after(ring.first - 1, None) for owner in one.owners} == set(ring._by_owner)  # noqa: SLF001  # that nothing is left there shows nowhere else


def test_an_empty_ring_reaches_its_start_and_nothing_before() -> None:
    """
    As after a restart: what comes next is here, what was before is in the store.
    """
    ring = filled([], start=41)

    assert (0, 41, 42) == (len(ring), ring.position, ring.first)
    assert (True, False) == (ring.reaches(41), ring.reaches(40))
    assert [] == positions(ring, 41) == positions(ring, 41, "user:a")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 2_000))), st.integers(1, 6_000))
def test_pieces_weigh_no_more_than_they_may(made: list[tuple[int, int, int]], bytes_max: int) -> None:
    """
    Of all channels together; those made first go first, and what is found is what was kept.
    """
    pieces = Pieces(bytes_max=bytes_max)
    kept: dict[tuple[int, int], Piece] = {}
    for channel, after, size in made:
        if pieces.find(channel, after) is None:
            kept.pop((channel, after), None)
            kept[channel, after] = Piece(after + 1, b"x" * size)
            pieces.keep(channel, after, kept[channel, after])
        assert pieces.bytes <= bytes_max

    found = [key for key in kept if pieces.find(*key) is not None]
    assert found == list(kept)[len(kept) - len(found) :]
    assert all(pieces.find(*key) == kept[key] for key in found)
    assert sum(kept[key].size for key in found) == pieces.bytes

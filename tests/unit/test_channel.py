from __future__ import annotations

from functools import reduce
from itertools import starmap
from operator import xor
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from jobsvc.channel import Channel, Scope
from jobsvc.digest import digest_after, digest_before, digest_of, written
from jobsvc.framing import LINES_UNCHUNKED, SSE, weighed
from jobsvc.memory import Memory
from jobsvc.pieces import Pieces
from jobsvc.ring import Ring
from tests.streams.history import history, name

if TYPE_CHECKING:
    from jobsvc.changes import Change
    from jobsvc.domain.job import Job

SCOPES = st.builds(
    Scope,
    st.sampled_from([None, "user:a", "user:b", "guest:g"]),
    st.sampled_from([frozenset(), frozenset({"post"}), frozenset({"other"})]),
    st.sampled_from([frozenset(), frozenset({name(0)}), frozenset({name(0), name(1)})]),
)


class Told:
    """
    A channel over a history that has been published, and two members in it.
    """

    class Other:
        """
        The second.
        """

        def notice(self) -> None:
            """
            Nobody tells it.
            """

    def __init__(self, changes: list[Change], scope: Scope, *, shelf_bytes: int, form: str = "line") -> None:
        self.ring = Ring(events_max=1_000, bytes_max=2**30)
        self.memory = Memory()
        self.form = SSE if form == "sse" else LINES_UNCHUNKED
        self.channel = Channel(
            scope, self.form, ring=self.ring, memory=self.memory, pieces=Pieces(bytes_max=shelf_bytes)
        )
        self.channel.members = {self: None, Told.Other(): None}
        for one in changes:
            self.ring.keep(weighed(one, "e"))
        standing = {one.job.id: one.job for one in changes}
        self.memory.jobs |= {job.id: job for job in standing.values() if job.active}

    def notice(self) -> None:
        """
        Nobody tells it.
        """

    def pieces(self, after: int, bytes_max: int) -> tuple[bytes, list[int], Job | None]:
        """
        All that comes after there, joined, the places where one piece ended, and the job with which all ended.
        """
        content, places = b"", [after]
        while places[-1] < self.ring.position:
            piece = self.channel.piece(places[-1], bytes_max=bytes_max, now_s=0.0)
            assert piece.position > places[-1]
            content += piece.content
            places.append(piece.position)
            if piece.ended is not None:
                return content, places, piece.ended
        return content, places, None


def is_told(one: Change, scope: Scope, standing: dict[str, Job]) -> bool:
    """
    True of what a channel of *scope* tells.
    """
    job = standing[one.job.id]
    superseded = one.event.type == "job.progressed" and (not job.active or job.version > one.event.version)
    return scope.shows_change(one) and not superseded


@given(history(), SCOPES, st.integers(1, 20_000), st.sampled_from([0, 3_000, 2**20]), st.sampled_from(["sse", "line"]))
def test_joined_pieces_from_any_place_are_the_sequence(
    changes: list[Change], scope: Scope, bytes_max: int, shelf_bytes: int, form: str
) -> None:
    """
    However they are cut and whether they were kept: each frame in scope once, in order, save superseded progress.
    """
    told = Told(changes, scope, shelf_bytes=shelf_bytes, form=form)
    standing = {one.job.id: one.job for one in changes}

    for after in [*range(len(changes)), *range(len(changes))]:
        frames = [weighed(one, "e").encoded(told.form) for one in changes[after:] if is_told(one, scope, standing)]
        assert b"".join(frames) == told.pieces(after, bytes_max)[0]


@given(history(), SCOPES, st.integers(1, 20_000))
def test_a_piece_is_hardly_larger_than_it_may_be(changes: list[Change], scope: Scope, bytes_max: int) -> None:
    """
    By one frame at most, so that one who reads little is given little.
    """
    told = Told(changes, scope, shelf_bytes=2**20)
    largest = max((len(weighed(one, "e").encoded(told.form)) for one in changes), default=0)
    place = 0
    while place < told.ring.position:
        piece = told.channel.piece(place, bytes_max=bytes_max, now_s=0.0)
        place = piece.position

        assert len(piece.content) < bytes_max + largest


@given(history(), st.integers(1, 20_000))
def test_a_job_s_own_pieces_end_with_the_job(changes: list[Change], bytes_max: int) -> None:
    """
    Nothing of it is told after its end, and the last piece says which job that was.
    """
    scope = Scope(job_ids=frozenset({name(0)}), ends=True)
    own = [one for one in changes if one.job.id == name(0)]
    end = next((one for one in own if not one.job.active), None)

    content, places, ended = Told(changes, scope, shelf_bytes=2**20).pieces(0, bytes_max)

    assert ended == (end and end.job)
    if end is not None:
        assert end.event.position == places[-1]
        assert content.endswith(weighed(end, "e").encoded(LINES_UNCHUNKED))


@given(history(), st.sampled_from([None, "user:a", "user:b", "guest:g"]))
def test_the_digest_of_a_change_is_what_it_does_to_the_list(changes: list[Change], owner: str | None) -> None:
    """
    Followed change by change it is the digest of the jobs that are active then, of this owner or of all.
    """
    channel = Told([], Scope(owner), shelf_bytes=0).channel
    assert channel.begin_digest() is None
    active: dict[str, Job] = {}
    for one in changes:
        active.pop(one.job.id, None)
        if one.job.active:
            active[one.job.id] = one.job
        if channel.scope.shows_change(one):
            channel.follow(one)
        mine = [job for job in active.values() if owner in {None, job.owner}]

        assert written(reduce(xor, starmap(digest_of, ((job.id, job.version) for job in mine)), 0)) == channel.digest()


@given(history())
def test_before_and_after_of_a_job_s_changes_meet(changes: list[Change]) -> None:
    """
    What one change leaves is what the next takes away.
    """
    left: dict[str, int] = {}
    for one in changes:
        assert left.get(one.job.id, 0) == digest_before(one)
        left[one.job.id] = digest_after(one)

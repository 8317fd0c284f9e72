"""
The leases: the next lapse is never missed and the books never grow, checked against a plain dict.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jobsvc.leases import Leases

names = st.sampled_from(["a", "b", "c", "d"])
steps = st.one_of(
    st.tuples(st.just("grant"), names, st.integers(1, 9)),
    st.tuples(st.just("renew"), names, st.just(0)),
    st.tuples(st.just("end"), names, st.just(0)),
    st.tuples(st.just("pass"), st.just(""), st.integers(1, 5)),
    st.tuples(st.just("sweep"), st.just(""), st.integers(1, 3)),
    st.tuples(st.just("put_back"), names, st.just(0)),
)


@given(st.lists(steps, max_size=80))
@settings(max_examples=500, deadline=None)
def test_the_next_lapse_is_never_missed(history: list[tuple[str, str, int]]) -> None:
    """
    The earliest lapse of those not yet brought is known exactly; each is brought once until it is put back or renewed.
    """
    leases, naive = Leases(), dict[str, tuple[int, int]]()
    brought, now = set[str](), 0
    for act, name, number in history:
        match act:
            case "grant":
                leases.grant(name, lease_us=number, elapsed=now)
                naive[name] = (now + number, number)
                brought.discard(name)
            case "renew":
                leases.renew(name, elapsed=now)
                if name in naive:
                    naive[name] = (now + naive[name][1], naive[name][1])
                    brought.discard(name)
            case "end":
                leases.end(name)
                naive.pop(name, None)
                brought.discard(name)
            case "pass":
                now += number
            case "put_back":
                leases.put_back(name)
                brought.discard(name)
            case _:
                over = sorted((lease[0], one) for one, lease in naive.items() if lease[0] <= now and one not in brought)
                taken = leases.take_lapsed(elapsed=now, limit=number)
                assert sorted(moment for moment, _ in over)[:number] == [naive[one][0] for one in taken]
                brought |= set(taken)
        waiting = [lease[0] for one, lease in naive.items() if one not in brought]
        assert min(waiting, default=None) == leases.next_lapse()
        assert {one: lease[0] > now for one, lease in naive.items()} == {
            one: leases.live(one, elapsed=now) for one in leases
        }


def test_a_million_renewals_take_no_room() -> None:
    """
    A heartbeat costs no entry, however long the lease runs.
    """
    leases = Leases()
    for name in ("a", "b"):
        leases.grant(name, lease_us=3_600_000_000, elapsed=0)

    for beat in range(1_000_000):
        leases.renew("a", elapsed=beat)

    assert len(leases._lapses) < 100  # noqa: SLF001  # the bound is the promise
    assert 3_600_000_000 == leases.next_lapse()


def test_a_million_short_jobs_under_long_leases_take_no_room() -> None:
    """
    A job that ends at once does not stay in the books for the hour that its lease was given.
    """
    leases = Leases()
    for number in range(1_000_000):
        leases.grant(f"{number}", lease_us=3_600_000_000, elapsed=number)
        leases.end(f"{number}")

    assert len(leases._lapses) < 100  # noqa: SLF001  # the bound is the promise
    assert len(leases._scheduled) < 100  # noqa: SLF001  # the same
    assert leases.next_lapse() is None

"""
A few: nobody, one that stands for itself, or many in order.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobsvc.few import Few, count, each, has, with_one, without

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)))


@given(STEPS)
def test_a_few_are_who_came_and_did_not_go_in_order(steps: list[tuple[bool, int]]) -> None:
    """
    As a dict would have it, whatever comes and goes, and who comes twice stays where it was.
    """
    few: Few[int] = None
    expected: dict[int, None] = {}

    for comes, one in steps:
        few = with_one(few, one) if comes else without(few, one)
        if comes:
            expected[one] = None
        else:
            expected.pop(one, None)

        assert list(expected) == each(few)
        assert len(expected) == count(few)
        assert [one in expected for one in range(6)] == [has(few, one) for one in range(6)]


def test_nobody_and_one_cost_nothing() -> None:
    """
    None is nobody, and one is itself: no dict is made until there are two.
    """
    alone = object()

    assert with_one(None, alone) is alone
    assert without(alone, alone) is None
    assert without(without(with_one(with_one(None, 1), 2), 1), 2) is None

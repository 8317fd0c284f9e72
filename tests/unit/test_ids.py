from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from jobsvc.domain.ids import RANDOM_BYTES, IdMaker, is_job_id

CLOCK = st.integers(min_value=0, max_value=2**47 * 1000)
RANDOMNESS = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(st.lists(st.tuples(CLOCK, RANDOMNESS), min_size=2))
def test_ids_rise_under_any_clock(readings: list[tuple[int, bytes]]) -> None:
    """
    Each id is greater than all before it, whichever way the clock goes.
    """
    maker = IdMaker()

    ids = [maker.make(moment, randomness) for moment, randomness in readings]

    assert sorted(set(ids)) == ids


@given(CLOCK, RANDOMNESS)
def test_an_id_is_a_uuid_of_version_7(moment: int, randomness: bytes) -> None:
    """
    The standard library reads the id back, with its version, its variant and its millisecond.
    """
    maker = IdMaker()

    parsed = uuid.UUID(maker.make(moment, randomness))

    assert (7, uuid.RFC_4122) == (parsed.version, parsed.variant)
    assert moment // 1000 == parsed.int >> 80


def test_ids_rise_when_a_millisecond_runs_out_of_numbers() -> None:
    """
    More ids in one millisecond than its counter can tell apart borrow the next millisecond.
    """
    maker, none = IdMaker(), bytes(RANDOM_BYTES)

    ids = [maker.make(1_000_000, none) for _ in range(3 * 4096)]

    assert sorted(set(ids)) == ids
    assert all(map(is_job_id, ids))


@given(st.text())
def test_only_the_canonical_form_is_an_id(text: str) -> None:
    """
    Text is an id only if it is a version 7 UUID written as the standard library writes it.
    """
    told = is_job_id(text)

    expected = _is_canonical(text)

    assert expected == told


def test_other_spellings_of_an_id_are_none() -> None:
    """
    Capitals, braces, a line end, another version: each is looked up nowhere.
    """
    good = IdMaker().make(1, b"\xff" * RANDOM_BYTES)

    told = [is_job_id(text) for text in (good, good.upper(), f"{{{good}}}", good + "\n", str(uuid.UUID(int=0)))]

    assert [True, False, False, False, False] == told


def _is_canonical(text: str) -> bool:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return str(parsed) == text and parsed.version == 7

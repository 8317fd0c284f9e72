from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsvc.domain.moments import SECOND_US, parse_rfc3339, rfc3339, rfc3339_or_none

LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * SECOND_US
MOMENTS = st.integers(min_value=0, max_value=LATEST)


@given(MOMENTS)
def test_a_moment_comes_back_from_its_text(moment: int) -> None:
    """
    Nothing is lost on the way to text and back, to the microsecond.
    """
    text = rfc3339(moment)

    back = parse_rfc3339(text)

    assert moment == back


@given(MOMENTS, MOMENTS)
def test_texts_of_moments_sort_as_the_moments_do(one: int, other: int) -> None:
    """
    All texts have one width, so that their order as text is their order in time.
    """
    texts = rfc3339(one), rfc3339(other)

    in_order = texts[0] < texts[1]

    assert (one < other) == in_order
    assert [27, 27] == [len(text) for text in texts]


def test_a_text_has_six_digits_and_a_z() -> None:
    """
    A whole second shows its microseconds too, and UTC is a Z.
    """
    moment = 1_795_503_999 * SECOND_US + 5

    text = rfc3339(moment)

    assert "2026-11-24T07:06:39.000005Z" == text


def test_no_moment_has_no_text() -> None:
    """
    None stays None, and a moment does not.
    """
    moments = [None, 0]

    texts = [rfc3339_or_none(moment) for moment in moments]

    assert [None, "1970-01-01T00:00:00.000000Z"] == texts


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:01Z", SECOND_US),
        ("1970-01-01T01:00:01+01:00", SECOND_US),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1969-12-31T23:59:59.5Z", -500_000),
    ],
)
def test_any_offset_and_any_number_of_digits_are_read(text: str, moment: int) -> None:
    """
    An offset is taken into account, and what is finer than a microsecond is cut.
    """
    expected = moment

    parsed = parse_rfc3339(text)

    assert expected == parsed


@pytest.mark.parametrize("text", ["2026-11-24T06:46:39", "tomorrow", ""])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    """
    What would be a matter of opinion, or is no time at all, is no moment.
    """
    refusal = pytest.raises(ValueError, match=r".")

    with refusal:
        parse_rfc3339(text)

"""Our own search for plain expressions finds what croniter finds."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.cron.expression import read_expression
from scheduler.cron.plain import PlainSearch

SOME_WALL = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)).map(lambda wall: wall.replace(microsecond=0))  # noqa: DTZ001


def some(low: int, high: int) -> st.SearchStrategy[frozenset[int]]:
    whole = frozenset(range(low, high + 1))
    return st.just(whole) | st.frozensets(st.integers(low, high), min_size=1, max_size=4)


@given(st.tuples(some(0, 59), some(0, 59), some(0, 23), some(1, 28), some(1, 12), some(0, 6)), SOME_WALL)
@settings(max_examples=300, deadline=None)
def test_the_next_match_is_the_one_that_croniter_finds(fields: tuple[frozenset[int], ...], wall: datetime) -> None:
    text = " ".join(",".join(map(str, sorted(field))) for field in fields)
    theirs = croniter(text, wall, ret_type=datetime, day_or=False, second_at_beginning=True).get_next(datetime, wall)
    seconds, minutes, hours, days, months, weekdays = (tuple(sorted(field)) for field in fields)
    assert PlainSearch(seconds, minutes, hours, days, months, weekdays).next(wall) == theirs


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 0 29 2 *", "2096-02-29T00:00", "2104-02-29T00:00"),
        ("0 0 29 2 */7", "2026-01-01T00:00", "2032-02-29T00:00"),  # leap day on a Sunday
        ("59 23 31 12 *", "2026-12-31T23:59", "2027-12-31T23:59"),
        ("0 0 31 * *", "2026-01-31T00:00", "2026-03-31T00:00"),
        ("*/20 8-9 * * *", "2026-01-01T09:40", "2026-01-02T08:00"),
        ("0 12 13 * fri", "2026-11-01T00:00", "2026-11-06T12:00"),  # either day field
    ],
)
def test_a_search_goes_over_the_ends_of_days_months_and_years(text: str, after: str, expected: str) -> None:
    cron = read_expression(text)
    assert all(isinstance(search, PlainSearch) for search in cron.searches)
    assert cron.next_wall(datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


def test_a_search_gives_up_after_fifty_years() -> None:
    never = PlainSearch((0,), (0,), (0,), {30}, {2}, frozenset(range(7)))
    assert never.next(datetime(2026, 1, 1)) is None  # noqa: DTZ001  a reading of the wall clock


def test_a_search_is_strictly_later() -> None:
    every_second = PlainSearch(
        tuple(range(60)), tuple(range(60)), tuple(range(24)), range(1, 32), range(1, 13), range(7)
    )
    wall = datetime(2026, 12, 31, 23, 59, 59)  # noqa: DTZ001  a reading of the wall clock
    assert every_second.next(wall) == wall + timedelta(seconds=1)

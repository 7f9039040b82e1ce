"""The instants that a forecast lays down are those that the planner's own arithmetic finds one by one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.cron import parse
from scheduler.forecast.minutes import Span, Tally, each, planes_of, repeated, set_of, spread
from scheduler.forecast.series import CronSeries, PeriodicSeries

ZONES = (
    "UTC",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Antarctica/Troll",
)
# A jump of each of these zones lies within days of one of them.
STARTS = tuple(
    datetime.fromisoformat(text)
    for text in (
        "2026-03-06T03:04:05.678901Z",
        "2026-10-24T23:59:59.999999Z",
        "2026-11-01T05:30:00Z",
        "2026-03-29T01:00:30Z",
        "2018-11-03T02:00:00Z",
        "2011-12-29T12:00:00Z",
        "2026-02-14T20:00:00Z",
        "2026-04-04T14:59:00Z",
        "2026-04-23T21:59:59Z",
    )
)
MINUTES = st.sampled_from(["*", "0", "30", "*/7", "5,59", "0-20/3", "1-59"])
HOURS = st.sampled_from(["*", "0", "1", "2", "*/5", "1-3", "23", "0,12"])
DAYS = st.sampled_from(["*", "1", "1-7", "*/2", "29", "L", "15W", "2-31"])
WEEKDAYS = st.sampled_from(["*", "mon-fri", "0", "fri#2", "5L", "mon,wed#3", "*/2"])
SECONDS = st.sampled_from(["", "0 ", "15 ", "*/20 ", "7,8 ", "59 "])
EXPRESSIONS = st.tuples(SECONDS, MINUTES, HOURS, DAYS, WEEKDAYS).map(
    lambda parts: f"{parts[0]}{parts[1]} {parts[2]} {parts[3]} * {parts[4]}"
)


def per_minute(span: Span, instants: list[datetime]) -> list[int]:
    counts = Counter(span.minute(at) for at in instants)
    return [counts[minute] for minute in range(span.minutes)]


@settings(max_examples=80, deadline=None)
@given(
    expression=EXPRESSIONS,
    zone=st.sampled_from(ZONES),
    gap=st.sampled_from(["after", "skip"]),
    fold=st.sampled_from(["first", "second", "both"]),
    start=st.sampled_from(STARTS),
    hours=st.sampled_from([1, 24, 50, 100]),
    cut=st.sampled_from([(0, 0), (1, 0), (90, 1), (3_600, 7_200), (86_399, 61)]),
)
@example(expression="30 1 * * *", zone=ZONES[1], gap="after", fold="both", start=STARTS[2], hours=24, cut=(0, 0))
@example(expression="* * * * *", zone=ZONES[7], gap="after", fold="first", start=STARTS[5], hours=50, cut=(0, 0))
@example(expression="*/30 2 29 * *", zone=ZONES[2], gap="after", fold="first", start=STARTS[3], hours=24, cut=(1, 0))
def test_instants_of_a_cron_schedule_are_those_of_the_planner(
    *, expression: str, zone: str, gap: str, fold: str, start: datetime, hours: int, cut: tuple[int, int]
) -> None:
    schedule = parse(expression, zone, dst_gap=gap, dst_fold=fold)
    span = Span(start, 60 * hours)
    after, until = start + timedelta(seconds=cut[0]), span.end - timedelta(seconds=cut[1], microseconds=1)
    if until <= after:
        return
    series = CronSeries(schedule, span, after, until)
    expected = schedule.between(after, until, limit=10**6)
    assert series.instants() == expected
    assert series.counts.counts(span.minutes) == per_minute(span, expected)
    assert series.fires == len(expected)


@settings(max_examples=60, deadline=None)
@given(
    period=st.one_of(
        st.sampled_from(["1s", "7s", "10s", "59s", "60s", "61s", "90s", "5m", "7m30s", "1h", "25h", "1.5s", "333ms"]),
        st.integers(900_000, 4_000_000_000).map(lambda number: f"{number}us"),
    ),
    start=st.sampled_from(STARTS),
    back=st.integers(0, 10**12),
    hours=st.sampled_from([1, 5, 30]),
    cut=st.sampled_from([0, 1, 61, 3_599]),
)
def test_instants_of_a_fixed_rate_are_those_of_the_planner(
    period: str, start: datetime, back: int, hours: int, cut: int
) -> None:
    schedule = parse(f"@every {period}")
    span, anchor = Span(start, 60 * hours), start - timedelta(microseconds=back)
    until = max(start, span.end - timedelta(seconds=cut, microseconds=1))
    assert schedule.period is not None
    series = PeriodicSeries(schedule.next(start, anchor=anchor), schedule.period, span, until)
    expected = schedule.between(start, until, anchor=anchor, limit=10**6)
    assert series.instants() == expected
    assert series.counts.counts(span.minutes) == per_minute(span, expected)


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("* * * * *", 59.0),
        ("* * * * *", 60.5),
        ("*/5 9-17 * * *", 700.0),
        ("0,30 * * * * *", 31.0),
        ("10,50 */2 * * * *", 50.0),
    ],
)
def test_fires_that_come_before_the_end_of_the_one_before_are_counted(expression: str, seconds: float) -> None:
    span = Span(datetime(2026, 3, 1, 12, tzinfo=UTC), 3_000)
    series = CronSeries(parse(expression), span, span.now, span.end - timedelta(microseconds=1))
    instants = series.instants()
    met = sum((later - one).total_seconds() < seconds for one, later in pairwise(instants))
    # The first minute of a span may be cut, so that its instants stand alone.
    assert abs(series.overlapping(seconds) - met) <= 1
    assert series.overlapping(1.0) == 0


@given(st.lists(st.tuples(st.sets(st.integers(0, 99)), st.integers(0, 70)), max_size=12), st.integers(0, 200))
def test_a_tally_counts_as_a_list_would(added: list[tuple[set[int], int]], limit: int) -> None:
    tally, expected = Tally(), [0] * 100
    for minutes, times in added:
        tally.add(set_of(minutes, 100), times)
        for minute in minutes:
            expected[minute] += times
    assert tally.counts(100) == expected
    assert (tally.total(), [tally.at(minute) for minute in range(100)]) == (sum(expected), expected)
    assert list(each(tally.above(limit))) == [minute for minute, count in enumerate(expected) if count > limit]
    if any(expected):
        most = max(expected)
        assert tally.most(tally.marks()) == (most, expected.index(most))
    assert Tally().counts(3) == [0, 0, 0]
    again = Tally()
    for place, plane in enumerate(planes_of(dict(enumerate(expected)), 100)):
        again.add(plane, 1 << place)
    again.add_all(tally)
    assert again.counts(100) == [2 * count for count in expected]


@given(st.sets(st.integers(0, 40)), st.integers(0, 50), st.integers(1, 60))
def test_sets_of_minutes_spread_and_repeat(minutes: set[int], reach: int, cycle: int) -> None:
    bits = set_of(minutes, 41)
    assert set(each(spread(bits, reach))) == {minute + later for minute in minutes for later in range(reach + 1)}
    within = {minute for minute in minutes if minute < cycle}
    repeats = {minute + turn * cycle for minute in within for turn in range(200 // cycle + 1)}
    assert set(each(repeated(set_of(within, 41), cycle, 200))) == {minute for minute in repeats if minute < 200}

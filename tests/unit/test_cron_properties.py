"""Any expression in any zone at any time, against a slow oracle that walks the clock minute by minute as cron does."""

import calendar
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.cron import parse
from scheduler.errors import ScheduleError

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
ZONES = sorted(available_timezones())
BOUNDED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Expression:
    """A generated expression: its text, and what it means, worked out here and not by the code under test."""

    fields: tuple[str, ...]
    values: tuple[frozenset[int], ...]  # minute, hour, day-of-month, month, day-of-week
    last_day: bool
    nth_weekday: tuple[int, int] | None

    @property
    def text(self) -> str:
        return " ".join(self.fields)

    @property
    def wildcard(self) -> bool:
        return self.fields[0].startswith("*") or self.fields[1].startswith("*")

    def matches(self, wall: datetime) -> bool:
        minutes, hours, _, months, _ = self.values
        return wall.minute in minutes and wall.hour in hours and wall.month in months and self._matches_day(wall)

    def _matches_day(self, wall: datetime) -> bool:
        weekday = wall.isoweekday() % 7
        by_month = wall.day in self.values[2] or (
            self.last_day and wall.day == calendar.monthrange(wall.year, wall.month)[1]
        )
        by_week = weekday in self.values[4] or (weekday, (wall.day + 6) // 7) == self.nth_weekday
        both = self.fields[2].startswith("*") or self.fields[4].startswith("*")
        return by_month and by_week if both else by_month or by_week


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    everything = range(low, high + 1)
    a, b = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    step = draw(st.integers(1, high))
    shapes = {
        "*": everything,
        f"*/{step}": everything[::step],
        f"{a}": [a],
        f"{a},{b}": [a, b],
        f"{a}-{b}": range(a, b + 1),
        f"{a}-{b}/{step}": range(a, b + 1, step),
        f"{a}/{step}": range(a, high + 1, step),
    }
    text = draw(st.sampled_from(list(shapes)))
    return text, frozenset(shapes[text])


@st.composite
def small_hours(draw: st.DrawFn) -> tuple[str, frozenset[int]]:
    """Where clocks are moved, so that fixed times do fall into gaps and folds."""
    a, b = sorted(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))))
    return f"{a}-{b}", frozenset(range(a, b + 1))


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    # Most days must match, or a window of two days holds nothing to compare.
    every = st.just(("*", frozenset(range(32))))
    minute, hour = draw(fields(0, 59)), draw(fields(0, 23) | small_hours())
    day, month = draw(every | fields(1, 31)), draw(every | every | fields(1, 12))
    weekday = draw(every | fields(0, 6))
    last_day, nth = draw(st.booleans()), draw(st.none() | st.tuples(st.integers(0, 6), st.integers(1, 5)))
    texts = [minute[0], hour[0], day[0], month[0], weekday[0]]
    if last_day:
        texts[2] += ",L"
    if nth:
        texts[4] += f",{nth[0]}#{nth[1]}"
    return Expression(tuple(texts), (minute[1], hour[1], day[1], month[1], weekday[1]), last_day, nth)


@st.composite
def moments(draw: st.DrawFn, zone: ZoneInfo) -> datetime:
    """Some time within a day of one of the zone's jumps, if it has any in the year drawn.

    From 1973 on every offset is of whole minutes (Liberia's was not until January 1972), as the oracle needs.
    """
    noon = datetime(draw(st.integers(1973, 2060)), 1, 1, 12, tzinfo=UTC)
    days = [noon + number * DAY for number in range(365)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    jumps = [day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other]
    day = draw(st.sampled_from(jumps or days))
    return day + draw(st.integers(-20 * 3600, 24 * 3600)) * timedelta(seconds=1)


def oracle(
    expression: Expression, zone: ZoneInfo, after: datetime, until: datetime, *, gap: str, fold: str
) -> list[datetime]:
    """Walk every minute; note how often each reading of the wall clock comes, and which readings were jumped over."""
    start = after.replace(second=0) - DAY
    minutes = [start + number * MINUTE for number in range(int((until - start + DAY) / MINUTE))]
    walls = [minute.astimezone(zone).replace(tzinfo=None, fold=0) for minute in minutes]
    fired: set[datetime] = set()
    readings: dict[datetime, list[datetime]] = defaultdict(list)
    for minute, wall, previous in zip(minutes, walls, [walls[0], *walls], strict=False):
        readings[wall].append(minute)
        jumped_over = [previous + number * MINUTE for number in range(1, int((wall - previous) / MINUTE))]
        if gap == "after" and not expression.wildcard and any(map(expression.matches, jumped_over)):
            fired.add(minute)
    for wall, passes in readings.items():
        if expression.matches(wall):
            chosen = (
                passes if expression.wildcard else {"first": passes[:1], "second": passes[-1:], "both": passes}[fold]
            )
            fired.update(chosen)
    return sorted(instant for instant in fired if after < instant <= until)


def is_possible(expression: Expression) -> bool:
    """Whether any day in the 28 years after which weekdays repeat matches: others are refused when they are parsed."""
    hour, minute = min(expression.values[1]), min(expression.values[0])
    first = datetime(2001, 1, 1, hour, minute)  # noqa: DTZ001  a reading of the wall clock
    return any(expression.matches(first + number * DAY) for number in range(28 * 366))


@BOUNDED
@given(
    st.data(), st.sampled_from(ZONES), st.sampled_from(["after", "skip"]), st.sampled_from(["first", "second", "both"])
)
def test_every_instant_agrees_with_a_walk_minute_by_minute(data: st.DataObject, key: str, gap: str, fold: str) -> None:
    zone = ZoneInfo(key)
    after = data.draw(moments(zone))
    expression = data.draw(expressions().filter(is_possible))
    until = after + timedelta(hours=30)
    schedule = parse(expression.text, key, dst_gap=gap, dst_fold=fold)
    assert schedule.between(after, until, limit=10_000) == oracle(expression, zone, after, until, gap=gap, fold=fold)


@BOUNDED
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(["first", "second", "both"]))
def test_next_is_later_and_matches_the_wall_clock_or_ends_a_gap(data: st.DataObject, key: str, fold: str) -> None:
    zone = ZoneInfo(key)
    after = data.draw(
        st.integers(-2_200_000_000, 5_700_000_000).map(
            lambda seconds: datetime.fromtimestamp(seconds, UTC)
        )  # 1900 to 2150
    )
    expression = data.draw(expressions().filter(is_possible))
    instant = parse(expression.text, key, dst_fold=fold).next(after)
    assert instant is not None
    assert instant > after
    assert instant.tzinfo is UTC
    wall = instant.astimezone(zone)
    before = (instant - timedelta(seconds=1)).astimezone(zone)
    ends_a_gap = wall.replace(tzinfo=None) - before.replace(tzinfo=None) > timedelta(seconds=1)
    assert expression.matches(wall) or (ends_a_gap and not expression.wildcard)


@BOUNDED
@given(st.data(), st.sampled_from(ZONES), st.sampled_from(["first", "second", "both"]))
def test_no_instant_lies_between_a_moment_and_its_next(data: st.DataObject, key: str, fold: str) -> None:
    after = data.draw(moments(ZoneInfo(key)))
    schedule = parse(data.draw(expressions().filter(is_possible)).text, key, dst_fold=fold)
    instant = schedule.next(after)
    assert instant is not None
    between = after + data.draw(st.floats(0, 1, exclude_max=True)) * (instant - after)
    assert schedule.next(min(between, instant - timedelta(microseconds=1))) == instant


@BOUNDED
@given(st.data(), st.sampled_from(ZONES))
def test_a_leading_zero_second_changes_nothing(data: st.DataObject, key: str) -> None:
    after = data.draw(moments(ZoneInfo(key)))
    text = data.draw(expressions().filter(is_possible)).text
    assert parse(f"0 {text}", key).next(after) == parse(text, key).next(after)


@given(st.text(alphabet="0123456789*/-,#?LWHR@ \tsunmojct=~\x00é", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    try:
        schedule = parse(text)
    except ScheduleError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert parse(schedule.expression, schedule.timezone) == schedule
    assert "\n" not in refusal
    assert len(refusal) < 400

"""All of a schedule's times at once: the days that match, the minutes of such a day, and where a zone's clock jumps.

`Schedule.next` finds one instant after the other, at 5 to 15 µs each: a month of `* * * * *` has 43,200. Between two
jumps of a zone's clock an instant is a wall-clock time minus an offset, so whole days can be laid down together.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from croniter import croniter

from scheduler.cron.expression import read_expression
from scheduler.cron.plain import PlainSearch

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_STEP = timedelta(hours=6)  # no zone ever jumped there and back within it
_MINUTES, _HOURS = tuple(range(60)), tuple(range(24))


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a day that matches: all its `seconds` in each of its minutes, whose bits are set (0: midnight)."""

    minutes: int
    seconds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """A zone's clock jumps at this instant; times from `begin` until `end` are in its gap or its fold."""

    at: datetime
    begin: datetime
    end: datetime


@lru_cache(maxsize=16_384)
def times_of(expression: str) -> Times:
    """Of a cron expression, whatever the day: all of its searches share them."""
    search = read_expression(expression).searches[0]
    if isinstance(search, PlainSearch):
        seconds, minutes, hours = search.seconds, search.minutes, search.hours
    else:
        listed = [tuple(int(value) for value in part if str(value).isdigit()) for part in search.expanded]
        minutes, hours = listed[0] or _MINUTES, listed[1] or _HOURS
        seconds = (listed[5] or _MINUTES) if len(listed) > 5 else (0,)  # noqa: PLR2004  the sixth field
    bits = 0
    for hour in hours:
        for minute in minutes:
            bits |= 1 << 60 * hour + minute
    return Times(bits, tuple(sorted(seconds)))


@lru_cache(maxsize=16_384)
def days_of(expression: str, first: date, last: date) -> frozenset[date]:
    """The days from `first` to `last` that a cron expression names."""
    found: set[date] = set()
    for search in read_expression(expression).searches:
        if isinstance(search, PlainSearch):
            days = (first + n * _DAY for n in range((last - first).days + 1))
            found.update(day for day in days if search.matches(day))
        else:
            found.update(_days_by_croniter(search, first, last))
    return frozenset(found)


@lru_cache(maxsize=1_024)
def jumps(timezone: str, begin: datetime, end: datetime) -> tuple[Jump, ...]:
    """Those that bear on instants from `begin` to `end`, the first first."""
    zone = ZoneInfo(timezone)
    # A day more on either side: Apia left out 24 hours, which are the gap's times before the jump and after it.
    start = begin - 2 * _DAY
    looks = [start + n * _STEP for n in range((end + 2 * _DAY - start) // _STEP + 1)]
    return tuple(
        _jump(zone, one, other) for one, other in pairwise(looks) if _offset(zone, one) != _offset(zone, other)
    )


def offset_at(timezone: str, instant: datetime) -> timedelta:
    """What the zone's clock shows more than UTC."""
    return _offset(ZoneInfo(timezone), instant)


def _days_by_croniter(search: croniter[datetime], first: date, last: date) -> set[date]:
    """One call for each day that is found: croniter remembers where it is, so it is copied."""
    found: set[date] = set()
    wall = datetime.combine(first, time()) - _SECOND
    while True:
        try:
            match = copy(search).get_next(datetime, wall)
        except (ValueError, OverflowError):
            return found
        if match.date() > last:
            return found
        found.add(match.date())
        wall = datetime.combine(match.date() + _DAY, time()) - _SECOND


def _jump(zone: ZoneInfo, low: datetime, high: datetime) -> Jump:
    before, after = _offset(zone, low), _offset(zone, high)
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if _offset(zone, middle) == after:
            high = middle
        else:
            low = middle
    width = abs(after - before)
    return Jump(high, high - width, high + width)


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)

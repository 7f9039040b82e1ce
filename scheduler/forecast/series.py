"""The instants of one schedule within a span: what `Schedule.next` finds one by one, laid down a day at a time.

Where a zone's clock jumps, and in the minutes in which the span begins and ends, `Schedule.next` itself is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise

from scheduler.cron import Schedule
from scheduler.cron.calendar import days_of, jumps, offset_at, times_of
from scheduler.forecast.minutes import MINUTE, Span, Tally, each, planes_of, repeated, spread

_INSTANT = timedelta(microseconds=1)
_DAY = 1_440
_FEW = 1_000
"""Instants of a period that are rather listed than found by their cycle."""


class Series:
    """Fires per minute (`counts`), and what can be said of the time between two of them."""

    counts: Tally
    second: int
    """Of the last fire in its minute."""
    closest: float
    """Seconds between two fires of one minute; infinite, if none has two."""

    def instants(self) -> list[datetime]:
        raise NotImplementedError

    def overlapping(self, seconds: float) -> int:
        """How many fires come before one that lasts so long would have ended which began at the fire before."""
        raise NotImplementedError

    @cached_property
    def marks(self) -> int:
        """The minutes with a fire."""
        return self.counts.marks()

    @cached_property
    def fires(self) -> int:
        return self.counts.total()


class CronSeries(Series):
    """Of cron fields: all of `seconds` in each minute of `whole`, and instants that stand alone."""

    def __init__(self, schedule: Schedule, span: Span, after: datetime, until: datetime) -> None:
        """Those later than `after`, until `until`."""
        times = times_of(schedule.expression)
        self._span, self.seconds = span, times.seconds
        self.whole, self.alone = _laid_down(schedule, span, after, until)
        self.counts = Tally()
        self.counts.add(self.whole, len(self.seconds))
        _add_each(self.counts, self.alone, span)
        self.second = self.seconds[-1]
        self._gaps = [later - one for one, later in pairwise(self.seconds)]
        self.closest = min(self._gaps, default=math.inf)

    def instants(self) -> list[datetime]:
        seconds = [timedelta(seconds=second) for second in self.seconds]
        whole = [self._span.at(minute) + second for minute in each(self.whole) for second in seconds]
        return sorted([*whole, *self.alone])

    def overlapping(self, seconds: float) -> int:
        # Instants that stand alone are taken for those of their minute: this is an expectation, and they are few.
        inside = sum(gap < seconds for gap in self._gaps)
        back = math.ceil((seconds + self.seconds[-1] - self.seconds[0]) / 60) - 1
        first = self.marks & spread(self.marks << 1, back - 1) if back > 0 else 0
        return first.bit_count() + inside * self.marks.bit_count()


class PeriodicSeries(Series):
    """An instant each `period`, from `first` on."""

    def __init__(self, first: datetime | None, period: timedelta, span: Span, until: datetime) -> None:
        self._first, self._period = first, period
        self._count = 0 if first is None or first > until else (until - first) // period + 1
        self.counts = Tally()
        self.second = 0 if first is None else first.second
        self.closest = period.total_seconds() if period < MINUTE else math.inf
        if self._count:
            self._lay_down(span)

    def instants(self) -> list[datetime]:
        return [] if self._first is None else [self._first + number * self._period for number in range(self._count)]

    def overlapping(self, seconds: float) -> int:
        return max(0, self._count - 1) if self._period.total_seconds() < seconds else 0

    def _lay_down(self, span: Span) -> None:
        """Fires per minute repeat themselves after as many minutes as the period has a whole number of times."""
        if self._first is None:
            return
        last = self._first + (self._count - 1) * self._period
        begin, end = span.minute(self._first), span.minute(last)
        if self._count <= _FEW:
            _add_each(self.counts, self.instants(), span)
            return
        cycle = math.lcm(self._period // _INSTANT, MINUTE // _INSTANT) // (MINUTE // _INSTANT)
        cycle = min(cycle, max(1, end - begin))
        # The first minute and the last are looked at one by one: the span may begin or end within them.
        each_minute = [self._until(span.at(begin + 1 + n)) for n in range(cycle + 1)]
        pattern = Counter({n: after - before for n, (before, after) in enumerate(pairwise(each_minute))})
        for place, plane in enumerate(planes_of(pattern, cycle)):
            self.counts.add(repeated(plane, cycle, end - begin - 1) << begin + 1, 1 << place)
        last_minute = self._count - self._until(span.at(end)) if begin < end else 0
        self.counts.add(1 << begin, self._count if begin == end else each_minute[0])
        self.counts.add(1 << end, last_minute)

    def _until(self, instant: datetime) -> int:
        """How many are earlier."""
        return -((self._first - instant) // self._period) if self._first is not None else 0


class ShiftedSeries(Series):
    """As another, but each starts when it is told to: with jitter."""

    def __init__(self, series: Series, starts: Iterable[datetime], span: Span) -> None:
        self._series = series
        self.counts = Tally()
        _add_each(self.counts, (at for at in starts if at < span.end), span)
        self.second, self.closest = 59, series.closest

    def instants(self) -> list[datetime]:
        return self._series.instants()

    def overlapping(self, seconds: float) -> int:
        return self._series.overlapping(seconds)


def _laid_down(schedule: Schedule, span: Span, after: datetime, until: datetime) -> tuple[int, list[datetime]]:
    """Whole minutes that fire, and instants in all that is not calm: around jumps, and where the span is cut."""
    whole, alone = 0, []
    for begin, end in _calm(schedule.timezone, after, until):
        first, behind = span.minute(begin) + 1, span.minute(end + _INSTANT)
        if first < behind:
            whole |= _minutes(schedule, span, first, behind)
            alone += _listed(schedule, begin, span.at(first) - _INSTANT)
            alone += _listed(schedule, span.at(behind) - _INSTANT, end)
        else:
            alone += _listed(schedule, begin, end)
    for begin, end in _stormy(schedule.timezone, after, until):
        alone += _listed(schedule, begin, end)
    return whole, alone


def _minutes(schedule: Schedule, span: Span, first: int, behind: int) -> int:
    """Of the minutes from `first` on, before `behind`, those that fire; the zone's clock does not jump among them."""
    offset = offset_at(schedule.timezone, span.at(first))
    wall = (span.at(first) + offset).date()
    last = (span.at(behind) + offset).date()
    pattern = times_of(schedule.expression).minutes
    bits = 0
    for day in days_of(schedule.expression, wall, last):
        bits |= pattern << (day - wall).days * _DAY
    # Bit 0 is midnight of the first day, which lies before `first`.
    begin = span.minute(datetime.combine(wall, time(), tzinfo=UTC) - offset)
    bits = bits << begin if begin >= 0 else bits >> -begin
    return bits & ((1 << behind) - 1) & -(1 << first)


def _stormy(timezone: str, after: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Stretches (after, until] in which times are in a gap or a fold, or near one. They do not meet."""
    stretches: list[tuple[datetime, datetime]] = []
    for jump in jumps(timezone, after, until):
        begin, end = max(jump.begin - MINUTE, after), min(jump.end + MINUTE, until)
        if stretches and begin < stretches[-1][1]:
            begin = stretches[-1][1]
        if begin < end:
            stretches.append((begin, end))
    if offset_at(timezone, after) % MINUTE:  # local mean time: before 1972 there are clocks that differ by seconds
        return [(after, until)]
    return stretches


def _calm(timezone: str, after: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    stretches = []
    for begin, end in _stormy(timezone, after, until):
        if after < begin:
            stretches.append((after, begin))
        after = end
    return [*stretches, (after, until)] if after < until else stretches


def _listed(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    return schedule.between(after, until, limit=10**9) if after < until else []


def _add_each(counts: Tally, instants: Iterable[datetime], span: Span) -> None:
    for place, plane in enumerate(planes_of(Counter(span.minute(at) for at in instants), span.minutes)):
        counts.add(plane, 1 << place)

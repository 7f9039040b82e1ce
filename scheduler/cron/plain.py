"""A forward search through the calendar for expressions of plain numbers, which nearly all are.

croniter takes 50 to 170 µs for the next match and 100 µs more to be made; this takes 2 µs. What only a calendar can
tell (`L`, `15W`, `fri#2`) is left to croniter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

YEARS = 50  # as far as croniter looks; two leap years with 29 February on the same weekday are at most 40 apart
_SECOND = timedelta(seconds=1)
_DECEMBER = 12


@dataclass(frozen=True, slots=True)
class PlainSearch:
    """Times at which every field matches. The times of day are sorted; weekdays count from Sunday, which is 0."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Collection[int]
    months: Collection[int]
    weekdays: Collection[int]

    def next(self, wall: datetime) -> datetime | None:
        """The first match after `wall` (naive, whole seconds), or None: there is none within 50 years."""
        start = wall + _SECOND
        day = start.date()
        if self.matches(day):
            found = self._next_time(start.hour, start.minute, start.second)
            if found is not None:
                return datetime.combine(day, found)
        following = self._next_day(day)
        if following is None:
            return None
        return datetime.combine(following, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def matches(self, day: date) -> bool:
        """Whether it is one of the days."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _next_day(self, day: date) -> date | None:
        last_year = day.year + YEARS
        while day.year <= last_year:
            day = _next_month(day) if day.month not in self.months else date.fromordinal(day.toordinal() + 1)
            if self.matches(day):
                return day
        return None

    def _next_time(self, hour: int, minute: int, second: int) -> time | None:
        """The first time of the day that is not before this one."""
        at = bisect_left(self.hours, hour)
        if at < len(self.hours) and self.hours[at] == hour:
            found = self._next_in_hour(minute, second)
            if found is not None:
                return time(hour, *found)
            at += 1
        return time(self.hours[at], self.minutes[0], self.seconds[0]) if at < len(self.hours) else None

    def _next_in_hour(self, minute: int, second: int) -> tuple[int, int] | None:
        at = bisect_left(self.minutes, minute)
        if at < len(self.minutes) and self.minutes[at] == minute:
            later = bisect_left(self.seconds, second)
            if later < len(self.seconds):
                return minute, self.seconds[later]
            at += 1
        return (self.minutes[at], self.seconds[0]) if at < len(self.minutes) else None


def _next_month(day: date) -> date:
    return date(day.year + 1, 1, 1) if day.month == _DECEMBER else date(day.year, day.month + 1, 1)

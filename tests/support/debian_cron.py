"""Debian's cron, told again from its source (cron.c and entry.c of 3.0pl1-162), as slow and as plain as that.

It wakes once a minute and compares the wall clock with a virtual one: ahead by more than a minute, the clock jumped
forward; behind, it fell back. Nothing here is shared with scheduler.cron.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = dict(zip(_MONTHS, range(1, 13), strict=True)) | dict(zip(_WEEKDAYS, range(7), strict=True))
_HOURS = 60  # minutes
_EPOCH = date(1970, 1, 1).toordinal()


def fires(expression: str, zone: str, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The first `count` instants up to `until` at which cron, running since `after`, starts the command."""
    line = _Line(_ALIASES.get(expression, expression))
    minute = int(after.timestamp()) // 60
    virtual = minute + _offset(zone, minute // 15)
    found: list[datetime] = []
    while len(found) < count and minute < int(until.timestamp()) // 60:
        minute += 1
        now = minute + _offset(zone, minute // 15)
        if now - virtual == 1:
            due = line.matches(now)
            virtual = now
        elif 1 < now - virtual <= 3 * _HOURS:
            missed = range(virtual + 1, now + 1)
            due = line.matches(now) if line.is_wildcard else any(line.matches(each) for each in missed)
            virtual = now
        elif -3 * _HOURS < now - virtual <= 0:
            due = line.is_wildcard and line.matches(now)
        else:
            due = line.matches(now)
            virtual = now
        if due:
            found.append(datetime.fromtimestamp(minute * 60, UTC))
    return found


class _Line:
    def __init__(self, expression: str) -> None:
        fields = expression.split()
        values = [_values(text, *bounds) for text, bounds in zip(fields, _BOUNDS, strict=True)]
        self._minutes, self._hours, self._days, self._months, self._weekdays = values
        self._both_days = fields[2].startswith("*") or fields[4].startswith("*")
        self.is_wildcard = fields[0].startswith("*") or fields[1].startswith("*")

    def matches(self, minute: int) -> bool:
        """Whether the wall clock that shows so many minutes since 1970 is one of the line's times."""
        if minute % 60 not in self._minutes or minute // 60 % 24 not in self._hours:
            return False
        day = date.fromordinal(_EPOCH + minute // (24 * 60))
        of_month, of_week = day.day in self._days, bool({day.isoweekday(), day.isoweekday() % 7} & self._weekdays)
        return day.month in self._months and ((of_month and of_week) if self._both_days else (of_month or of_week))


def _values(text: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for item in text.split(","):
        bounds, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if bounds == "*" else bounds).partition("-")
        values |= set(range(_number(first), _number(last or first) + 1, int(step or 1)))
    return values


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NAMES[text.lower()]


@lru_cache(maxsize=100_000)
def _offset(zone: str, quarter: int) -> int:
    """Minutes ahead of UTC. Clocks have not jumped within a quarter of an hour since 1970, whatever the zone."""
    offset = datetime.fromtimestamp(quarter * 900, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    return (offset or timedelta()) // timedelta(minutes=1)

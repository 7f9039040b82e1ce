"""Five or six cron fields, and the wall-clock times they name. No zone is known here: every time is naive.

Expressions of plain numbers are searched by our own code (see plain), the others by croniter. What croniter has wrong
is taken from it: it never sees ranges or steps (see fields), and the rule for the two day fields is ours. It lets `#`
and `W` narrow the other day field, where cron means either of the two, and reads `*/2 … mon` as either, where cron
means both.
"""

from __future__ import annotations  # croniter is generic in its stubs only

from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import product

from croniter import croniter

from scheduler.cron import fields
from scheduler.cron.fields import Field, Values, read_field
from scheduler.cron.plain import PlainSearch
from scheduler.cron.wording import shown
from scheduler.errors import ScheduleError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_FIVE = (fields.MINUTE, fields.HOUR, fields.DAY_OF_MONTH, fields.MONTH, fields.DAY_OF_WEEK)
_SIX = (fields.SECOND, *_FIVE)
# Where a search begins when the question is only whether there is any match within croniter's 50 years.
_SOME_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  wall-clock times are naive


@dataclass(frozen=True, slots=True)
class CronExpression:
    """The union of some searches; `wildcard` if the minute or the hour begins with `*`, which decides over DST."""

    wildcard: bool
    searches: tuple[PlainSearch | croniter[datetime], ...]

    def next_wall(self, wall: datetime) -> datetime | None:
        """The first wall-clock time after `wall` (naive, whole seconds), or None: no match within 50 years."""
        found = [match for search in self.searches if (match := _search(search, wall)) is not None]
        return min(found, default=None)


@lru_cache(maxsize=16_384)  # with 10,800 expressions, this and what else remembers them took 32 MB
def read_expression(text: str) -> CronExpression:
    """Five fields, six with the seconds first, or an alias such as `@daily`. Raises ScheduleError."""
    texts = ALIASES.get(text.lower(), text).split()
    columns = {5: _FIVE, 6: _SIX}.get(len(texts))
    if columns is None:
        raise ScheduleError(
            f"a cron expression has 5 fields, or 6 with seconds first, not {len(texts)}",
            hint="minute hour day-of-month month day-of-week, like 30 3 * * mon-fri",
        )
    values = {column: read_field(column, part) for column, part in zip(columns, texts, strict=True)}
    searches = tuple(search for search in _searches(values) if _search(search, _SOME_TIME) is not None)
    if not searches:
        raise ScheduleError(
            f"it would never fire: no day is day-of-month {shown(texts[-3])}, month {shown(texts[-2])}"
            f" and day-of-week {shown(texts[-1])}",
            hint="29 is the last day of February, 30 of April, June, September and November",
        )
    return CronExpression(values[fields.MINUTE].starred or values[fields.HOUR].starred, searches)


def _searches(values: dict[Field, Values]) -> list[PlainSearch | croniter[datetime]]:
    days, weekdays = values[fields.DAY_OF_MONTH], values[fields.DAY_OF_WEEK]
    if not days.calendar_days and not weekdays.calendar_days:
        return _plain_searches(values, days, weekdays)
    times = [_plain(values[column]) for column in (fields.SECOND, fields.MINUTE, fields.HOUR) if column in values]
    month = _plain(values[fields.MONTH])
    return [
        croniter(
            " ".join([*times, day, month, weekday]),
            _SOME_TIME,
            ret_type=datetime,
            day_or=False,
            second_at_beginning=True,
        )
        for day, weekday in _day_pairs(days, weekdays)
    ]


def _plain_searches(
    values: dict[Field, Values], days: Values, weekdays: Values
) -> list[PlainSearch | croniter[datetime]]:
    second = values.get(fields.SECOND)
    every_day, every_weekday = frozenset(range(1, 32)), frozenset(range(7))
    pairs = [(days.numbers, weekdays.numbers)]
    if not (days.starred or weekdays.starred):  # as in _day_pairs
        pairs = [(days.numbers, every_weekday), (every_day, weekdays.numbers)]
    return [
        PlainSearch(
            tuple(sorted(second.numbers)) if second else (0,),
            tuple(sorted(values[fields.MINUTE].numbers)),
            tuple(sorted(values[fields.HOUR].numbers)),
            day,
            values[fields.MONTH].numbers,
            weekday,
        )
        for day, weekday in pairs
    ]


def _day_pairs(days: Values, weekdays: Values) -> list[tuple[str, str]]:
    """Vixie cron's rule: either day field may match, unless one of them begins with `*`: then both must."""
    if days.starred or weekdays.starred:
        return list(product(_day_parts(days), _weekday_parts(weekdays)))
    return [*product(_day_parts(days), ["*"]), *product(["*"], _weekday_parts(weekdays))]


def _day_parts(days: Values) -> list[str]:
    """Plain days are one search, each `W` and `L` another: croniter takes `W` only alone, and 2-31,L for every day."""
    if days.whole:
        return ["*"]
    return [*([_plain(days)] if days.numbers else []), *days.calendar_days]


def _weekday_parts(weekdays: Values) -> list[str]:
    """Plain weekdays and those with `#` or `L` are a search each: croniter refuses to mix them."""
    if weekdays.whole:
        return ["*"]
    listed = [_plain(weekdays)] if weekdays.numbers else []
    return [*listed, ",".join(weekdays.calendar_days)] if weekdays.calendar_days else listed


def _plain(values: Values) -> str:
    return "*" if values.whole else ",".join(map(str, sorted(values.numbers)))


def _search(search: PlainSearch | croniter[datetime], wall: datetime) -> datetime | None:
    try:
        if isinstance(search, PlainSearch):
            return search.next(wall)
        # A croniter remembers where it is; a shallow copy keeps the parsed fields shared and the position private.
        return copy(search).get_next(datetime, wall)
    except (ValueError, OverflowError):  # nothing within 50 years, or past the year 9999
        return None

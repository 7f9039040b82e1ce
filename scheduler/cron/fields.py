"""One field of a cron expression, such as `*/15` or `mon-fri`, and the values it allows.

croniter reads fields too, but in ways that would surprise: `5-5` is the whole field to it, `22-2` wraps around, and its
errors show its internals. So the fields are read here, and croniter is given plain lists of numbers only.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from scheduler.cron.wording import shown
from scheduler.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a cron expression: its name, its lowest and highest value, and the words that stand for values."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()  # words[i] is the value low + i


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY_OF_MONTH = Field("day-of-month", 1, 31)
MONTH = Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
DAY_OF_WEEK = Field("day-of-week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))


@dataclass(frozen=True, slots=True)
class Values:
    """What a field allows: plain numbers, and days that only a calendar can tell (in croniter's spelling)."""

    numbers: frozenset[int]
    calendar_days: tuple[str, ...]  # day-of-month: l, 15w; day-of-week: 1#2, l5
    starred: bool  # the text begins with `*`: what cron's day rule and its wildcard rule ask about
    whole: bool  # every value of the field is allowed


_ITEM = re.compile(r"(?P<start>\*|\w+)(?:-(?P<end>\w+))?(?:/(?P<step>\w+))?", re.ASCII)
_HASHED = re.compile(r"[hr](\(.*\))?(/.*)?", re.ASCII)
_NEAREST_WEEKDAY = re.compile(r"(\d+|l)w", re.ASCII)
_NTH_WEEKDAY = re.compile(r"(?P<day>\w+)#(?P<nth>\w+)", re.ASCII)
_LAST_WEEKDAY = re.compile(r"l(?P<after>[0-7])|(?P<before>[0-7]|[a-z]{3})l", re.ASCII)
_SUNDAY_AGAIN = 7
_MAX_NTH = 5
_SHORTEST_MONTH = 28


def read_field(field: Field, text: str) -> Values:
    """The values that `text` allows in `field`. Raises ScheduleError, naming the field and the item that is wrong."""
    text = "*" if text == "?" else text.lower()
    numbers: set[int] = set()
    calendar_days: list[str] = []
    for item in text.split(","):
        calendar_day = _calendar_day(field, item)
        if calendar_day is None:
            numbers.update(_numbers(field, item))
        else:
            calendar_days.append(calendar_day)
    whole = len(numbers) == field.high - field.low + 1
    return Values(frozenset(numbers), tuple(dict.fromkeys(calendar_days)), text.startswith("*"), whole)


def _calendar_day(field: Field, item: str) -> str | None:
    if field is DAY_OF_MONTH:
        return _day_by_its_month(item)
    if field is DAY_OF_WEEK:
        return _weekday_by_its_month(item)
    return None


def _day_by_its_month(item: str) -> str | None:
    """`L`, the last day; `15W`, the weekday nearest to the 15th; `LW`, the last weekday."""
    if item == "l":
        return "l"
    nearest = _NEAREST_WEEKDAY.fullmatch(item)
    if nearest is None:
        return None
    if nearest[1] == "l":
        return "31w"  # croniter takes a day past the end of a month for the last one
    day = _value(DAY_OF_MONTH, item, nearest[1])
    if day > _SHORTEST_MONTH:
        _refuse(DAY_OF_MONTH, item, "not every month has that day", "1W to 28W, or LW for the last weekday")
    return f"{day}w"


def _weekday_by_its_month(item: str) -> str | None:
    """`fri#2`, the second Friday; `L5` and `5L`, the last one."""
    last = _LAST_WEEKDAY.fullmatch(item)
    if last is not None:
        return f"l{_value(DAY_OF_WEEK, item, last['after'] or last['before']) % 7}"
    if "#" not in item:
        return None
    nth = _NTH_WEEKDAY.fullmatch(item)
    if nth is None or not nth["nth"].isdigit() or not 1 <= int(nth["nth"]) <= _MAX_NTH:
        _refuse(DAY_OF_WEEK, item, "is not the nth weekday of a month", "write it like fri#2, with 1 to 5 after the #")
    return f"{_value(DAY_OF_WEEK, item, nth['day']) % 7}#{int(nth['nth'])}"


def _numbers(field: Field, item: str) -> set[int]:
    match = _ITEM.fullmatch(item)
    if match is None or (match["start"] == "*" and match["end"]):
        _refuse_item(field, item)
    step = _step(field, item, match["step"])
    if match["start"] == "*":
        return set(range(field.low, field.high + 1, step))
    first = _value(field, item, match["start"])
    if match["end"]:
        last = _range_end(field, item, first, match["end"])
    else:
        last = max(first, field.high) if match["step"] else first
    numbers = range(first, last + 1, step)
    return {number % 7 for number in numbers} if field is DAY_OF_WEEK else set(numbers)


def _range_end(field: Field, item: str, first: int, text: str) -> int:
    last = _value(field, item, text)
    if text == "sun" and first > last:
        last = _SUNDAY_AGAIN  # sat-sun: the week's last day this time
    if first > last:
        _refuse(
            field,
            item,
            f"the range runs backwards, from {first} to {last}",
            f"write {first}-{field.high},{field.low}-{last} to go around",
        )
    return last


def _step(field: Field, item: str, text: str | None) -> int:
    if text is None:
        return 1
    if not text.isdigit() or int(text) == 0:
        _refuse(field, item, f"the step {shown(text)} is not a number above 0", "write it like */5")
    return int(text)


def _value(field: Field, item: str, text: str) -> int:
    if text in field.words:
        return field.low + field.words.index(text)
    if not text.isdigit():
        _refuse_item(field, item)
    number = int(text)
    if not field.low <= number <= _highest(field):
        _refuse(field, item, f"{text[:20]} is out of range", _allowed(field))
    return number


def _refuse_item(field: Field, item: str) -> NoReturn:
    if not item:
        _refuse(field, item, "a list has an empty item", _allowed(field))
    if _HASHED.fullmatch(item) or "~" in item:
        _refuse(field, item, "hashed and random values are not supported", "a fixed value, and jitter to spread runs")
    if "?" in item:
        _refuse(field, item, "`?` stands alone", "write ? or *")
    _refuse(field, item, "is not a value, a range, a step or a list of them", _allowed(field))


def _highest(field: Field) -> int:
    return _SUNDAY_AGAIN if field is DAY_OF_WEEK else field.high


def _allowed(field: Field) -> str:
    examples = f"allowed: {field.low}-{_highest(field)}"
    return f"{examples} or {field.words[0]}-{field.words[-1]}" if field.words else examples


def _refuse(field: Field, item: str, problem: str, hint: str) -> NoReturn:
    raise ScheduleError(f"{field.name} field, at {shown(item)}: {problem}", hint=hint)

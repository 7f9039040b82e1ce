"""Durations as Go writes them: `1h30m10s`, `500ms`, `1.5h`, and `2d` for days of 24 hours."""

import re
from datetime import timedelta
from fractions import Fraction

from scheduler.cron.wording import shown
from scheduler.errors import ScheduleError

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", re.ASCII)
_EXAMPLE = "write it like 1h30m10s, 500ms, 1.5h or 2d"
_MAX_CHARACTERS = 100
# timedelta reaches 2.7 million years, but an instant that far does not exist: what could never come due is refused.
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """A positive duration of whole microseconds, at most 36,500 days. Raises ScheduleError."""
    if not isinstance(text, str) or not text.strip():
        raise ScheduleError("a duration is empty", hint=_EXAMPLE)
    if len(text) > _MAX_CHARACTERS:
        raise ScheduleError(f"a duration of {len(text)} characters is too long", hint=_EXAMPLE)
    total = _total_microseconds(text.strip())
    if total <= 0:
        raise ScheduleError(f"duration {shown(text)} must be longer than nothing", hint=_EXAMPLE)
    if total.denominator != 1:
        raise ScheduleError(f"duration {shown(text)} is finer than a microsecond", hint=_EXAMPLE)
    if total > _LONGEST // timedelta(microseconds=1):
        raise ScheduleError(f"duration {shown(text)} is too long", hint="at most 36500d")
    return timedelta(microseconds=int(total))


def _total_microseconds(text: str) -> Fraction:
    if text.startswith(("-", "+")):
        raise ScheduleError(f"duration {shown(text)} has a sign; durations are positive", hint=_EXAMPLE)
    total, position = Fraction(0), 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ScheduleError(f"duration {shown(text)} has no number at {shown(text[position:])}", hint=_EXAMPLE)
        number, unit = part.groups()
        if unit not in _MICROSECONDS:
            problem = f"an unknown unit {shown(unit)}" if unit else "no unit"
            raise ScheduleError(f"duration {shown(text)} has {problem} after {number}", hint="units: us ms s m h d")
        total += Fraction(number) * _MICROSECONDS[unit]
        position = part.end()
    return total

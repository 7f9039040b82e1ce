"""The time of a line: five fields or an alias, checked to mean to cron what it means here.

Walclock's schedules know more than cron's (`L`, `#`, `5/20`, `@every`), and cron skips what it does not know: to it
`5.3` is 5. What the two would read differently is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scheduler.cron.expression import ALIASES
from scheduler.cron.wording import shown
from scheduler.errors import ScheduleError

FIELDS = 5
_ITEM = re.compile(r"\*(/\d+)?|(\d+|[a-z]{3})(-(\d+|[a-z]{3})(/\d+)?)?", re.ASCII | re.IGNORECASE)
_TO_SUNDAY = re.compile(r"(?!(?:sun|0+)-)\w+-sun\b", re.ASCII | re.IGNORECASE)
_BLANK = re.compile(r"[ \t]+")
_HOW = "values, ranges like 1-5, and steps of * or of a range like 0-30/10, with commas between"


@dataclass(frozen=True, slots=True)
class Timed:
    """A line split: when, and the rest of it."""

    schedule: str
    rest: str


def read_time(line: str) -> Timed:
    """The time of a line without leading blanks. ScheduleError for what cron does not know, or reads differently."""
    if line.startswith("@"):
        return _read_alias(line)
    parts = _BLANK.split(line, maxsplit=FIELDS)
    fields = parts[:FIELDS]
    if len(fields) < FIELDS or not fields[-1]:
        raise ScheduleError(
            f"{shown(line)} is no job: five time fields and a command are needed", hint="or a setting, NAME=value"
        )
    for field in fields:
        _check_field(field)
    if _TO_SUNDAY.search(fields[-1]):
        raise ScheduleError(
            f"day-of-week {shown(fields[-1])} runs backwards to cron, where sun is 0", hint="write 7: like sat-7"
        )
    return Timed(" ".join(fields), parts[FIELDS] if len(parts) > FIELDS else "")


def _read_alias(line: str) -> Timed:
    alias, *rest = _BLANK.split(line, maxsplit=1)
    if alias == "@reboot":
        raise ScheduleError(
            "@reboot names no instant, and with several servers there is no one reboot",
            hint="start it from the machine's own start-up, such as a systemd unit",
        )
    if alias not in ALIASES:  # cron knows them in lower case only
        raise ScheduleError(f"{shown(alias)} is unknown to cron", hint=" ".join(ALIASES))
    return Timed(alias, rest[0] if rest else "")


def _check_field(field: str) -> None:
    for item in field.split(","):
        if "~" in item:
            raise ScheduleError(
                f"{shown(item)} is a random time, drawn anew whenever cron starts", hint="a fixed time, and jitter"
            )
        if _ITEM.fullmatch(item) is None:
            raise ScheduleError(f"{shown(item)} is not a time that every cron reads alike", hint=_HOW)

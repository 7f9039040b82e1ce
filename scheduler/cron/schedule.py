"""A schedule: an expression, a zone, and what to do when that zone's clock jumps."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from scheduler.cron.duration import parse_duration
from scheduler.cron.expression import ALIASES, read_expression
from scheduler.cron.wallclock import DstFold, DstGap, next_instant
from scheduler.cron.wording import shown
from scheduler.errors import InvalidError, ScheduleError

_Rule = TypeVar("_Rule", DstGap, DstFold)
_GAP_RULES: dict[str, DstGap] = {"after": "after", "skip": "skip"}
_FOLD_RULES: dict[str, DstFold] = {"first": "first", "second": "second", "both": "both"}
# The longest honest expression lists every second, minute and hour: some 420 characters.
_MAX_CHARACTERS = 1_000
_ZONE_PREFIX = re.compile(r"(?:CRON_)?TZ=(\S*)\s*(.*)")
_PERIODIC = re.compile(r"@(every|after)\b\s*(.*)", re.IGNORECASE)
# A worker's own timer is late by about a millisecond: a rate much above 100 a second is a loop, not a schedule.
_SHORTEST_RATE = timedelta(milliseconds=10)


@dataclass(frozen=True)
class Schedule:
    """When a job is due. Made by `parse`; hashable, and equal when all that was asked for is equal.

    `cron`: wall-clock times in `timezone`; `dst_gap` and `dst_fold` apply to fixed-time ones only (see wallclock).
    `every`: a fixed rate, anchor + k * period for k >= 1, in elapsed time whatever the zone.
    `after`: a fixed delay from the end of the previous run; it has no instants of its own.
    """

    expression: str
    timezone: str
    dst_gap: DstGap
    dst_fold: DstFold
    kind: Literal["cron", "every", "after"]
    period: timedelta | None

    def next(self, after: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The first instant strictly later than `after`, aware and in UTC; None if none is left before the year 10000.

        `every` needs its `anchor`. For `after`, give the end of the previous run: the answer is that plus the delay.
        Raises InvalidError for a naive datetime, ScheduleError for a missing anchor.
        """
        after = _in_utc(after)
        if self.period is None:
            return _next_of_cron(self, after)
        try:
            if self.kind == "after":
                return after + self.period
            if anchor is None:
                raise ScheduleError(f"{self.expression} needs an anchor", hint="the instant its period counts from")
            anchor = _in_utc(anchor)
            return anchor + max(1, (after - anchor) // self.period + 1) * self.period
        except OverflowError:  # past the year 9999
            return None

    def between(
        self, after: datetime, until: datetime, *, anchor: datetime | None = None, limit: int
    ) -> list[datetime]:
        """The instants in (after, until], at most the first `limit`. For `after`, as if each run took no time."""
        until = _in_utc(until)
        instants: list[datetime] = []
        instant = self.next(after, anchor=anchor)
        while instant is not None and instant <= until and len(instants) < limit:
            instants.append(instant)
            instant = self.next(instant, anchor=anchor)
        return instants


def parse(expression: str, timezone: str = "UTC", *, dst_gap: str = "after", dst_fold: str = "first") -> Schedule:
    """Cron fields, an alias, `@every D` or `@after D`, each with an optional `CRON_TZ=Zone ` in front, which wins.

    Raises ScheduleError with one line: what is wrong, where, and what would be right.
    """
    text = _checked(expression)
    prefix = _ZONE_PREFIX.fullmatch(text)
    if prefix is not None:
        timezone, text = prefix[1], prefix[2]
    try:
        zone = _zone(timezone)
        kind, period, normal = _read(text)
    except ScheduleError as error:
        raise ScheduleError(f"schedule {shown(expression)}: {error.args[0]}", hint=error.hint) from None
    return Schedule(
        normal, zone.key, _rule("dst_gap", dst_gap, _GAP_RULES), _rule("dst_fold", dst_fold, _FOLD_RULES), kind, period
    )


@lru_cache(maxsize=16_384)  # 15 µs, with croniter 50 to 170; jobs that share a schedule ask for the same instants
def _next_of_cron(schedule: Schedule, after: datetime) -> datetime | None:
    return next_instant(
        read_expression(schedule.expression),
        ZoneInfo(schedule.timezone),
        after,
        dst_gap=schedule.dst_gap,
        dst_fold=schedule.dst_fold,
    )


def _checked(expression: str) -> str:
    """The expression, fit to be looked at closer: before any pattern sees it, so that 10 MB cost nothing."""
    if not isinstance(expression, str):
        raise ScheduleError(f"a schedule is text, not {type(expression).__name__}", hint="like '0 3 * * *'")
    if len(expression) > _MAX_CHARACTERS:
        raise ScheduleError(f"a schedule of {len(expression)} characters", hint=f"at most {_MAX_CHARACTERS}")
    text = expression.strip(" \t\r\n")
    if not text:
        raise ScheduleError("the schedule is empty", hint="like '0 3 * * *', @daily or @every 1h30m")
    for position, character in enumerate(text.replace("\t", " "), start=1):
        if not (character.isascii() and character.isprintable()):
            raise ScheduleError(
                f"schedule {shown(text)}: character {position} is {character!a}", hint="plain printable ASCII only"
            )
    return text


def _read(text: str) -> tuple[Literal["cron", "every", "after"], timedelta | None, str]:
    """The kind, the period and the normal spelling of a schedule without its zone prefix."""
    periodic = _PERIODIC.fullmatch(text)
    if periodic is not None:
        period = parse_duration(periodic[2])
        if periodic[1].lower() == "after":
            return "after", period, f"@after {periodic[2]}"
        if period < _SHORTEST_RATE:
            raise ScheduleError(f"a period of {shown(periodic[2])} is too short", hint="at least 10ms")
        return "every", period, f"@every {periodic[2]}"
    if text.startswith("@") and text.lower() not in ALIASES:
        _refuse_alias(text)
    normal = text.lower() if text.startswith("@") else " ".join(text.split())
    read_expression(normal)
    return "cron", None, normal


def _refuse_alias(text: str) -> None:
    if text.lower() == "@reboot":
        raise ScheduleError(
            "@reboot names no instant, and with several servers there is no one reboot",
            hint="enqueue the run from the machine's own start-up",
        )
    raise ScheduleError(f"{shown(text)} is unknown", hint=f"{' '.join(ALIASES)} @every 1h30m @after 30s")


def _rule(setting: str, text: str, rules: dict[str, _Rule]) -> _Rule:
    rule = rules.get(str(text))
    if rule is None:
        raise ScheduleError(f"{setting} {shown(str(text))} is unknown", hint=f"one of {', '.join(rules)}")
    return rule


def _zone(name: str) -> ZoneInfo:
    # ZoneInfo("America") and ZoneInfo("../x") fail in four different ways; asking the list first leaves one.
    known = _known_zones()
    if not isinstance(name, str) or name not in known:
        near = get_close_matches(str(name)[:40], known, n=1)
        raise ScheduleError(
            f"time zone {shown(str(name))} is unknown",
            hint=f"did you mean {near[0]}?" if near else "an IANA name, like Europe/Paris",
        )
    return ZoneInfo(name)


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())  # 70 ms: it opens some 600 files


def _in_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise InvalidError(f"{instant.isoformat()} has no time zone", hint="give an aware datetime, such as one in UTC")
    return instant.astimezone(UTC)

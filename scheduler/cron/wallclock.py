"""From wall-clock times to instants: what a schedule means in a zone whose clock jumps.

A *gap* is wall-clock time that never comes (New York, 8 March 2026, 02:00 to 03:00); a *fold* comes twice (1 November
2026, 01:00 to 02:00). Two kinds of schedule, told apart as Debian's cron does:

- **Wildcard** schedules, whose minute or hour begins with `*`, follow elapsed time: they fire at every instant at which
  the wall clock reads a match, so `*/30` stays half an hour apart in both directions, `* * * * *` never pauses for the
  hour of a fold, and nothing is made up for a gap. The choices below say nothing to them.
- **Fixed-time** schedules mean a moment of somebody's day. In a gap they fire once, at the first instant after it
  (`after`, however many matches the gap swallowed), or not at all (`skip`). In a fold they fire on the `first` pass,
  on the `second`, or on `both`.

The search is by *pass*: reading every ambiguous time on its first pass only, or on its second only, makes instants rise
with the wall clock, so each pass is one forward search, and `both` is the earlier of two.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from scheduler.cron.expression import CronExpression

DstGap = Literal["after", "skip"]
DstFold = Literal["first", "second", "both"]

_SECOND = timedelta(seconds=1)
_PASSES: dict[DstFold, tuple[int, ...]] = {"first": (0,), "second": (1,), "both": (0, 1)}


def next_instant(
    cron: CronExpression, zone: ZoneInfo, after: datetime, *, dst_gap: DstGap, dst_fold: DstFold
) -> datetime | None:
    """The first instant of `cron` strictly later than `after` (aware, UTC), or None if none is left."""
    run_after_gap = dst_gap == "after" and not cron.wildcard
    passes = (0, 1) if cron.wildcard else _PASSES[dst_fold]
    try:
        wall = after.astimezone(zone).replace(tzinfo=None, fold=0, microsecond=0)
        if len(passes) > 1 and not _is_ambiguous(wall, zone):
            passes = (0,)  # outside a fold the second pass of anything cannot come before its first
        found = [_next_in_pass(cron, zone, after, wall, number, run_after_gap=run_after_gap) for number in passes]
    except OverflowError:  # past the year 9999
        return None
    return min((instant for instant in found if instant is not None), default=None)


def _next_in_pass(
    cron: CronExpression, zone: ZoneInfo, after: datetime, wall: datetime, number: int, *, run_after_gap: bool
) -> datetime | None:
    """The first instant later than `after`, reading every ambiguous time on pass `number` (0 or 1) only."""
    match = cron.next_wall(_start_of_search(zone, after, wall, number))
    while match is not None:
        before, later = _offsets(match, zone)
        if before < later:
            jump = _jump(match, zone)
            if run_after_gap:
                return jump
            match = cron.next_wall(_wall(jump + later) - _SECOND)
            continue
        instant = _utc(match) - (before, later)[number]
        if instant > after:
            return instant
        match = cron.next_wall(match)
    return None


def _start_of_search(zone: ZoneInfo, after: datetime, wall: datetime, number: int) -> datetime:
    """The wall-clock time past which pass `number` is still to come, for an `after` that may lie inside a fold."""
    if not _is_ambiguous(wall, zone):
        return wall
    before, later = _offsets(wall, zone)
    jump = _jump(wall, zone)
    if number == 0 and after >= jump:  # over; walking through the fold would be up to 3,600 searches
        return _wall(jump + before) - _SECOND
    if number == 1 and after < jump:  # the second pass begins again where the fold does
        return _wall(jump + later) - _SECOND
    return wall


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The UTC offsets of `wall` on both passes: equal, or falling in a fold, or rising in a gap (PEP 495)."""
    aware = wall.replace(tzinfo=zone)
    return _utc(wall) - aware, _utc(wall) - aware.replace(fold=1)


def _is_ambiguous(wall: datetime, zone: ZoneInfo) -> bool:
    before, later = _offsets(wall, zone)
    return before > later


def _jump(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clock jumps, for a `wall` inside the gap or the fold of that jump."""
    low, high = sorted(_utc(wall) - offset for offset in _offsets(wall, zone))
    offset_after = high.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == offset_after:
            high = middle
        else:
            low = middle
    return high


def _utc(wall: datetime) -> datetime:
    return wall.replace(tzinfo=UTC)


def _wall(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)

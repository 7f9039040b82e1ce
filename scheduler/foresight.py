"""When a job is due next, computed from its definition: what the planner will do, said before it does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.cron import Schedule, parse
from scheduler.errors import ScheduleError, SchedulerError

Row = dict[str, Any]
_INSTANT = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


def imagined(schedule: str, timezone: str, dst_gap: str, dst_fold: str, *, now: datetime) -> Row:
    """A row like those of `watch.jobs`, of a schedule that belongs to no job. ScheduleError for a bad one."""
    parse(schedule, timezone, dst_gap=dst_gap, dst_fold=dst_fold)
    return {
        "schedule": schedule,
        "timezone": timezone,
        "dst_gap": dst_gap,
        "dst_fold": dst_fold,
        "starts_at": None,
        "ends_at": None,
        "anchor_at": None,
        "undecided_at": None,
        "planned_at": None,
        "now": now,
    }


def parsed(row: Row) -> Schedule:
    """The schedule of a row. A bad one is no fault of who looks at it: SchedulerError, not ScheduleError."""
    try:
        return parse(row["schedule"], row["timezone"], dst_gap=row["dst_gap"], dst_fold=row["dst_fold"])
    except ScheduleError as error:
        raise SchedulerError(error.args[0], hint=error.hint) from error


def instants(row: Row, *, count: int, after: datetime | None = None) -> list[datetime]:
    """The first `count` instants later than `after` (default: now) within the job's bounds; none without a schedule."""
    if row["schedule"] is None:
        return []
    start, until = after or row["now"], _bound(row["ends_at"], _LAST)
    if isinstance(row["starts_at"], datetime):
        start = max(start, row["starts_at"] - _INSTANT)
    return parsed(row).between(start, until, anchor=_bound(row["anchor_at"], start), limit=count)


def foreseen(row: Row) -> Row:
    """The row with its `state` (active or paused), its `next_at`, and the `error` of a bad schedule."""
    shown = {key: value for key, value in row.items() if key not in {"undecided_at", "planned_at", "anchor_at", "now"}}
    shown["state"] = "paused" if row["paused_at"] or row["app_paused_at"] else "active"
    shown["next_at"] = None
    if row["schedule"] is not None:
        try:
            shown["next_at"] = _next(row) if shown["state"] == "active" else None
            parsed(row)
        except SchedulerError as error:
            shown["error"] = row["error"] or str(error)
    return shown


def _next(row: Row) -> datetime | None:
    if parsed(row).kind == "after":  # known once its previous run has ended
        return next((at for at in (row["planned_at"], row["undecided_at"]) if isinstance(at, datetime)), None)
    return next(iter(instants(row, count=1)), None)


def _bound(value: datetime | str | None, otherwise: datetime) -> datetime:
    return value if isinstance(value, datetime) else otherwise

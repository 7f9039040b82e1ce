"""What is only supposed: a schedule that a job does not have yet, as if somebody had written it just now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduler.cron import parse
from scheduler.errors import InvalidError, NotFoundError

Row = dict[str, Any]

_NEW: Row = {
    "timezone": "UTC",
    "executor": "",
    "queue": "default",
    "overlap": "skip",
    "misfire": "one",
    "misfire_limit": 100,
    "misfire_grace": 86_400.0,
    "dst_gap": "after",
    "dst_fold": "first",
    "jitter": 0.0,
    "starts_at": None,
    "ends_at": None,
    "is_paused": False,
    "limited": False,
    "concurrency_limit": None,
    "rate_limit": None,
    "rate_interval": None,
    "durations": [],
}


@dataclass(frozen=True, slots=True)
class Change:
    """The job gets this schedule; None: it is removed. A job that is not there is added, with the defaults."""

    app: str
    job: str
    schedule: str | None


def changed(rows: Sequence[Row], changes: Sequence[Change], now: datetime) -> list[Row]:
    """The rows with the changes made. ScheduleError for a bad schedule, in the job's own zone."""
    by_name = {(row["app"], row["name"]): row for row in rows}
    for one in changes:
        row = by_name.pop((one.app, one.job), None)
        if one.schedule is None:
            continue
        row = {"app": one.app, "name": one.job, **_NEW} if row is None else row
        parse(one.schedule, row["timezone"], dst_gap=row["dst_gap"], dst_fold=row["dst_fold"])
        by_name[one.app, one.job] = row | {
            "schedule": one.schedule,
            # As the database does it: the planner starts afresh from now, and @every counts from now.
            "is_new": True,
            "next_at": None,
            "awaits": False,
            "awaited_at": None,
            "is_pulse": False,
            "after_at": now,
            "anchor_at": row["starts_at"] or now,
            "now": now,
        }
    return list(by_name.values())


def ensure_known(rows: Sequence[Row], changes: Sequence[Change], apps: Sequence[str] | None) -> None:
    """NotFoundError for a job to be removed that is not there, and for an app that was asked for by name and has no
    jobs. InvalidError for a change in none of these apps. `apps` None: all of them are meant.
    """
    known = {(row["app"], row["name"]) for row in rows}
    for one in changes:
        if apps is not None and one.app not in apps:
            raise InvalidError(f"{one.app}/{one.job}: app {one.app} is not among those that are asked for")
        if one.schedule is None and (one.app, one.job) not in known:
            raise NotFoundError(f"there is no job {one.job} of app {one.app} to be removed")
    with_jobs = {app for app, _ in known} | {one.app for one in changes}
    for app in apps or ():
        if app not in with_jobs:
            raise NotFoundError(f"app {app!r} has no jobs")

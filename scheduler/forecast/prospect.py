"""What is to come of one job: its instants as the planner will find them, and how long its runs should take.

on demand, paused, a schedule that cannot be followed, one that is over ─▶ nothing, and why
instants that passed unplanned ─▶ `scheduler.plan` itself decides them: `late`, to start at once
those later than now           ─▶ a Series, shared by all jobs with the same schedule and bounds
@after                         ─▶ estimated: its delay, counted from the ends that are expected
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Literal

from scheduler.cron import Schedule
from scheduler.errors import ScheduleError
from scheduler.forecast.minutes import Span
from scheduler.forecast.series import CronSeries, PeriodicSeries, Series, ShiftedSeries
from scheduler.plan import jitter, parse_once, plan
from scheduler.store.duty import DueJobs

Row = dict[str, Any]
Quiet = Literal["on demand", "paused", "invalid", "over"]

_INSTANT = timedelta(microseconds=1)
JITTERED = 1_000_000
"""Instants whose jitter is computed, 7 µs each, in one forecast; jobs beyond them count at their instants."""
P95 = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """`series`: later than now. `late`: instants that passed, whose runs start now. `median` and `p95`: seconds that
    its runs took lately, None: nobody knows. `quiet`: why nothing is to come.
    """

    row: Row
    series: Series | None = None
    late: tuple[datetime, ...] = ()
    median: float | None = None
    p95: float | None = None
    quiet: Quiet | None = None
    error: str | None = None
    is_estimated: bool = False
    is_unjittered: bool = False

    @property
    def fires(self) -> int:
        return len(self.late) + (self.series.fires if self.series else 0)

    def at(self, minute: int) -> int:
        """How many start in a minute."""
        return (self.series.counts.at(minute) if self.series else 0) + (len(self.late) if minute == 0 else 0)


class Prospects:
    """Makes them of the rows of `watch.prospects`, for one span."""

    def __init__(self, span: Span, *, pulse_below: float) -> None:
        self.span = span
        self._pulse_below = timedelta(seconds=pulse_below)
        self._jittered = 0
        self._known: dict[tuple[Any, ...], Series] = {}

    def of(self, row: Row) -> Prospect:
        if row["schedule"] is None:
            return Prospect(row, quiet="on demand")
        try:
            schedule = parse_once(row["schedule"], row["timezone"], dst_gap=row["dst_gap"], dst_fold=row["dst_fold"])
        except ScheduleError as error:
            return Prospect(row, quiet="invalid", error=str(error))
        if row["is_paused"]:
            return Prospect(row, quiet="paused")
        if not (row["is_new"] or row["next_at"] or row["awaits"] or row["is_pulse"]):
            return Prospect(row, quiet="over")
        middle, high = _durations(row["durations"])
        prospect = Prospect(row, median=middle, p95=high)
        if schedule.kind == "after":
            return replace(prospect, series=self._after(row, schedule, middle or 0.0), is_estimated=True)
        series = self._series(row, schedule)
        prospect = replace(prospect, series=series, late=self._late(row))
        return self._jitter(prospect) if row["jitter"] else prospect

    def _series(self, row: Row, schedule: Schedule) -> Series:
        after, until = self._bounds(row)
        anchor = row["anchor_at"] if schedule.kind == "every" else None
        key = (schedule, after, until, anchor)
        found = self._known.get(key)
        if found is None:
            if schedule.period is None:
                found = CronSeries(schedule, self.span, after, until)
            else:
                found = PeriodicSeries(schedule.next(after, anchor=anchor), schedule.period, self.span, until)
            self._known[key] = found
        return found

    def _after(self, row: Row, schedule: Schedule, took: float) -> Series:
        """From its next instant, or where that awaits the end of a run, from when that is expected to end."""
        after, until = self._bounds(row)
        delay = schedule.period or timedelta(0)
        turn = delay + timedelta(seconds=took)
        first = row["next_at"]
        if first is None and row["is_new"]:
            first = max(row["after_at"] + delay, row["starts_at"] or row["after_at"])
        elif first is None:
            first = max(row["awaited_at"] or self.span.now, self.span.now) + turn
        return PeriodicSeries(max(first, after + _INSTANT), turn, self.span, until)

    def _bounds(self, row: Row) -> tuple[datetime, datetime]:
        """Later than the first, until the second."""
        after, until = self.span.now, self.span.end - _INSTANT
        if row["starts_at"] is not None:
            after = max(after, row["starts_at"] - _INSTANT)
        if row["ends_at"] is not None:
            until = min(until, row["ends_at"])
        return after, max(after, until)

    def _late(self, row: Row) -> tuple[datetime, ...]:
        """Instants that have passed and that the planner will nevertheless start, in its own words."""
        now = self.span.now
        if not row["is_new"] and (row["next_at"] is None or row["next_at"] > now):
            return ()
        jobs, late = _due(row, now), []
        while True:
            decided = plan(jobs, now, pulse_below=self._pulse_below)
            late += [fire.at for fire in decided.fires if fire.outcome == "planned"]
            if not decided.fires or decided.next_at is None or decided.next_at > now:
                return tuple(late)
            jobs = replace(jobs, next_at=decided.next_at)

    def _jitter(self, prospect: Prospect) -> Prospect:
        row, series = prospect.row, prospect.series
        if series is None or self._jittered + series.fires > JITTERED:
            return replace(prospect, is_unjittered=True)
        self._jittered += series.fires
        starts = (at + jitter(row["app"], row["name"], row["jitter"], at) for at in series.instants())
        return replace(prospect, series=ShiftedSeries(series, starts, self.span))


def _due(row: Row, now: datetime) -> DueJobs:
    """As the planner would read it."""
    return DueJobs(
        app=row["app"],
        epoch=0,
        jobs=[row["name"]],
        revisions=[0],
        last_job=row["name"],
        schedule=row["schedule"],
        timezone=row["timezone"],
        dst_gap=row["dst_gap"],
        dst_fold=row["dst_fold"],
        overlap="allow",  # many at a time: of a job that may not overlap, a plan would decide one of 10,000
        misfire=row["misfire"],
        misfire_grace=row["misfire_grace"],
        misfire_limit=row["misfire_limit"],
        jitter=row["jitter"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        next_at=row["next_at"],
        expected="",
        after_at=row["after_at"].astimezone(UTC),
        anchor_at=row["anchor_at"],
        read_at=now,
        limited=row["limited"],
    )


def _durations(seconds: list[float | None]) -> tuple[float | None, float | None]:
    known = sorted(one for one in seconds if one is not None)
    if not known:
        return None, None
    return median(known), known[math.ceil(P95 * len(known)) - 1]

"""What to do about the instants of a job, and of all jobs like it: pure decisions, no database and no clock.

    next instant ── later than the horizon ─▶ wait
                 ── within it ─▶ planned ahead (of a job that may not overlap: one at a time)
                 ── late ─▶ older than misfire_grace: missed
                            else misfire  skip: skipped
                                          one:  the latest planned, those before it coalesced
                                          all:  planned, the newest misfire_limit of them

A job whose period is shorter than a limit has no instants here: a worker fires it from a timer of its own, and the plan
says from which instant on. Only timers know no more than that: what asks for anything else, such as runs side by side,
every instant made up for, or a limit kept, is planned row by row however short its period.

A plan deals with one of these at a time and says where to go on, so the planner asks again until nothing is left. Every
instant gets a row in the ledger, but for an outage that left more than ROWS of them: then one row stands for the rest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from scheduler.cron import Schedule, parse
from scheduler.errors import ScheduleError
from scheduler.store.duty import DueJobs

TOLERANCE = timedelta(seconds=5)
"""An instant is late from here on. Anything less is a planner that was busy or has just moved, not an outage."""
ROWS = 1_000
"""Ledger rows of one plan. A second-by-second job that was down for a year left 31 million instants."""

_MICROSECOND = timedelta(microseconds=1)
# 30 to 60 µs each. Jobs share few schedules, and each is planned again and again.
parse_once = lru_cache(maxsize=16_384)(parse)


@dataclass(frozen=True, slots=True)
class Fire:
    """An instant and what becomes of it; `run_at` only if it is planned."""

    at: datetime
    outcome: str
    reason: str | None = None
    run_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision. `next_at` None: no instant to come, or with a `delay` (of @after) not before the run has ended.

    With a `period` workers fire it, from `next_at` on; `from_end`: the period counts from the end of the fire before.
    """

    job: DueJobs
    next_at: datetime | None = None
    fires: tuple[Fire, ...] = ()
    delay: timedelta | None = None
    error: str | None = None
    period: timedelta | None = None
    from_end: bool = False

    def as_json(self) -> dict[str, Any]:
        """In the words of `scheduler.plan_fires`, or of `scheduler.plan_pulses`."""
        timed = {"period": _interval(self.period), "from_end": self.from_end} if self.period else {}
        return timed | {
            "jobs": self.job.jobs,
            "revisions": self.job.revisions,
            "expected": self.job.expected,
            "next": _text(self.next_at),
            "delay": _interval(self.delay),
            "error": self.error,
            "fires": [
                {"at": _text(fire.at), "outcome": fire.outcome, "reason": fire.reason, "run_at": _text(fire.run_at)}
                for fire in self.fires
            ],
        }


def plan(job: DueJobs, until: datetime, *, pulse_below: timedelta = timedelta(0)) -> Plan:
    """Decides the instants of jobs that are alike up to `until`, as many as fit one plan. A bad schedule makes one with
    `error`, a period below `pulse_below` one for workers.
    """
    try:
        schedule = parse_once(job.schedule, job.timezone, dst_gap=job.dst_gap, dst_fold=job.dst_fold)
    except ScheduleError as error:
        return Plan(job, error=str(error))
    instants = _Instants(job, schedule)
    first = job.next_at or instants.first()
    if first is None or (job.ends_at is not None and first > job.ends_at):
        return Plan(job)
    delay = schedule.period if schedule.kind == "after" else None
    # Of @after the first instant is written before it is planned: plan_fires awaits the run of an instant it knows.
    if first > until or (delay and job.next_at is None):
        return Plan(job, first, delay=delay)
    if schedule.period is not None and schedule.period < pulse_below and _needs_no_rows(job, schedule):
        return Plan(job, first, period=schedule.period, from_end=schedule.kind == "after")
    late = first < job.read_at - TOLERANCE
    fires, next_at = _late(instants, first) if late else _ahead(instants, first, until)
    return Plan(job, next_at, tuple(fires), delay)


def jitter(app: str, job: str, most: float, at: datetime) -> timedelta:
    """The same for an instant whoever plans it, and however often: no dice, so an edit does not move a run.

    At most so many seconds.
    """
    if not most:
        return timedelta(0)
    digest = hashlib.blake2b(f"{app}\0{job}\0{at.isoformat()}".encode(), digest_size=8).digest()
    return timedelta(seconds=most * int.from_bytes(digest) / 2**64)


def _needs_no_rows(job: DueJobs, schedule: Schedule) -> bool:
    is_alone = job.overlap == "skip" or schedule.kind == "after"
    return is_alone and job.misfire != "all" and not job.jitter and not job.limited


class _Instants:
    """The instants of a job, until it ends. Those of @after come one at a time, from the database."""

    def __init__(self, job: DueJobs, schedule: Schedule) -> None:
        self.job = job
        self._schedule = schedule

    def first(self) -> datetime | None:
        """Of a job whose next instant is to be computed."""
        starts_at = self.job.starts_at or self.job.after_at
        if self._schedule.period is not None and self._schedule.kind == "after":
            return max(self.job.after_at + self._schedule.period, starts_at)
        return self._next(max(self.job.after_at, starts_at - _MICROSECOND))

    def next(self, after: datetime) -> datetime | None:
        """The first one later than `after`."""
        return None if self._schedule.kind == "after" else self._next(after)

    def listed(self, first: datetime, end: datetime, limit: int) -> list[datetime]:
        """The first `limit` from the instant `first` on, before `end`."""
        found, instant = [first], self.next(first)
        while instant is not None and instant < end and len(found) < limit:
            found.append(instant)
            instant = self.next(instant)
        return found

    def newest(self, first: datetime, end: datetime, count: int) -> list[datetime]:
        """The last `count` from the instant `first` on, before `end`, without a walk through all that lies between.

        An outage often left few; then they are listed. Otherwise a span back from `end` is sought that holds enough
        and not too many: doubled while it holds too few, then halved between what was too short and too long.
        """
        limit = 2 * count + ROWS
        found = self.listed(first, end, limit)
        if len(found) < limit:
            return found[-count:]
        too_short, too_long = timedelta(0), end - first
        span = min(timedelta(seconds=count), too_long / 2)
        while True:
            start = self.next(end - span - _MICROSECOND)
            found = self.listed(start, end, limit) if start is not None and start < end else []
            if len(found) == limit:
                too_long = span
            elif len(found) < count:
                too_short = span
            else:
                return found[-count:]
            span = min(2 * span, (too_short + too_long) / 2)

    def _next(self, after: datetime) -> datetime | None:
        instant = self._schedule.next(after, anchor=self.job.anchor_at)
        return None if instant is None or (self.job.ends_at and instant > self.job.ends_at) else instant


_Decision = tuple[list[Fire], datetime | None]  # and the next instant


def _ahead(instants: _Instants, first: datetime, until: datetime) -> _Decision:
    job = instants.job
    limit = ROWS if job.overlap == "allow" else 1
    found = instants.listed(first, until + _MICROSECOND, limit)
    fires = [Fire(at, "planned", run_at=at + jitter(job.app, job.jobs[0], job.jitter, at)) for at in found]
    return fires, instants.next(found[-1])


def _late(instants: _Instants, first: datetime) -> _Decision:
    job = instants.job
    end = job.read_at - TOLERANCE
    grace = timedelta(seconds=job.misfire_grace)
    if first < job.read_at - grace:
        why = f"misfire_grace is {grace}"
        return _without_a_run(instants, first, min(end, job.read_at - grace), "missed", why)
    if job.misfire == "skip":
        return _without_a_run(instants, first, end, "skipped", "misfire is skip")
    if job.misfire == "all":
        return _all(instants, first, end)
    return _one(instants, first, end)


def _one(instants: _Instants, first: datetime, end: datetime) -> _Decision:
    latest = instants.newest(first, end, 1)[0]
    earlier: list[Fire] = []
    if first < latest:
        earlier, _ = _without_a_run(instants, first, latest, "coalesced", f"into the instant {_text(latest)}")
    return [*earlier, _started_late(instants.job, latest)], instants.next(latest)


def _all(instants: _Instants, first: datetime, end: datetime) -> _Decision:
    job = instants.job
    kept = instants.newest(first, end, job.misfire_limit)
    if first < kept[0]:
        why = f"as many as misfire_limit, {job.misfire_limit}, came after it"
        return _without_a_run(instants, first, kept[0], "missed", why)
    # Oldest first: the next round finds the others still late.
    kept = kept[: ROWS if job.overlap == "allow" else 1]
    return [_started_late(job, at) for at in kept], instants.next(kept[-1])


def _started_late(job: DueJobs, at: datetime) -> Fire:
    return Fire(at, "planned", f"misfire: {_lateness(job, at)}", run_at=job.read_at)


def _without_a_run(instants: _Instants, first: datetime, end: datetime, outcome: str, why: str) -> _Decision:
    """A row for each instant before `end`; where they are too many, the last row stands for the rest."""
    found = instants.listed(first, end, ROWS)
    fires = [Fire(at, outcome, f"misfire: {_lateness(instants.job, at)}; {why}") for at in found]
    if len(found) < ROWS:
        return fires, instants.next(found[-1])
    rest = found[ROWS - 2]  # leaves room for the run that may come with them
    fires[ROWS - 2 :] = [Fire(rest, outcome, f"misfire: every instant from {_text(rest)} until {_text(end)}; {why}")]
    return fires, instants.next(end - _MICROSECOND)


def _lateness(job: DueJobs, at: datetime) -> str:
    return f"{timedelta(seconds=round((job.read_at - at).total_seconds()))} late"


def _interval(duration: timedelta | None) -> str | None:
    return f"{duration.total_seconds():f} seconds" if duration else None


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()

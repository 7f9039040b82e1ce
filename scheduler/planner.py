"""Plans: writes what is to run ahead of time, so that a crash loses nothing and planning never shows as lateness.

    due_jobs ─▶ plan (pure) ─▶ plan_fires ─▶ again, until no job has an instant within the horizon

Any number of planners may work at once: plan_fires compares what a plan was made from, and the ledger's key does the
rest. What a planner reads is only a reason to decide, never a right to write.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.plan import Plan, plan
from scheduler.store import duty
from scheduler.store.duty import Connection, DueJob

log = logging.getLogger(__name__)

PAGE = 500
"""Jobs that are read, decided and written at a time."""
INLINE = 50
"""More jobs than this are decided in a thread: at 150 µs to 500 µs an instant, heartbeats would wait for them."""
COMPUTING = 1.0
"""Seconds of deciding after which what was decided is written: an outage can leave 1,000 instants to each job."""
FIRES = 10_000
"""Instants after which it is written as well: these take some 0.4 s, and a statement has 10 s."""
BUDGET = 5.0
"""Seconds after which a step ends, to go on with the next one where it was."""


@dataclass(slots=True)
class _Round:
    """What is known after a look at the jobs: whether one is worth another look, and when one will be, in seconds."""

    again: bool = False
    wait: float = math.inf


class Planner:
    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._settings = settings
        self._last: DueJob | None = None  # where to go on; None: from the start

    async def run_once(self) -> float:
        """Plans everything within the horizon; the seconds until there is more to plan."""
        async with self._link.within(STEP) as conn:
            return await self._plan(conn)

    async def _plan(self, conn: Connection) -> float:
        deadline = time.monotonic() + BUDGET
        while True:
            await duty.schedule_after(conn)
            await duty.release_waiting(conn)
            looked = await self._look(conn, deadline)
            if not looked.again:
                break
            if time.monotonic() > deadline:
                return 0.0
        # A run that was replaced just now may have been pending still: then its successor has nobody to wait for.
        await duty.release_waiting(conn)
        next_plan = await duty.next_plan_at(conn, ahead=self._settings.plan_ahead)
        waits = [self._settings.poll, looked.wait, math.inf if next_plan is None else next_plan]
        return max(0.0, min(waits))

    async def _look(self, conn: Connection, deadline: float) -> _Round:
        """Once through the jobs, a page at a time, from where the last look had to stop."""
        looked = _Round(again=self._last is not None)
        while time.monotonic() < deadline:
            page = await duty.due_jobs(conn, ahead=self._settings.plan_ahead, limit=PAGE, after=self._last)
            read = time.monotonic()
            plans = await self._decide(page)
            for app, group in groupby(sorted(plans, key=_app), _app):
                await self._write(conn, app, list(group), read, looked)
            if len(plans) == len(page) < PAGE:
                self._last = None
                return looked
            self._last = page[len(plans) - 1]
        looked.again = True
        return looked

    async def _decide(self, page: list[DueJob]) -> list[Plan]:
        if len(page) <= INLINE:
            return self._plans(page)
        return await asyncio.to_thread(self._plans, page)

    def _plans(self, page: list[DueJob]) -> list[Plan]:
        """One per job, of as many jobs as one write can take, of one at least."""
        ahead = timedelta(seconds=self._settings.plan_ahead)
        deadline = time.monotonic() + COMPUTING
        plans: list[Plan] = []
        fires = 0
        for job in page:
            plans.append(_decided(job, ahead))
            fires += len(plans[-1].fires)
            if fires >= FIRES or time.monotonic() > deadline:
                break
        return plans

    async def _write(self, conn: Connection, app: str, plans: list[Plan], read: float, looked: _Round) -> None:
        written = await duty.plan_fires(conn, app, [one.as_json() for one in plans])
        moved = {one.job for one in written if one.outcome == "moved"}
        deferred = {one.job: one.scheduled_at for one in written if one.outcome == "deferred"}
        ahead = timedelta(seconds=self._settings.plan_ahead)
        for one in plans:
            job = one.job
            instant = deferred.get(job.job)
            if instant is not None:
                # It is decided as soon as it is due; a run that ends before wakes us earlier.
                elapsed = time.monotonic() - read
                looked.wait = min(looked.wait, (instant - job.read_at).total_seconds() - elapsed)
            elif job.job in moved:
                looked.again |= one.next_at is not None and one.next_at <= job.read_at + ahead
                if one.error is not None:
                    log.warning("job %s of app %s is not planned: %s", job.job, app, one.error)


def _app(one: Plan) -> str:
    return one.job.app


def _decided(job: DueJob, ahead: timedelta) -> Plan:
    try:
        return plan(job, job.read_at + ahead)
    except Exception as error:
        # A bug that one schedule brings out must not stop the planning of all the others.
        log.exception("job %s of app %s could not be planned", job.job, job.app)
        return Plan(job, error=f"it could not be planned: {type(error).__name__}: {error}")

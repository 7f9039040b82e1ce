"""Plans: writes what is to run ahead of time, so that a crash loses nothing and planning never shows as lateness.

    take_stock ─▶ due_jobs ─▶ plan (pure) ─▶ plan_fires ─▶ again, until no job has an instant within the horizon
                                        └──▶ plan_pulses: a period so short that a worker fires the job from a timer

Jobs that are to be decided alike are read, decided and written as one. There are two lanes, each read a page at a time:
what is due within the horizon, and new definitions, whose first instant is to be computed. A look at the second is cut
short, so that a million of them hold up nothing that is due.

A planner reads and writes for the apps that its server owns. Any number may nevertheless work at once: plan_fires
compares owner and epoch and what a plan was made from, and the ledger's key does the rest. What a planner reads is only
a reason to decide, never a right to write.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.metrics import catalogue
from scheduler.metrics.numbers import Tally
from scheduler.plan import Plan, plan
from scheduler.store import duty
from scheduler.store.duty import Connection, DueJobs, Fires

log = logging.getLogger(__name__)

PAGE = 2_000
"""Jobs that are read and written at a time."""
INLINE = 50
"""More decisions than this are made in a thread: 2,000 of 50 µs, or one after an outage, would hold up heartbeats."""
COMPUTING = 1.0
"""Seconds of deciding after which what was decided is written: an outage can leave 1,000 instants to each job."""
FIRES = 10_000
"""Instants after which it is written as well: these take some 0.4 s, and a statement has 10 s."""
APPS = 100
"""Apps that are written for in one transaction: for a job each, half of the time went into round trips and commits."""
BUDGET = 5.0
"""Seconds after which a step ends, to go on with the next one where it was."""
NEW = 1.0
"""Seconds that are spent on new definitions before what is due is looked at again."""
TOGETHER = 0.05
"""The part of the horizon in which instants are gathered: 100 a second, each at a moment of its own, are two looks."""


class Planner:
    def __init__(self, link: Link, settings: Settings, server: Callable[[], int], tally: Tally | None = None) -> None:
        """`server` tells who we are just now: a server that was declared dead goes on under a new identity."""
        self._tally = tally or Tally()
        self.runs: Counter[str] = Counter()
        """How many were planned for each app, for whoever weighs them; it is cleared by who reads it."""
        self.waits = True
        """Whether the end of a run may be a reason to look again."""
        self.took = 0.0
        """Seconds that the last look took in which there may have been nothing to do."""
        self._link = link
        self._settings = settings
        self._server = server
        self._has_recalled = False  # what an earlier server handed to workers, and this one plans by rows
        self._places: dict[bool, DueJobs | None] = {False: None, True: None}  # where each lane goes on; None: its start

    async def run_once(self) -> float:
        """Plans everything within the horizon; the seconds until there is more to plan."""
        async with self._link.within(STEP) as conn:
            started = time.monotonic()
            if not self._has_recalled:
                await duty.recall_pulses(conn, below=self._settings.pulse_below)
                self._has_recalled = True
            delay = await self._plan(conn, self._server())
        self._tally.observe(catalogue.PLANNING_TIME, time.monotonic() - started)
        return delay

    async def _plan(self, conn: Connection, server: int) -> float:
        deadline = time.monotonic() + BUDGET
        while True:
            # Also after what was planned: a run that was replaced just now may have been pending still, and then its
            # successor has nobody to wait for.
            started = time.monotonic()
            stock = await duty.take_stock(conn, server, ahead=self._settings.plan_ahead, within=self._settings.poll)
            self.waits, self.took = stock.waits, time.monotonic() - started
            due_in, deferred_in = _or_never(stock.due_in), _or_never(stock.deferred_in)
            if min(due_in, deferred_in) > 0:
                gathered = max(due_in, TOGETHER * self._settings.plan_ahead)
                return min(self._settings.poll, gathered, deferred_in)
            changed = await self._look(conn, server, deadline, new=False)
            changed += await self._look(conn, server, min(deadline, time.monotonic() + NEW), new=True)
            if not changed:  # others are at it
                return self._settings.poll
            if time.monotonic() > deadline:
                return 0.0

    async def _look(self, conn: Connection, server: int, until: float, *, new: bool) -> int:
        """Once through a lane, a page at a time, from where the last look had to stop; how many jobs that changed."""
        changed = 0
        while time.monotonic() < until:
            page = await duty.due_jobs(
                conn, server, ahead=self._settings.plan_ahead, limit=PAGE, new=new, after=self._places[new]
            )
            plans = await self._decide(page)
            written = await self._write(conn, server, plans)
            changed += written
            if _count(one.job for one in plans) < _count(page):
                if not written:
                    break
                continue  # what was written has left its place, so the rest is found at the same one
            if _count(page) < PAGE:
                self._places[new] = None
                break
            self._places[new] = page[-1]
        return changed

    async def _decide(self, page: list[DueJobs]) -> list[Plan]:
        if len(page) <= INLINE:
            return self._plans(page)
        return await asyncio.to_thread(self._plans, page)

    def _plans(self, page: list[DueJobs]) -> list[Plan]:
        """Of as many jobs as one write can take, of one at least; sorted by app."""
        ahead = timedelta(seconds=self._settings.plan_ahead)
        pulse_below = timedelta(seconds=self._settings.pulse_below)
        deadline = time.monotonic() + COMPUTING
        plans: list[Plan] = []
        fires = 0
        for jobs in page:
            one = _decided(jobs, ahead, pulse_below)
            most = max(1, (FIRES - fires) // max(1, len(one.fires)))
            if most < len(jobs.jobs):
                one = replace(one, job=replace(jobs, jobs=jobs.jobs[:most], revisions=jobs.revisions[:most]))
            plans.append(one)
            fires += len(one.fires) * len(one.job.jobs)
            if fires >= FIRES or time.monotonic() > deadline:
                break
        return sorted(plans, key=_app)

    async def _write(self, conn: Connection, server: int, plans: list[Plan]) -> int:
        """How many jobs that changed."""
        changed = 0
        refused = {(one.job.app, job): one.error for one in plans if one.error is not None for job in one.job.jobs}
        several: list[Fires] = []
        for app, group in groupby(plans, _app):
            of_app = list(group)
            epoch = of_app[0].job.epoch  # the same of all: they were read at once
            if pulses := [one.as_json() for one in of_app if one.period is not None]:
                changed += await duty.plan_pulses(conn, app, server, epoch, pulses)
            if fires := [one.as_json() for one in of_app if one.period is None]:
                named = [job for of, job in refused if of == app] if refused else []
                several.append(Fires(app, epoch, fires, named))
        for start in range(0, len(several), APPS):
            for written in await duty.plan_fires(conn, server, several[start : start + APPS]):
                self.runs[written.app] += written.planned
                for outcome, number in written.fires.items():
                    self._tally.count(catalogue.FIRES, written.app, outcome, number=number)
                changed += written.moved + written.deferred
                for job in written.named:
                    log.warning("job %s of app %s is not planned: %s", job, written.app, refused[written.app, job])
        return changed


def _decided(jobs: DueJobs, ahead: timedelta, pulse_below: timedelta) -> Plan:
    try:
        return plan(jobs, jobs.read_at + ahead, pulse_below=pulse_below)
    except Exception as error:
        # A bug that one schedule brings out must not stop the planning of all the others.
        log.exception("job %s of app %s could not be planned", jobs.jobs[0], jobs.app)
        return Plan(jobs, error=f"it could not be planned: {type(error).__name__}: {error}")


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def _count(groups: Iterable[DueJobs]) -> int:
    return sum(len(group.jobs) for group in groups)


def _app(one: Plan) -> str:
    return one.job.app

"""Takes back what the dead held, and ends the events whose time to live is over. Every server does it, all the time, so
there is no rescuer that could be missing.
"""

from __future__ import annotations

import logging
import time

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.metrics.catalogue import POISONED, RECLAIMED
from scheduler.metrics.numbers import Tally
from scheduler.store import duty

log = logging.getLogger(__name__)

LEASES = 100
"""Leases that are taken back in one transaction."""
EVENTS = 1_000
"""Events that are looked at in one transaction, 3 ms. Nobody sees an expired one before, so there is no hurry."""
LANES = 200
"""Lanes of runs that are looked at for events meanwhile, 1 ms."""
EVENTS_REST = 5.0
"""Seconds between two looks while there are none."""


class Reclaimer:
    def __init__(self, link: Link, settings: Settings, tally: Tally | None = None) -> None:
        self._link = link
        self._tally = tally or Tally()
        self._settings = settings
        self._events_at = 0.0
        self._saw_some = False
        self._place: duty.EventPlace | None = None

    async def run_once(self) -> float:
        """Takes back up to LEASES leases; the seconds until the next look, none if more are to be expected."""
        async with self._link.within(STEP) as conn:
            taken = await duty.reclaim(conn, dead_after=self._settings.dead_after, limit=LEASES)
            has_more = await self._expire(conn)
        for one in taken:
            self._tally.count(RECLAIMED, one.app, number=one.runs)
            if one.poisoned:
                self._tally.count(POISONED, one.app, number=one.poisoned)
            log.warning(
                "took back lease %d of worker %d, app %s: %d runs, %s",
                one.lease,
                one.worker,
                one.app,
                one.runs,
                "an attempt of each was lost" if one.lost else "none had started",
            )
        return self._settings.poll if len(taken) < LEASES and not has_more else 0.0

    async def _expire(self, conn: duty.Connection) -> bool:
        """Whether it is worth to go on at once: of those that were looked at most had expired."""
        if time.monotonic() < self._events_at:
            return False
        found = await duty.expire_events(conn, limit=EVENTS, lanes=LANES, after=self._place)
        self._place = found.place
        self._saw_some = self._saw_some or found.seen > 0
        if found.place is None:
            if not self._saw_some:
                self._events_at = time.monotonic() + EVENTS_REST
            self._saw_some = False
        return found.expired > EVENTS // 2

"""Takes back what the dead held. Every server does it, all the time, so there is no rescuer that could be missing."""

from __future__ import annotations

import logging

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.store import duty

log = logging.getLogger(__name__)

LEASES = 100
"""Leases that are taken back in one transaction."""


class Reclaimer:
    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._settings = settings

    async def run_once(self) -> float:
        """Takes back up to LEASES leases; the seconds until the next look, none if more are to be expected."""
        async with self._link.within(STEP) as conn:
            taken = await duty.reclaim(conn, dead_after=self._settings.dead_after, limit=LEASES)
        for one in taken:
            log.warning(
                "took back lease %d of worker %d, app %s: %d runs, %s",
                one.lease,
                one.worker,
                one.app,
                one.runs,
                "an attempt of each was lost" if one.lost else "none had started",
            )
        return self._settings.poll if len(taken) < LEASES else 0.0

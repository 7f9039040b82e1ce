"""Looks whether alarms fire. What it finds is told by runs of the app `_alarms`, which it only writes.

Any server looks, whichever app it owns: an app is looked at by whoever locks its row first, so an app without jobs,
which nobody owns, has alarms too. Without alarms there is nothing to lock, and a look is one probe of an empty table.
"""

from __future__ import annotations

import logging

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.store import alarm

log = logging.getLogger(__name__)

APPS = 20
"""Apps of one statement, each with what happened there since the last look."""
SETTLE = 6
"""Looks after which what happened is taken to have been reported: half a minute, where a report takes 10 ms."""


class Lookout:
    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._every = settings.alarm_every
        # Longer than any worker holds a report back that is accepted afterwards: it is declared dead before.
        self._settle = max(SETTLE * settings.alarm_every, 2 * settings.dead_after)

    async def run_once(self) -> float:
        """Looks at some apps; the seconds until the next look, none if there may be more."""
        async with self._link.within(STEP) as conn:
            looked = await alarm.look_for_alarms(conn, every=self._every, settle=self._settle, limit=APPS)
        if firing := sum(one for _, _, one in looked):
            log.debug("%d alarm(s) fire", firing)
        return 0.0 if len(looked) == APPS else self._every

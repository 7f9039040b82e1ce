"""Gives each app one living server, and apps to whoever has far fewer than others.

Every server does it, one at a time: there is no leader that could be missing. A server that starts rebalances with its
first step, one that notices a death gives away in the same statement, and one that stops in its good-bye. So nothing
waits for a notification; those only tell the planner of another server that it has more to do.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.store import duty

log = logging.getLogger(__name__)

WEIGHING = 60.0
"""Seconds between two looks at how much each app weighs, and whether the servers are still balanced."""
FADING = 0.9
"""What is left at the next weighing of the runs counted before: those of the last ten minutes count, more or less."""
BUSY = 0.05
"""Seconds until it is tried again while another server is at it."""


class Assigner:
    def __init__(
        self, link: Link, settings: Settings, server: Callable[[], int], runs: Counter[str], moved: Callable[[], None]
    ) -> None:
        """`server`: who we are just now. `runs`: what our planner planned, by app. `moved`: called when apps moved."""
        self._link = link
        self._settings = settings
        self._server = server
        self._runs = runs
        self._moved = moved
        self._recent: dict[str, float] = {}
        self._weighed: tuple[int, float] | None = None  # by whom, and when

    async def run_once(self) -> float:
        """Sees to it that every app has a living owner; the seconds until the next look."""
        server = self._server()
        weighs = self._weighed is None or self._weighed[0] != server or time.monotonic() > self._weighed[1] + WEIGHING
        async with self._link.within(STEP) as conn:
            if weighs:
                await duty.weigh_apps(conn, server, self._count())
            assigned = await duty.assign_apps(conn, dead_after=self._settings.dead_after, rebalance=weighs)
        if assigned.moved is None:
            return BUSY
        if weighs:
            self._weighed = server, time.monotonic()
        if assigned.moved:
            log.info("gave %d app(s) a new owner", assigned.moved)
            self._moved()
        # Not a poll later: a death is declared the moment it may be.
        return (
            self._settings.poll if assigned.next_in is None else min(self._settings.poll, max(assigned.next_in, BUSY))
        )

    def _count(self) -> dict[str, int]:
        """The runs of late, by app. Counted by the minute alone, an hourly app would weigh something else each time."""
        for app, runs in self._runs.items():
            self._recent[app] = self._recent.get(app, 0.0) + runs
        self._runs.clear()
        counts = {app: round(runs) for app, runs in self._recent.items()}
        self._recent = {app: runs * FADING for app, runs in self._recent.items() if counts[app]}
        return counts

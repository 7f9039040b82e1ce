"""Makes room and throws away: the partitions of the coming days, and what is older than the retention, or than a day
where that is promised.

A day is dropped with its partition, in milliseconds; deleting a million rows one by one would leave a million dead
ones. A day whose rows came before its partition (the first day of a new database) stays in the default partition.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.store import duty, partition, request
from scheduler.store.duty import Connection
from scheduler.store.partition import DAYS_AHEAD, TABLES, Partition

log = logging.getLogger(__name__)

REST = 600.0
"""Seconds between two looks."""
KEPT = 86_400.0
"""Seconds for which a request with an Idempotency-Key is remembered."""
FORGETS = 20
"""Calls of `forget` in one step, each of some thousand rows; what remains waits for the next step."""


class Janitor:
    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._settings = settings

    async def run_once(self) -> float:
        """Makes the partitions of the coming days, drops old ones and deletes what is left."""
        async with self._link.within(STEP) as conn:
            return await self._tidy(conn)

    async def _tidy(self, conn: Connection) -> float:
        there, now = await partition.partitions(conn)
        for one in _wanted(now):
            if one not in there:
                await _make(conn, one)
        oldest = now - timedelta(seconds=self._settings.history_retention)
        for one in sorted(there, key=lambda one: one.day):
            if one.ends_at <= oldest:
                await partition.drop(conn, one)
                log.info("dropped %s", one.name)
        return await self._forget(conn)

    async def _forget(self, conn: Connection) -> float:
        for _ in range(FORGETS):
            forgotten = await duty.forget(conn, older_than=self._settings.history_retention)
            if forgotten + await request.forget_requests(conn, older_than=KEPT) == 0:
                return REST
        return 0.0


def _wanted(now: datetime) -> list[Partition]:
    return [Partition(table, now.date() + timedelta(days=day)) for day in range(DAYS_AHEAD + 1) for table in TABLES]


async def _make(conn: Connection, one: Partition) -> None:
    if not await partition.has_rows_in_default(conn, one) and await partition.create(conn, one):
        log.info("made %s", one.name)
    else:
        log.debug("%s stays in the default partition", one.name)

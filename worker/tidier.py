"""Ends what dead workers left outside of any process: executors that have such work find it, the database says whose
lease is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from scheduler.config import Settings
from scheduler.link import Link
from worker import store
from worker.executors import Executor, Outliving

EVERY = 10  # poll floors between two looks


class Tidier:
    def __init__(
        self, link: Link, settings: Settings, executors: Iterable[Executor], *, database: str | None, worker: int
    ) -> None:
        self._link = link
        self._settings = settings
        self._executors = [one for one in executors if isinstance(one, Outliving)]
        for executor in self._executors:
            executor.join(database, worker)

    @property
    def has_work(self) -> bool:
        """Whether any executor here is one that leaves something behind."""
        return bool(self._executors)

    async def run_once(self) -> float:
        for executor in self._executors:
            await executor.tidy(self._lost)
        return EVERY * self._settings.poll

    async def _lost(self, app: str, leases: Sequence[int]) -> list[int]:
        try:
            async with self._link.within(self._settings.statement_timeout) as conn:
                return await store.lost_leases(conn, app, leases)
        except psycopg.errors.InsufficientPrivilege:  # of an app that this worker's role may not reach: not its to end
            return []

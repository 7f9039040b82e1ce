"""The API's connections: a few, shared by all requests, with short statements.

What a caller changes is written in a transaction that says who it was, for the audit log. Runs that are inserted are
not in it, and have connections of their own, so that a flood of them leaves the others to those who look and change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import AsyncConnection

from scheduler import db
from scheduler.api.gathering import Gathering
from scheduler.api.hints import Hints
from scheduler.api.turns import Turns
from scheduler.link import Link
from scheduler.store import insert, tick

if TYPE_CHECKING:
    from scheduler.api.access import Caller

CONNECTIONS = 4
COPIES = 2  # of those connections: streams at a time
PATIENCE = 5.0  # seconds that a request waits for one of them
_ACTOR: LiteralString = "select set_config('scheduler.actor', %s, true)"


class Data:
    def __init__(self, dsn: str, *, label: str, statement_timeout: float, listen_dsn: str | None = None) -> None:
        self.dsn = dsn
        self.ending = asyncio.Event()
        """Set when the server stops: what is streamed without an end of its own ends now."""
        name = f"server {label} api"
        self._pool = db.pool(dsn, name=name, size=CONNECTIONS, statement_timeout=statement_timeout)
        self._inserts = db.pool(dsn, name=f"{name} inserts", size=CONNECTIONS, statement_timeout=statement_timeout)
        self.examining = Turns("an examination", PATIENCE)
        self.forecasting = Turns("a forecast", PATIENCE)
        self._copies = asyncio.Semaphore(COPIES)
        self._beats = Link(dsn, name=f"{name} heartbeats", statement_timeout=statement_timeout)
        self.hints = Hints(listen_dsn or dsn, name=f"{name} listener")
        self.runs = Gathering(self._insert_runs, lanes=2, most=500)
        """Single runs, as JSON objects; answered by their ids."""
        # One lane, since puts of one app take turns. 2,000 take 60 ms, for which those that come next may well wait.
        self.ticks = Gathering(self._put_ticks, lanes=1, most=2_000)

    async def open(self) -> None:
        await self._pool.open()
        await self._inserts.open()

    async def close(self) -> None:
        await self.hints.close()
        await self.runs.close()
        await self.ticks.close()
        await self._beats.close()
        await self._inserts.close()
        await self._pool.close()

    async def _insert_runs(self, rows: Sequence[bytes]) -> Sequence[int]:
        async with self.inserting() as conn:
            return await insert.insert_runs(conn, rows)

    async def _put_ticks(self, ticks: Sequence[tick.Tick]) -> Sequence[tick.Tick]:
        async with self.inserting() as conn:
            await tick.put_ticks(conn, ticks)
        return ticks

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._pool.connection(PATIENCE) as conn:
            yield conn

    @asynccontextmanager
    async def changing(self, caller: Caller) -> AsyncIterator[AsyncConnection[Any]]:
        """One transaction, in the caller's name."""
        async with self._pool.connection(PATIENCE) as conn, conn.transaction():
            await conn.execute(_ACTOR, (f"token {caller.name}",))
            yield conn

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[AsyncConnection[Any]]:
        """For heartbeats, which must not stand behind anything else: their workers would be declared dead."""
        async with self._beats.within(PATIENCE) as conn:
            yield conn

    @asynccontextmanager
    async def inserting(self) -> AsyncIterator[AsyncConnection[Any]]:
        """For one statement about runs, which commits with it; nobody audits those."""
        async with self._inserts.connection(PATIENCE) as conn:
            yield conn

    @asynccontextmanager
    async def copying(self) -> AsyncIterator[AsyncConnection[Any]]:
        """One transaction that takes a while. TimeoutError when as many are open as may be."""
        async with asyncio.timeout(PATIENCE):
            await self._copies.acquire()
        try:
            async with self._inserts.connection(PATIENCE) as conn, conn.transaction():
                yield conn
        finally:
            self._copies.release()

"""The API's connections: a few, shared by all requests, with short statements.

What a caller changes is written in a transaction that says who it was, for the audit log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import AsyncConnection

from scheduler import db

if TYPE_CHECKING:
    from scheduler.api.access import Caller

CONNECTIONS = 4
PATIENCE = 5.0  # seconds that a request waits for one of them
_ACTOR: LiteralString = "select set_config('scheduler.actor', %s, true)"


class Data:
    def __init__(self, dsn: str, *, label: str, statement_timeout: float) -> None:
        self.dsn = dsn
        self._pool = db.pool(dsn, name=f"server {label} api", size=CONNECTIONS, statement_timeout=statement_timeout)

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._pool.connection(PATIENCE) as conn:
            yield conn

    @asynccontextmanager
    async def inserting(self) -> AsyncIterator[AsyncConnection[Any]]:
        """For one statement about runs, which commits with it; nobody audits those."""
        async with self._pool.connection(PATIENCE) as conn:
            yield conn

    @asynccontextmanager
    async def changing(self, caller: Caller) -> AsyncIterator[AsyncConnection[Any]]:
        """One transaction, in the caller's name."""
        async with self._pool.connection(PATIENCE) as conn, conn.transaction():
            await conn.execute(_ACTOR, (f"token {caller.name}",))
            yield conn

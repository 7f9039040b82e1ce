"""One connection of a loop: opened when needed, and again when lost; never waited on for longer than agreed.

Each loop has its own, so that a slow statement of one never delays another, and the number of connections of a process
is fixed and known (a server five, a worker four).

Each statement has its bounds (`scheduler.session`); `within` bounds what consists of several, the opening included.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from scheduler import db, standing
from scheduler.errors import ReadOnlyError
from scheduler.session import Session, sever

Connection = AsyncConnection[TupleRow]


class Link:
    """Safe to be used by several tasks: their statements queue up, and one of them opens the connection for all."""

    def __init__(self, dsn: str, *, name: str, statement_timeout: float = 10.0) -> None:
        self._dsn = dsn
        self._name = name
        self._statement_timeout = statement_timeout
        self._standing = standing.of(dsn)
        self._conn: Session | None = None
        self._opening = asyncio.Lock()
        self._is_severed = False

    async def connection(self) -> Connection:
        """The open connection, made anew if need be. ConfigError when the database cannot be reached now,
        ReadOnlyError when it takes no writes now, WrongDatabaseError when it is not the one that it was.
        """
        self._standing.ensure_right()
        async with self._opening:
            if self._is_severed or (self._conn is not None and not self._conn.is_fit):
                self._is_severed = False
                await self.close()
            if self._conn is None or self._conn.closed:
                self._conn = await self._open()
            return self._conn

    async def _open(self) -> Session:
        try:
            conn = await db.connect(self._dsn, name=self._name, statement_timeout=self._statement_timeout)
        except ReadOnlyError:
            self._standing.say_read_only("no host of the DSN is a primary")
            raise
        try:
            await self._standing.admit(conn)
        except BaseException:
            await conn.close()
            raise
        return conn

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[Connection]:
        """The open connection; when the block is not left in time, the connection ends under it. TimeoutError when it
        could not even be opened in time, else what `connection` raises, or OperationalError.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with asyncio.timeout(seconds):
            conn = await self.connection()
        alarm = loop.call_at(until, sever, conn)
        try:
            yield conn
        finally:
            alarm.cancel()

    def sever(self) -> None:
        """End the connection at once, and with it the wait of whoever uses it."""
        if self._conn is not None:
            sever(self._conn)
            self._is_severed = True

    async def close(self) -> None:
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

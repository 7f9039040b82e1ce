"""One connection of a loop: opened when needed, and again when lost; never waited on for longer than agreed.

Each loop has its own, so that a slow statement of one never delays another, and the number of connections of a process
is fixed and known (a server five, a worker four).

Cancelling a statement does not bound the wait for it: psycopg then asks the server to end it and waits for that answer,
up to ten seconds more into a black hole, and its older releases without a limit. Shutting the socket down ends the wait
at once: whoever waits gets an OperationalError. (Closing it does not: a loop that polls a closed one is not told.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from scheduler import db

Connection = AsyncConnection[TupleRow]


class Link:
    """Safe to be used by several tasks: their statements queue up, and one of them opens the connection for all."""

    def __init__(self, dsn: str, *, name: str, statement_timeout: float = 10.0) -> None:
        self._dsn = dsn
        self._name = name
        self._statement_timeout = statement_timeout
        self._conn: Connection | None = None
        self._opening = asyncio.Lock()
        self._is_severed = False

    async def connection(self) -> Connection:
        """The open connection, made anew if need be. ConfigError when the database cannot be reached now."""
        async with self._opening:
            if self._is_severed:
                self._is_severed = False
                await self.close()
            if self._conn is None or self._conn.closed:
                self._conn = await db.connect(self._dsn, name=self._name, statement_timeout=self._statement_timeout)
            return self._conn

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[Connection]:
        """The open connection; when the block is not left in time, the connection ends under it. TimeoutError when it
        could not even be opened in time, else what `connection` raises, or OperationalError.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with asyncio.timeout(seconds):
            conn = await self.connection()
        alarm = loop.call_at(until, _sever, conn)
        try:
            yield conn
        finally:
            alarm.cancel()

    def sever(self) -> None:
        """End the connection at once, and with it the wait of whoever uses it."""
        if self._conn is not None:
            _sever(self._conn)
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


def _sever(conn: Connection) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)

"""A session on PostgreSQL on which no wait is without an end, and which may lead through a pooler.

Each statement is bounded twice. The server cancels it at its statement_timeout. Should no answer come at all, as out of
a black hole, the socket is shut down a little later, and whoever waits gets an OperationalError at once. (Cancelling
the wait does less: psycopg then asks the server to end the statement and waits for that answer, up to ten seconds more.
Closing the socket does less, too: a loop that polls a closed one is not told.)

Behind a pooler in transaction mode each transaction may meet another backend, so nothing may stay with a session: no
settings, no advisory locks, no LISTEN, no prepared statements. The one sign of a pooler that all of them give: the
process id that came when the connection was made is not that of the backend which answers. Then what we set travels
with each transaction, local to it: with a single statement in one pipeline, one transaction and one round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, LiteralString, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor, AsyncTransaction
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from scheduler.errors import ReadOnlyError

SERVER_SHARE = 0.95  # of the time that a statement has: its answer then comes before the socket is shut down
OPENING = 10.0  # seconds for the first statement of a session, which says what the following may take

_SETTLE: LiteralString = """
    select d.is_direct,
        case when d.is_direct then set_config('statement_timeout', %(statement)s, false) end,
        case when d.is_direct then set_config('idle_in_transaction_session_timeout', %(idle)s, false) end,
        case when d.is_direct then set_config('timezone', 'UTC', false) end
    from (select pg_backend_pid() = %(pid)s as is_direct) d
"""
_LOCALLY: LiteralString = """
    select set_config('statement_timeout', %(statement)s, true),
        set_config('idle_in_transaction_session_timeout', %(idle)s, true), set_config('timezone', 'UTC', true)
"""


class Session(AsyncConnection[TupleRow]):
    """`is_pooled`: it leads through a pooler, and what is set for a session reaches others, or nobody.
    `is_fit`: False once the server refused a write, because it is a standby now.
    `settings`: what is set for each statement, in milliseconds.
    """

    is_pooled = False
    is_fit = True
    _limit: float | None = OPENING
    settings: Mapping[str, str] = MappingProxyType({})
    turn: asyncio.Lock

    async def settle(self, statement_timeout: float) -> None:
        """Set it up, as the first thing. `statement_timeout` is in seconds; 0 turns it off."""
        self.settings = {
            "statement": str(round(statement_timeout * SERVER_SHARE * 1000)),
            "idle": str(round(statement_timeout * 1000)),
        }
        cursor = await self.execute(_SETTLE, {**self.settings, "pid": self.info.backend_pid})
        row = await cursor.fetchone()
        self._limit = statement_timeout or None
        if row is not None and not row[0]:
            self.is_pooled = True
            self.turn = asyncio.Lock()
            self.prepare_threshold = None  # also where `prepare` is asked for: PgBouncer knows them since 1.21 only
            self.cursor_factory = _PooledCursor

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        is_outermost = self.info.transaction_status == TransactionStatus.IDLE
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            if self.is_pooled and is_outermost:
                await AsyncCursor(self).execute(_LOCALLY, self.settings)
            yield transaction

    async def wait(self, *args: Any, **options: Any) -> Any:
        """Through here goes all that psycopg awaits of an open connection: statements, commits, COPY."""
        alarm = None if self._limit is None else asyncio.get_running_loop().call_later(self._limit, sever, self)
        try:
            return await super().wait(*args, **options)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            self.is_fit = False
            # Not as psycopg's InternalError, which means that a statement cannot be mended by a retry.
            raise ReadOnlyError(f"the database is read-only: {error.diag.message_primary}") from error
        finally:
            if alarm is not None:
                alarm.cancel()


class _PooledCursor(AsyncCursor[Any]):
    """Sends the settings along with each statement that is a transaction of its own."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        conn: Any = self.connection
        async with conn.turn:  # or two tasks that share the connection would share a pipeline
            if conn.info.transaction_status != TransactionStatus.IDLE:
                return await super().execute(query, params, **options)
            try:
                async with conn.pipeline():
                    await AsyncCursor(conn).execute(_LOCALLY, conn.settings)
                    await super().execute(query, params, **options)
            except BaseException:
                if conn.info.transaction_status != TransactionStatus.IDLE:
                    # Broken off in the middle: it would refuse all that follows, as one that is busy.
                    await conn.close()
                raise
            return self


def sever(conn: AsyncConnection[Any]) -> None:
    """End the connection at once, and with it the wait of whoever uses it."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)

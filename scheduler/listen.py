"""NOTIFY as a hint. A listener on its own connection, which says when it (re)connected so that its owner reads again.

A lost LISTEN is silent, so the order is: LISTEN, then tell the owner to look, then wait; and while nothing comes, the
connection is probed. Losing every notification costs the poll floor, never work.

Behind a pooler in transaction mode there is nothing to listen to: a LISTEN stays with a backend that others use next.
The listener finds out, says so once, and its owner polls. With a DSN of its own that leads to PostgreSQL itself, all
the rest may go through the pooler.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

import psycopg
from psycopg import sql

from scheduler import db, standing
from scheduler.errors import SchedulerError, WrongDatabaseError
from scheduler.link import Connection
from scheduler.loop import describe, severity
from scheduler.session import Session, sever

log = logging.getLogger(__name__)

PROBE = 5.0  # seconds of silence after which the connection is asked whether it is still there
RECHECK = 60.0  # seconds until a DSN that led through a pooler is tried again
ROUNDS = 3  # of looking whether a backend is shared


class PooledError(SchedulerError):
    def __init__(self) -> None:
        super().__init__(
            "polling, because the DSN leads through a pooler in transaction mode, where nothing can be heard",
            hint="let SCHEDULER_LISTEN_DSN name PostgreSQL itself",
        )


class Listener:
    def __init__(
        self,
        dsn: str,
        channels: Sequence[str],
        *,
        name: str,
        heard: Callable[[str, str], None],
        connected: Callable[[], None],
    ) -> None:
        """`heard(channel, payload)`: a notification came. `connected()`: LISTEN was done anew. Neither may block."""
        self._dsn = dsn
        self._channels = channels
        self._name = name
        self._heard = heard
        self._connected = connected
        self._conn: Session | None = None
        self._turn = asyncio.Lock()
        self._hearing: asyncio.Future[None] | None = None
        self._is_known_to_be_pooled = False
        self.lost_at: float | None = time.monotonic()
        """Since when nothing is heard, by the monotonic clock; None while it listens."""

    @property
    def is_connected(self) -> bool:
        return self._conn is not None

    @property
    def connection(self) -> Connection | None:
        """The one that listens now. What is asked for on it, as hints are, is gone with it."""
        return self._conn

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no way to listen, rather than none at the moment."""
        return self._is_known_to_be_pooled

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[Connection]:
        """The connection that listens, to say something on it; what is notified meanwhile is heard. It ends under a
        block that is not left in time. OperationalError when there is none.
        """
        conn = self._conn
        if conn is None:
            raise psycopg.OperationalError("nothing is listened to now")
        alarm = asyncio.get_running_loop().call_later(seconds, sever, conn)
        try:
            if self._hearing is not None and not self._hearing.done():
                self._hearing.set_result(None)
            async with self._turn:
                yield conn
        finally:
            alarm.cancel()

    async def run(self) -> None:
        """Until cancelled. WrongDatabaseError ends it, as it ends the process."""
        backoff = db.Backoff()
        while True:
            try:
                await self._listen(backoff)
            except WrongDatabaseError:
                raise
            except PooledError as error:
                if not self._is_known_to_be_pooled:
                    log.warning("%s: %s", self._name, error)
                self._is_known_to_be_pooled = True
                await asyncio.sleep(RECHECK)
                continue
            except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
                log.log(severity(error), "%s: listener lost, polling meanwhile: %s", self._name, describe(error))
            await asyncio.sleep(backoff.next())

    async def _listen(self, backoff: db.Backoff) -> None:
        conn = await db.connect_forever(self._dsn, name=self._name)
        try:
            await standing.of(self._dsn).admit(conn)
            if conn.is_pooled and await self._is_shared(conn):
                raise PooledError
            self._is_known_to_be_pooled = False
            conn.add_notify_handler(lambda notify: self._heard(notify.channel, notify.payload))
            for channel in self._channels:
                await conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            mine = await _backend(conn)
            self._conn, self.lost_at = conn, None
            backoff.reset()
            self._connected()
            while True:
                async with self._turn:
                    if await self._hear(conn, PROBE):
                        async with _at_most(conn, PROBE):
                            if await _backend(conn) != mine:
                                raise PooledError
        finally:
            self._conn = None
            self.lost_at = self.lost_at or time.monotonic()
            await conn.close()

    async def _is_shared(self, conn: Session) -> bool:
        """Whether another backend answers, or a second session meets ours, as in transaction mode, where each
        transaction gets one that is free: the one that was let go last, or first.
        """
        async with await db.connect(self._dsn, name=self._name) as other:
            for _ in range(ROUNDS):
                mine = await _backend(conn)
                if await _backend(conn) != mine:
                    return True
                async with other.transaction():
                    if await _backend(other) == mine or await _backend(conn) != mine:
                        return True
        return False

    async def _hear(self, conn: Session, seconds: float) -> bool:
        """Listen for so long, which is True, or until somebody else wants to say something on the connection.
        OperationalError when it is lost.

        The event loop's reader calls libpq at once; psycopg's own generator of notifications wakes a task for each.
        This and the yield to what was claimed started runs on an idle worker after 1.5 ms instead of 1.9.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        wire = conn.fileno()  # a connection that was lost does not tell any more
        is_reading = True

        def read() -> None:
            nonlocal is_reading
            try:
                conn.pgconn.consume_input()
                while (notify := conn.pgconn.notifies()) is not None:
                    self._heard(notify.relname.decode(), notify.extra.decode())
            except psycopg.Error as error:
                loop.remove_reader(wire)  # now: the socket is closed, and the next one to be opened gets its number
                is_reading = False
                if not ended.done():
                    ended.set_exception(error)

        loop.add_reader(wire, read)
        self._hearing = ended
        try:
            read()  # what came together with the answer to another statement
            async with asyncio.timeout(seconds):
                await ended
        except TimeoutError:
            return True
        finally:
            self._hearing = None
            if is_reading:
                loop.remove_reader(wire)
        return False


@contextlib.asynccontextmanager
async def _at_most(conn: Session, seconds: float) -> AsyncIterator[None]:
    alarm = asyncio.get_running_loop().call_later(seconds, sever, conn)
    try:
        yield
    finally:
        alarm.cancel()


async def _backend(conn: Session) -> int:
    row = await (await conn.execute("select pg_backend_pid()")).fetchone()
    return int(row[0]) if row else 0  # a select without from has one row

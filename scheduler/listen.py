"""NOTIFY as a hint. A listener on its own connection, which says when it (re)connected so that its owner reads again.

A lost LISTEN is silent, so the order is: LISTEN, then tell the owner to look, then wait; and while nothing comes, the
connection is probed. Losing every notification costs the poll floor, never work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from scheduler import db
from scheduler.errors import SchedulerError
from scheduler.loop import describe

log = logging.getLogger(__name__)

PROBE = 5.0  # seconds of silence after which the connection is asked whether it is still there


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
        self.is_connected = False

    async def run(self) -> None:
        """Until cancelled."""
        backoff = db.Backoff()
        while True:
            try:
                await self._listen(backoff)
            except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
                log.warning("%s: listener lost, polling meanwhile: %s", self._name, describe(error))
            finally:
                self.is_connected = False
            await asyncio.sleep(backoff.next())

    async def _listen(self, backoff: db.Backoff) -> None:
        conn = await db.connect_forever(self._dsn, name=self._name)
        conn.add_notify_handler(lambda notify: self._heard(notify.channel, notify.payload))
        try:
            for channel in self._channels:
                await conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            self.is_connected = True
            backoff.reset()
            self._connected()
            while True:
                await self._hear(conn, PROBE)
                async with asyncio.timeout(PROBE):
                    await conn.execute("select 1")
        finally:
            await conn.close()

    async def _hear(self, conn: AsyncConnection[TupleRow], seconds: float) -> None:
        """Listen for so long. OperationalError when the connection is lost.

        The event loop's reader calls libpq at once; psycopg's own generator of notifications wakes a task for each.
        This and the yield to what was claimed started runs on an idle worker after 1.5 ms instead of 1.9.
        """
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        wire = conn.fileno()  # a connection that was lost does not tell any more

        def read() -> None:
            try:
                conn.pgconn.consume_input()
                while (notify := conn.pgconn.notifies()) is not None:
                    self._heard(notify.relname.decode(), notify.extra.decode())
            except psycopg.Error as error:
                loop.remove_reader(wire)  # now: the socket is closed, and the next one to be opened gets its number
                if not lost.done():
                    lost.set_exception(error)

        loop.add_reader(wire, read)
        try:
            read()  # what came together with the answer to another statement
            async with asyncio.timeout(seconds):
                await lost
        except TimeoutError:
            pass
        finally:
            if not lost.done() or lost.cancelled():  # otherwise `read` did it
                loop.remove_reader(wire)

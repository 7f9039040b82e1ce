"""NOTIFY as a hint. A listener on its own connection, which says when it (re)connected so that its owner reads again.

A lost LISTEN is silent, so the order is: LISTEN, then tell the owner to look, then wait; and while nothing comes, the
connection is probed. Losing every notification costs the poll floor, never work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

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
        try:
            for channel in self._channels:
                await conn.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            self.is_connected = True
            backoff.reset()
            self._connected()
            while True:
                async for notify in conn.notifies(timeout=PROBE):
                    self._heard(notify.channel, notify.payload)
                async with asyncio.timeout(PROBE):
                    await conn.execute("select 1")
        finally:
            await conn.close()

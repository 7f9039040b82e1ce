"""The sign of life, and the certainty of having stopped before others take over.

         sent ──────── heartbeat ────────▶ seen_at
          │                                  │
          │  dead_after - heartbeat          │  dead_after
          ▼                                  ▼
    this worker starts nothing more     any server may declare it dead
    and stops what it runs              and give its work to others

The worker counts from the moment it *sent* the last heartbeat that was answered, the servers from the moment the
database noted it, which is later: so the worker has stopped one heartbeat before anybody may act on its silence.

Heartbeats leave from a thread with a connection of its own, so that a busy or blocked event loop is not taken for a
death. When the worker is lost and what it runs has not stopped by the time others may take over, because the event loop
is blocked or a coroutine does not let itself be cancelled, the whole process is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial

import psycopg

from scheduler.clock import DatabaseClock
from scheduler.config import Settings
from scheduler.db import Backoff
from scheduler.errors import LeaseLostError, SchedulerError, WrongDatabaseError, from_database
from scheduler.link import Link
from scheduler.loop import describe, severity
from worker import store

log = logging.getLogger(__name__)

LOOK = 0.05  # seconds between two looks at the time that is left
MANNERS = 0.02  # seconds between two heartbeats, however many notifications ask for one
EXIT_STALLED = 70  # EX_SOFTWARE


def boottime() -> float:
    """Seconds that also count while the machine sleeps, where there is such a clock: a lease runs out meanwhile."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Lifeline:
    def __init__(
        self,
        dsn: str,
        settings: Settings,
        clock: DatabaseClock,
        worker: int,
        *,
        since: float,
        asked: Callable[[list[int]], None],
        lost: Callable[[], None],
    ) -> None:
        """`since`: the `boottime` at which the registration was sent. `asked(runs)` and `lost()` are called on the
        event loop that made this, not on the thread.
        """
        self._link = Link(dsn, name=f"heartbeat {worker}", statement_timeout=settings.heartbeat * 2)
        self._settings = settings
        self._clock = clock
        self._worker = worker
        self._asked = asked
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._limit = settings.dead_after - settings.heartbeat
        self._last = since
        self._is_lost = False
        self.failures = 0
        self._wanted = asyncio.Event()
        self._thread_loop: asyncio.AbstractEventLoop | None = None  # of the thread
        self._stopped = threading.Event()
        self._closed = threading.Event()
        context = contextvars.copy_context()  # what it logs is this worker's
        name = f"heartbeat {worker}"
        self._thread = threading.Thread(target=context.run, args=(self._serve,), name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def has_stopped(self) -> None:
        """Nothing is being executed any more: the process may go on under a new registration."""
        self._stopped.set()

    async def close(self) -> None:
        self._closed.set()
        await asyncio.to_thread(self._thread.join)

    def look(self) -> None:
        """A notification said that a cancellation is asked for: ask the database with a heartbeat, and soon.

        It is not believed. PostgreSQL lets every login of a database notify on any channel.
        """
        with contextlib.suppress(RuntimeError):  # the thread has ended
            if self._thread_loop is not None:
                self._thread_loop.call_soon_threadsafe(self._wanted.set)

    @property
    def is_alive(self) -> bool:
        """Whether work may be started: nobody can have declared this worker dead."""
        return not self._is_lost and boottime() - self._last < self._limit

    @property
    def last_heartbeat_age(self) -> float:
        """Seconds since the last heartbeat that was answered was sent."""
        return boottime() - self._last

    def _serve(self) -> None:
        try:
            asyncio.run(self._beat_and_watch())
        finally:  # without heartbeats there must be no work, for whatever reason they ended
            if not self._closed.is_set():
                self._let_go()
                self._insist()

    async def _beat_and_watch(self) -> None:
        self._thread_loop = asyncio.get_running_loop()
        beats = asyncio.create_task(self._beat())
        while not self._closed.is_set() and not self._is_lost:
            await asyncio.sleep(LOOK)
            if boottime() - self._last > self._limit:
                log.error(
                    "no heartbeat was answered for %.1f s: stopping before others take over", self.last_heartbeat_age
                )
                self._let_go()
        if not self._closed.is_set():
            self._insist()
        if self._is_lost:
            self._link.sever()
        beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)
        await self._link.close()

    async def _beat(self) -> None:
        backoff = Backoff(0.05, self._settings.heartbeat)
        while True:
            try:
                # Less than the limit, so that a connection that died in silence leaves time for a new one.
                async with self._link.within(self._settings.heartbeat * 2) as conn:
                    sent = boottime()
                    _, cancels = await store.heartbeat(conn, self._worker, clock_ahead=self._clock.wall_offset)
                    # Looked at by a statement of its own: a heartbeat is answered after its commit, by which time
                    # what it says is 0.8 ms old, and runs held for their instant would start so much later.
                    asked = time.monotonic()
                    now = await store.clock(conn)
                    self._clock.observe(asked, time.monotonic(), now)
            except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
                if isinstance(error, psycopg.Error) and isinstance(from_database(error), LeaseLostError):
                    log.error("worker %s was declared dead: its work belongs to others now", self._worker)  # noqa: TRY400  no traceback: it is news, not a bug
                    self._let_go()
                    return
                if isinstance(error, WrongDatabaseError):  # what this worker holds, that one knows nothing of
                    self._let_go()
                    return
                self.failures += 1
                log.log(severity(error), "heartbeat: %s", describe(error))
                await self._link.close()
                await asyncio.sleep(backoff.next())
                continue
            self._last = sent
            backoff.reset()
            if cancels:
                self._tell(partial(self._asked, cancels))
            await self._pause(self._settings.heartbeat - (boottime() - sent))

    async def _pause(self, seconds: float) -> None:
        """Until the next heartbeat, or until one is wanted."""
        await asyncio.sleep(min(MANNERS, max(0.0, seconds)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds - MANNERS)):
                await self._wanted.wait()
        self._wanted.clear()

    def _let_go(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._tell(self._lost)

    def _tell(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(what)

    def _insist(self) -> None:
        """What cannot be stopped is ended with the process; nothing else keeps the promise."""
        if not self._stopped.wait(max(LOOK, self._settings.heartbeat - LOOK)) and not self._closed.is_set():
            log.critical("what this worker runs does not stop, and others may take it over: ending this process")
            os._exit(EXIT_STALLED)

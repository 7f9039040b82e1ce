"""Wakes those who wait for work over HTTP, who hold no connection meanwhile: one listener for all of them.

A hint is asked for while somebody waits for the app, and some time longer: to ask costs two statements, and who waits
mostly comes again at once. Behind a pooler nothing is heard, and those who wait look once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import psycopg

from scheduler.api.problem import Problem
from scheduler.errors import SchedulerError
from scheduler.listen import Listener
from scheduler.loop import describe
from scheduler.store import work

log = logging.getLogger(__name__)

KEPT = 30.0  # seconds for which hints are still asked for when nobody waits any more
MOST = 1_000  # of those who wait at a time
PATIENCE = 5.0
EVERY = ""  # stands for every app


class Hints:
    def __init__(self, dsn: str, *, name: str) -> None:
        self._listener = Listener(dsn, ["scheduler_run"], name=name, heard=self._heard, connected=self._connected)
        self._changed = asyncio.Event()  # what is asked for is not what is wanted
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._wanted: dict[str, float] = {}
        self._count = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def wait(self, apps: list[str] | None, seconds: float) -> None:
        """Until something may be due in one of the apps (None: any), or the time is over. Problem 503."""
        apps = [EVERY] if apps is None else apps
        if self._count >= MOST:
            raise Problem(503, "too many wait for work here", headers={"Retry-After": "1"})
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listener.run()), asyncio.create_task(self._ask())]
        now = time.monotonic()
        if any(app not in self._wanted for app in apps):
            self._changed.set()
        self._wanted.update(dict.fromkeys(apps, now + seconds + KEPT))
        woken = asyncio.Event()
        for app in apps:
            self._waiting.setdefault(app, set()).add(woken)
        self._count += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await woken.wait()
        finally:
            self._count -= 1
            for app in apps:
                self._waiting[app].discard(woken)
                if not self._waiting[app]:
                    del self._waiting[app]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self) -> None:
        self._changed.set()

    def _heard(self, _channel: str, payload: str) -> None:
        for app in (payload.partition("\t")[0], EVERY):
            self._wake(app)

    def _wake(self, app: str) -> None:
        for woken in self._waiting.get(app, ()):
            woken.set()

    async def _ask(self) -> None:
        """Keeps what is asked for what is wanted, and has those who wait look once more after it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT):
                    await self._changed.wait()
            now = time.monotonic()
            wanted = {app: until for app, until in self._wanted.items() if until > now}
            if not self._changed.is_set() and wanted.keys() == self._wanted.keys():
                continue
            self._changed.clear()
            self._wanted = wanted
            try:
                async with self._listener.within(PATIENCE) as conn:
                    if wanted:
                        await work.await_hints(conn, None if EVERY in wanted else list(wanted))
                    else:
                        await work.decline_hints(conn)
            except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
                log.debug("hints were not asked for: %s", describe(error))  # until it is connected, which is a change
            else:
                for app in wanted:  # what was committed before sends none
                    self._wake(app)

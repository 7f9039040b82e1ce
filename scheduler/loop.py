"""The loop that drives every duty, written once: step, sleep or be woken, step again.

A duty is an object with `run_once()`, one bounded step that returns in how many seconds it wants to be called next.
Tests call `run_once()` themselves. The loop bounds each step in time, tries again with jittered backoff when one fails,
and remembers when the last one succeeded, because a loop that dies silently is the worst kind of outage.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import psycopg

from scheduler.db import Backoff
from scheduler.errors import ReadOnlyError, SchedulerError, WrongDatabaseError, from_database

log = logging.getLogger(__name__)

STEP = 20.0  # seconds: a duty's connection ends when its step takes longer, as it would into a black hole
STEP_TIMEOUT = 30.0  # a step that takes even longer, whatever it waits for, is broken off
SLACK = 15.0  # seconds that a machine with too much to do may be late with a step before the loop passes for stuck


class Loop:
    def __init__(
        self, name: str, step: Callable[[], Awaitable[float]], *, floor: float, timeout: float = STEP_TIMEOUT
    ) -> None:
        """`floor`: at least every so many seconds a step is made, whatever the last one said and nobody signals."""
        self.name = name
        self.last_success = time.monotonic()
        self.failures = 0
        self._last_step = self.last_success
        self._step = step
        self.floor = floor
        self._timeout = timeout
        self._woken = asyncio.Event()
        self._backoff = Backoff()
        self._stopping = False

    def wake(self) -> None:
        """Make the next step now; if one is being made, another right after it, so that no signal is lost."""
        self._woken.set()

    def stop(self) -> None:
        """Make no further step. One that is being made goes on to its end, so that no answer to a statement is lost."""
        self._stopping = True
        self._woken.set()

    def stuck(self) -> str | None:
        """That this loop makes no steps any more, in a line. One whose steps fail is not stuck: it waits for something,
        most often the database, and a new process would wait for the same.
        """
        silent = time.monotonic() - self._last_step
        if self._stopping or silent < self.floor + self._timeout + SLACK:
            return None
        return f"{self.name} has made no step for {silent:.0f} s"

    async def run(self) -> None:
        """Until stopped, or cancelled. WrongDatabaseError ends it, as it ends the process."""
        self._last_step = time.monotonic()
        while not self._stopping:
            self._woken.clear()  # before the step: what is signalled during it is a reason for another
            delay = await self._attempt()
            self._last_step = time.monotonic()
            if self._stopping:
                return
            if delay > 0:
                await _event_or_time(self._woken, min(delay, self.floor))
            else:
                await asyncio.sleep(0)

    async def _attempt(self) -> float:
        try:
            async with asyncio.timeout(self._timeout):
                delay = await self._step()
        except WrongDatabaseError:
            raise
        except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
            self.failures += 1
            delay = self._backoff.next()
            log.log(severity(error), "%s: %s; next try in %.2f s", self.name, describe(error), delay)
        except Exception:
            self.failures += 1
            delay = self._backoff.next()
            log.exception("%s failed unexpectedly; next try in %.2f s", self.name, delay)
        else:
            self.last_success = time.monotonic()
            self._backoff.reset()
        return delay


def describe(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, psycopg.Error):
        error = from_database(error) or error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def severity(error: BaseException) -> int:
    """How loudly a failure is logged: that the database takes no writes was said once, for all loops of the process."""
    return logging.DEBUG if isinstance(error, ReadOnlyError) else logging.WARNING


async def _event_or_time(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass

"""A server process, put together: registration, heartbeat and the duties, from start to good-bye.

    Server ─┬─ heartbeat   says that it lives; declared dead, it registers anew
            ├─ assigner    gives each app one living server; woken as the planner is, and when a server leaves
            ├─ planner     woken by scheduler_job (a definition changed, a run of a job ended, an app has a new owner)
            ├─ reclaimer
            ├─ janitor
            ├─ lookout     whether alarms fire
            ├─ gauger      reads ahead what /metrics says of the database; where that is served
            └─ listener

Servers are equal and know nothing of each other: what keeps them apart is in the database. A duty has a connection of
its own, so that a slow statement of one delays no other, least of all the heartbeat. Five in all: the assigner, whose
statements are short, uses the reclaimer's, and janitor, lookout and gauger, for whom nobody waits, take turns at one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg

import scheduler
from scheduler import db, install, records, standing
from scheduler.assigner import Assigner
from scheduler.clock import DatabaseClock
from scheduler.config import Settings
from scheduler.errors import LeaseLostError, SchedulerError, from_database
from scheduler.gauger import EVERY, Gauger
from scheduler.janitor import REST, Janitor
from scheduler.link import Link
from scheduler.listen import Listener
from scheduler.lookout import Lookout
from scheduler.loop import Loop, describe
from scheduler.metrics.numbers import Sample, Tally
from scheduler.metrics.process import of_process
from scheduler.planner import Planner
from scheduler.reclaimer import Reclaimer
from scheduler.store import duty

log = logging.getLogger(__name__)

CHANNEL = "scheduler_job"
GATHERED = 0.02
"""Seconds in which notifications are gathered: runs of jobs that end by the thousand would each start a planning."""
LAST_WORDS = 5.0
"""Seconds that a server which leaves tries to say so; it is declared dead otherwise, which hurts nobody."""
LATE = 15.0
"""Seconds without success, beyond its pause, after which a loop keeps the server from being ready. A planning of
100,000 jobs takes 7."""
_NEEDED = ("heartbeat", "assigner", "planner", "reclaimer")


class Server:
    def __init__(
        self,
        dsn: str,
        settings: Settings,
        *,
        label: str,
        address: str | None = None,
        listen_dsn: str | None = None,
        gauges: bool = False,
    ) -> None:
        """`label` is what people call it, `address` where clients reach it; `listen_dsn` is for the listener alone.
        `gauges`: somebody asks for `samples`.
        """
        self.settings = settings
        self.label = label
        self.address = address
        self.clock = DatabaseClock()
        self.id: int | None = None
        self._dsn = dsn
        self._links = {name: self._link(name) for name in ("heartbeat", "planner", "reclaimer", "janitor")}
        self._tally = Tally()
        self._turn = asyncio.Lock()
        quiet = self._links["janitor"]
        self._planner = Planner(self._links["planner"], settings, self._identity, self._tally)
        reclaimer = Reclaimer(self._links["reclaimer"], settings, self._tally)
        assigner = Assigner(self._links["reclaimer"], settings, self._identity, self._planner.runs, self._plan)
        self.loops = {
            "heartbeat": Loop("heartbeat", self._heartbeat, floor=settings.heartbeat),
            "assigner": Loop("assigner", assigner.run_once, floor=settings.poll),
            "planner": Loop("planner", self._planner.run_once, floor=settings.poll),
            "reclaimer": Loop("reclaimer", reclaimer.run_once, floor=settings.poll),
            "janitor": Loop("janitor", self._in_turn(Janitor(quiet, settings).run_once), floor=REST),
            "lookout": Loop("lookout", self._in_turn(Lookout(quiet, settings).run_once), floor=settings.alarm_every),
        }
        self._gauger: Gauger | None = None
        if gauges:
            self._gauger = Gauger(quiet, settings, self._identity, self._tally, self._turn)
            self.loops["gauger"] = Loop("gauger", self._gauger.run_once, floor=EVERY)
        standing.unite(dsn, listen_dsn or dsn)
        self.listener = Listener(
            listen_dsn or dsn, [CHANNEL], name=f"server {label} listener", heard=self._heard, connected=self._wake
        )
        self._waking: asyncio.TimerHandle | None = None
        self._has_news = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set, whatever becomes of the database meanwhile.

        Only the start fails at once: ConfigError when the database cannot be reached, SchemaError when its schema is
        not the one that this program knows.
        """
        await self._start()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(loop.run()) for loop in self.loops.values()]
        tasks += [asyncio.create_task(self.listener.run()), asyncio.create_task(stopping.wait())]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop(tasks)
        for task in ended:
            task.result()  # nothing but `stopping` ends by itself; if a loop did, its error is the process's

    def complaint(self) -> str | None:
        """What keeps it from its work, in a line: a loop that fails, or a listener that is lost for long."""
        if self.id is None:
            return "the server is starting"
        now = time.monotonic()
        for name in _NEEDED:
            silent = now - self.loops[name].last_success
            if silent > self.loops[name].floor + LATE:
                return f"the {name} has not succeeded for {silent:.0f} s"
        lost = self.listener.lost_at
        if lost is not None and now - lost > LATE and not self.listener.is_hopeless:
            return f"notifications are not heard for {now - lost:.0f} s"
        return None

    @property
    def is_ready(self) -> bool:
        """It is registered: others know of it, and its duties have begun."""
        return self.id is not None

    def stuck(self) -> str | None:
        """What makes no steps any more, in a line. The database's absence is no such thing: see `complaint`."""
        return next((said for loop in self.loops.values() if (said := loop.stuck())), None)

    def samples(self) -> Iterator[Sample]:
        """What was counted, and read of the database before, for /metrics; on the event loop."""
        yield from of_process("server", self.clock, self.listener, self.loops)
        yield from self._tally.samples()
        if self._gauger is not None:
            yield from self._gauger.gauges.samples()

    async def _start(self) -> None:
        conn = await db.connect(
            self._dsn, name=f"server {self.label}", statement_timeout=self.settings.statement_timeout
        )
        try:
            await install.ensure_known(conn)
            self.id = await self._register(conn)
        finally:
            await conn.close()
        records.SERVER.set(self._identity)
        log.info("server %d (%s) started", self.id, self.label)

    async def _register(self, conn: duty.Connection) -> int:
        return await duty.register_server(
            conn,
            label=self.label,
            host=socket.gethostname(),
            pid=os.getpid(),
            address=self.address,
            version=scheduler.__version__,
        )

    async def _heartbeat(self) -> float:
        async with self._links["heartbeat"].within(self.settings.statement_timeout) as conn:
            sent = time.monotonic()
            try:
                now = await duty.heartbeat_server(conn, self.id or 0, clock_ahead=self.clock.wall_offset)
            except psycopg.Error as error:
                if not isinstance(from_database(error), LeaseLostError):
                    raise
                # It was silent for too long. Nothing is lost with the old identity: a server holds no work.
                before, self.id = self.id, await self._register(conn)
                log.warning("server %s was declared dead, it goes on as server %d", before, self.id)
                self._wake()
                return self.settings.heartbeat
        received = time.monotonic()
        self.clock.observe(sent, received, now)
        return self.settings.heartbeat - (received - sent)

    def _in_turn(self, step: Callable[[], Awaitable[float]]) -> Callable[[], Awaitable[float]]:
        """Janitor, lookout and gauger have transactions on one connection, so none begins within another's."""

        async def taken() -> float:
            async with self._turn:
                return await step()

        return taken

    def _heard(self, _channel: str, payload: str) -> None:
        """Without a payload a run of a job has ended. Then the look may find little, so it gets a fifth of the time."""
        self._has_news = self._has_news or bool(payload)
        if self._waking is None and (payload or self._planner.waits):
            delay = GATHERED + 4 * self._planner.took
            self._waking = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._waking = None
        if self._has_news:  # and not for the end of a run, which makes no app and takes no server away
            self._has_news = False
            self.loops["assigner"].wake()
        self._plan()

    def _plan(self) -> None:
        self.loops["planner"].wake()

    def _wake(self) -> None:
        self._has_news = True
        self._look()

    def _identity(self) -> int:
        return self.id or 0

    async def _stop(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._waking is not None:
            self._waking.cancel()
        try:
            async with self._links["heartbeat"].within(LAST_WORDS) as conn:
                await duty.retire_server(conn, self.id or 0)
        except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
            log.warning("server %s could not say good-bye: %s", self.id, describe(error))
        for link in self._links.values():
            await link.close()
        log.info("server %s (%s) stopped", self.id, self.label)

    def _link(self, name: str) -> Link:
        return Link(self._dsn, name=f"server {self.label} {name}", statement_timeout=self.settings.statement_timeout)

"""A worker process, put together: from its registration until it has drained.

    Worker ── a process ─▶ Life ── one registration ─▶ Claimer ─▶ Dispatcher ─▶ Runner ─▶ Reporter
                                    ├─ Ticker (jobs of a short period, from timers)
                                    └─ Lifeline (its own thread and connection)

A worker that was declared dead, or could not say that it lives, stops everything it runs and starts a new life under a
new identity. Connections of a process: claims, reports, heartbeat, listener. Four.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

import psycopg

from scheduler import records, standing
from scheduler.clock import DatabaseClock
from scheduler.config import Settings
from scheduler.db import Backoff
from scheduler.errors import SchedulerError, WrongDatabaseError
from scheduler.link import Link
from scheduler.listen import Listener
from scheduler.loop import describe, severity
from scheduler.metrics.numbers import Sample
from scheduler.metrics.process import of_loop, of_process
from worker import executors as plugins
from worker import registry, store
from worker.life import Life
from worker.lifeline import EXIT_STALLED, boottime
from worker.meter import Meter

log = logging.getLogger(__name__)

TIMED_THREADS = 32  # for what is fired from timers, which must not wait until a long run leaves its thread


class Worker:
    def __init__(
        self,
        dsn: str,
        settings: Settings,
        *,
        label: str | None = None,
        apps: Sequence[str] | None = None,
        queues: Mapping[str, int | None] | None = None,
        executors: Sequence[str] = ("python", "http"),
        concurrency: int = 20,
        modules: Sequence[str] = (),
        listen_dsn: str | None = None,
        counts: bool = False,
    ) -> None:
        """`apps` and `queues` None: all there are. A queue's value is its slots, None for as many as `concurrency`.

        `listen_dsn`: for the listener alone, where `dsn` leads through a pooler. `counts`: somebody asks for `samples`.
        """
        self.dsn = dsn
        self.listen_dsn = listen_dsn or dsn
        self.settings = settings
        self.label = label or socket.gethostname()
        self.apps = apps
        self.queues = queues
        self.executor_names = list(executors)
        self.concurrency = concurrency
        self.modules = modules
        self.clock = DatabaseClock()
        self._backoff = Backoff()
        self._life: Life | None = None
        self._listener: Listener | None = None
        self._meter = Meter() if counts else None

    def samples(self) -> Iterator[Sample]:
        """What was counted, for /metrics; on the event loop."""
        life, meter = self._life, self._meter
        yield from of_process("worker", self.clock, self._listener, {} if life is None else life.loops)
        if life is not None:
            beat_at = time.monotonic() - life.lifeline.last_heartbeat_age
            yield from of_loop("lifeline", self.clock, beat_at, life.lifeline.failures)
        if meter is not None:
            executed = [] if life is None else list(life.executed())
            yield from meter.samples(executed, [] if life is None else life.uncounted())
            yield from meter.slots(self.concurrency, 0 if life is None else life.dispatcher.running)

    async def run(self, stopping: asyncio.Event, forced: asyncio.Event) -> None:
        """Work until `stopping` is set, then drain; `forced` ends the draining. ConfigError for what cannot be run."""
        registry.import_modules(self.modules)
        threads = self.concurrency + TIMED_THREADS
        executors = plugins.load(self.executor_names, modules=self.modules, threads=threads)
        standing.unite(self.dsn, self.listen_dsn)
        listener = self._listener = Listener(
            self.listen_dsn,
            ["scheduler_run", "scheduler_cancel", "scheduler_pulse"],
            name=f"worker listener {self.label}",
            heard=self._heard,
            connected=self._connected,
        )
        listening = asyncio.create_task(listener.run())
        try:
            async with (
                self._link("claims") as claims,
                self._link("reports") as reports,
            ):
                while not stopping.is_set():
                    since = boottime()
                    number = await self._register(claims, reports)
                    if number is not None:
                        self._life = Life(
                            number,
                            self.settings,
                            self.clock,
                            executors,
                            since=since,
                            dsn=self.dsn,
                            label=self.label,
                            claims=claims,
                            reports=reports,
                            listener=listener,
                            apps=self.apps,
                            queues=self.queues,
                            concurrency=self.concurrency,
                            meter=self._meter,
                        )
                        await self._life.run(stopping, forced)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            for executor in executors.values():
                await executor.close()
        if self._life is not None and self._life.is_forsaken:
            log.critical("a run does not let itself be stopped: ending this process with it")
            os._exit(EXIT_STALLED)

    @property
    def is_ready(self) -> bool:
        """It was registered, and may be given work."""
        return self._life is not None

    def stuck(self) -> str | None:
        """What makes no steps any more, in a line. The database's absence is no such thing."""
        if self._life is None:
            return None
        return self._life.claiming.stuck() or self._life.ticking.stuck()

    def _link(self, what: str) -> Link:
        return Link(self.dsn, name=f"{what} {self.label}", statement_timeout=self.settings.statement_timeout)

    async def _register(self, claims: Link, reports: Link) -> int | None:
        """The number of the life that begins, or None after a failure and a pause."""
        timeout = self.settings.statement_timeout
        try:
            # All connections are there before the first claim: what is executed can be reported.
            async with reports.within(timeout), claims.within(timeout) as conn:
                number = await store.register_worker(
                    conn,
                    label=self.label,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    apps=self.apps,
                    queues=list(self.queues) if self.queues else None,
                    executors=self.executor_names,
                    concurrency=self.concurrency,
                    version=version("walclock"),
                )
        except WrongDatabaseError:
            raise
        except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
            delay = self._backoff.next()
            log.log(severity(error), "cannot register: %s; next try in %.2f s", describe(error), delay)
            await claims.close()
            await reports.close()
            await asyncio.sleep(delay)
            return None
        self._backoff.reset()
        records.WORKER.set(number)
        log.info("worker %s (%s) is ready: %s slots", number, self.label, self.concurrency)
        return number

    def _connected(self) -> None:
        if self._life is not None:
            self._life.claiming.wake()
            self._life.ticker.hint("")

    def _heard(self, channel: str, payload: str) -> None:
        if self._life is None:
            return
        if channel == "scheduler_cancel":
            if payload.partition(" ")[0] == str(self._life.number):
                self._life.lifeline.look()
            return
        if channel == "scheduler_pulse":
            self._life.ticker.hint(payload)
            return
        app, tab, queue = payload.partition("\t")
        if tab:
            self._life.claimer.hint(app, queue)
        self._life.claiming.wake()

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
from collections.abc import Mapping, Sequence
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
from worker import executors as plugins
from worker import registry, store
from worker.life import Life
from worker.lifeline import EXIT_STALLED, boottime

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
    ) -> None:
        """`apps` and `queues` None: all there are. A queue's value is its slots, None for as many as `concurrency`.

        `listen_dsn`: for the listener alone, where `dsn` leads through a pooler.
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

    async def run(self, stopping: asyncio.Event, forced: asyncio.Event) -> None:
        """Work until `stopping` is set, then drain; `forced` ends the draining. ConfigError for what cannot be run."""
        registry.import_modules(self.modules)
        threads = self.concurrency + TIMED_THREADS
        executors = plugins.load(self.executor_names, modules=self.modules, threads=threads)
        standing.unite(self.dsn, self.listen_dsn)
        listener = Listener(
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

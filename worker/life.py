"""One registration of a worker, from the first claim to the last report.

It ends in one of two ways. Drained: what has not started is given back, what runs may end. Lost: the worker was
declared dead, or could not say that it lives; all it runs is stopped at once and nothing of it is reported any more.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg

from scheduler import standing
from scheduler.clock import DatabaseClock
from scheduler.config import Settings
from scheduler.db import Backoff
from scheduler.errors import SchedulerError
from scheduler.link import Link
from scheduler.listen import Listener
from scheduler.loop import Loop, describe, severity
from worker import executors as plugins
from worker import store
from worker.claimer import Claimer
from worker.dispatcher import PATIENCE, Dispatcher
from worker.journal import Journal
from worker.lease import Held, Lease
from worker.lifeline import Lifeline
from worker.meter import Lane, Meter
from worker.reporter import Reporter
from worker.runner import Runner
from worker.store import Report
from worker.ticker import LOOKS, Ticker
from worker.tidier import EVERY, Tidier
from worker.tracing import spans

log = logging.getLogger(__name__)

FAILURES = (psycopg.Error, SchedulerError, TimeoutError, OSError)
LAST_WORDS = 5.0  # seconds that a worker which leaves tries to say so; what it holds is reclaimed otherwise
LET_GO_EVERY = 0.05  # seconds between two looks whether the jobs fired from timers are let go
URGENT = 0.1  # seconds between asking a run to stop and killing it, when the worker is lost
FORCED = 1.0  # the same when a second signal asked for it


class Life:
    def __init__(
        self,
        number: int,
        settings: Settings,
        clock: DatabaseClock,
        executors: Mapping[str, plugins.Executor],
        *,
        since: float,
        dsn: str,
        label: str,
        claims: Link,
        reports: Link,
        listener: Listener,
        apps: Sequence[str] | None,
        queues: Mapping[str, int | None] | None,
        concurrency: int,
        meter: Meter | None = None,
    ) -> None:
        """`since`: the `boottime` at which its registration, under this number, was sent."""
        self._meter = meter
        self.number = number
        self._settings = settings
        self._claims = claims
        self._reports = reports
        self._clock = clock
        self._lost = asyncio.Event()
        self._begins: set[asyncio.Task[None]] = set()
        self._context = contextvars.copy_context()  # and not of a run that another one's end was seen in
        self._journal = Journal(clock)
        traced = spans(standing.of(dsn).which)
        self._runner = Runner(executors, clock, self._journal, traced)
        self._reporter = Reporter(reports, number, self._journal, self._freed, meter)
        self.lifeline = Lifeline(dsn, settings, clock, number, since=since, asked=self._asked, lost=self._lose)
        self.dispatcher = Dispatcher(
            concurrency=concurrency,
            queues={queue: own for queue, own in (queues or {}).items() if own is not None},
            clock=clock,
            is_alive=lambda: self.lifeline.is_alive,
            runner=self._runner,
            begin=self._begin_soon,
            ended=self._reporter.add,
            room=self._room,
            meter=meter,
        )
        self.claimer = Claimer(
            claims,
            settings,
            self.dispatcher,
            number,
            apps=apps,
            queues=list(queues) if queues else None,
            executors=list(executors),
            concurrency=concurrency,
            listener=listener,
            is_alive=lambda: self.lifeline.is_alive,
            lost=self._lose,
        )
        # The claimer bounds its own steps; this is for what it cannot bound, the opening of a connection.
        self.claiming = Loop(
            f"claims {label}", self.claimer.run_once, floor=settings.poll, timeout=2 * settings.statement_timeout
        )
        self.ticker = Ticker(
            claims,  # and not reports: what others say inside a transaction of theirs must not depend on its end
            settings,
            clock,
            executors,
            number,
            apps=apps,
            queues=list(queues) if queues else None,
            is_alive=lambda: self.lifeline.is_alive,
            lost=self._lose,
            wake=self._tick_soon,
            meter=meter,
            spans=traced,
        )
        self.ticking = Loop(
            f"timers {label}",
            self.ticker.run_once,
            floor=LOOKS * settings.poll,
            timeout=2 * settings.statement_timeout,
        )
        tidier = Tidier(claims, settings, executors.values(), database=standing.of(dsn).which, worker=number)
        self._tidying = Loop(f"leftovers {label}", tidier.run_once, floor=EVERY * settings.poll)
        self._tidies = tidier.has_work
        self._dispatchers = (self.dispatcher, self.ticker.dispatcher)

    @property
    def is_forsaken(self) -> bool:
        """Something runs that did not let itself be stopped."""
        return any(dispatcher.forsaken for dispatcher in self._dispatchers)

    @property
    def loops(self) -> dict[str, Loop]:
        tidying = {"leftovers": self._tidying} if self._tidies else {}
        return {"claims": self.claiming, "timers": self.ticking, **tidying}

    def executed(self) -> Iterator[Lane]:
        """The lane of each attempt that is executed now."""
        for dispatcher in self._dispatchers:
            for held in dispatcher.executed():
                yield held.lease.app, held.lease.queue, held.row.executor

    def uncounted(self) -> Iterator[Lane]:
        """Of those that ended and that the meter has not seen yet."""
        return self._reporter.uncounted()

    async def run(self, stopping: asyncio.Event, forced: asyncio.Event) -> None:
        """Until the worker is to stop and has drained, or this life is over because its leases are."""
        self.lifeline.start()
        claiming = asyncio.create_task(self.claiming.run())
        reporting = asyncio.create_task(self._reporter.run())
        ticking = asyncio.create_task(self.ticking.run())
        confirming = asyncio.create_task(self._confirm_loss())
        tidying = [asyncio.create_task(self._tidying.run())] if self._tidies else []
        try:
            await self._unless_lost(stopping.wait())
            self.claiming.stop()
            self._tidying.stop()
            if not self._lost.is_set():
                await self._unless_lost(self._drain(claiming, ticking, forced))
        finally:
            for task in tidying:
                task.cancel()
            self._stop_at_once()
            await self._all_drained()
            self.dispatcher.close()
            self.ticker.close()
            self._reporter.close()
            if not self._lost.is_set():
                await asyncio.wait([reporting], timeout=LAST_WORDS)
            await self._hang_up(claiming, reporting, ticking, *tidying, *self._begins)
            self._reporter.count_rest()
            await self._leave()
            await self.lifeline.close()
            confirming.cancel()

    async def _unless_lost(self, what: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, but no longer than this life lasts."""
        task, lost = asyncio.create_task(what), asyncio.create_task(self._lost.wait())
        await asyncio.wait([task, lost], return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        await self._hang_up(task)
        if not task.cancelled():
            task.result()

    async def _confirm_loss(self) -> None:
        """Apart from everything that waits for the database: the process is ended when this comes too late."""
        await self._lost.wait()
        await self._all_drained()
        self.lifeline.has_stopped()

    async def _hang_up(self, *tasks: asyncio.Task[None]) -> None:
        """End what waits for the database, which may be a black hole."""
        waiting = [task for task in tasks if not task.done()]
        if waiting:
            self._claims.sever()
            self._reports.sever()
            await asyncio.wait(waiting, timeout=URGENT)  # cancelled at once, they would wait for it all the same
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, claiming: asyncio.Task[None], ticking: asyncio.Task[None], forced: asyncio.Event) -> None:
        """Give back what has not started, let run what has for as long as the grace lasts, give back the rest."""
        self.ticker.leave()
        await asyncio.wait([claiming])
        await self._give_back(self.dispatcher.take_back())
        if running := sum(dispatcher.running for dispatcher in self._dispatchers):
            log.info("draining: %s runs go on for at most %.0f s", running, self._settings.grace)
        await self._drained(forced, self._settings.grace)
        patience = FORCED if forced.is_set() else PATIENCE
        stopped = self.dispatcher.stop_all("release", patience)
        self.ticker.dispatcher.stop_all("cancel", patience)
        await self._drained(forced)
        self.dispatcher.stop_all("release", FORCED)
        self.ticker.dispatcher.stop_all("cancel", FORCED)
        await self._all_drained()
        await self._give_back(stopped)
        await self._let_go(ticking)

    async def _let_go(self, ticking: asyncio.Task[None]) -> None:
        """Report and let go of the jobs that were fired from here; those that are not are taken back from the dead."""
        until = asyncio.get_running_loop().time() + LAST_WORDS
        while self.ticker.holds and asyncio.get_running_loop().time() < until:
            self.ticking.wake()
            await asyncio.sleep(LET_GO_EVERY)
        self.ticking.stop()
        await asyncio.wait([ticking], timeout=LAST_WORDS)

    async def _drained(self, forced: asyncio.Event, seconds: float | None = None) -> None:
        """Until nothing runs any more, or the time is over, or a second signal came."""
        waits = [asyncio.create_task(self._all_drained()), asyncio.create_task(forced.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _all_drained(self) -> None:
        for dispatcher in self._dispatchers:
            await dispatcher.drained()

    async def _give_back(self, runs: Iterable[Held]) -> None:
        leases: dict[Lease, list[int]] = {}
        for held in runs:
            was_started = held.task is not None
            if was_started and (held.forsaken or held.row.id not in held.lease.open):
                continue  # it goes on, and is lost with this process; or it ended by itself in the last moment
            if was_started and self._runner.max_attempts(held) == 1:
                # It must not start a second time, so an attempt that was broken off is its last.
                held.lease.open.pop(held.row.id)
                now = self._clock.now()
                error = "broken off when its worker stopped"
                report = Report(held.row.id, "lost", held.started_at, now, error=error, max_attempts=1)
                report.executor = held.row.executor
                self._reporter.add(held.lease, report)
            else:
                leases.setdefault(held.lease, []).append(held.row.id)
        await self._release(leases)

    async def _release(self, leases: Mapping[Lease, list[int]]) -> None:
        if not leases:
            return
        try:
            async with self._claims.within(LAST_WORDS) as conn:
                for lease, runs in leases.items():
                    await store.release(conn, lease.app, self.number, lease.id, runs)
        except FAILURES as error:
            log.warning("cannot release %s leases, they will be reclaimed: %s", len(leases), describe(error))

    async def _leave(self) -> None:
        """Say good-bye, and give back what this life never knew it had. After a loss it lets others reclaim at once.

        What is not given back is reclaimed, and costs an attempt.
        """
        try:
            async with self._claims.within(LAST_WORDS) as conn:
                if not self._lost.is_set():
                    for app, lease in await store.leases_of(conn, self.number):
                        if not self.claimer.is_tainted(lease):
                            await store.release(conn, app, self.number, lease)
                await store.retire_worker(conn, self.number)
        except FAILURES as error:
            log.warning("cannot say good-bye: %s", describe(error))
            await self._claims.close()

    def _lose(self) -> None:
        """Nobody may find it running when others take over, so what runs is told before anything is awaited."""
        if self._meter is not None and not self._lost.is_set():
            self._meter.lost(sum(dispatcher.held for dispatcher in self._dispatchers))
        self._lost.set()
        self._stop_at_once()

    def _stop_at_once(self) -> None:
        self.claiming.stop()
        self.ticking.stop()
        for dispatcher in self._dispatchers:
            dispatcher.take_back()
            dispatcher.stop_all("abandon", URGENT)

    def _asked(self, runs: list[int]) -> None:
        for run in runs:
            self.dispatcher.cancel(run)

    def _tick_soon(self) -> None:
        self.ticking.wake()

    def _room(self) -> None:
        if self.claimer.wants_room:
            self.claiming.wake()

    def _freed(self, lease: Lease) -> None:
        self.claimer.look_at(lease.app, lease.queue)
        self.claiming.wake()

    def _begin_soon(self, lease: Lease) -> None:
        task = asyncio.create_task(self._begin(lease), context=self._context)
        self._begins.add(task)
        task.add_done_callback(self._begins.discard)

    async def _begin(self, lease: Lease) -> None:
        backoff = Backoff(0.02, 1.0)
        while not self._lost.is_set():
            try:
                async with self._claims.within(self._settings.statement_timeout) as conn:
                    gone = await store.begin(conn, lease.app, self.number, lease.id)
            except FAILURES as error:
                delay = backoff.next()
                log.log(
                    severity(error), "cannot begin lease %s: %s; next try in %.2f s", lease.id, describe(error), delay
                )
                await asyncio.sleep(delay)
            else:
                self.dispatcher.begun(lease, gone)
                return

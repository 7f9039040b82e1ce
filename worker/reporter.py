"""Ended attempts on their way to the database, in batches: one statement per lease, one transaction for several.

What could not be delivered is sent again for as long as the lease may still be ours. A report that arrives twice, or
after the lease was taken away, changes nothing: the statement checks the holder itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import psycopg

from scheduler.db import Backoff
from scheduler.errors import SchedulerError
from scheduler.link import Connection, Link
from scheduler.loop import describe, severity
from worker import store
from worker.journal import Journal
from worker.lease import Lease
from worker.meter import Lane, Meter
from worker.store import Report

log = logging.getLogger(__name__)

GATHER = 0.05  # seconds that reports of a lease whose other runs go on are gathered: in parts, a finish costs double
STREAM = 20  # reports in that time: so many more are coming that the end of the lease is worth another such wait …
WAITS = 4  # … so often
LOG_SOON = 0.01  # seconds that the first log line after a silence waits for others …
LOG_EVERY = 0.1  # … and between two inserts, while more keep coming
LOG_AGAIN = 0.2  # seconds until what could not be sent is tried again
TOGETHER = 100  # reports that share a transaction: they share its commit, but large ones would wait for each other
SEND_TIMEOUT = 10.0
# What a retry cannot mend. ValueError is a text that could not even be encoded.
UNSTORABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.InternalError, ValueError)

Batch = list[tuple[Lease, list[Report]]]


class Reporter:
    def __init__(
        self, link: Link, worker: int, journal: Journal, freed: Callable[[Lease], None], meter: Meter | None = None
    ) -> None:
        """`freed`: of a lease with limits some runs have ended, and the database knows. `meter` None: nobody counts."""
        self._link = link
        self._freed = freed
        self._worker = worker
        self._journal = journal
        self._meter = meter
        self._dirty: dict[int, Lease] = {}
        self._sending: Batch = []
        self._signal = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._logging: asyncio.TimerHandle | None = None
        self._logged_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(0.02, 1.0)
        self._closed = False
        journal.awake = self._line_waits

    def add(self, lease: Lease, report: Report) -> None:
        if not lease.reports:
            lease.dirty_since = self._loop.time()
            self._dirty[lease.id] = lease
            if self._gathering is None:
                self._gathering = self._loop.call_later(GATHER, self._gathered)
        lease.reports.append(report)
        lease.unanswered += 1
        if not lease.open or lease.limited:  # others may wait for the slot
            self._signal.set()

    async def run(self) -> None:
        """Until closed and everything was answered, or cancelled."""
        while not self._closed or self._dirty or self._journal:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOG_AGAIN):
                    await self._signal.wait()
            self._signal.clear()
            await self._send_all()

    def uncounted(self) -> Iterator[Lane]:
        """The lanes of attempts that started and ended here, and were not counted yet."""
        for lease in self._dirty.values():
            for report in lease.reports:
                if report.run_at is not None:
                    yield lease.app, lease.queue, report.executor

    def count_rest(self) -> None:
        """Of what nobody will send any more."""
        for lease in self._dirty.values():
            self._count(lease)
        self._dirty.clear()

    def close(self) -> None:
        """No more is coming: `run` sends what is left and returns."""
        self._closed = True
        self._signal.set()

    async def _send_all(self) -> None:
        if not self._dirty:
            await self._send_log()
        while self._sending or self._gather():
            await self._send_log()  # after the reports were chosen: it holds all lines of the runs that ended
            try:
                async with self._link.within(SEND_TIMEOUT) as conn:
                    await self._send(conn, self._sending)
            except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
                log.log(severity(error), "reports wait: %s", describe(error))
                await self._pause()
            except Exception:  # reports that nobody sends any more would be the silent end of the worker
                log.exception("reports failed unexpectedly")
                await self._pause()
            else:
                for lease, reports in self._sending:
                    lease.unanswered -= len(reports)
                    if lease.limited:
                        self._freed(lease)
                self._sending = []
                self._backoff.reset()

    def _gather(self) -> bool:
        """Choose what to send now: leases that ended, and what was gathered of the others for long enough."""
        now = self._loop.time()
        ripe = [
            lease
            for lease in self._dirty.values()
            if not lease.open or lease.limited or self._closed or self._is_ripe(lease, now)
        ]
        for lease in ripe:
            self._count(lease)
            self._sending.append((lease, lease.reports))
            lease.reports = []
            lease.seen = lease.looks = 0
            del self._dirty[lease.id]
        if self._dirty and self._gathering is None:
            oldest = min(lease.dirty_since for lease in self._dirty.values())
            self._gathering = self._loop.call_at(oldest + GATHER, self._gathered)
        return bool(ripe)

    def _count(self, lease: Lease) -> None:
        if self._meter is not None:
            self._meter.ended(lease.app, lease.queue, lease.reports)

    def _is_ripe(self, lease: Lease, now: float) -> bool:
        """Whether reports of a lease whose other runs go on have waited long enough.

        Not while they come in a stream: 2,000 runs of a millisecond, or on a slow machine, take longer than GATHER.
        """
        if now - lease.dirty_since < GATHER * 0.9:  # the timer may be a millisecond early
            return False
        came, lease.seen = len(lease.reports) - lease.seen, len(lease.reports)
        lease.looks += 1
        lease.dirty_since = now
        return came < STREAM or lease.looks > WAITS

    async def _pause(self) -> None:
        await self._link.close()
        await asyncio.sleep(self._backoff.next())

    async def _send(self, conn: Connection, batch: Batch) -> None:
        if len(batch) > 1 and sum(len(reports) for _, reports in batch) <= TOGETHER:
            try:
                async with conn.transaction():
                    for lease, reports in batch:
                        await self._finish(conn, lease, reports)
            except UNSTORABLE:
                pass  # and nothing of it counted: each lease on its own
            else:
                return
        for lease, reports in batch:
            try:
                await self._finish(conn, lease, reports)
            except UNSTORABLE:  # something in it: report by report, so that its neighbours do not suffer for it
                for report in reports:
                    await self._finish_alone(conn, lease, report)

    async def _finish_alone(self, conn: Connection, lease: Lease, report: Report) -> None:
        try:
            await self._finish(conn, lease, [report])
        except UNSTORABLE as error:
            log.error("run %s: its result cannot be stored: %s", report.run_id, describe(error))  # noqa: TRY400
            text = f"the result cannot be stored: {describe(error)}"
            report = Report(report.run_id, "failed", report.started_at, report.finished_at, error=text)
            await self._finish(conn, lease, [report])

    async def _finish(self, conn: Connection, lease: Lease, reports: Sequence[Report]) -> None:
        if len(reports) == len(lease.order) and all(r.outcome == "succeeded" and r.result is None for r in reports):
            if [r.run_id for r in reports] != lease.order:
                place = {run: number for number, run in enumerate(lease.order)}
                reports = sorted(reports, key=lambda report: place[report.run_id])
            counted = await store.finish_all(conn, lease.app, self._worker, lease.id, reports)
        else:
            counted = await store.finish(conn, lease.app, self._worker, lease.id, reports)
        if counted < len(reports):
            log.warning(
                "%s of %s reports of lease %s did not count: it is no longer ours, or they ended otherwise",
                len(reports) - counted,
                len(reports),
                lease.id,
            )

    async def _send_log(self) -> None:
        """Lines go before the ends of their runs, so that who follows a log until its run ended has seen them all."""
        if not self._journal:
            return
        try:
            async with self._link.within(SEND_TIMEOUT) as conn:
                await self._journal.flush(conn)
        except (psycopg.Error, SchedulerError, TimeoutError, OSError) as error:
            log.log(severity(error), "log lines wait: %s", describe(error))
            await self._link.close()
        self._logged_at = self._loop.time()
        if self._journal:  # what came meanwhile told nobody: it was not the first
            self._log_soon()

    def _line_waits(self) -> None:
        """Called on any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed under a thread that goes on
            self._loop.call_soon_threadsafe(self._log_soon)

    def _log_soon(self) -> None:
        if self._logging is None:
            at = max(self._loop.time() + LOG_SOON, self._logged_at + LOG_EVERY)
            self._logging = self._loop.call_at(at, self._log_now)

    def _log_now(self) -> None:
        self._logging = None
        self._signal.set()

    def _gathered(self) -> None:
        self._gathering = None
        self._signal.set()

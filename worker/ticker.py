"""Fires jobs whose period is too short for a row each: the job is leased, and its instants come from a timer here.

    take ─▶ wait for the next instant ─▶ execute ─▶ count ─▶ the next instant …        every SPAN: report
                    └──────────── revoked, or this worker stops: report, let go

Each fire is executed as any other run, by a Dispatcher and a Runner of its own: at its instant, never early, with its
timeout, its context, and the lease as its fence. Slots it needs none: a job has one fire at a time, and it may not wait
for runs that are long. What it returns is not kept, and a fire that fails is not tried again: the next one comes.

Only the holder of a job fires it. It lets go when the definition changes or this worker stops, and not before the fire
that runs has ended; the row it holds keeps everybody else away until then. A worker that is lost stops as with all it
runs, before its jobs can be taken back, and the first instant after that is fired by the next holder.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import psycopg

from scheduler.clock import DatabaseClock
from scheduler.config import Settings
from scheduler.errors import LeaseLostError, from_database
from scheduler.link import Connection, Link
from worker import store
from worker.dispatcher import Dispatcher
from worker.executors import Executor
from worker.journal import SpanJournal
from worker.lease import Held, Lease
from worker.meter import Meter
from worker.pulse import Pulse
from worker.runner import Runner
from worker.store import Report, Row, TakenPulse
from worker.tracing import Spans

SPAN = 5.0  # seconds that are summarised in one row of history
CHECK = 0.5  # seconds between two looks at what was revoked, should no notification say so
LOOKS = 2  # poll floors between two looks for jobs to take, while none are held
TAKE = 10  # jobs at a time, so that several workers share what waits …
LOG_EVERY = 0.15  # seconds that log lines are gathered: a step asks more than their insert
AGAIN = 0.05  # … and the seconds until the next look, when there were as many
RATE = 1_000.0  # fires a second of one worker: they take a fifth of a core
MANNERS = 0.005  # seconds for each job held before a hint is followed: who holds few comes first


class Ticker:
    def __init__(
        self,
        link: Link,
        settings: Settings,
        clock: DatabaseClock,
        executors: Mapping[str, Executor],
        worker: int,
        *,
        apps: Sequence[str] | None,
        queues: Sequence[str] | None,
        is_alive: Callable[[], bool],
        lost: Callable[[], None],
        wake: Callable[[], None],
        meter: Meter | None = None,
        spans: Spans | None = None,
    ) -> None:
        """`wake()`: make a step soon, there is something to report or to let go."""
        self._link = link
        self._settings = settings
        self._clock = clock
        self._worker = worker
        self._apps = apps
        self._queues = queues
        self._executors = list(executors)
        self._is_alive = is_alive
        self._lost = lost
        self._wake = wake
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._journal = SpanJournal(clock, self._log_soon)
        self._pulses: dict[int, Pulse] = {}
        self._firing: dict[int, Held] = {}  # the fire of each that is being waited for, or executed
        self._leaving = False
        self._unsure = False  # a statement failed: the database may have us hold what we do not know of
        self._looks_at = 0.0
        self._hint: asyncio.TimerHandle | None = None
        self.dispatcher = Dispatcher(
            concurrency=2**31,
            queues={},
            clock=clock,
            is_alive=is_alive,
            runner=Runner(executors, clock, self._journal, spans),
            begin=lambda _: None,  # each lease here is begun from the start
            ended=self._ended,
            room=lambda: None,
            meter=meter,
        )

    @property
    def holds(self) -> int:
        """Jobs that are fired from here."""
        return len(self._pulses)

    def hint(self, worker: str) -> None:
        """A notification: a job of this worker was revoked, or (for nobody) one waits to be taken."""
        if worker == str(self._worker):
            self._wake()
        elif not worker and self._hint is None and not self._leaving:
            self._hint = self._loop.call_later(min(1.0, MANNERS * self.holds), self._look_now)

    def leave(self) -> None:
        """The worker stops: nothing more is fired, and what does not run any more is let go."""
        self._leaving = True
        for pulse in self._pulses.values():
            self._stop(pulse)
        self._wake()

    def close(self) -> None:
        if self._hint is not None:
            self._hint.cancel()
        self.dispatcher.close()

    async def run_once(self) -> float:
        """Compare, report, let go, take; the seconds until the next step."""
        if not self._is_alive():
            return self._settings.poll
        try:
            async with self._link.within(self._settings.statement_timeout) as conn:
                return await self._step(conn)
        except psycopg.Error as error:
            self._unsure = True
            if isinstance(from_database(error), LeaseLostError):
                self._lost()
                return self._settings.poll
            raise
        except TimeoutError:
            self._unsure = True
            raise

    async def _step(self, conn: Connection) -> float:
        if self._pulses or self._unsure:
            await self._compare(conn)
            self._unsure = False
        await self._report(conn)
        await self._let_go(conn)
        now = time.monotonic()
        if not self._leaving and now >= self._looks_at:
            self._looks_at = now + LOOKS * self._settings.poll
            if await self._take(conn) == TAKE:
                self._looks_at = now + AGAIN
        if self._leaving:
            return CHECK
        until = self._looks_at - time.monotonic()
        return max(0.0, min(CHECK, until) if self._pulses else until)

    async def _compare(self, conn: Connection) -> None:
        """Stop what was revoked or is no longer ours; let go of what we never heard of, as its answer was lost."""
        held = {pulse.lease: pulse for pulse in await store.pulses_of(conn, self._worker)}
        for lease in self._pulses.keys() - held.keys():
            self._stop(self._pulses.pop(lease))
        for lease, (app, _, is_revoked) in held.items():
            if lease not in self._pulses:
                await store.release_pulses(conn, app, self._worker, [lease], is_over=False)
            elif is_revoked:
                self._stop(self._pulses[lease])

    async def _report(self, conn: Connection) -> None:
        now = self._clock.now()
        by_app: defaultdict[str, list[Pulse]] = defaultdict(list)
        for pulse in self._pulses.values():
            is_due = now - pulse.reported_at >= SPAN or self._is_idle(pulse)
            if is_due and pulse.to_send() is not None:
                by_app[pulse.taken.app].append(pulse)
        # After the reports were chosen: who follows a log until its run ended has seen all of it.
        await self._journal.flush(conn)
        if self._journal:  # what came meanwhile told nobody: it was not the first
            self._log_soon()
        for app, pulses in by_app.items():
            spans = [pulse.sent for pulse in pulses if pulse.sent is not None]
            answers = await store.report_pulses(conn, app, self._worker, spans)
            for pulse in pulses:
                if self._meter is not None and pulse.lease in answers and pulse.sent is not None:
                    self._meter.fired(app, pulse.sent)
                pulse.reported_at = now
                self._journal.end(app, pulse.former_id)
                if pulse.lease in answers:
                    pulse.answered(answers[pulse.lease])
                else:
                    self._stop(self._pulses.pop(pulse.lease))

    async def _let_go(self, conn: Connection) -> None:
        """Of what is fired no more, once all of it is reported."""
        for pulse in [pulse for pulse in self._pulses.values() if self._is_idle(pulse) and pulse.to_send() is None]:
            is_over = pulse.next is None
            await store.release_pulses(conn, pulse.taken.app, self._worker, [pulse.lease], is_over=is_over)
            del self._pulses[pulse.lease]

    async def _take(self, conn: Connection) -> int:
        rate = RATE - sum(min(1e6 / pulse.taken.period, 100.0) for pulse in self._pulses.values())
        taken = await store.take_pulses(
            conn,
            self._worker,
            apps=self._apps,
            queues=self._queues,
            executors=self._executors,
            limit=TAKE,
            rate=rate,
        )
        for one in taken:
            pulse = self._pulses[one.lease] = Pulse(one, self._clock.now())
            self._await_next(pulse)
        return len(taken)

    def _await_next(self, pulse: Pulse) -> None:
        if pulse.is_leaving or self._pulses.get(pulse.lease) is not pulse:
            return
        pulse.catch_up(self._clock.now())
        if pulse.next is None:
            self._stop(pulse)
            self._wake()
            return
        lease = Lease(pulse.taken.app, pulse.taken.queue, pulse.lease, [_row(pulse.taken, pulse)], begun=True)
        self._firing[pulse.lease] = lease.open[pulse.run_id]
        self.dispatcher.accept(lease)

    def _ended(self, lease: Lease, report: Report) -> None:
        if self._meter is not None and report.started_at is not None:
            self._meter.ended(lease.app, lease.queue, [report])
        held = self._firing.pop(lease.id, None)
        pulse = self._pulses.get(lease.id)
        if held is None or pulse is None:
            return
        if report.started_at is not None:  # else it was taken back while it waited for its instant
            pulse.ended(round(held.row.run_at * 1e6), report)
        if pulse.is_leaving:
            self._wake()
        else:
            # In another turn, so that a job which has to catch up leaves the loop to the others.
            self._loop.call_soon(self._await_next, pulse)

    def _stop(self, pulse: Pulse) -> None:
        """Fire nothing more of it; what runs goes on to its end."""
        pulse.is_leaving = True
        held = self._firing.get(pulse.lease)
        if held is not None and held.started_at is None:
            self.dispatcher.cancel(held.row.id)

    def _is_idle(self, pulse: Pulse) -> bool:
        return pulse.is_leaving and pulse.lease not in self._firing

    def _log_soon(self) -> None:
        """A line waits. Called on any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed under a thread that goes on
            self._loop.call_soon_threadsafe(self._loop.call_later, LOG_EVERY, self._wake)

    def _look_now(self) -> None:
        self._hint = None
        self._looks_at = 0.0
        self._wake()


def _row(taken: TakenPulse, pulse: Pulse) -> Row:
    at = (pulse.next or 0) / 1e6
    return Row(pulse.run_id, taken.executor, taken.spec, 1, at, at, taken.job, taken.timeout, 1, pulse.lost)

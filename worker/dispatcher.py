"""Which of the held runs starts when: slots, order, and timers for what is not due yet.

    accept ─▶ waiting (not due: a timer) ─▶ ready (due) ─▶ running (has a slot) ─▶ ended (reported)
                     └──────────── given back, or abandoned ────────────┘

A run that is to stop is cancelled; when that does not help, cancelled again, which makes executors kill at once what
they had asked to end; and when not even that helps, it is forsaken: it has ended here whatever its code goes on to do.

Everything here happens on one event loop and never awaits in the middle of a decision, so there are no locks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping

from scheduler.clock import DatabaseClock
from worker.lease import Ending, Held, Lease
from worker.runner import Runner
from worker.store import Report

log = logging.getLogger(__name__)

BEGIN_AHEAD = 0.05  # seconds before its instant that a lease held for it is declared begun: two round trips and a pause
PATIENCE = 6.0  # seconds until a run that is to stop is told again: longer than executors wait between TERM and KILL
SPIN = 0.002  # an event loop's timers are good to a millisecond: the last two are taken in small steps


class Dispatcher:
    def __init__(
        self,
        *,
        concurrency: int,
        queues: Mapping[str, int],
        clock: DatabaseClock,
        is_alive: Callable[[], bool],
        runner: Runner,
        begin: Callable[[Lease], None],
        ended: Callable[[Lease, Report], None],
        room: Callable[[], None],
    ) -> None:
        """`queues`: slots per queue, where fewer than `concurrency`; `room()` is called when a slot got free."""
        self._concurrency = concurrency
        self._queues = queues
        self._clock = clock
        self._is_alive = is_alive
        self._runner = runner
        self._begin = begin
        self._ended = ended
        self._room = room
        self._ready: dict[str, deque[Held]] = {}
        self._waiting: list[tuple[float, int, Held]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._running: Counter[str] = Counter()
        self._held: dict[int, Held] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.forsaken: set[asyncio.Task[None]] = set()
        self.ready = 0  # due, without a slot
        self.running = 0
        self.finished = 0  # since the start

    @property
    def waiting(self) -> int:
        """Runs that are held for their instant."""
        return len(self._waiting)

    def free(self, queue: str) -> int:
        """Slots of a queue that nothing held and due will take."""
        total = self._concurrency - self.running - self.ready
        line = self._ready.get(queue)
        own = self._queues.get(queue, self._concurrency) - self._running[queue] - (len(line) if line else 0)
        return min(total, own)

    def accept(self, lease: Lease) -> None:
        """Take charge of a lease's runs."""
        now = self._clock.now()
        for held in lease.open.values():
            self._held[held.row.id] = held
            if held.row.run_at <= now:
                self._enqueue(held, now)
            else:
                heapq.heappush(self._waiting, (held.row.run_at, next(self._order), held))
        self._arm()
        self.pump()

    def pump(self) -> None:
        """Start what is due and has a slot."""
        for queue, line in list(self._ready.items()):
            limit = self._queues.get(queue, self._concurrency)
            while line and self.running < self._concurrency and self._running[queue] < limit:
                lease = line[0].lease
                if not lease.begun:
                    self._ask_to_begin(lease)
                    break
                if not self._is_alive():
                    return
                self.ready -= 1
                self._start(line.popleft())

    def begun(self, lease: Lease, runs: set[int]) -> None:
        """The database's answer to `begin`: these are the runs to execute, the others are no longer ours."""
        lease.begun = True
        for run in lease.open.keys() - runs:
            self._drop(lease.open[run])
        self.pump()

    def cancel(self, run: int) -> None:
        """Stop a run that is being executed, or report one that is held as cancelled."""
        held = self._held.get(run)
        if held is None or held.ending is not None:
            return
        if held.task is not None:
            self._stop(held, "cancel")
        elif held.lease.begun:  # of a lease that was not begun, begin() leaves it out
            lease = held.lease
            self._drop(held)
            report = Report(run, "cancelled", None, self._clock.now(), error="cancelled before it started")
            self._ended(lease, report)

    def take_back(self, overdue: float = 0.0) -> list[Held]:
        """Held runs that were not started (with `overdue`: that lacked a slot for so many seconds), struck off here."""
        before = self._clock.now() - overdue
        idle = [held for held in self._held.values() if held.task is None]
        back = [held for held in idle if not overdue or (held.due_since is not None and held.due_since < before)]
        for held in back:
            self._drop(held)
        return back

    def stop_all(self, ending: Ending, patience: float = PATIENCE) -> list[Held]:
        """Stop every run that is being executed; returns them. One that is being stopped already is told again."""
        running = [held for held in self._held.values() if held.task is not None]
        for held in running:
            self._stop(held, ending, patience)
        return running

    async def drained(self) -> None:
        """Until nothing is being executed."""
        await self._idle.wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _enqueue(self, held: Held, now: float) -> None:
        held.due_since = now
        self._ready.setdefault(held.lease.queue, deque()).append(held)
        self.ready += 1

    def _start(self, held: Held) -> None:
        self._idle.clear()
        self.running += 1
        self._running[held.lease.queue] += 1
        held.started_at = self._clock.now()
        held.task = asyncio.create_task(self._execute(held))
        held.timeout = self._runner.timeout(held)
        held.alarm = asyncio.get_running_loop().call_later(held.timeout, self._stop, held, "timeout")

    async def _execute(self, held: Held) -> None:
        report = await self._runner.run(held)
        if not held.forsaken:
            self._end(held, report)

    def _end(self, held: Held, report: Report | None) -> None:
        if held.alarm is not None:
            held.alarm.cancel()
        self.running -= 1
        self.finished += 1
        self._running[held.lease.queue] -= 1
        self._held.pop(held.row.id, None)
        if report is not None:
            held.lease.open.pop(held.row.id, None)
            self._ended(held.lease, report)
        self.pump()
        if self.running == 0:
            self._idle.set()
        self._room()

    def _stop(self, held: Held, ending: Ending, patience: float = PATIENCE) -> None:
        if held.task is None or (held.ending is not None and patience >= PATIENCE):
            return
        if held.ending is None or ending == "abandon":
            held.ending = ending
        held.task.cancel()
        self._watch(held, patience, self._insist)

    def _insist(self, held: Held, patience: float) -> None:
        if held.task is not None:
            held.task.cancel()
            # Nothing that was abandoned is forsaken: it must have stopped, or the lifeline ends the process.
            self._watch(held, patience, self._insist if held.ending == "abandon" else self._forsake)

    def _watch(self, held: Held, patience: float, then: Callable[[Held, float], None]) -> None:
        if held.alarm is not None:
            held.alarm.cancel()
        held.alarm = asyncio.get_running_loop().call_later(patience, then, held, patience)

    def _forsake(self, held: Held, _: float) -> None:
        if held.task is not None:
            log.error("run %s does not let itself be stopped, and is left to itself", held.row.id)
            held.forsaken = True
            self.forsaken.add(held.task)
            held.task.add_done_callback(self.forsaken.discard)
            self._end(held, self._runner.forsake(held))

    def _drop(self, held: Held) -> None:
        self._held.pop(held.row.id, None)
        held.lease.open.pop(held.row.id, None)
        line = self._ready.get(held.lease.queue)
        if line is not None and held in line:
            line.remove(held)
            self.ready -= 1
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not held]
            heapq.heapify(self._waiting)

    def _ask_to_begin(self, lease: Lease) -> None:
        if not lease.begun and not lease.beginning:
            lease.beginning = True
            self._begin(lease)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        run_at, _, held = self._waiting[0]
        left = run_at - self._clock.now()
        if not held.lease.begun and not held.lease.beginning:
            left -= BEGIN_AHEAD
        elif left > SPIN:
            left -= SPIN
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(left, self._tick) if left > 0 else None
        if self._timer is None:
            loop.call_soon(self._tick)

    def _tick(self) -> None:
        now = self._clock.now()
        due = False
        while self._waiting and self._waiting[0][0] <= now:
            self._enqueue(heapq.heappop(self._waiting)[2], now)
            due = True
        for run_at, _, held in self._waiting[:1]:
            if run_at - now <= BEGIN_AHEAD:
                self._ask_to_begin(held.lease)
        self._arm()
        if due:
            self.pump()

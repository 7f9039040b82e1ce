"""Which of the held runs starts when: slots, order, and timers for what is not due yet.

    accept ─▶ waiting (not due: a timer) ─▶ ready (due) ─▶ running (has a slot) ─▶ ended (reported)
                     └──────────── given back, or abandoned ────────────┘

A run that is to stop is cancelled; when that does not help, cancelled again, which makes executors kill at once what
they had asked to end; and when not even that helps, it is forsaken: it has ended here whatever its code goes on to do.

What is due waits in lines, one for each app and queue (and one for what has limits there), and lines have turns at the
slots: behind the six thousand runs of an app that has a million more, another app's one run would start 100 ms late.

Everything here happens on one event loop and never awaits in the middle of a decision, so there are no locks.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from scheduler.clock import DatabaseClock
from worker.lease import Ending, Held, Lease, Line, Slot
from worker.meter import Meter
from worker.runner import Runner
from worker.steps import Rest
from worker.store import Report

log = logging.getLogger(__name__)

BEGIN_AHEAD = 0.05  # seconds before its instant that a lease held for it is declared begun: two round trips and a pause
PATIENCE = 6.0  # seconds until a run that is to stop is told again: longer than executors wait between TERM and KILL
TURN = 0.002  # seconds that runs which end at once may hold the event loop before it looks at its connections
ABREAST = 64
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
        meter: Meter | None = None,
    ) -> None:
        """`queues`: slots per queue, where fewer than `concurrency`; `room()` is called when one may have got free."""
        self._concurrency = concurrency
        self._queues = queues
        self._clock = clock
        self._is_alive = is_alive
        self._runner = runner
        self._begin = begin
        self._ended = ended
        self._room = room
        self._meter = meter
        self._ready: dict[Line, deque[Held]] = {}  # in the order of their turns
        self._waiting: list[tuple[float, int, Held]] = []
        self._order = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # what every run begins with
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._next_deadline = math.inf
        self._pumping = False
        self._abreast = 1  # slots to open at once: more when runs wait for something, one when they end at once
        self._opening = 0
        self._running: Counter[str] = Counter()
        self._held: dict[int, Held] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.lookahead = 0  # how many runs before its first one is due to start a lease is declared begun
        self.forsaken: set[asyncio.Task[None]] = set()
        self.ready = 0  # due, without a slot
        self.running = 0
        self.finished = 0  # since the start

    @property
    def waiting(self) -> int:
        """Runs that are held for their instant."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Runs in hand, started or not."""
        return len(self._held)

    def executed(self) -> list[Held]:
        """Runs that are executed now. It goes through all that are held."""
        return [held for held in self._held.values() if held.task is not None]

    def free(self, queue: str) -> int:
        """Slots of a queue that nothing held and due will take."""
        total = self._concurrency - self.running - self.ready
        own = self._queues.get(queue)
        if own is None:
            return total
        ready = sum(len(runs) for line, runs in self._ready.items() if line[1] == queue)
        return min(total, own - self._running[queue] - ready)

    def lines(self) -> dict[Line, int]:
        """How many due runs without a slot are in each line."""
        return {line: len(runs) for line, runs in self._ready.items() if runs}

    def accept(self, lease: Lease) -> None:
        """Take charge of a lease's runs."""
        now = self._clock.now()
        self._held.update(lease.open)
        for held in lease.open.values():
            if held.row.run_at <= now:
                self._enqueue(held, now)
            else:
                heapq.heappush(self._waiting, (held.row.run_at, next(self._order), held))
        self._arm()
        self.pump()

    def pump(self) -> None:
        """Start what is due and has a slot."""
        self._pumping = False
        if self._is_alive():
            self._fill_in_turn()
        if self.running == 0:
            self._idle.set()
        self._room()

    def begun(self, lease: Lease, gone: set[int] | None) -> None:
        """The database's answer to `begin`: these are no longer ours to execute; None: none of them is."""
        lease.begun = True
        for run in list(lease.open) if gone is None else lease.open.keys() & gone:
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
            report = Report(run, "cancelled", None, self._clock.now(), executor=held.row.executor)
            report.error = "cancelled before it started"
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
        for timer in (self._timer, self._deadline_timer):
            if timer is not None:
                timer.cancel()

    def _enqueue(self, held: Held, now: float) -> None:
        held.due_since = now
        runs = self._ready.get(held.lease.line)
        if runs is None:
            runs = self._ready[held.lease.line] = deque()
        runs.append(held)
        self.ready += 1

    def _fill_in_turn(self) -> None:
        """Open slots for what is due. The line that is served first is the last one the next time."""
        first = None
        for line, runs in list(self._ready.items()):
            if not runs:
                del self._ready[line]  # the next one of this app and queue makes it anew
            elif self._fill(line[1], runs) and first is None:
                first = line
        if first is not None and len(self._ready) > 1:
            self._ready[first] = self._ready.pop(first)

    def _fill(self, queue: str, line: deque[Held]) -> bool:
        """Open slots for what is due of a line, as many at once as seem to be needed. False: for none of it."""
        if not line[0].lease.begun:
            self._ask_to_begin(line[0].lease)
            return False
        self._ask_to_begin(line[min(self.lookahead, len(line) - 1)].lease)
        count = min(self._abreast, len(line), self._slots(queue)) - self._opening
        for _ in range(count):
            self._opening += 1
            slot = Slot(self._context)
            self._loop.create_task(self._serve(slot, queue, line), context=slot.context.copy())
        return count > 0

    async def _serve(self, slot: Slot, queue: str, line: deque[Held]) -> None:
        """A slot: executes one due run after the other, for as long as they end without having waited for anything.

        The first run that waits keeps the slot's task for itself, and other slots are opened. So no two runs share a
        task that anybody could have got hold of, or a context that one of them changed. A task for each of 100,000 runs
        a second, most of which end at once, cost 2.1 us of some 9 that a run takes here.
        """
        self._opening -= 1
        if not self._is_alive() or self._slots(queue) <= 0:
            return
        now = self._clock.now()
        until = now + TURN
        runs = 0
        while now < until and line and line[0].lease.begun:
            slot.held = held = line.popleft()
            self.ready -= 1
            self._runner.prepare(held, now)
            steps = self._runner.run(held)
            try:
                waits_for = steps.send(None)
            except StopIteration as end:
                # It needed the slot for no longer than this, so nobody saw it taken.
                report: Report | None = end.value
                self._settle(held, report)
                runs += 1
                now = report.finished_at if report is not None else self._clock.now()
                if contextvars.copy_context() != slot.context:
                    break
            else:
                await self._wait(held, Rest(steps, waits_for), queue)
                slot.held = None
                return
        slot.held = None
        self._pump_soon()
        if runs > 1:
            self._abreast = 1

    async def _wait(self, held: Held, rest: Rest[Report | None], queue: str) -> None:
        """The rest of a run that did not end at once."""
        held.task = asyncio.current_task()
        self.running += 1
        self._running[queue] += 1
        self._idle.clear()
        held.deadline = time.monotonic() + held.timeout
        if held.deadline < self._next_deadline:
            self._watch_deadline(held.deadline)
        self._abreast = min(2 * self._abreast, ABREAST)
        if self.ready:
            self._fill_in_turn()
        report = await rest
        if not held.forsaken:
            self._end(held, report)

    def _slots(self, queue: str) -> int:
        """How many more runs of a queue may be executed now."""
        own = self._queues.get(queue)
        free = self._concurrency - self.running
        return free if own is None else min(free, own - self._running[queue])

    def _end(self, held: Held, report: Report | None) -> None:
        if held.alarm is not None:
            held.alarm.cancel()
        self.running -= 1
        self._running[held.lease.queue] -= 1
        self._settle(held, report)
        self._pump_soon()

    def _settle(self, held: Held, report: Report | None) -> None:
        lease, run = held.lease, held.row.id
        self.finished += 1
        self._held.pop(run, None)
        if report is not None:
            lease.open.pop(run, None)
            self._ended(lease, report)
        elif self._meter is not None:
            self._meter.broken_off(held)

    def _pump_soon(self) -> None:
        """Once for all runs that end in this turn of the event loop."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self.pump)

    def _watch_deadline(self, deadline: float) -> None:
        """One timer for all timeouts, set to the earliest: a timer for each run cost 1.8 us, this costs a comparison.

        Runs that end leave it as it is. It then fires too early, looks for the earliest deadline of those that go on,
        and is set to that: about once in the time that the shortest timeout lasts.
        """
        self._next_deadline = deadline
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._time_out)

    def _time_out(self) -> None:
        self._deadline_timer = None
        self._next_deadline = math.inf
        now = time.monotonic()
        running = [held for held in self._held.values() if held.task is not None and held.ending is None]
        for held in running:
            if held.deadline <= now:
                self._stop(held, "timeout")
        if left := [held.deadline for held in running if held.ending is None]:
            self._watch_deadline(min(left))

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
        held.alarm = self._loop.call_later(patience, then, held, patience)

    def _forsake(self, held: Held, _: float) -> None:
        if held.task is not None:
            about = held.about()
            log.error("run %s does not let itself be stopped, and is left to itself", held.row.id, extra=about)
            held.forsaken = True
            self.forsaken.add(held.task)
            held.task.add_done_callback(self.forsaken.discard)
            self._end(held, self._runner.forsake(held))

    def _drop(self, held: Held) -> None:
        self._held.pop(held.row.id, None)
        held.lease.open.pop(held.row.id, None)
        runs = self._ready.get(held.lease.line)
        if runs is not None and held in runs:
            runs.remove(held)
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
        self._timer = self._loop.call_later(left, self._tick) if left > 0 else None
        if self._timer is None:
            self._loop.call_soon(self._tick)

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

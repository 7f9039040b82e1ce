"""What to claim, when, and how much.

A claim takes what can start soon and no more: the free slots, plus a prefetch that grows with the measured rate and is
nothing while runs are long, so that a run of three hours holds no other hostage. What is due within the horizon is
claimed early and waits for its instant on a local timer.

A queue that is drained is not looked at from its head each time: rows that were claimed stay in the index until they
are vacuumed, which an old snapshot puts off, so a claim goes on behind the last run that was taken. What comes to lie
before that place (a higher priority, a retry, a commit that took long) is found by a look from the head, every 100 ms,
or less often where that look is slow.

A notification names the queue to look at. Polling finds what notifications missed: within milliseconds while there was
work a moment ago, in time for the next known instant otherwise, and once per poll floor in any case.

Notifications cost those who insert, so they are asked for only while runs come one at a time. When every look finds
several, polling every 5 ms does as well, and inserts need not notify.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from scheduler.config import Settings
from scheduler.errors import LeaseLostError, SchedulerError, from_database
from scheduler.link import Connection, Link
from scheduler.listen import Listener
from worker import store
from worker.dispatcher import Dispatcher
from worker.lease import Lease
from worker.store import Place

PREFETCH_SECONDS = 0.1  # of work at the measured rate: covers a claim's round trip several times over
PREFETCH_MOST = 6_000  # three claims: while one is executed, the next is there and another is on its way
CLAIM_MOST = 2_000  # runs at once: a claim's own 0.4 ms are then a tenth of what it costs
EAGER_FIRST, EAGER_MOST, EAGER_FOR = 0.005, 0.05, 1.0  # seconds: polling right after there was work
HINTS_MOST = 2  # since the last look; more are a stream
BLIND = 0.25  # seconds between the looks of an idle worker that nobody can send hints
SAY = 2.0  # seconds at most to ask for hints
DEAF = 0.5  # seconds without hints after a stream of them that brought this worker nothing to do
OVERDUE_LOOKS = 10  # in a poll floor: each goes through all that is held, 4 % of a busy worker's time at every claim
RECONCILE = 2.0  # seconds between two comparisons of what we hold with what the database says we hold
WAITING_FACTOR = 4  # at most so many times the slots are held for an instant to come
HEAD_EVERY = 0.1  # seconds between two looks from the head of a queue that is being drained …
HEAD_SHARE = 0.05  # … and the share of the time they may take: over 500,000 dead entries each takes 30 ms
HEAD_PAUSE_MOST = 1.0
CLAIM_COST = (0.005, 10e-6)  # seconds of a claim and of each of its runs that are no sign of dead entries

Queue = tuple[str, str]


@dataclass(slots=True)
class Drain:
    """A queue that is looked at behind the run that its last claim ended with."""

    place: Place
    looked_at: float  # from its head
    pause: float  # seconds at least until the next look from there: it was slow

    @property
    def head_at(self) -> float:
        return self.looked_at + max(HEAD_EVERY, self.pause)


class Claimer:
    def __init__(
        self,
        link: Link,
        settings: Settings,
        dispatcher: Dispatcher,
        worker: int,
        *,
        apps: Sequence[str] | None,
        queues: Sequence[str] | None,
        executors: Sequence[str],
        concurrency: int,
        listener: Listener,
        is_alive: Callable[[], bool],
        lost: Callable[[], None],
    ) -> None:
        self._link = link
        self._settings = settings
        self._dispatcher = dispatcher
        self._worker = worker
        self._apps = apps
        self._queues = queues
        self._executors = executors
        self._waiting_most = concurrency * WAITING_FACTOR
        self._listener = listener
        self._is_alive = is_alive
        self._lost = lost
        self._leases: dict[int, Lease] = {}
        self._drains: dict[Queue, Drain] = {}
        self._again: dict[Queue, float] = {}  # queues that are to be looked at from their heads, and when
        self._back: dict[Lease, list[int]] = {}  # to be released: what could not be is tried again
        self._hinted: set[Queue] = set()
        self._hungry: set[Queue] = set()
        self._hints = 0  # since the last look
        self._awaits: Connection | None = None  # which was told that hints are awaited
        self._deaf_until = 0.0
        self._eager = EAGER_MOST
        self._worked_at = self._looked_at = self._reconciled_at = self._measured_at = time.monotonic()
        self._looked_for_overdue_at = 0.0
        self._next_due = 0.0
        self._measured = 0
        self._rate = 0.0

    def hint(self, app: str, queue: str) -> None:
        """A notification said that this queue has something new."""
        if (self._apps is None or app in self._apps) and (self._queues is None or queue in self._queues):
            self._hinted.add((app, queue))
            self._hints += 1

    @property
    def wants_room(self) -> bool:
        """More was there than could be taken, and what is prefetched runs low."""
        return bool(self._hungry) and self._dispatcher.ready * 2 <= self._prefetch()

    def is_tainted(self, lease: int) -> bool:
        """Whether a lease with this id must be left to be reclaimed."""
        return lease in self._leases and self._leases[lease].is_tainted

    async def run_once(self) -> float:
        if not self._is_alive():
            return self._settings.poll
        try:
            async with self._link.within(self._settings.statement_timeout) as conn:
                return await self._step(conn)
        except psycopg.Error as error:
            if isinstance(from_database(error), LeaseLostError):
                self._lost()
                return self._settings.poll
            raise

    async def _step(self, conn: Connection) -> float:
        self._measure()
        started = time.monotonic()
        again = {queue for queue, at in self._again.items() if at <= started}
        targets = self._hinted | self._hungry | again
        self._hinted = set()
        self._hungry = set()
        taken = 0
        for app, queue in sorted(targets):
            taken += await self._claim(conn, app, queue)
        now = time.monotonic()
        if not targets or now - self._looked_at >= self._settings.poll:
            taken += await self._look(conn, targets)
        await self._give_back_overdue(conn)
        if now - self._reconciled_at >= RECONCILE:
            await self._reconcile(conn)
        if await self._listens_anew(taken):
            return 0.0  # once more: what came just before sent no hint
        return self._delay(taken)

    async def _listens_anew(self, taken: int) -> bool:
        """Ask for hints when a look found nothing; decline them when it found several runs, or they come in streams.

        On the connection that hears them: with it goes the wish, and this worker looks by itself until it is back.
        """
        now = time.monotonic()
        hints, self._hints = self._hints, 0
        listening = self._listener.connection
        if self._awaits is not listening:
            self._awaits = None
        try:
            if taken > 1 or hints > HINTS_MOST:
                self._deaf_until = now if taken else now + DEAF
                if self._awaits is not None:
                    self._awaits = None
                    async with self._listener.within(SAY) as conn:
                        await store.decline_hints(conn)
            elif not taken and listening is not None and self._awaits is None and now >= self._deaf_until:
                async with self._listener.within(SAY) as conn:
                    await store.await_hints(conn, self._apps, self._queues)
                self._awaits = listening
                return True
        except (psycopg.Error, SchedulerError, OSError):
            self._awaits = None  # the listener says that it is lost
        return False

    async def _look(self, conn: Connection, seen: set[Queue]) -> int:
        """Ask where there is work at all, and take of what is due."""
        taken = 0
        self._looked_at = time.monotonic()
        self._next_due = self._looked_at + self._settings.poll
        for app, queue, due_in in await store.next_due(conn, self._apps, self._queues, self._executors):
            if due_in > self._settings.horizon:
                self._next_due = min(self._next_due, self._looked_at + due_in - self._settings.horizon)
                break  # they come in the order of their time
            if (app, queue) not in seen:
                taken += await self._claim(conn, app, queue)
        return taken

    async def _claim(self, conn: Connection, app: str, queue: str) -> int:
        free = min(self._dispatcher.free(queue), CLAIM_MOST)
        taken = await self._ask(conn, (app, queue), free, begin=True) if free > 0 else 0
        if taken:
            await asyncio.sleep(0)  # it starts before the next statement is written, 0.25 ms earlier
        if taken < free:
            room = self._waiting_most - self._dispatcher.waiting
            if self._settings.horizon > 0 and room > 0:
                limit = min(room, max(1, self._dispatcher.free(queue)))
                taken += await self._ask(conn, (app, queue), limit, begin=False, ahead=True)
            return taken
        more = min(self._prefetch() - self._dispatcher.ready, CLAIM_MOST)
        extra = await self._ask(conn, (app, queue), more, begin=False) if more > 0 else 0
        if extra >= more:
            self._hungry.add((app, queue))
        return taken + extra

    async def _ask(self, conn: Connection, queue: Queue, limit: int, *, begin: bool, ahead: bool = False) -> int:
        """Claim, behind the place where the last claim of the queue ended or from its head; how many were taken."""
        drain = self._drains.get(queue)
        after = drain.place if drain is not None and time.monotonic() < drain.head_at else None
        taken = await self._claim_after(conn, queue, after, limit, begin=begin, ahead=ahead)
        if drain is None or after is None or taken == limit:
            return taken
        if time.monotonic() < drain.looked_at + drain.pause:
            self._again[queue] = drain.looked_at + drain.pause
            return taken
        return taken + await self._claim_after(conn, queue, None, limit - taken, begin=begin, ahead=ahead)

    async def _claim_after(
        self, conn: Connection, queue: Queue, after: Place | None, limit: int, *, begin: bool, ahead: bool
    ) -> int:
        started = time.monotonic()
        claimed = await store.claim(
            conn,
            queue[0],
            self._worker,
            queue[1],
            limit=limit,
            executors=self._executors,
            horizon=self._settings.horizon if ahead else 0.0,
            begin=begin,
            after=after,
        )
        took = time.monotonic() - started
        taken = 0 if claimed is None else len(claimed.rows)
        if claimed is not None:
            lease = Lease(*queue, claimed.lease, claimed.rows, begun=begin)
            self._leases[lease.id] = lease
            self._dispatcher.accept(lease)
            self._worked_at = time.monotonic()
        if not ahead:  # before what is due later, something may be inserted yet
            place = None if claimed is None else claimed.place
            self._remember(queue, place, taken, took, from_head=after is None, is_full=taken == limit)
        return taken

    def _remember(
        self, queue: Queue, place: Place | None, taken: int, took: float, *, from_head: bool, is_full: bool
    ) -> None:
        drain = self._drains.get(queue)
        if drain is not None and place is not None:
            drain.place = place
        if not from_head:
            return
        self._again.pop(queue, None)
        now = time.monotonic()
        usual = CLAIM_COST[0] + CLAIM_COST[1] * taken
        pause = min(HEAD_PAUSE_MOST, max(0.0, took - usual) / HEAD_SHARE)
        if drain is not None:
            drain.looked_at, drain.pause = now, pause
        elif place is not None:
            drain = self._drains[queue] = Drain(place, now, pause)
        if drain is not None and not is_full and pause <= HEAD_EVERY:
            del self._drains[queue]

    def _delay(self, taken: int) -> float:
        now = time.monotonic()
        if self._hinted:
            return 0.0
        if self._hungry:
            can_take = any(self._dispatcher.free(queue) > 0 for _, queue in self._hungry)
            return 0.0 if can_take or self.wants_room else self._settings.poll
        if self._awaits is not None and self._awaits is self._listener.connection:
            floor = self._settings.poll
        else:
            floor = min(BLIND, self._settings.poll) if self._listener.is_hopeless else EAGER_MOST
        due = max(0.0, min(floor, self._next_due - now, *(at - now for at in self._again.values())))
        if taken:
            self._eager = EAGER_FIRST
        elif now - self._worked_at < EAGER_FOR:
            self._eager = min(EAGER_MOST, self._eager * 2)
        else:
            return due
        return min(self._eager, due)

    def _prefetch(self) -> int:
        runs = min(PREFETCH_MOST, int(self._rate * PREFETCH_SECONDS))
        self._dispatcher.lookahead = runs // 2
        return runs

    def _measure(self) -> None:
        now = time.monotonic()
        passed = now - self._measured_at
        if passed < PREFETCH_SECONDS / 10:
            return
        rate = (self._dispatcher.finished - self._measured) / passed
        self._rate = rate if passed > 1 else max(rate, self._rate * (1 - passed))  # up at once, down within a second
        self._measured, self._measured_at = self._dispatcher.finished, now

    async def _give_back_overdue(self, conn: Connection) -> None:
        """Others may have a slot for what has waited here for longer than the poll floor."""
        now = time.monotonic()
        if self._dispatcher.ready and now - self._looked_for_overdue_at >= self._settings.poll / OVERDUE_LOOKS:
            self._looked_for_overdue_at = now
            for held in self._dispatcher.take_back(overdue=self._settings.poll):
                self._back.setdefault(held.lease, []).append(held.row.id)
        for lease in list(self._back):
            await store.release(conn, lease.app, self._worker, lease.id, self._back[lease])
            del self._back[lease]

    async def _reconcile(self, conn: Connection) -> None:
        """Release leases that the database says are ours and that we never heard of: the answer to a claim was lost.

        A report on its way keeps its lease known: released under it, the runs that it ended would be executed again.
        """
        self._reconciled_at = time.monotonic()
        self._leases = {number: lease for number, lease in self._leases.items() if not lease.is_over}
        for app, number in await store.leases_of(conn, self._worker):
            if number not in self._leases:
                await store.release(conn, app, self._worker, number)

"""What to claim, when, and how much.

A claim takes what can start soon and no more: the free slots, plus a prefetch that grows with the measured rate and is
nothing while runs are long, so that a run of three hours holds no other hostage. What is due within the horizon is
claimed early and waits for its instant on a local timer.

A queue that is drained is not looked at from its head each time: rows that were claimed stay in the index until they
are vacuumed, which an old snapshot puts off, so a claim goes on behind the last run that was taken. What comes to lie
before that place (a higher priority, a retry, a commit that took long) is found by a look from the head, every 100 ms,
or less often where that look is slow.

Apps, and queues, have turns. Who was served longest ago comes first, and while several have work each gets its share
of the free slots, or of those that will be free in a moment; so a backlog of a million runs in one app delays others by
one turn. While queues are drained, others that have work are looked for all the time, in a quarter of it at most.

What has a limit (a concurrency key, or a queue's own limits) is claimed when it is due and can start, never ahead: it
would hold a slot for nothing. Who frees a slot looks at once who waits for it.

A notification names the queue to look at. Polling finds what notifications missed: within milliseconds while there was
work a moment ago, in time for the next known instant otherwise, and once per poll floor in any case.

Notifications cost those who insert, so they are asked for only while runs come one at a time. When every look finds
several, polling every 5 ms does as well, and inserts need not notify.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg

from scheduler.config import Settings
from scheduler.errors import LeaseLostError, SchedulerError, from_database
from scheduler.link import Connection, Link
from scheduler.listen import Listener
from worker import store
from worker.dispatcher import Dispatcher
from worker.lease import Lease, Line
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
HEAD_PAUSE_MOST = 3.0  # on a slow machine such a look takes 130 ms, in which nothing else is claimed
CLAIM_COST = (0.005, 10e-6)  # seconds of a claim and of each of its runs that are no sign of dead entries
LOOK_EVERY = 0.025  # seconds between two looks for work elsewhere, while queues are being drained …
LOOK_SHARE = 0.25  # … and the share of the time they may take: with 10,000 apps a look takes 100 ms
CLAIM_TIME = 0.03  # seconds that a claim may take while others may wait for theirs: fewer runs on a slow machine …
CLAIM_LEAST = 200  # … but so many at least

Queue = tuple[str, str]


class Target(NamedTuple):
    """What a claim is to be made of. `keyed`: only runs with a concurrency key, only those without; None: whatever."""

    app: str
    queue: str
    keyed: bool | None = None

    @property
    def place(self) -> Queue:
        return self.app, self.queue


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
        self._concurrency = concurrency
        self._waiting_most = concurrency * WAITING_FACTOR
        self._listener = listener
        self._is_alive = is_alive
        self._lost = lost
        self._leases: dict[int, Lease] = {}
        self._drains: dict[Queue, Drain] = {}
        self._again: dict[Queue, float] = {}  # queues that are to be looked at from their heads, and when
        self._back: dict[Lease, list[int]] = {}  # to be released: what could not be is tried again
        self._hinted: set[Target] = set()
        self._hungry: set[Target] = set()  # there was more than could be taken
        self._served: dict[Target, int] = {}  # of those that are hungry: when, in turns
        self._limits: set[Queue] = set()  # queues with limits of their own, at the last look
        self._turn = 0
        self._contenders = 1
        self._hints = 0  # since the last look
        self._awaits: Connection | None = None  # which was told that hints are awaited
        self._deaf_until = 0.0
        self._eager = EAGER_MOST
        self._worked_at = self._looked_at = self._reconciled_at = self._measured_at = time.monotonic()
        self._look_pause = LOOK_EVERY
        self._most = CLAIM_MOST  # runs to a claim
        self._looked_for_overdue_at = 0.0
        self._next_due = 0.0
        self._measured = 0
        self._rate = 0.0

    def hint(self, app: str, queue: str) -> None:
        """A notification said that this queue has something new."""
        if (self._apps is None or app in self._apps) and (self._queues is None or queue in self._queues):
            self._hinted.add(Target(app, queue))
            self._hints += 1

    def look_at(self, app: str, queue: str) -> None:
        """A slot of this queue has got free."""
        self._hinted.add(Target(app, queue))

    @property
    def wants_room(self) -> bool:
        """More was there than could be taken, and there is a slot for it, or what is prefetched runs low."""
        if not self._hungry:
            return False
        prefetch = self._prefetch()
        if prefetch and self._dispatcher.ready * 2 <= prefetch and not all(map(self._is_limited, self._hungry)):
            return True
        return any(self._dispatcher.free(target.queue) > 0 for target in self._hungry)

    def _is_limited(self, target: Target) -> bool:
        return bool(target.keyed) or target.place in self._limits

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
        now = time.monotonic()
        targets = self._hungry | {Target(*queue, keyed=False) for queue, at in self._again.items() if at <= now}
        pause = self._look_pause if self._hungry else self._settings.poll
        hinted, self._hinted = self._hinted, set()
        looks = now - self._looked_at >= pause or not (targets or hinted)
        targets |= await self._look(conn, targets) if looks else hinted  # a look sees what was hinted at
        self._hungry = set()
        taken = await self._claim_in_turn(conn, targets)
        if hinted and not taken and not looks:  # it may have a limit, and be due soon: that is to be known in time
            taken = await self._claim_in_turn(conn, await self._look(conn, set()))
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

    async def _look(self, conn: Connection, known: set[Target]) -> set[Target]:
        """Ask where there is work at all besides what is known, and when the next is due; what may be claimed now."""
        started = self._looked_at = time.monotonic()
        skip = [target.place for target in known if not target.keyed]
        dues = await store.next_due(conn, self._apps, self._queues, self._executors, skip)
        self._next_due = started + self._settings.poll
        targets = set()
        self._limits = {(due.app, due.queue) for due in dues if due.limited and not due.keyed}
        for app, queue, due_in, keyed, limited in dues:
            early = 0.0 if limited else self._settings.horizon
            if due_in > early:
                self._next_due = min(self._next_due, started + due_in - early)
            else:
                targets.add(Target(app, queue, keyed))
        self._look_pause = min(self._settings.poll, max(LOOK_EVERY, (time.monotonic() - started) / LOOK_SHARE))
        return targets

    async def _claim_in_turn(self, conn: Connection, targets: set[Target]) -> int:
        """A claim of each, first of the one that was served longest ago; how many runs were taken."""
        lines = self._dispatcher.lines()
        self._contenders = max(1, len({(app, queue, bool(keyed)) for app, queue, keyed in targets} | lines.keys()))
        taken = 0
        for target in sorted(targets, key=lambda target: self._served.get(target, 0)):
            taken += await self._claim(conn, target, lines)
        if len(self._served) > len(self._hungry):
            self._served = {target: turn for target, turn in self._served.items() if target in self._hungry}
        return taken

    async def _claim(self, conn: Connection, target: Target, lines: Mapping[Line, int]) -> int:
        own = lines.get((*target.place, self._is_limited(target)), 0)
        prefetch = self._prefetch() // self._contenders - own
        free = min(self._dispatcher.free(target.queue), self._most)
        if self._contenders > 1:
            # Its share of what is free; or if nothing is, of the slots that runs let go within the prefetch's time.
            turn = min(self._concurrency // self._contenders - own, prefetch)
            free = max(min(free, max(1, free // self._contenders)), turn)
        taken, limited = await self._ask(conn, target, free, begin=True) if free > 0 else (0, False)
        limited = limited or self._is_limited(target)
        if taken:
            await asyncio.sleep(0)  # it starts before the next statement is written, 0.25 ms earlier
        if taken < free:
            room = self._waiting_most - self._dispatcher.waiting
            if self._settings.horizon > 0 and room > 0 and not limited:
                limit = min(room, max(1, self._dispatcher.free(target.queue)))
                extra, _ = await self._ask(conn, target, limit, begin=False, ahead=True)
                taken += extra
            return taken
        more = 0 if limited else min(prefetch, self._most)
        extra, _ = await self._ask(conn, target, more, begin=False) if more > 0 else (0, False)
        if extra >= more:
            hungry = Target(target.app, target.queue, keyed=bool(target.keyed))
            self._hungry.add(hungry)
            self._turn += 1
            self._served[hungry] = self._turn
        return taken + extra

    async def _ask(
        self, conn: Connection, target: Target, limit: int, *, begin: bool, ahead: bool = False
    ) -> tuple[int, bool]:
        """Claim, behind the place where the last claim of the queue ended or from its head.

        How many were taken, and whether they have a limit.
        """
        drain = self._drains.get(target.place) if not target.keyed else None
        after = drain.place if drain is not None and time.monotonic() < drain.head_at else None
        taken, limited = await self._claim_after(conn, target, after, limit, begin=begin, ahead=ahead)
        if drain is None or after is None or taken == limit:
            return taken, limited
        if time.monotonic() < drain.looked_at + drain.pause:
            self._again[target.place] = drain.looked_at + drain.pause
            return taken, limited
        more, more_limited = await self._claim_after(conn, target, None, limit - taken, begin=begin, ahead=ahead)
        return taken + more, limited or more_limited

    async def _claim_after(
        self, conn: Connection, target: Target, after: Place | None, limit: int, *, begin: bool, ahead: bool
    ) -> tuple[int, bool]:
        started = time.monotonic()
        claimed = await store.claim(
            conn,
            target.app,
            self._worker,
            target.queue,
            limit=limit,
            executors=self._executors,
            horizon=self._settings.horizon if ahead else 0.0,
            begin=begin,
            after=after,
            keyed=target.keyed,
        )
        took = time.monotonic() - started
        taken = 0 if claimed is None else len(claimed.rows)
        limited = claimed is not None and claimed.limited
        if taken >= CLAIM_LEAST:
            self._most = max(CLAIM_LEAST, min(CLAIM_MOST, int(CLAIM_TIME * taken / took)))
        if claimed is not None:
            lease = Lease(*target.place, claimed.lease, claimed.rows, begun=begin, limited=limited)
            self._leases[lease.id] = lease
            self._dispatcher.accept(lease)
            self._worked_at = time.monotonic()
        if not ahead and not target.keyed and not limited:  # before what is due later, something may be inserted yet
            place = None if claimed is None else claimed.place
            self._remember(target.place, place, taken, took, from_head=after is None, is_full=taken == limit)
        return taken, limited

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
            pause = min(self._settings.poll, self._looked_at + self._look_pause - now)
            return 0.0 if self.wants_room else max(0.0, pause)
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

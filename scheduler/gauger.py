"""Reads what the database holds, for /metrics, and always before anybody asks: a scrape only reads memory.

    processes ─┐
    alarms    ─┤
    database  ─┤
    queues    ─┼─▶ Gauges (what was read last) ─▶ /metrics
    backlogs  ─┤
    jobs      ─┘

Each part goes on by bounded statements, a page after the other, and after each the gauger rests many times as long as
it took. So it costs PostgreSQL a fixed share of one connection's time at most, and what grows with the tables is not
that share but the age of the numbers: of ten million pending runs one or two minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.config import Settings
from scheduler.link import Link
from scheduler.loop import STEP
from scheduler.metrics import catalogue
from scheduler.metrics.catalogue import Family
from scheduler.metrics.numbers import OTHER, Folded, Sample, Tally, folded
from scheduler.store import gauge
from scheduler.store.gauge import Connection

EVERY = 5.0
"""Seconds between two readings of the same, or more where they take long."""
RESTS = 20.0
"""After a statement nothing is asked for so many times as long as it took: 5 % of one connection's time at most."""
JOBS_REST = 100.0
"""The same after a look at jobs, which change seldom and are read by Python, too."""
QUEUES = 60
"""Queues that have series of their own; the others are added up."""
LONGEST = 100
"""Jobs that have series of their own: those of which the most instants passed since a success."""
QUEUE_PAGE = 200
COUNTED = 2_000
"""Runs of a queue that are counted at once. Deeper ones are counted on their own, a slice at a time."""
SLICE = 100_000
JOB_PAGE = 1_000
ALARMS = 1_000
"""Alarms that are looked at; whoever has more is told of the first."""
LOOKED_AT = 200
"""Jobs whose history is looked at in one statement: 0.1 ms each with a month of partitions."""
ATTEMPTS = 50
"""Attempts of a job among which its last success is looked for; what was known before is kept."""
INSTANTS = 1_000
OVERDUE = 3
"""Instants that may pass without a success."""

Place = tuple[str, str]


@dataclass(slots=True)
class _Part:
    """`step` makes one and says when the next one may be; `at` is when that is, by the monotonic clock."""

    step: Callable[[Connection], Awaitable[float]]
    rests: float = RESTS
    at: float = 0.0


class Gauges:
    """What was read last, a family at a time."""

    def __init__(self) -> None:
        self._values: dict[Family, Mapping[tuple[str, ...], float]] = {}

    def show(self, family: Family, values: Mapping[tuple[str, ...], float]) -> None:
        """Instead of all that was shown of it."""
        self._values[family] = values

    def samples(self) -> Iterator[Sample]:
        for family, values in self._values.items():
            for labels, value in values.items():
                yield Sample(family, labels, value)


class Gauger:
    def __init__(
        self, link: Link, settings: Settings, server: Callable[[], int], tally: Tally, turn: asyncio.Lock
    ) -> None:
        """`tally`: says which apps have series of their own. `turn` is shared with whoever else uses the link."""
        self.gauges = Gauges()
        self._link = link
        self._turn = turn
        self._server = server
        self._settings = settings
        self._tally = tally
        self._rests_until = 0.0
        queues = _Queues(server, self.gauges)
        self._parts = [
            _Part(step) for step in (self._processes, self._alarms, self._database, queues.step, queues.backlog)
        ]
        self._parts.append(_Part(_Jobs(server, self.gauges, tally).step, JOBS_REST))

    async def run_once(self) -> float:
        """One bounded statement or two, of the part whose turn it is; the seconds until the next one's."""
        now = time.monotonic()
        part = min(self._parts, key=lambda one: one.at)
        if max(part.at, self._rests_until) > now:
            return max(part.at, self._rests_until) - now
        part.at = now + EVERY  # also if it fails, so that the others have their turns
        async with self._turn, self._link.within(STEP) as conn:
            started = time.monotonic()
            pause = await part.step(conn)
            ended = time.monotonic()
        part.at = ended + max(pause, part.rests * (ended - started))
        self._rests_until = ended + RESTS * (ended - started)
        return max(self._rests_until, min(one.at for one in self._parts)) - ended

    async def _processes(self, conn: Connection) -> float:
        found = await gauge.gauge_processes(conn, self._server(), dead_after=self._settings.dead_after)
        self._show_one(catalogue.APPS_OWNED, found.owned)
        self._show_one(catalogue.APPS_UNOWNED, found.unowned)
        self._show_one(catalogue.SERVERS_ALIVE, found.servers)
        self._show_one(catalogue.WORKERS_ALIVE, found.workers)
        return EVERY

    async def _alarms(self, conn: Connection) -> float:
        values = folded(await gauge.gauge_alarms(conn, limit=ALARMS), self._tally.apps)
        self.gauges.show(catalogue.ALARMS_FIRING, {(app,): firing for app, firing in values.items()})
        return EVERY

    async def _database(self, conn: Connection) -> float:
        found = await gauge.gauge_database(conn)
        self._show_one(catalogue.DB_SNAPSHOT, found.snapshot_age)
        self._show_one(catalogue.DB_SIZE, found.size)
        if found.wal is not None:
            self._show_one(catalogue.DB_WAL, found.wal)
        self._show_one(catalogue.DB_NOTIFY, found.notify_queue)
        self._show_one(catalogue.DB_CONNECTIONS, found.connections)
        self._show_one(catalogue.DB_CONNECTIONS_MOST, found.connections_most)
        rows = zip(found.tables or (), found.dead_rows or (), strict=True)
        self.gauges.show(catalogue.DB_DEAD, {(table,): dead for table, dead in rows})
        return EVERY

    def _show_one(self, family: Family, value: float) -> None:
        self.gauges.show(family, {(): value})


class _Queues:
    """Rounds through all queues; what is deep is counted beside them, and known from the last time meanwhile."""

    def __init__(self, server: Callable[[], int], gauges: Gauges) -> None:
        self._server = server
        self._gauges = gauges
        self._shown: Folded[Place] = Folded(QUEUES)
        self._place: Place = ("", "")
        self._found: dict[Place, tuple[int, float]] = {}
        self._deep: dict[tuple[Place, bool], int] = {}  # a queue, and whether its keyed runs: what is known of it
        self._seen: set[tuple[Place, bool]] = set()  # of those, in this round
        self._to_count: list[tuple[Place, bool]] = []  # the last one now
        self._slice: gauge.Slice | None = None  # what was counted of it last …
        self._runs = 0  # … and so far

    async def step(self, conn: Connection) -> float:
        """A page."""
        page = await gauge.gauge_queues(conn, self._server(), after=self._place, limit=QUEUE_PAGE, counted=COUNTED)
        for one in page:
            if one.pending is not None and one.keyed is not None:
                place = (one.app, one.queue)
                pending = self._known(place, one.pending, is_keyed=False) + self._known(place, one.keyed, is_keyed=True)
                self._found[place] = pending, one.oldest_due or 0.0
        if len(page) == QUEUE_PAGE:
            self._place = (page[-1].app, page[-1].queue)
            return 0.0
        self._show()
        self._deep = {one: runs for one, runs in self._deep.items() if one in self._seen}
        self._place, self._found, self._seen = ("", ""), {}, set()
        return EVERY

    async def backlog(self, conn: Connection) -> float:
        """A slice of a deep queue."""
        if not self._to_count:
            self._to_count = list(self._deep)
        if not self._to_count:
            return EVERY
        counted = self._to_count[-1]
        (app, queue), keyed = counted
        part = await gauge.gauge_backlog(conn, app, queue, keyed=keyed, limit=SLICE, after=self._slice)
        self._runs += part.runs
        is_through = part.id is None
        if counted in self._deep:  # else it is not deep any more
            self._deep[counted] = self._runs if is_through else max(self._runs, self._deep[counted])
        if is_through:
            self._to_count.pop()
            self._slice, self._runs = None, 0
        else:
            self._slice = part
        return 0.0 if self._to_count else EVERY

    def _known(self, place: Place, counted: int, *, is_keyed: bool) -> int:
        if counted <= COUNTED:
            return counted
        key = (place, is_keyed)
        self._seen.add(key)
        return self._deep.setdefault(key, counted)

    def _show(self) -> None:
        pending: defaultdict[tuple[str, ...], float] = defaultdict(float)
        oldest: defaultdict[tuple[str, ...], float] = defaultdict(float)
        gone = self._shown.keys - self._found.keys()
        for place, (runs, due) in sorted(self._found.items(), key=lambda one: (-one[1][0], one[0])):
            name = place if self._shown.has(place) else (OTHER, OTHER)
            pending[name] += runs
            oldest[name] = max(oldest[name], due)
        for place in gone:  # emptied: a series that ends looks like a server that does
            pending[place] = 0
            oldest[place] = 0.0
        self._gauges.show(catalogue.PENDING, pending)
        self._gauges.show(catalogue.OLDEST_DUE, oldest)


class _Known:
    """What is known of a job: when it was due next when its history was looked at, and what was found there."""

    __slots__ = ("instants", "is_fresh", "next_due", "succeeded")

    def __init__(self) -> None:
        self.next_due: float | None = None
        self.succeeded: float | None = None
        self.instants = 0
        self.is_fresh = False


class _Jobs:
    """Rounds through the jobs of the server. The history is asked only about those that have fired since, that have
    fired without a success, or of which that cannot be told: of 10,000 hourly jobs, three a second.
    """

    def __init__(self, server: Callable[[], int], gauges: Gauges, tally: Tally) -> None:
        self._server = server
        self._gauges = gauges
        self._tally = tally
        self._place: Place = ("", "")
        self._known: dict[Place, _Known] = {}
        self._seen: set[Place] = set()
        self._asked: list[Place] = []
        self._is_through = False
        self._jobs: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()

    async def step(self, conn: Connection) -> float:
        """A page of jobs, or a look at the history of some."""
        if not self._asked and not self._is_through:
            await self._page(conn)
        if self._asked:
            await self._look(conn)
        if self._asked or not self._is_through:
            return 0.0
        self._show()
        self._place, self._is_through, self._seen = ("", ""), False, set()
        self._jobs, self._invalid = Counter(), Counter()
        return EVERY

    async def _page(self, conn: Connection) -> None:
        page = await gauge.gauge_jobs(conn, self._server(), after=self._place, limit=JOB_PAGE)
        for one in page:
            place = (one.app, one.job)
            self._seen.add(place)
            self._jobs[one.app] += 1
            self._invalid[one.app] += one.is_invalid
            known = self._known.setdefault(place, _Known())
            # A job of a short period has no next instant that would change.
            if not known.is_fresh or known.instants or one.next_due is None or known.next_due != one.next_due:
                self._asked.append(place)
            known.next_due = one.next_due
        self._is_through = len(page) < JOB_PAGE
        if page:
            self._place = (page[-1].app, page[-1].job)

    async def _look(self, conn: Connection) -> None:
        asked, self._asked = self._asked[:LOOKED_AT], self._asked[LOOKED_AT:]
        for one in await gauge.gauge_successes(conn, asked, looked=ATTEMPTS, instants=INSTANTS):
            known = self._known[one.app, one.job]
            known.succeeded = one.succeeded or known.succeeded
            known.instants = one.instants
            known.is_fresh = True

    def _show(self) -> None:
        self._known = {place: known for place, known in self._known.items() if place in self._seen}
        overdue: Counter[str] = Counter(dict.fromkeys(self._jobs, 0))
        overdue.update(app for (app, _), known in self._known.items() if known.instants > OVERDUE)
        for family, numbers in (
            (catalogue.JOBS, self._jobs),
            (catalogue.JOBS_INVALID, self._invalid),
            (catalogue.JOBS_OVERDUE, overdue),
        ):
            values = folded(numbers, self._tally.apps)
            self._gauges.show(family, {(app,): number for app, number in values.items()})
        longest = sorted(self._known.items(), key=lambda one: (-one[1].instants, one[1].succeeded or 0.0, one[0]))
        fired = [(place, known) for place, known in longest if known.succeeded or known.instants][:LONGEST]
        self._gauges.show(catalogue.JOB_SUCCESS, {place: known.succeeded or 0.0 for place, known in fired})
        due: dict[tuple[str, ...], float] = {
            place: known.next_due for place, known in fired if known.next_due is not None
        }
        self._gauges.show(catalogue.JOB_NEXT, due)

"""What the SQL functions promise about runs, said once more and slowly: what the state machine compares with.

A run is in one place: pending, open in one lease, or ended. The model moves it; nothing here reads the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile

START = datetime(2030, 1, 1, tzinfo=UTC)  # after any server's start: nobody is dead for the time it was down
DEAD_AFTER = timedelta(seconds=5)
RETRY_DELAY, RETRY_MAX_DELAY = timedelta(seconds=5), timedelta(hours=1)


@dataclass(frozen=True)
class Entry:
    """A row of history."""

    attempt: int
    outcome: str
    again: bool
    fence: int | None
    started: bool


@dataclass
class Run:
    id: int
    run_at: datetime
    key: str | None = None
    max_attempts: int = 3
    priority: int = 0
    attempt: int = 0
    lost: int = 0
    lease: int | None = None
    ended: bool = False
    latest: datetime | None = None  # set: backoff may have put run_at anywhere up to here
    past: list[Entry] = field(default_factory=list)
    slot: tuple[str, int] | None = None  # its concurrency key and limit

    @property
    def pending(self) -> bool:
        return self.lease is None and not self.ended


@dataclass
class Lease:
    id: int
    worker: int
    begun: bool
    open: list[int]
    cancel: set[int] = field(default_factory=set)
    claimed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.claimed = frozenset(self.open)


@dataclass
class Worker:
    seen: datetime
    gone: bool = False


@dataclass(frozen=True)
class Report:
    """What a worker says of one attempt."""

    run: int
    outcome: str = "succeeded"
    retry_after: timedelta | None = None
    max_attempts: int | None = None


class Model:
    def __init__(self) -> None:
        self.now = START
        self.runs: dict[int, Run] = {}
        self.leases: dict[int, Lease] = {}
        self.workers: dict[int, Worker] = {}

    @property
    def alive(self) -> list[int]:
        return [worker for worker, each in self.workers.items() if not each.gone]

    def holder_of(self, key: str | None) -> int | None:
        """The pending or running run that has the key."""
        return next((run.id for run in self.runs.values() if key and run.key == key and not run.ended), None)

    def add(self, run: Run) -> None:
        self.runs[run.id] = run

    def due(self, horizon: timedelta, limit: int) -> list[int]:
        """What a claim must take, in its order."""
        due = (run for run in self.runs.values() if run.pending and not run.slot and run.run_at <= self.now + horizon)
        order = sorted(due, key=lambda run: (run.priority, run.run_at, run.id))
        return [run.id for run in order[:limit]]

    @property
    def slots(self) -> dict[int, str]:
        """The runs that hold a slot, and of which key."""
        return {run.id: run.slot[0] for run in self.runs.values() if run.slot and run.lease is not None}

    def may_start(self, key: str) -> list[int]:
        """The due runs of a key, in their order, that have a slot."""
        due = (run for run in self.runs.values() if run.pending and run.slot and run.slot[0] == key)
        order = sorted((run for run in due if run.run_at <= self.now), key=lambda r: (r.priority, r.run_at, r.id))
        taken = [*self.slots.values()].count(key)
        fit = [run.slot is not None and taken + place < run.slot[1] for place, run in enumerate(order)]
        return [run.id for run, _ in zip(order, takewhile(bool, fit), strict=False)]

    def claimed(self, lease: Lease) -> None:
        self.leases[lease.id] = lease
        for run in lease.open:
            self.runs[run].lease = lease.id

    def held(self, lease: int, worker: int) -> Lease | None:
        """The lease, if it is still there and the worker's."""
        found = self.leases.get(lease)
        return found if found and found.worker == worker else None

    def begin(self, lease: int, worker: int, *, paused: bool) -> set[int] | None:
        """What of the lease must not be executed; None: nothing may."""
        held = self.held(lease, worker)
        if held is None:
            return None
        if paused and not held.begun:
            self.release(lease, worker)
            return None
        held.begun = True
        return set(held.claimed - set(held.open))

    def finish(self, lease: int, worker: int, reports: Iterable[Report] | None) -> int:
        held = self.held(lease, worker)
        if held is None:
            return 0
        told = [Report(run) for run in held.open] if reports is None else [r for r in reports if r.run in held.open]
        for report in told:
            self._end_attempt(held, report)
        return len(told)

    def release(self, lease: int, worker: int, runs: Iterable[int] | None = None) -> int:
        held = self.held(lease, worker)
        if held is None:
            return 0
        back = [run for run in held.open if runs is None or run in runs]
        for run in back:
            self._strike(held, run)
            if run in held.cancel:
                self._end(self.runs[run])
        return len([run for run in back if run not in held.cancel])

    def cancel(self, run_id: int) -> bool:
        run = self.runs.get(run_id)
        if run is None or run.ended:
            return False
        lease = self.leases[run.lease] if run.lease else None
        if lease and lease.begun:
            lease.cancel.add(run_id)
            return True
        if lease:
            self._strike(lease, run_id)
        self._end(run)
        return True

    def reclaim(self) -> list[tuple[int, int, int, bool]]:
        """(lease, worker, runs, lost) of each lease that is taken back."""
        for worker in self.workers.values():
            worker.gone = worker.gone or worker.seen < self.now - DEAD_AFTER
        taken = []
        for lease in [each for _, each in sorted(self.leases.items()) if self.workers[each.worker].gone]:
            if lease.begun:
                count = self.finish(lease.id, lease.worker, [Report(run, "lost") for run in lease.open])
            else:
                count = self.release(lease.id, lease.worker)
            taken.append((lease.id, lease.worker, count, lease.begun))
        return taken

    def _end_attempt(self, lease: Lease, report: Report) -> None:
        run = self.runs[report.run]
        run.attempt += 1
        limit = run.max_attempts if report.max_attempts is None else report.max_attempts
        again = report.outcome in {"failed", "lost"} and run.attempt < limit
        outcome = report.outcome
        if outcome == "lost":
            again = again and run.lost < 2
            run.lost += 1
            outcome = "lost" if again else "failed"
        else:
            run.lost = 0
        if run.id in lease.cancel and (again or report.outcome == "lost"):
            again, outcome = False, "cancelled"
        run.past.append(Entry(run.attempt, outcome, again, lease.id, started=True))
        self._strike(lease, run.id)
        run.ended = not again
        if again and report.outcome == "lost":
            run.run_at = self.now
        elif again and report.retry_after is not None:
            run.run_at = self.now + report.retry_after
        elif again:
            run.run_at = self.now
            run.latest = self.now + min(RETRY_MAX_DELAY, RETRY_DELAY * 2 ** (run.attempt - 1))

    def _end(self, run: Run) -> None:
        """It is cancelled before it started."""
        run.ended = True
        run.past.append(Entry(run.attempt, "cancelled", again=False, fence=None, started=False))

    def _strike(self, lease: Lease, run: int) -> None:
        lease.open.remove(run)
        self.runs[run].lease = None
        if not lease.open:
            self.leases.pop(lease.id, None)

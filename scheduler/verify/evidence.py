"""The four accounts of one pass: what clients were told, what was executed, what history says, what the ledger says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scheduler.verify.faults import Done
from scheduler.verify.fleet import Exit
from scheduler.verify.load import Sent
from scheduler.verify.programme import Job
from scheduler.verify.recorder import Record
from scheduler.verify.scratch import Scratch, statement


class Attempt(NamedTuple):
    """A row of history. Instants from the database are seconds since the epoch."""

    run: int
    attempt: int
    outcome: str
    is_end: bool
    finished: float
    worker: int | None
    fence: int | None
    error: str | None
    key: str | None
    """The unique key, or the job."""
    scheduled: float | None
    once: bool


class Fire(NamedTuple):
    job: str
    instant: float
    outcome: str
    reason: str | None
    run: int | None


class Open(NamedTuple):
    """A run that has not ended."""

    run: int
    key: str | None
    scheduled: float | None
    where: str


class Worker(NamedTuple):
    id: int
    pid: int
    started: float


@dataclass(slots=True, kw_only=True)
class Window:
    """The parts of a pass, by the monotonic clock."""

    began: float
    """The load began."""
    faults: float
    """The first fault could happen."""
    ended: float
    """No more faults, no more load."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    offset: float
    """What to add to the monotonic clock to have the database's."""
    window: Window
    late: float
    sent: Sequence[Sent] = ()
    due: dict[str, list[float]] = field(default_factory=dict)
    """The instants of each job."""
    once_jobs: frozenset[str] = frozenset()
    record: Record = field(default_factory=Record)
    attempts: Sequence[Attempt] = ()
    fires: Sequence[Fire] = ()
    open: Sequence[Open] = ()
    workers: Sequence[Worker] = ()
    done: Sequence[Done] = ()
    exits: Sequence[Exit] = ()
    accepted: Sequence[str] = ()
    """What a straggler was told that counted."""


def read_attempts(scratch: Scratch) -> list[Attempt]:
    with scratch.connect("check") as conn:
        return [Attempt(*row) for row in conn.execute(statement("attempts"))]


def read_fires(scratch: Scratch) -> list[Fire]:
    with scratch.connect("check") as conn:
        return [Fire(*row) for row in conn.execute(statement("fires"))]


def read_open(scratch: Scratch) -> list[Open]:
    with scratch.connect("check") as conn:
        return [Open(*row) for row in conn.execute(statement("open_runs"))]


def read_workers(scratch: Scratch) -> list[Worker]:
    with scratch.connect("check") as conn:
        return [Worker(*row) for row in conn.execute(statement("workers"))]


def due(jobs: Sequence[Job], starts: float, ends: float) -> dict[str, list[float]]:
    """Every instant of the jobs from `starts` to `ends`, counted out by hand: no cron expression is read for it."""
    seconds = range(math.ceil(starts), math.floor(ends) + 1)
    return {job.name: [float(second) for second in seconds if second % 60 in job.seconds] for job in jobs}

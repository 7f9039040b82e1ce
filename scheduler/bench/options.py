"""How much is measured, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    runs: int = 100_000
    """Runs of a drain and of a bulk enqueue."""
    seconds: float = 5.0
    """Of everything that is measured for a time."""
    repeat: int = 3
    """Measurements of each line; the median counts."""
    workers: int = 2
    """The N of "1 and N worker processes"."""
    clients: int = 64
    """The N of "1 and N clients"."""
    concurrency: int = 500
    """Runs at a time in a worker that drains async tasks."""
    batch: int = 500
    """Rows that the plain SQL floor of a drain moves with one statement."""
    backlog: int = 200_000
    """Due runs, and as many future ones, that a claim has to find its way through."""
    jobs: int = 1_000
    """Jobs that fire at one second."""
    definitions: int = 1_000
    """Jobs that a server keeps in mind."""
    due: int = 100
    """Of these definitions, how many fire each second."""

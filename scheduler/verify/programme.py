"""Everything that is done to the system, drawn from the seed: the same options and seed give the same programme.

What the system makes of it differs from pass to pass, as processes are scheduled by the machine. So a fault names a
place (the second server), not a process, and load is drawn tick by tick, whatever was enqueued before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from scheduler.verify.options import Options

TICK = 0.05
"""Seconds from one handful of runs to the next."""
APPS = ("verify_a", "verify_b", "verify_c", "verify_d")
FIRES = "verify_a"
"""The app of the recurring jobs."""
MANY_ATTEMPTS = 50
_PERIODS = (2, 3, 4, 5, 6, 10)  # seconds; divisors of 60, so that a list of seconds within the minute says it all
_ENQUEUED = 0.2  # of the runs, one transaction each; the others arrive by COPY, a tick's together
_ONCE = 0.1  # of the runs: at most one attempt
_SHARES = ((0.8, 0.0, 0.02), (0.15, 0.05, 0.4), (0.05, 0.5, 2.0))  # so many runs take from … to … seconds
_DARK = 1.5, 3.0  # dead times that a paused process stands still
_SKEW = 300.0  # seconds that a wall clock is off at most
_STEP = 3_600.0


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    """Seconds after the first could happen."""
    kind: str
    place: int
    """Of the process it is about, servers first."""
    amount: float
    """In what the kind measures: dead times of a pause, seconds of a step, a draw from 0 to 1 of the others."""


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    seconds: tuple[int, ...]
    """Of each minute at which it fires."""
    takes: float
    once: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be enqueued."""

    app: str
    key: str
    takes: float
    once: bool
    alone: bool
    """In a transaction of its own, by `enqueue`; else by COPY."""


class Programme:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = tuple(_faults(options))
        self.jobs = tuple(_jobs(options))

    def tick(self, number: int) -> list[Order]:
        """What is enqueued in the so-manieth tick."""
        draw = Random(f"{self.options.seed} tick {number}")  # noqa: S311  to be repeated, not to be secret
        share = self.options.rate * TICK
        count = int(share) + (draw.random() < share % 1)
        return [
            Order(
                app=draw.choice(APPS),
                key=f"run-{number}-{place}",
                takes=_takes(draw),
                once=draw.random() < _ONCE,
                alone=draw.random() < _ENQUEUED,
            )
            for place in range(count)
        ]

    def skew(self, place: int, start: int) -> float:
        """Seconds that the wall clock of a place's so-manieth process is off."""
        if "clock" not in self.options.faults:
            return 0.0
        return Random(f"{self.options.seed} skew {place} {start}").uniform(-_SKEW, _SKEW)  # noqa: S311


def _faults(options: Options) -> Iterator[Fault]:
    """Each kind in its turn of a shuffled round, so that a short pass has all of them."""
    draw = Random(f"{options.seed} faults")  # noqa: S311
    places = options.servers + options.workers
    at, round_ = 0.0, list[str]()
    while options.faults:
        at += draw.uniform(*options.every)
        if at >= options.seconds:
            return
        if not round_:
            round_ = draw.sample(sorted(options.faults), len(options.faults))
        kind = round_.pop()
        amount = draw.uniform(*_DARK) if kind == "pause" else draw.random()
        if kind == "clock":
            amount = draw.choice((-_STEP, _STEP))
        yield Fault(at, kind, draw.randrange(places), amount)


def _jobs(options: Options) -> Iterator[Job]:
    draw = Random(f"{options.seed} jobs")  # noqa: S311
    for number in range(options.jobs):
        period = draw.choice(_PERIODS)
        first = draw.randrange(period)
        yield Job(f"job-{number}", tuple(range(first, 60, period)), _takes(draw), draw.random() < _ONCE)


def _takes(draw: Random) -> float:
    pick = draw.random()
    for share, least, most in _SHARES:
        if pick < share:
            return round(draw.uniform(least, most), 4)
        pick -= share
    return 0.0

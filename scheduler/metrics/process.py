"""What every process tells: who it is, whether it hears, what its loops do, and how far its clock is off."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from scheduler.clock import DatabaseClock
from scheduler.listen import Listener
from scheduler.loop import Loop
from scheduler.metrics.catalogue import CLOCK_OFFSET, INFO, LISTENER, LOOP_FAILURES, LOOP_SUCCESS
from scheduler.metrics.numbers import Sample

_VERSION = version("walclock")


def of_process(
    role: str, clock: DatabaseClock, listener: Listener | None, loops: Mapping[str, Loop]
) -> Iterator[Sample]:
    yield Sample(INFO, (_VERSION, role), 1)
    if (offset := clock.wall_offset) is not None:
        yield Sample(CLOCK_OFFSET, (), offset)
    if listener is not None:
        yield Sample(LISTENER, (), 1.0 if listener.is_connected else 0.0)
    for name, loop in loops.items():
        yield from of_loop(name, clock, loop.last_success, loop.failures)


def of_loop(name: str, clock: DatabaseClock, last_success: float, failures: int) -> Iterable[Sample]:
    """`last_success` by the monotonic clock: what is told is the same instant by the database's."""
    at = clock.now() - (time.monotonic() - last_success)
    return Sample(LOOP_SUCCESS, (name,), at), Sample(LOOP_FAILURES, (name,), failures)

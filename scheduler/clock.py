"""The database's time between two looks at it: this machine's monotonic clock plus a measured offset.

Only the database decides what is due. A process asks it once a heartbeat and interpolates, so that a wrong wall clock,
or one that steps, moves no timer.

A look says only that the database read its clock some time between question and answer. It is taken to have been at the
very end, so that what is held for its instant starts late by the way back of the quickest recent look, tenths of a
millisecond, and never early: with the middle taken, a busy machine started runs 1.5 ms before their time.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime

SAMPLES = 16  # looks that are kept: long enough to hold a quick one, short enough to follow a drifting clock


class DatabaseClock:
    def __init__(self) -> None:
        self._looks: deque[float] = deque(maxlen=SAMPLES)
        self._offset = time.time() - time.monotonic()  # a guess until the first look

    def observe(self, sent: float, received: float, now: datetime) -> None:
        """Take in a look: the monotonic times around the statement, and what the database said in between."""
        offset = now.timestamp() - received
        if self._looks and abs(offset - self._offset) > 1 + received - sent:
            self._looks.clear()  # the database's clock was set: what was measured before it is void
        self._looks.append(offset)
        self._offset = max(self._looks)

    def now(self) -> float:
        """The database's time now, in seconds since the epoch."""
        return time.monotonic() + self._offset

    @property
    def wall_offset(self) -> float | None:
        """How far this machine's wall clock is ahead of the database's, in seconds; None before the first look."""
        return time.time() - self.now() if self._looks else None

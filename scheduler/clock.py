"""The database's time between two looks at it: this machine's monotonic clock plus a measured offset.

Only the database decides what is due. A process asks it once a heartbeat and interpolates, so that a wrong wall clock,
or one that steps, moves no timer. The error is half the round trip of the best recent look, tenths of a millisecond.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime

SAMPLES = 16  # looks that are kept: long enough to hold a quick one, short enough to follow a drifting clock


class DatabaseClock:
    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._offset = time.time() - time.monotonic()  # a guess until the first look

    def observe(self, sent: float, received: float, now: datetime) -> None:
        """Take in a look: the monotonic times around the statement, and what the database said in between."""
        offset = now.timestamp() - (sent + received) / 2
        if self._looks and abs(offset - self._offset) > 1 + received - sent:
            self._looks.clear()  # the database's clock was set: what was measured before it is void
        self._looks.append((received - sent, offset))
        self._offset = min(self._looks)[1]

    def now(self) -> float:
        """The database's time now, in seconds since the epoch."""
        return time.monotonic() + self._offset

    @property
    def wall_offset(self) -> float:
        """How far this machine's wall clock is ahead of the database's, in seconds."""
        return time.time() - self.now()

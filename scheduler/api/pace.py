"""No token may ask faster than so: what comes too fast waits its turn, and what would wait too long is refused.

To wait slows down whoever sends the next request after the answer to the last, as most do. To refuse at once would not:
who is told 429 may come back at once, and costs as much as before.
"""

from __future__ import annotations

import asyncio
import time

from scheduler.api.problem import Problem

SPARE = 1.0
"""Seconds whose unused requests may be made up for."""
LONGEST = 1.0
"""Seconds that a request waits at most."""


class Pace:
    def __init__(self, rate: float) -> None:
        """`rate`: requests a second; 0: any number."""
        self._apart = 1 / rate if rate else 0.0
        self._next: dict[str, float] = {}

    async def keep(self, token: str) -> None:
        """Returns when it is the request's turn. Problem 429 when that is too far away."""
        if not self._apart:
            return
        now = time.monotonic()
        turn = max(self._next.get(token, 0.0), now - SPARE)
        if turn > now + LONGEST:
            raise Problem(
                429,
                f"this token asks more than {1 / self._apart:g} times a second",
                headers={"Retry-After": str(round(turn - now + 0.5))},
            )
        self._next[token] = turn + self._apart
        if turn > now:
            await asyncio.sleep(turn - now)

"""What takes seconds is done once at a time in each server; who asks meanwhile waits a little, and is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scheduler.api.problem import RETRY_AFTER, Problem


class Turns:
    def __init__(self, what: str, patience: float) -> None:
        """`what` is done, for people; `patience`: seconds that one waits for its turn."""
        self._what = what
        self._patience = patience
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Problem 503 when others take too long."""
        try:
            async with asyncio.timeout(self._patience):
                await self._lock.acquire()
        except TimeoutError:
            raise Problem(503, f"{self._what} is under way already", headers={"Retry-After": RETRY_AFTER}) from None
        try:
            yield
        finally:
            self._lock.release()

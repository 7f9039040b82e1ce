"""Commits single runs together: what arrives while one commit is under way goes along with the next.

A commit waits for the disk, however little is in it: one by one, 64 clients reach what the disk does, together what the
server can insert. An answer is given when its run is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg

from scheduler.link import Link
from scheduler.store import insert

LANES = 2
"""Connections: one gathers while another waits for the disk."""
MOST = 500
"""Runs in one transaction …"""
MOST_BYTES = 4 * 1024 * 1024
"""… and their size, but for the last one."""
PATIENCE = 10.0
"""Seconds that a commit may take, with the connection that it may need."""

Waiting = tuple[bytes, asyncio.Future[int]]


class Committer:
    def __init__(self, dsn: str, *, name: str, statement_timeout: float) -> None:
        self._links = [Link(dsn, name=name, statement_timeout=statement_timeout) for _ in range(LANES)]
        self._free = list(self._links)
        self._waiting: list[Waiting] = []
        self._lanes: set[asyncio.Task[None]] = set()

    async def add(self, row: bytes) -> int:
        """The id of a run given as a JSON object, once it is committed. Its own refusal, and nobody else's."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, ended))
        if self._free:
            lane = asyncio.create_task(self._write(self._free.pop()))  # which begins when all that came is here
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await ended

    async def close(self) -> None:
        await asyncio.gather(*self._lanes, return_exceptions=True)
        for link in self._links:
            await link.close()

    async def _write(self, link: Link) -> None:
        try:
            while batch := self._take():
                await self._commit(link, batch)
        finally:
            self._free.append(link)

    def _take(self) -> list[Waiting]:
        size = taken = 0
        for row, _ in self._waiting[:MOST]:
            taken += 1
            size += len(row)
            if size >= MOST_BYTES:
                break
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    async def _commit(self, link: Link, batch: Sequence[Waiting]) -> None:
        try:
            async with link.within(PATIENCE) as conn:
                ids = await insert.insert_runs(conn, [row for row, _ in batch])
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait are told
            if len(batch) > 1 and _is_refusal(error):
                # Halves of halves, so that one bad run among 500 costs its neighbours 18 statements and not 500.
                middle = len(batch) // 2
                await self._commit(link, batch[:middle])
                await self._commit(link, batch[middle:])
                return
            for _, ended in batch:
                if not ended.done():
                    ended.set_exception(error)
        else:
            for (_, ended), run in zip(batch, ids, strict=True):
                if not ended.done():
                    ended.set_result(run)


def _is_refusal(error: Exception) -> bool:
    """Whether it is about what was to be inserted, rather than about the connection or the server."""
    return isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError)

"""Small writes that arrive together are committed together: what comes while one is under way goes along with the next.

A commit waits for the disk, however little is in it: one by one, 64 clients reach what the disk does, together what the
server can insert. Nobody waits for company, and an answer is given when it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import psycopg

Entry = TypeVar("Entry")
Answer = TypeVar("Answer")

MOST_BYTES = 4 * 1024 * 1024
"""Of one write, but for the last part of it."""


class Part(NamedTuple, Generic[Entry, Answer]):
    """What one request brought, and where it waits for its answers."""

    entries: Sequence[Entry]
    size: int
    ended: asyncio.Future[Sequence[Answer]]


class Gathering(Generic[Entry, Answer]):
    def __init__(
        self, write: Callable[[Sequence[Entry]], Awaitable[Sequence[Answer]]], *, lanes: int, most: int
    ) -> None:
        """`write` commits entries and answers each. `lanes`: writes at a time: one gathers while another waits for the
        disk. `most`: entries of a write, but for those of a single request.
        """
        self._write = write
        self._most = most
        self._free = lanes
        self._waiting: list[Part[Entry, Answer]] = []
        self._lanes: set[asyncio.Task[None]] = set()

    async def add(self, entries: Sequence[Entry], size: int) -> Sequence[Answer]:
        """The answers, once all of the entries, of `size` bytes, are committed in one transaction. Raises their own
        refusal, and nobody else's.
        """
        ended: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Part(entries, size, ended))
        if self._free:
            self._free -= 1
            lane = asyncio.create_task(self._write_on())  # which begins when all that came is here
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await ended

    async def close(self) -> None:
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _write_on(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next())
        finally:
            self._free += 1

    def _next(self) -> list[Part[Entry, Answer]]:
        count = size = taken = 0
        for part in self._waiting:
            if taken and (count + len(part.entries) > self._most or size >= MOST_BYTES):
                break
            count += len(part.entries)
            size += part.size
            taken += 1
        parts, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return parts

    async def _commit(self, parts: list[Part[Entry, Answer]]) -> None:
        try:
            answers = await self._write([entry for part in parts for entry in part.entries])
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait are told
            if len(parts) > 1 and _is_refusal(error):
                # Halves of halves, so that one bad part among 500 costs its neighbours 18 statements and not 500.
                middle = len(parts) // 2
                await self._commit(parts[:middle])
                await self._commit(parts[middle:])
                return
            for part in parts:
                if not part.ended.done():
                    part.ended.set_exception(error)
            return
        begin = 0
        for part in parts:
            end = begin + len(part.entries)
            if not part.ended.done():
                part.ended.set_result(answers[begin:end])
            begin = end


def _is_refusal(error: Exception) -> bool:
    """Whether it is about what was to be written, rather than about the connection or the server."""
    return isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError)

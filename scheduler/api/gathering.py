"""Small writes that arrive together are committed together: one commit costs what a thousand rows cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import psycopg

Entry = TypeVar("Entry")

MOST = 2_000
"""Entries of one write: at 30 us each it takes as long as a request may well wait for those before it."""


class Gathering(Generic[Entry]):
    """While one write is on its way, what comes waits and makes up the next. Nobody waits for company."""

    def __init__(self, write: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: list[tuple[Sequence[Entry], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, entries: Sequence[Entry]) -> None:
        """Returns once they are committed; raises what their write raised. All of them are in one transaction."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_on())
        await done

    async def _write_on(self) -> None:
        try:
            while self._waiting:
                await self._write_some(self._next())
        finally:
            self._writing = None
            for _, done in self._waiting:  # only if this task was cancelled
                done.cancel()

    def _next(self) -> list[tuple[Sequence[Entry], asyncio.Future[None]]]:
        count = parts = 0
        for entries, _ in self._waiting:
            if parts and count + len(entries) > MOST:
                break
            count += len(entries)
            parts += 1
        taken, self._waiting = self._waiting[:parts], self._waiting[parts:]
        return taken

    async def _write_some(self, parts: list[tuple[Sequence[Entry], asyncio.Future[None]]]) -> None:
        try:
            await self._write([entry for entries, _ in parts for entry in entries])
        except Exception as error:  # noqa: BLE001  whoever asked for it gets it
            if len(parts) > 1 and isinstance(error, psycopg.DataError | psycopg.IntegrityError):
                for part in parts:  # one that is refused must not refuse its neighbours
                    await self._write_some([part])
                return
            for _, done in parts:
                if not done.done():
                    done.set_exception(error)
            return
        for _, done in parts:
            if not done.done():
                done.set_result(None)

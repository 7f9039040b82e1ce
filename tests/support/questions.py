"""What is asked of a large database, and how little each answer may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.reading import Connection, Reading, reading
from tests.support.statistics import Statistics

MODES = ("force_custom_plan", "force_generic_plan")
SMALL = {"app", "lease", "pulse", "server", "worker"}
"""Tables that may be read whole while they are some pages; what is allowed of them bounds it all the same."""


async def _nothing(_: Connection) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """`ask` gets what `prepare` made in the same transaction, and returns an answer that must not be empty.

    `most` says of each table how many rows or index entries may be read, and `through` by which indexes; a table that
    is not named may not be read at all, but for `app`. `blocks` bounds the pages of all of them together.
    """

    name: str
    ask: Callable[[Connection, Any], Awaitable[Any]]
    prepare: Callable[[Connection], Awaitable[Any]] = _nothing
    most: dict[str, int] = field(default_factory=dict)
    through: dict[str, set[str]] = field(default_factory=dict)
    blocks: int
    finds: bool = True

    def __str__(self) -> str:
        return self.name

    async def read(self, dsn: str, mode: str) -> Reading:
        """Asks, takes everything back, and tells what was read."""
        threshold = 0 if mode == "force_generic_plan" else None
        options = f"-c plan_cache_mode={mode} -c statement_timeout=5s -c jit=off -c timezone=UTC"
        async with await psycopg.AsyncConnection.connect(dsn, prepare_threshold=threshold, options=options) as conn:
            prepared = await self.prepare(conn)
            async with conn.transaction(force_rollback=True):
                # Once for nothing: whoever comes first reads the entries of what other questions wrote and took back.
                await self.ask(conn, prepared)
            await conn.execute("discard plans")
            async with reading(conn) as found:
                answer = await self.ask(conn, prepared)
            await conn.rollback()
        assert not self.finds or answer, f"{self}: there was no answer, so nothing was measured"
        return found

    def check(self, found: Reading) -> None:
        """It read as little as it may, and by the index that is meant for it."""
        for table, read in found.tables.items():
            allowed = self.most.get(table, 5 if table == "app" else 0)
            assert read.rows <= allowed, f"{self}: {read.rows} rows of {table} instead of {allowed}\n{found}"
            assert table in SMALL or not read.scanned, f"{self}: {table} was scanned\n{found}"
            others = read.entries.keys() - self.through.get(table, read.entries.keys())
            assert not others, f"{self}: {table} was read through {others}\n{found}"
        assert found.blocks <= self.blocks, f"{self}: {found.blocks} blocks instead of {self.blocks}\n{found}"


every_way = [(state, mode) for state in Statistics for mode in MODES]
"""What the planner may know, and whether it plans for the values or once for all."""

"""Ticks at rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection

from scheduler.store.arrays import Instants, Texts

Connection = AsyncConnection[Any]

_PUT: LiteralString = "select scheduler.put_ticks(%s, %s, %s, %s)"


async def put_ticks(conn: Connection, app: str, items: Sequence[str], at: Sequence[int], values: Sequence[str]) -> None:
    """Parallel: what, when (in microseconds since 1970), and the text that will be sent.

    Of an item that comes twice the last counts.
    """
    await conn.execute(_PUT, (app, Texts(items), Instants(at), Texts(values)), prepare=True)

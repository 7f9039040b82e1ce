"""Ticks at rest: runs of the executor kafka in an app of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection

from scheduler.arrays import Instants, Texts

Connection = AsyncConnection[Any]

APP = "ticks"
_PUT: LiteralString = "select scheduler.put_ticks(%s, %s, %s, %s)"


class Tick(NamedTuple):
    """What, when (in seconds since 1970), and the text that will be sent."""

    item: str
    at: float
    value: str


async def put_ticks(conn: Connection, ticks: Sequence[Tick]) -> None:
    """Of an item that comes twice the last counts."""
    items, at, values = zip(*ticks, strict=True)
    await conn.execute(_PUT, (APP, Texts(items), Instants(at), Texts(values)), prepare=True)

"""Ticks at rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]

_PUT: LiteralString = "select scheduler.put_ticks(%s::text, %s::text[], %s::timestamptz[], %s::text[])"


async def put_ticks(
    conn: Connection, app: str, items: Sequence[str], at: Sequence[datetime], values: Sequence[str]
) -> None:
    """Parallel: what, when, and the text that will be sent. Of an item that comes twice the last counts."""
    await conn.execute(_PUT, (app, list(items), list(at), list(values)))

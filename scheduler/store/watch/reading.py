"""How a page is read: by a key, and into values that any row has."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row

Connection = AsyncConnection[Any]
Row = dict[str, Any]

COUNTED = 1_000
"""Runs and jobs are counted up to here; one above it means `more`. For ten times as many PostgreSQL read them all."""

LAST_ID = 2**63 - 1

# All that is read here is a page by a key. Without statistics, or with those of a table that was small, PostgreSQL
# takes a scan for cheaper: a page of runs read a million rows, a single run 400,000. What has no key then costs so much
# by the estimate that it would be compiled, for 100 ms.
BY_KEY: LiteralString = """
    select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('enable_sort', 'off', true), set_config('jit', 'off', true)
"""


async def clock(conn: Connection) -> datetime:
    """The database's time."""
    instant = (await read(conn, "select scheduler.clock() as now", {}))[0]["now"]
    if not isinstance(instant, datetime):
        raise TypeError(f"the database's clock says {instant}")
    return instant


async def read(conn: Connection, query: LiteralString, parameters: dict[str, Any]) -> list[Row]:
    async with conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(BY_KEY)
        cursor.adapters.register_loader("timestamptz", _InstantLoader)
        for name in ("json", "jsonb"):
            cursor.adapters.register_loader(name, _JsonLoader)
        cursor.adapters.register_loader("float8", _FloatLoader)
        await cursor.execute(query, parameters)
        return await cursor.fetchall()


class _InstantLoader(Loader):
    def load(self, data: Buffer) -> datetime | str:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return text


class _JsonLoader(Loader):
    def load(self, data: Buffer) -> Any:
        """The value; its text when Python cannot hold it: nested 1,000 deep, an integer of 5,000 digits, 1e400."""
        text = bytes(data).decode()
        try:
            return json.loads(text, parse_float=_finite)
        except (ValueError, RecursionError):
            return text


class _FloatLoader(Loader):
    def load(self, data: Buffer) -> float | None:
        """None for an endless duration (PostgreSQL 17 has them), which JSON cannot say."""
        number = float(bytes(data))
        return number if math.isfinite(number) else None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number

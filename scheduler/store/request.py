"""Requests with an Idempotency-Key: what was answered to the first of equal ones."""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import AsyncConnection

Connection = AsyncConnection[Any]


class Answered(NamedTuple):
    """`digest` is of the body; `answer` is JSON text."""

    digest: bytes
    status: int
    answer: str


async def open_request(conn: Connection, app: str, token: str, key: str) -> Answered | None:
    """What was answered to the request that had the key; None: the transaction's has it, and close_request follows."""
    cursor = await conn.execute(
        "select o.digest, o.status, o.answer from scheduler.open_request(%s, %s, %s) o", (app, token, key)
    )
    row = await cursor.fetchone()
    return None if row is None else Answered(bytes(row[0]), row[1], row[2])


async def close_request(conn: Connection, app: str, token: str, key: str, answered: Answered) -> None:
    await conn.execute("select scheduler.close_request(%s, %s, %s, %s, %s, %s)", (app, token, key, *answered))


async def forget_requests(conn: Connection, *, older_than: float) -> int:
    """Deletes some of the keys that are older (seconds); how many, and 0 when all are gone."""
    cursor = await conn.execute(
        "select scheduler.forget_requests(scheduler.clock() - make_interval(secs => %s))", (older_than,)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0

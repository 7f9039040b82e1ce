"""The benchmark's own sessions: synchronous, because a stopwatch around an event loop measures the loop as well."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import TupleRow

from scheduler import db
from scheduler.bench.statements import statement

Connection = psycopg.Connection[TupleRow]


def connect(dsn: str, *, mark: str, schema: str | None = None) -> Connection:
    """An autocommit session without time limits; with `schema`, unqualified names mean the tables in it."""
    conninfo = db.read_dsn(dsn, name=mark)
    conn = psycopg.connect(conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
    conn.execute(statement("session"), [schema or "pg_catalog"])
    return conn


def value(conn: Connection, name: str, *parameters: Any) -> Any:
    """The one value that a statement of ours answers."""
    row = conn.execute(statement(name), parameters).fetchone()
    return row[0] if row else None

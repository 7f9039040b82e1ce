"""Rows by the hundred thousand, by COPY. They are put together once and sent again and again."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.bench.connection import Connection
from scheduler.bench.statements import statement

_CHUNK = 10_000  # rows that are sent at a time


def spec(task: str) -> str:
    """About 50 bytes of JSON, as `task` of worker.bench takes it."""
    return f'{{"task": "{task}", "args": {{"note": "{"x" * 10}"}}}}'


def copy(
    conn: Connection, table: str, app: str, text: str, count: int, *, advance: Callable[[int], None] | None = None
) -> None:
    """Write `count` due runs of one spec into `run` (scheduler.run) or `scratch_run`, in one transaction."""
    row = f"{app}\tpython\t{text}\n".encode()
    chunk = row * min(count, _CHUNK)
    with conn.cursor() as cursor, cursor.copy(statement(f"copy_{table}")) as copying:
        for done in range(0, count, _CHUNK):
            rows = min(_CHUNK, count - done)
            copying.write(chunk if rows == _CHUNK else row * rows)
            if advance is not None:
                advance(rows)

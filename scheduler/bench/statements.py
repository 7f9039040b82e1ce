"""The benchmark's own SQL, `sql/bench/<name>.sql`. No install applies these: they are read when they are needed.

Parameters are `$1`, `$2` …, so that the same text serves psycopg's raw cursors, libpq and a person in psql.
"""

from __future__ import annotations

from functools import cache

from scheduler.install import SQL_ROOT


@cache
def statement(name: str) -> bytes:
    """The text of a statement; bytes, because it comes from a file of ours and not from a caller's string."""
    return (SQL_ROOT / "bench" / f"{name}.sql").read_bytes()

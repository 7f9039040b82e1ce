"""SQL that is no part of the schema: statements of a command, in `sql/<folder>/<name>.sql`. No install applies these.

Parameters are `$1`, `$2` …, so that the same text serves psycopg's raw cursors, libpq and a person in psql.
"""

from __future__ import annotations

from functools import cache

from scheduler.install import SQL_ROOT


@cache
def statement(folder: str, name: str) -> bytes:
    """The text of a statement; bytes, because it comes from a file of ours and not from a caller's string."""
    return (SQL_ROOT / folder / f"{name}.sql").read_bytes()

"""`from scheduler import enqueue`: on the caller's connection, in the caller's transaction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, ClientCursor, RawCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from scheduler import enqueue
from scheduler.errors import InvalidError

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)


def runs(db: psycopg.Connection) -> int:
    return db.execute("select from scheduler.run").rowcount


def test_a_run_is_written_as_asked_for(db: psycopg.Connection) -> None:
    run = enqueue(
        db,
        "shop",
        "send_email",
        {"to": "é\n\\u0000", "n": [1, None, True]},
        run_at=NOON,
        queue="mail",
        priority=-3,
        unique_key="welcome:42",
        max_attempts=9,
        timeout=1.5,
        tags=("x", "y"),
    )
    stored = db.execute(
        "select id, app, executor, spec, run_at, queue, priority, unique_key, max_attempts, timeout, tags"
        " from scheduler.run"
    ).fetchone()
    spec = {"task": "send_email", "args": {"to": "é\n\\u0000", "n": [1, None, True]}}
    timeout = timedelta(seconds=1.5)
    assert stored == (run, "shop", "python", spec, NOON, "mail", -3, "welcome:42", 9, timeout, ["x", "y"])


def test_the_defaults_are_those_of_the_sql_function(db: psycopg.Connection) -> None:
    enqueue(db, "shop", "t")
    db.execute("""select scheduler.enqueue('shop', 'python', '{"task": "t", "args": {}}')""")
    columns = "app, queue, executor, spec, priority, attempt, max_attempts, timeout, unique_key, tags, retry_delay"
    first, second = db.execute(f"select {columns}, retry_max_delay from scheduler.run".encode()).fetchall()
    assert first == second


def test_the_run_exists_when_and_if_the_caller_commits(dsn: str, db: psycopg.Connection) -> None:
    with psycopg.connect(dsn) as conn:
        enqueue(conn, "shop", "t")
        assert conn.info.transaction_status is TransactionStatus.INTRANS
        assert runs(db) == 0
        conn.rollback()
        assert runs(db) == 0
        enqueue(conn, "shop", "t")
        conn.commit()
        assert runs(db) == 1


def test_the_same_key_gives_the_same_run_until_it_has_ended(db: psycopg.Connection) -> None:
    run = enqueue(db, "shop", "t", unique_key="k")
    assert enqueue(db, "shop", "t", unique_key="k") == run
    assert enqueue(db, "other", "t", unique_key="k") != run
    db.execute("select scheduler.cancel('shop', %s)", [run])
    assert enqueue(db, "shop", "t", unique_key="k") != run


@pytest.mark.parametrize("cursor", [ClientCursor, RawCursor])
def test_the_callers_factories_do_not_matter(dsn: str, cursor: Any) -> None:
    with psycopg.connect(dsn, row_factory=dict_row, cursor_factory=cursor) as conn:
        assert enqueue(conn, "shop", "t") > 0
        with conn.pipeline():
            assert enqueue(conn, "shop", "t") > 0


async def test_an_async_connection_gives_an_awaitable(dsn: str, db: psycopg.Connection) -> None:
    async with await AsyncConnection.connect(dsn) as conn:
        with pytest.raises(InvalidError):  # at the call, not at the await
            enqueue(conn, "shop", "t", {"a": "\0"})
        assert conn.info.transaction_status is TransactionStatus.IDLE
        assert await enqueue(conn, "shop", "t", unique_key="k") == await enqueue(conn, "shop", "t", unique_key="k")
        assert runs(db) == 0
    assert runs(db) == 1


class Strange:
    pass


unchecked: Any = enqueue  # what a type checker would refuse must be refused without one too
REFUSED: list[tuple[str, Callable[[Any], object]]] = [
    ("NUL", lambda conn: unchecked(conn, "shop", "t", {"a": "x\0y"})),
    ("NUL", lambda conn: unchecked(conn, "shop", "t", {"\0": 1})),
    ("NUL", lambda conn: unchecked(conn, "shop", "t", unique_key="\0")),
    ("NUL", lambda conn: unchecked(conn, "shop\0", "t")),
    ("NUL", lambda conn: unchecked(conn, "shop", "t\0")),
    ("surrogate", lambda conn: unchecked(conn, "shop", "t", {"a": "\ud800"})),
    ("not valid Unicode", lambda conn: unchecked(conn, "\ud800", "t")),
    ("at most 1,048,576", lambda conn: unchecked(conn, "shop", "t", {"a": "x" * 10_000_000})),
    ("at most 1,048,576", lambda conn: unchecked(conn, "shop", "t", {"a": [1] * 400_000})),
    ("not JSON", lambda conn: unchecked(conn, "shop", "t", {"a": float("inf")})),
    ("not JSON", lambda conn: unchecked(conn, "shop", "t", {"a": float("nan")})),
    ("not JSON", lambda conn: unchecked(conn, "shop", "t", {"a": Strange()})),
    ("not JSON", lambda conn: unchecked(conn, "shop", "t", {"a": 10**5000})),
    ("must be a JSON object", lambda conn: unchecked(conn, "shop", "t", ["a"])),
    ("no time zone", lambda conn: unchecked(conn, "shop", "t", run_at=datetime(2100, 1, 1))),  # noqa: DTZ001
    ("a datetime", lambda conn: unchecked(conn, "shop", "t", run_at="now")),
    ("1 to 200", lambda conn: unchecked(conn, "shop", "")),
    ("1 to 100", lambda conn: unchecked(conn, "", "t")),
    ("1 to 100", lambda conn: unchecked(conn, "shop", "t", queue="q" * 101)),
    ("-32768 to 32767", lambda conn: unchecked(conn, "shop", "t", priority=40_000)),
    ("1 to 32767", lambda conn: unchecked(conn, "shop", "t", max_attempts=0)),
    ("more than 0", lambda conn: unchecked(conn, "shop", "t", timeout=0)),
    ("timeout", lambda conn: unchecked(conn, "shop", "t", timeout=float("inf"))),
    ("timeout", lambda conn: unchecked(conn, "shop", "t", timeout=1e300)),
    ("a list of texts", lambda conn: unchecked(conn, "shop", "t", tags="x")),
    ("a tag", lambda conn: unchecked(conn, "shop", "t", tags=[5])),
]


def test_what_cannot_be_stored_is_refused_and_the_transaction_goes_on(dsn: str, db: psycopg.Connection) -> None:
    with psycopg.connect(dsn) as conn:
        before = enqueue(conn, "shop", "t")
        for wrong, call in REFUSED:
            with pytest.raises(InvalidError, match=wrong) as refused:
                call(conn)
            assert len(str(refused.value)) < 300
            assert conn.info.transaction_status is TransactionStatus.INTRANS
        assert enqueue(conn, "shop", "t") > before
    assert runs(db) == 2


def test_what_only_the_database_knows_to_be_wrong_is_its_error(db: psycopg.Connection) -> None:
    db.execute("alter table scheduler.run add constraint no_parrots check (app <> 'parrot')")
    with pytest.raises(InvalidError, match="no parrots"):
        enqueue(db, "parrot", "t")
    db.execute("drop function scheduler.enqueue")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        enqueue(db, "shop", "t")


def test_a_module_with_tasks_does_not_load_a_database_driver() -> None:
    code = "import sys, worker; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

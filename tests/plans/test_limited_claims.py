"""Of a million runs with concurrency keys, a claim reads what it takes, and of full keys a bounded number."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from scheduler import db
from scheduler.store import watch
from tests.support.builders import add_worker
from tests.support.database import Databases
from tests.support.reading import Connection, Reading, reading
from worker import store

APP = "shop"
KEYS, EACH = 10_000, 100
LOOKED_AT = 1_000  # lanes of keys, at most, for each claim
BATCH = 20


def fill(dsn: str) -> None:
    """Runs of ten thousand keys, all due; of every second key the slot is taken. Nobody has analysed them."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for table in ("run", "slot"):
            conn.execute(f"alter table scheduler.{table} set (autovacuum_enabled = off)")
        conn.execute("set session_replication_role = replica")
        conn.execute(
            """
            insert into scheduler.run (app, executor, concurrency_key, concurrency_limit, priority, run_at)
            select %s, 'python', 'key ' || lpad((i %% %s)::text, 5, '0'), 1, i %% 2, now() - interval '1 hour'
            from generate_series(1, %s) i
            """,
            [APP, KEYS, KEYS * EACH],
        )
        conn.execute(
            """
            insert into scheduler.slot (app, lease, run_id, concurrency_key)
            select %s, 1, -i, 'key ' || lpad(i::text, 5, '0') from generate_series(0, %s, 2) i
            """,
            [APP, KEYS],
        )
        add_worker(conn)


@pytest.fixture(scope="session")
def keyed_dsn(databases: Databases) -> str:
    return databases.shared("keyed", fill)


async def claim(conn: Connection, limit: int = BATCH) -> store.Claimed | None:
    return await store.claim(
        conn, APP, 1, "default", limit=limit, executors=["python", "http"], horizon=0.5, begin=True, keyed=True
    )


async def read(dsn: str, ask: Any, before: str | None = None) -> tuple[Any, Reading]:
    """The answer and what was read for it, all of which is then taken back."""
    async with await db.connect(dsn, name="tests") as conn, conn.transaction(force_rollback=True):
        if before:
            await conn.execute(before.encode())
        async with reading(conn) as found:
            answer = await ask(conn)
        return answer, found


async def test_a_claim_of_keyed_runs_reads_as_many_keys_as_it_takes_runs(keyed_dsn: str) -> None:
    claimed, found = await read(keyed_dsn, claim)
    assert len(claimed.rows) == BATCH
    assert found.of("run").scanned == 0, found
    assert found.of("run").rows < 2 * BATCH * 10, found
    assert found.of("slot").rows < 2 * BATCH * 5, found


async def test_a_claim_that_finds_all_keys_full_looks_at_a_bounded_number(keyed_dsn: str) -> None:
    everything = f"""
        insert into scheduler.slot (app, lease, run_id, concurrency_key)
        select '{APP}', 1, -i - 100000, 'key ' || lpad(i::text, 5, '0') from generate_series(1, {KEYS}, 2) i
    """
    claimed, found = await read(keyed_dsn, claim, everything)
    assert claimed is None
    assert found.of("run").scanned == 0, found
    assert 0 < found.of("run").rows < 3 * LOOKED_AT, found
    assert found.of("slot").rows < 3 * LOOKED_AT, found


async def test_when_something_with_a_key_is_due_is_known_without_reading_the_keys(keyed_dsn: str) -> None:
    dues, found = await read(keyed_dsn, lambda conn: store.next_due(conn, None, None, ["python"]))
    assert [(due.app, due.keyed, due.limited) for due in dues] == [(APP, True, True)]
    assert found.of("run").rows < 20, found


async def test_the_list_of_queues_counts_keyed_runs_up_to_its_bound(keyed_dsn: str) -> None:
    rows, found = await read(keyed_dsn, lambda conn: watch.queues(conn, limit=100))
    assert [row["keyed"] for row in rows] == [watch.COUNTED + 1]
    assert found.of("run").rows < 3 * watch.COUNTED, found

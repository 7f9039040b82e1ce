"""Behind PgBouncer in transaction mode: what works, what is left on the backends for others, and what is said.

Collected when SCHEDULER_TEST_POOLER is set, since PgBouncer comes from the machine's packages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest

from scheduler import db as database
from scheduler.doctor import Limits, examine
from scheduler.listen import Listener
from tests.support.command import Scheduler
from tests.support.fleet import Fleet, wait_until
from tests.support.pooler import pooler

BACKENDS = 4
AWAITING = """
    select count(*) from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'advisory' and l.classid = 7716801
"""
LEFT = """
    select pg_backend_pid(),
        current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
        (select count(*) from pg_prepared_statements), (select count(*) from pg_listening_channels())
"""


@pytest.fixture
def pooled(direct_dsn: str) -> Iterator[str]:
    with pooler(direct_dsn, size=BACKENDS) as dsn:
        yield dsn


async def test_a_statement_behind_a_pooler_is_bounded_and_leaves_nothing_to_others(pooled: str) -> None:
    async with await database.connect(pooled, name="test", statement_timeout=3) as conn:
        assert conn.is_pooled
        with pytest.raises(psycopg.errors.QueryCanceled):
            await conn.execute("select pg_sleep(5)")
        async with conn.transaction():
            await conn.execute("select 1")
            with pytest.raises(psycopg.errors.QueryCanceled):
                async with conn.transaction():
                    await conn.execute("select pg_sleep(5)")
        for _ in range(2 * BACKENDS):
            await conn.execute("select %s::integer", [1], prepare=True)
    assert set(left_on_backends(pooled).values()) == {("0", "0", 0, 0)}


async def test_the_doctor_says_that_nobody_hears_behind_a_pooler_and_reads_all_the_same(
    pooled: str, direct_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCHEDULER_LISTEN_DSN", raising=False)
    found = []
    for listen in (None, direct_dsn):
        if listen:
            monkeypatch.setenv("SCHEDULER_LISTEN_DSN", listen)
        async with await database.connect(pooled, name="doctor") as conn:
            found.append({finding.code for finding in (await examine(conn, Limits())).findings})
    assert [codes & {"pooler", "check_failed"} for codes in found] == [{"pooler"}, set()]


async def test_a_transaction_left_idle_behind_a_pooler_is_ended(pooled: str) -> None:
    async with await database.connect(pooled, name="test", statement_timeout=0.3) as conn:

        async def idle() -> None:
            async with conn.transaction():
                await asyncio.sleep(1)

        with pytest.raises(psycopg.Error):
            await idle()
        assert conn.closed


async def test_an_error_behind_a_pooler_is_the_statement_s_own(pooled: str) -> None:
    async with await database.connect(pooled, name="test") as conn:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await conn.execute("select 1 / 0")
        assert await (await conn.execute("select 2")).fetchone() == (2,)


def test_a_worker_that_nobody_can_tell_says_so_once_and_finds_its_runs(fleet: Fleet, pooled: str) -> None:
    worker = fleet.start(dsn=pooled, env={"SCHEDULER_POLL": "10", "SCHEDULER_LISTEN_DSN": ""})
    wait_until(lambda: "leads through a pooler" in worker.log)
    time.sleep(2)  # it polls as an idle worker does, no longer as one that has just worked
    inserted = time.time()
    (ran,) = fleet.wait_for_effect("ran", fleet.insert("note"))
    assert ran.at - inserted < 5
    fleet.wait_for(fleet.insert("note", count=2_000))
    assert worker.log.count("leads through a pooler") == 1
    assert "SCHEDULER_LISTEN_DSN" in worker.log
    assert fleet.scalar(AWAITING) == 0
    assert {left[2:] for left in left_on_backends(pooled).values()} == {(0, 0)}


def test_a_worker_with_a_way_of_its_own_for_hints_is_woken_by_them(fleet: Fleet, pooled: str, direct_dsn: str) -> None:
    worker = fleet.start(dsn=pooled, env={"SCHEDULER_POLL": "30", "SCHEDULER_LISTEN_DSN": direct_dsn})
    wait_until(lambda: fleet.scalar(AWAITING) > 0)
    listens = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7716801 and pid = any (%s)"
    own = "select pid from pg_stat_activity where application_name = 'walclock worker listener w1'"
    assert fleet.scalar(listens, [[pid for (pid,) in fleet.db.execute(own).fetchall()]]) > 0
    time.sleep(2)
    inserted = time.time()
    (ran,) = fleet.wait_for_effect("ran", fleet.insert("note"))
    assert ran.at - inserted < 10
    assert "leads through a pooler" not in worker.log


def test_a_listen_dsn_that_leads_through_the_pooler_too_is_found_out(fleet: Fleet, pooled: str) -> None:
    worker = fleet.start(dsn=pooled, env={"SCHEDULER_LISTEN_DSN": pooled})
    wait_until(lambda: "leads through a pooler" in worker.log)
    fleet.wait_for(fleet.insert("note", count=10))
    assert fleet.scalar(AWAITING) == 0


@pytest.mark.parametrize("round_robin", [True, False])
def test_a_session_of_its_own_behind_a_pooler_can_listen(
    direct_dsn: str, db: psycopg.Connection, round_robin: bool
) -> None:
    async def hears(dsn: str) -> bool:
        heard: asyncio.Queue[str] = asyncio.Queue()
        connected = asyncio.Event()
        listener = Listener(
            dsn, ["greetings"], name="test", heard=lambda _, text: heard.put_nowait(text), connected=connected.set
        )
        listening = asyncio.create_task(listener.run())
        try:
            while not (connected.is_set() or listener.is_hopeless):  # noqa: ASYNC110  two things are waited for
                await asyncio.sleep(0.01)
            if listener.is_hopeless:
                return False
            db.execute("select pg_notify('greetings', 'hello')")
            return await asyncio.wait_for(heard.get(), 10) == "hello"
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    with pooler(direct_dsn, mode="session", round_robin=round_robin) as dsn:
        assert asyncio.run(hears(dsn))
    with pooler(direct_dsn, round_robin=round_robin) as dsn:
        assert not asyncio.run(hears(dsn))


def test_backends_that_are_ended_behind_a_pooler_lose_and_double_nothing(fleet: Fleet, pooled: str) -> None:
    worker = fleet.start(dsn=pooled)
    runs = fleet.insert("note", count=4_000) + fleet.insert("nap", {"seconds": 0.1}, count=100)
    ended = 0
    while fleet.states(runs) != {"succeeded": len(runs)} and ended < 20:
        ended += fleet.terminate("")
        fleet.reclaim()
        time.sleep(0.1)
    fleet.wait_for(runs, reclaim=True)
    assert ended > 0
    ends = "select count(*), count(*) filter (where outcome = 'succeeded'), count(distinct id) from scheduler.history"
    assert fleet.db.execute(ends).fetchone() == (len(runs),) * 3
    wait_until(lambda: fleet.leases() == 0)
    assert worker.returncode is None


def test_commands_work_through_a_pooler_and_the_installation_too(empty_dsn: str) -> None:
    with pooler(empty_dsn, size=BACKENDS) as dsn:
        scheduler = Scheduler(dsn)
        assert "applied functions" in scheduler.says("migrate")
        assert scheduler.says("migrate") == "up to date\n"
        run = scheduler.says("enqueue", "shop", "python", '{"task": "note"}').strip()
        assert scheduler.json("runs", "show", run)["state"] == "pending"
        assert [row["app"] for row in scheduler.json("apps")["apps"]] == ["shop"]
        assert {left[:2] for left in left_on_backends(dsn).values()} == {("0", "0")}


def left_on_backends(dsn: str) -> dict[int, tuple[str, str, int, int]]:
    """What each backend behind the pooler has set, prepared and listens to, for whoever gets it next."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        rows = [conn.execute(LEFT).fetchone() for _ in range(3 * BACKENDS)]
    return {row[0]: row[1:] for row in rows if row is not None}


def test_verify_says_that_it_needs_postgresql_itself(pooled: str, db: psycopg.Connection) -> None:
    known: LiteralString = "select datname from pg_database where starts_with(datname, 'walclock_verify')"
    refused = Scheduler(pooled)("verify", "--seconds", "5")
    assert refused.returncode == 2
    assert "error: verify needs PostgreSQL itself, and this DSN leads through a pooler" in refused.stderr
    wait_until(lambda: db.execute(known).fetchall() == [], 120)  # another test may have one

"""A server process's duties at work: it registers, lives through what happens to its database, and leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from scheduler.config import Settings, resolve_listen_dsn
from scheduler.errors import ConfigError, SchemaError
from scheduler.service import Server
from tests.conftest import Connect
from tests.support.jobs import FakeWorker, runs, schedule
from tests.support.proxy import Proxy

QUICK = Settings(heartbeat=0.05, dead_after=5, poll=0.1)
PATIENCE = 20.0


@asynccontextmanager
async def running(dsn: str, settings: Settings = QUICK, *, label: str = "s1") -> AsyncIterator[Server]:
    """In a thread of its own: what a test asks of the database may have to wait for a transaction of the server's, and
    an event loop that the test holds up would never end it.
    """
    server = Server(dsn, settings, label=label, address="http://s1", listen_dsn=resolve_listen_dsn())
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stopping = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stopping))
        await server.run(stopping)

    task = asyncio.create_task(asyncio.to_thread(asyncio.run, serve()))
    loop, stopping = await asyncio.wrap_future(started)
    try:
        await until(lambda: server.id is not None or task.done())
        yield server
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended, and its loop with it
            loop.call_soon_threadsafe(stopping.set)
        await task


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110  what is waited for is in the database, which sets no event
            await asyncio.sleep(0.01)


def servers(db: psycopg.Connection) -> list[tuple[str, bool, bool]]:
    """Label, whether it said good-bye, whether it was declared dead."""
    rows = db.execute("select label, stopped_at is not null, dead_at is not null from scheduler.server order by id")
    return [(str(label), bool(stopped), bool(dead)) for label, stopped, dead in rows.fetchall()]


async def test_a_server_registers_and_says_good_bye(dsn: str, db: psycopg.Connection) -> None:
    async with running(dsn) as server:
        assert servers(db) == [("s1", False, False)]
        assert db.execute("select address, pid > 0 from scheduler.server").fetchall() == [("http://s1", True)]
        first = db.execute("select seen_at from scheduler.server").fetchone()
        await until(lambda: db.execute("select seen_at from scheduler.server").fetchone() != first)
        assert set(server.loops) == {"heartbeat", "assigner", "planner", "reclaimer", "janitor", "lookout"}
    assert servers(db) == [("s1", True, False)]


@pytest.mark.listens("is woken, and does not poll")
async def test_a_new_job_is_planned_without_waiting_for_the_poll(dsn: str, db: psycopg.Connection) -> None:
    async with running(dsn, Settings(poll=60.0)) as server:
        await until(lambda: server.listener.is_connected)
        schedule(db, expression="* * * * * *", overlap="allow")
        await until(lambda: len(runs(db)) >= 9)


async def test_without_the_listener_the_poll_finds_the_job(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.service.CHANNEL", "nobody_calls")
    async with running(dsn):
        schedule(db, expression="* * * * * *", overlap="allow")
        await until(lambda: len(runs(db)) >= 9)


@pytest.mark.listens("is woken, and does not poll")
async def test_the_end_of_a_run_lets_the_next_one_go_without_waiting_for_the_poll(
    dsn: str, db: psycopg.Connection
) -> None:
    async with running(dsn, Settings(poll=60.0)) as server:
        await until(lambda: server.listener.is_connected)
        schedule(db, expression="* * * * * *", overlap="queue")
        worker = FakeWorker(db)
        await until(lambda: worker.claim(limit=1) == 1)
        await until(lambda: "waiting" in [state for _, state in runs(db)])
        worker.finish()
        await until(lambda: worker.claim(limit=1) == 1)


@pytest.mark.listens("is woken, and does not poll")
async def test_the_end_of_a_run_is_no_reason_to_look_while_nothing_waits_for_one(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    listen = Server._heard

    def noted(self: Server, channel: str, payload: str) -> None:
        listen(self, channel, payload)
        heard.append(payload)

    monkeypatch.setattr(Server, "_heard", noted)
    async with running(dsn, Settings(poll=60.0)) as server:
        await until(lambda: server.listener.is_connected and not server._planner.waits)
        db.execute("select pg_notify('scheduler_job', '')")
        await until(lambda: heard)
        assert server._waking is None
        schedule(db)
        computed = "select from scheduler.job_schedule where next_at > '-infinity'"
        await until(lambda: db.execute(computed).rowcount)


async def test_what_a_dead_worker_held_is_taken_back(
    dsn: str, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    db.execute("insert into scheduler.run (app, executor, max_attempts) values ('shop', 'python', 3)")
    worker = FakeWorker(db)
    assert worker.claim() == 1
    with caplog.at_level(logging.WARNING, logger="scheduler.reclaimer"):
        async with running(dsn, Settings(heartbeat=0.05, dead_after=0.5, poll=0.1)):
            await until(lambda: db.execute("select attempt, lost from scheduler.run").fetchall() == [(1, 1)])
            said = f"of worker {worker.id}, app shop: 1 runs, an attempt of each was lost"
            await until(lambda: said in caplog.text)
    assert worker.finish() == 0


async def test_a_server_that_was_declared_dead_goes_on_under_a_new_identity(dsn: str, db: psycopg.Connection) -> None:
    async with running(dsn) as server:
        first = server.id
        db.execute("update scheduler.server set dead_at = scheduler.clock()")
        await until(lambda: server.id != first)
    assert servers(db) == [("s1", False, True), ("s1", True, False)]


@pytest.mark.direct("counts its backends, and ends them")
async def test_a_server_outlives_the_loss_of_all_its_connections(
    dsn: str, db: psycopg.Connection, connect: Connect
) -> None:
    name = str(conninfo_to_dict(dsn)["dbname"])
    async with running(dsn, Settings(heartbeat=0.05, dead_after=30, poll=0.1)) as server:
        await until(lambda: server.listener.is_connected)
        ours = "from pg_stat_activity where datname = %s and application_name like 'walclock server%%'"
        await until(lambda: db.execute(f"select {ours}", [name]).rowcount == 5)
        db.execute(f"select pg_terminate_backend(pid) {ours}", [name])
        schedule(db, expression="* * * * * *", overlap="allow")
        await until(lambda: len(runs(db)) >= 9)
        await until(lambda: server.listener.is_connected)
    assert servers(db) == [("s1", True, False)]


async def test_a_server_whose_connections_are_swallowed_makes_new_ones_in_time(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.listen.PROBE", 0.5)
    monkeypatch.delenv("SCHEDULER_LISTEN_DSN", raising=False)
    settings = Settings(heartbeat=0.05, dead_after=30, poll=0.1, statement_timeout=1)
    with Proxy(dsn) as proxy:
        async with running(proxy.dsn, settings) as server:
            schedule(db, expression="* * * * * *", overlap="allow")
            await until(lambda: len(runs(db)) >= 9)
            often = [loop for name, loop in server.loops.items() if name != "janitor"]
            listens = server.listener.is_connected
            proxy.swallow()
            swallowed = time.monotonic()
            db.execute("delete from scheduler.run")
            await until(lambda: all(loop.last_success > swallowed + 1 for loop in often))
            await until(lambda: not listens or server.listener.is_connected)
            await until(lambda: len(runs(db)) >= 2)


async def test_a_server_stops_at_once_even_while_a_statement_of_its_own_waits(
    dsn: str, db: psycopg.Connection, connect: Connect
) -> None:
    blocker = connect()
    async with running(dsn):
        blocker.execute("begin")
        blocker.execute("lock table scheduler.job_schedule")
        waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and application_name like '%planner'"
        await until(lambda: db.execute(waiting).rowcount)
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 10
    blocker.execute("rollback")
    assert servers(db) == [("s1", True, False)]


async def test_a_server_starts_on_no_schema_but_its_own(empty_dsn: str) -> None:
    with pytest.raises(SchemaError, match="scheduler migrate"):
        await Server(empty_dsn, QUICK, label="s1").run(asyncio.Event())


async def test_a_server_that_cannot_reach_its_database_at_the_start_says_so() -> None:
    with pytest.raises(ConfigError, match="cannot connect"):
        await Server("host=127.0.0.1 port=1", QUICK, label="s1").run(asyncio.Event())


async def test_two_servers_plan_each_instant_once(dsn: str, db: psycopg.Connection) -> None:
    async with running(dsn), running(dsn, label="s2"):
        for number in range(20):
            schedule(db, f"job {number}", "* * * * * *", overlap="allow")
        await until(lambda: db.execute("select count(*) >= 200 from scheduler.run").fetchone() == (True,))
    assert db.execute("select from scheduler.run group by job, scheduled_at having count(*) > 1").rowcount == 0
    assert db.execute("select (select count(*) from scheduler.run) - count(*) from scheduler.fire").fetchone() == (0,)


def test_only_a_living_server_has_a_heartbeat(db: psycopg.Connection) -> None:
    beat = "select scheduler.heartbeat_server(%s) = scheduler.clock()"
    ((server,),) = db.execute("select scheduler.register_server('s1')").fetchall()
    assert db.execute(beat, [server]).fetchall() == [(True,)]
    db.execute("select scheduler.retire_server(%s)", [server])
    with pytest.raises(psycopg.Error, match="has stopped") as refused:
        db.execute(beat, [server])
    assert refused.value.sqlstate == "JS004"

"""Connections to a real server: what they are set to, how they fail, how they come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
import uvloop
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from scheduler import db as database
from scheduler.errors import ConfigError
from scheduler.link import Connection, Link
from scheduler.listen import Listener
from tests.support.proxy import Proxy

SETTINGS = """
    select current_setting('application_name'), current_setting('statement_timeout'),
           current_setting('idle_in_transaction_session_timeout'), current_setting('timezone')
"""


async def test_a_connection_has_a_name_timeouts_and_utc(dsn: str) -> None:
    async with await database.connect(dsn, name="planner", statement_timeout=2.5) as conn:
        assert conn.autocommit
        assert await (await conn.execute(SETTINGS)).fetchone() == ("walclock planner", "2375ms", "2500ms", "UTC")


async def test_a_pooled_connection_is_set_like_any_other(dsn: str) -> None:
    async with database.pool(dsn, name="http", size=2) as pool, pool.connection() as conn:
        assert conn.autocommit
        assert await (await conn.execute(SETTINGS)).fetchone() == ("walclock http", "9500ms", "10s", "UTC")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dbname": "nowhere"}, 'cannot connect to database nowhere at .*database "nowhere" does not exist'),
        ({"user": "nobody_known", "password": "hunter2"}, "nobody_known"),
        ({"host": "walclock.invalid", "password": "hunter2"}, "walclock.invalid"),
        ({"host": "127.0.0.1", "port": "1", "password": "hunter2"}, "Connection refused"),
    ],
)
async def test_a_database_out_of_reach_is_reported_in_one_line_without_the_password(
    dsn: str, change: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as failed:
        await database.connect(make_conninfo(dsn, **change), name="test")
    assert "\n" not in str(failed.value)
    assert "hunter2" not in str(failed.value)


async def test_a_service_waits_for_its_database_to_come_back(
    dsn: str, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    name = Identifier(str(db.info.dbname))
    admin = await database.connect(make_conninfo(dsn, dbname="postgres"), name="test")
    async with admin:
        await admin.execute(SQL("alter database {} allow_connections false").format(name))
        waiting = asyncio.create_task(database.connect_forever(dsn, name="planner"))
        while "planner: no connection, next try in" not in caplog.text:  # noqa: ASYNC110  a log has no event
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await admin.execute(SQL("alter database {} allow_connections true").format(name))
    async with await waiting as conn:
        assert await (await conn.execute("select 1")).fetchone() == (1,)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_listener_that_lost_its_connection_hears_again(
    dsn: str, db: psycopg.Connection, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The new socket gets the number of the old one, and must not inherit what the event loop knew of it."""

    async def main() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        connected: asyncio.Queue[None] = asyncio.Queue()
        listener = Listener(
            dsn,
            ["greetings"],
            name="test",
            heard=lambda _, payload: heard.put_nowait(payload),
            connected=lambda: connected.put_nowait(None),
        )
        listening = asyncio.create_task(listener.run())
        for number in range(3):
            await asyncio.wait_for(connected.get(), 30)
            db.execute("select pg_notify('greetings', %s)", [str(number)])
            assert await asyncio.wait_for(heard.get(), 30) == str(number), "before the connection is probed"
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'walclock test' and datname = current_database()"
            )
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def test_a_wait_for_a_database_that_has_fallen_silent_ends_in_its_time(dsn: str) -> None:
    with Proxy(dsn) as proxy:
        async with Link(proxy.dsn, name="test", statement_timeout=0.5) as link:
            waits: dict[str, Callable[[Connection], Awaitable[object]]] = {
                "a statement": lambda conn: conn.execute("select 1"),
                "the begin of a transaction": lambda conn: conn.transaction().__aenter__(),
                "a commit": lambda conn: conn.commit(),
            }
            for what, wait in waits.items():
                conn = await link.connection()
                if what == "a commit":
                    await conn.set_autocommit(False)
                    await conn.execute("select 1")
                proxy.go_silent()
                took = await time_to_fail(lambda conn=conn, wait=wait: wait(conn))  # type: ignore[misc]
                assert 0.4 < took < 9, (what, took)
                took = await time_to_fail(lambda: within(link, 0.5))
                assert 0.4 < took < 9, (f"after {what}, to connect anew", took)
                proxy.flow()


async def time_to_fail(wait: Callable[[], Awaitable[object]]) -> float:
    started = asyncio.get_running_loop().time()
    with pytest.raises((psycopg.OperationalError, TimeoutError)):
        await wait()
    return asyncio.get_running_loop().time() - started


async def within(link: Link, seconds: float) -> None:
    async with link.within(seconds) as conn:
        await conn.execute("select 1")


async def test_who_gave_up_waiting_for_one_host_begins_with_the_next(dsn: str) -> None:
    with Proxy(dsn) as proxy:
        here = str(conninfo_to_dict(dsn)["host"])
        there = str(conninfo_to_dict(proxy.dsn)["host"])
        async with Link(make_conninfo(dsn, host=f"{there},{here}"), name="test") as link:
            await within(link, 5)
            proxy.go_silent()
            assert await time_to_fail(lambda: within(link, 0.5)) < 9
            assert await time_to_fail(lambda: within(link, 0.5)) < 9, "it is the host that answered last"
            await within(link, 5)

"""What the duties of a server read is in proportion to what they do."""

from __future__ import annotations

from datetime import date
from typing import Any, LiteralString

import psycopg
import pytest

from scheduler.config import DAY, Settings
from scheduler.link import Link
from scheduler.planner import Planner
from scheduler.store import duty, partition
from scheduler.store.partition import Partition
from tests.support.million import ALIVE, DAYS, ENDED, JOBS, KEYS, LEASES, OWNED, PULSES, SERVERS, WORKERS
from tests.support.questions import Question, every_way
from tests.support.reading import Connection, reading
from tests.support.statistics import Statistics, know

DEAD_AFTER = 5.0
DUE = JOBS // 1000
AWAITING = JOBS // 200
WAITING = 500
HELD_BY_ONE = 5  # leases


async def loses_a_worker(conn: Connection) -> None:
    await conn.execute("update scheduler.worker set dead_at = scheduler.clock() where id = %s", [WORKERS])
    # One of the jobs that it fires from its timer was removed meanwhile.
    await conn.execute(
        "update scheduler.pulse set revision = null, revoked_at = scheduler.clock() where (app, job) = ("
        " select app, job from scheduler.pulse where worker = %s limit 1)",
        [WORKERS],
    )


async def reclaim(conn: Connection, _: Any) -> Any:
    return await duty.reclaim(conn, dead_after=DEAD_AFTER, limit=100)


async def plan(conn: Connection, server: int | None) -> Any:
    """A whole step: what is due, what its plans find, what they write."""
    before = await _runs_written(conn)
    planner = server or SERVERS
    await Planner(Link("", name="tests"), Settings(), lambda: planner)._plan(conn, planner)
    return await _runs_written(conn) - before


async def _runs_written(conn: Connection) -> int:
    ((number,),) = await (await conn.execute("select pg_sequence_last_value('scheduler.run_id')")).fetchall()
    return int(number or 0)


async def loses_a_server(conn: Connection) -> None:
    """And with it the owner of a third of the other apps."""
    await conn.execute("update scheduler.server set stopped_at = scheduler.clock() where id = %s", [SERVERS - 1])


async def gets_a_new_app(conn: Connection) -> None:
    await conn.execute("insert into scheduler.job (app, name, schedule, executor) values ('new', 'job', '@daily', 'x')")


async def gets_a_new_server(conn: Connection) -> None:
    await duty.register_server(conn, label="new", host="", pid=0, address=None, version="")


async def assign(conn: Connection, _: Any) -> Any:
    return (await duty.assign_apps(conn, dead_after=DEAD_AFTER, rebalance=False)).moved


async def rebalance(conn: Connection, _: Any) -> Any:
    return (await duty.assign_apps(conn, dead_after=DEAD_AFTER, rebalance=True)).moved


async def weigh(conn: Connection, _: Any) -> Any:
    return await duty.weigh_apps(conn, SERVERS, {"shop": 100_000})


async def locate(conn: Connection, _: Any) -> Any:
    return await (await conn.execute("select * from scheduler.locate('shop')")).fetchall()


async def say_good_bye(conn: Connection, _: Any) -> Any:
    return await duty.retire_server(conn, SERVERS - 1)


async def forget(conn: Connection, _: Any) -> Any:
    return await duty.forget(conn, older_than=(DAYS - 1.1) * DAY)


async def room(conn: Connection, _: Any) -> Any:
    return await partition.has_rows_in_default(conn, Partition("history", date(2040, 3, 12)))


# The look for the silent finds its way through those alive; processes are declared dead by their key.
PROCESSES: dict[str, int] = {"worker": 4 * ALIVE, "server": 40}
ALIVE_ONLY = {"worker": {"worker_alive", "worker_pkey"}, "server": {"server_alive", "server_pkey"}}
ONE_DAY = ENDED // (DAYS - 1)
APPS = 20
THEIRS = OWNED // 3

QUESTIONS = [
    Question(
        name="a look for apps without an owner",
        ask=assign,
        finds=False,
        most={"owner": 20, "job_schedule": 5, "server": 40},
        through=ALIVE_ONLY | {"owner": {"owner_pkey", "owner_server"}, "job_schedule": {"job_schedule_next"}},
        blocks=200,
    ),
    Question(
        name="an owner for a new app",
        prepare=gets_a_new_app,
        ask=assign,
        # What each server owns is added up.
        most={"owner": OWNED + 10 * APPS, "job_schedule": 10, "server": 40},
        through={"owner": {"owner_pkey", "owner_server"}, "job_schedule": {"job_schedule_next", "job_schedule_pkey"}},
        blocks=2 * OWNED,
    ),
    Question(
        name="owners for the apps of a server that is gone",
        prepare=loses_a_server,
        ask=assign,
        most={"owner": OWNED + 3 * THEIRS, "job_schedule": 5, "server": 40},
        blocks=8 * OWNED,
    ),
    Question(
        name="apps for a new server",
        prepare=gets_a_new_server,
        ask=rebalance,
        most={"owner": 6 * OWNED, "job_schedule": 5 * APPS, "server": 40},
        blocks=8 * OWNED,
    ),
    Question(
        name="a server's good-bye",
        ask=say_good_bye,
        finds=False,
        most={"owner": OWNED + 3 * THEIRS, "job_schedule": 5, "server": 40},
        blocks=8 * OWNED,
    ),
    Question(
        name="what a server's apps weigh",
        ask=weigh,
        most={"owner": 5 * APPS, "job_schedule": JOBS + 5 * APPS},
        through={"owner": {"owner_server", "owner_pkey"}, "job_schedule": {"job_schedule_pkey"}},
        blocks=JOBS,
    ),
    Question(name="where an app is", ask=locate, most={"owner": 2, "server": 10}, blocks=30),
    Question(
        name="a reclaim that finds nobody dead",
        ask=reclaim,
        finds=False,
        most={"lease": 3 * LEASES, "pulse": 3 * PULSES} | PROCESSES,
        through=ALIVE_ONLY,
        blocks=2 * LEASES + PULSES,
    ),
    Question(
        name="a reclaim",
        prepare=loses_a_worker,
        ask=reclaim,
        most={"lease": 2 * LEASES + 20 * HELD_BY_ONE, "run": 0, "run_key": 500, "history": 0}
        | {"pulse": 10 * PULSES}
        | PROCESSES,
        through=ALIVE_ONLY | {"run_key": {"run_key_pkey"}},
        blocks=30 * LEASES + 5 * PULSES,
    ),
]
PLANNER = Question(
    name="a step of the planner",
    ask=plan,
    most={
        "job": 5 * DUE,
        "job_schedule": 5 * DUE + 5 * AWAITING,
        "fire": 5 * DUE,
        "run": 5 * DUE + 5 * AWAITING + 5 * WAITING,
        "lease": 10 * LEASES,
        "history": AWAITING,
        "owner": 10 * (DUE + AWAITING + WAITING),
        "app": 10 * DUE,
    },
    blocks=30 * (DUE + AWAITING + WAITING),
)
# Once in ten minutes a janitor goes through what is small by right: the ended processes, the taken keys, the default
# partitions. Of the large tables it may look at no more than that, whatever it deletes.
JANITOR = Question(
    name="a janitor",
    ask=forget,
    most={
        "worker": 2 * WORKERS,
        "server": 2 * SERVERS,
        "run_key": 2 * KEYS,
        "run": 2 * KEYS,
        "lease": 5 * LEASES,
        "history": ONE_DAY,
        "log": ONE_DAY,
        "fire": ONE_DAY,
    },
    blocks=8 * KEYS,
)


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_a_server_reads_no_more_than_it_decides(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))


@pytest.mark.parametrize(("state", "mode"), every_way)
async def test_a_planner_reads_no_more_than_it_plans(
    large: psycopg.Connection, large_dsn: str, state: Statistics, mode: str
) -> None:
    know(large, state)
    PLANNER.check(await PLANNER.read(large_dsn, mode))


@pytest.mark.parametrize("state", Statistics)
async def test_a_janitor_never_goes_through_the_daily_partitions(
    large: psycopg.Connection, large_dsn: str, state: Statistics
) -> None:
    know(large, state)
    found = await JANITOR.read(large_dsn, "force_custom_plan")
    for table, allowed in JANITOR.most.items():
        assert found.of(table).rows <= allowed, f"{table}\n{found}"
    assert found.blocks <= JANITOR.blocks, str(found)


async def test_a_look_for_room_reads_the_default_partition_at_most(large: psycopg.Connection, large_dsn: str) -> None:
    know(large, Statistics.NEVER)
    look = Question(name="a look for room", ask=room, finds=False, blocks=ENDED // 100)
    assert (await look.read(large_dsn, "force_custom_plan")).of("history").rows <= ONE_DAY


async def test_the_jobs_of_a_new_app_are_looked_up_by_their_key(dsn: str) -> None:
    """When statistics know the other apps only, nothing is expected of this one: every index that begins with app costs
    the same then, and the smallest was taken. Of 100,000 such jobs 2,000 were not planned after 10 s.
    """
    define: LiteralString = (
        "insert into scheduler.job (app, name, schedule, executor)"
        " select %s, 'job ' || n, '@every 5s', 'python' from generate_series(1, %s) n"
    )
    many = 10_000
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        server = await duty.register_server(conn, label="new", host="", pid=0, address=None, version="")
        await conn.execute(define, ["known", 1_000])
        await assign(conn, None)
        assert await plan(conn, server) >= 1_000
        await conn.execute("analyze")
        async with conn.transaction(force_rollback=True):
            await conn.execute(define, ["new", many])
            await assign(conn, None)
            async with reading(conn) as found:
                written = await plan(conn, server)
    assert written >= many
    for table in ("job", "job_schedule", "run"):
        assert found.of(table).rows <= 20 * many, f"{table}\n{found}"

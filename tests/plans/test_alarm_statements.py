"""A look for alarms reads what has happened since the last one, and a probe for each queue and job."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest

from scheduler.store import alarm
from tests.support.million import ALIVE, DAYS
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know

PARTITIONS = DAYS + 4
LANES = 4 * 3 * 3
PAGE = 200  # jobs that one look asks for their last success
JOBS = 3 * PAGE  # those, as many dead ones from a moment before, and what other tests roll back
EACH = 500  # attempts of a job, at most
FAILED = 200  # of an hour, some 60 there are
SEEN = 400  # 59, and 180 dead entries that reclaims leave in the index, which other tests roll back

_ALARMS: LiteralString = """
    insert into scheduler.alarm (app, name, kind, job, within, channels, created_at)
    select 'shop', concat(k, j), k, j, '1 hour', '[{"channel": "webhook", "url": "http://x"}]',
        scheduler.clock() - interval '2 hours'
    from unnest(
        array['failed', 'failing', 'poison', 'missed', 'late', 'no_success', 'no_worker', 'late', 'no_success'],
        array[null, null, null, null, null, null, null, 'job 401', 'job 401']
    ) a (k, j)
"""
_AN_HOUR_AGO: LiteralString = """
    update scheduler.alarm_look set cursor_at = scheduler.clock() - interval '1 hour', steady_at = '-infinity'
"""


_OLD: LiteralString = """
    update scheduler.job j set updated_at = scheduler.clock() - interval '5 days'
    where j.app = 'shop' and j.name = any (array(
        select o.name from scheduler.job o where o.app = 'shop' order by o.app, o.name limit 200
    ))
"""


async def alarms(conn: Connection) -> None:
    await conn.execute(_ALARMS)
    await conn.execute(_AN_HOUR_AGO)
    await conn.execute(_OLD)


async def old_jobs(conn: Connection) -> None:
    await conn.execute(_OLD)


async def no_alarms(conn: Connection) -> None:
    await conn.execute("delete from scheduler.alarm")


def rows(query: LiteralString) -> Any:
    async def ask(conn: Connection, _: Any) -> Any:
        return await (await conn.execute(query)).fetchall()

    return ask


def look(conn: Connection, _: Any) -> Any:
    return alarm.look_for_alarms(conn, every=5.0, settle=30.0, limit=20)


EVENTS = {"history": {"history_failed"}, "fire": {"fire_missed"}}
QUESTIONS = [
    Question(
        name="a look where there are no alarms",
        prepare=no_alarms,
        ask=look,
        finds=False,
        most={"alarm": 5, "alarm_look": 5},
        blocks=20,
    ),
    Question(
        name="what happened",
        ask=rows("select * from scheduler.alarm_events('shop', scheduler.clock() - interval '1 hour', 10000)"),
        most={"history": SEEN, "fire": 5},
        through=EVENTS,
        blocks=SEEN + 10 * PARTITIONS,
    ),
    Question(
        name="what has been due for long",
        ask=rows("select * from scheduler.oldest_due('shop', scheduler.clock() - interval '1 hour')"),
        most={"run": 6 * LANES, "app": 2 * LANES},
        through={"run": {"run_due", "run_keyed", "run_keyed_at"}},
        blocks=40 * LANES,
    ),
    Question(
        name="which jobs had no success",
        prepare=old_jobs,
        ask=rows("select * from scheduler.silent_jobs('shop', null, '', scheduler.clock() - interval '3 days', 200)"),
        most={"history": PAGE * EACH, "job": JOBS, "app": 2 * PAGE},
        through={"history": {"history_job"}, "job": {"job_pkey"}},
        blocks=PAGE * 4 * PARTITIONS,
    ),
    Question(
        name="a look at all kinds of alarms",
        prepare=alarms,
        ask=look,
        most={
            "history": 8 * FAILED + PAGE * EACH,
            "fire": 20,
            "run": 20 * LANES,
            "job": JOBS,
            "app": 2 * PAGE,
            "worker": 4 * LANES * ALIVE,
            "alarm": 100,
            "alarm_look": 10,
            "alarm_state": 50,
        },
        through={
            "history": {"history_failed", "history_job"},
            "fire": {"fire_missed"},
            "run": {"run_due", "run_keyed", "run_keyed_at", "run_job"},
            "job": {"job_pkey"},
            "worker": {"worker_alive"},
        },
        blocks=PAGE * 4 * PARTITIONS + 100 * LANES,
    ),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_a_look_for_alarms_reads_little_of_a_large_database(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))

"""What is read for /metrics is bounded by what was asked for, however much waits and however long the history is."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from scheduler.gauger import ATTEMPTS, COUNTED, INSTANTS
from scheduler.store import gauge
from tests.support.million import ALIVE, DAYS, OWNED, SERVERS
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know

PAGE = 40
JOBS = 500
SLICE = 20_000
PARTITIONS = DAYS + 4
NAMES = [("shop", f"job {n * 20}") for n in range(1, 101)]


async def queues(conn: Connection, _: Any) -> Any:
    found = await gauge.gauge_queues(conn, SERVERS, after=("", ""), limit=PAGE, counted=COUNTED)
    assert len(found) == PAGE
    return [one for one in found if one.pending]


async def queues_of_others(conn: Connection, _: Any) -> Any:
    return await gauge.gauge_queues(conn, SERVERS - 1, after=("", ""), limit=PAGE, counted=COUNTED)


async def backlog(conn: Connection, _: Any) -> Any:
    first = await gauge.gauge_backlog(conn, "shop", "default", keyed=False, limit=SLICE, after=None)
    assert first.runs == SLICE
    return (await gauge.gauge_backlog(conn, "shop", "default", keyed=False, limit=SLICE, after=first)).runs


async def jobs(conn: Connection, _: Any) -> Any:
    first = await gauge.gauge_jobs(conn, SERVERS, after=("", ""), limit=JOBS)
    return await gauge.gauge_jobs(conn, SERVERS, after=(first[-1].app, first[-1].job), limit=JOBS)


async def successes(conn: Connection, _: Any) -> Any:
    return await gauge.gauge_successes(conn, NAMES, looked=ATTEMPTS, instants=INSTANTS)


async def processes(conn: Connection, _: Any) -> Any:
    return await gauge.gauge_processes(conn, SERVERS, dead_after=5.0)


RUN = {"run": {"run_due", "run_keyed", "run_keyed_at"}}
QUESTIONS = [
    Question(
        name="a page of queues",
        ask=queues,
        most={"run": PAGE * (COUNTED + 100), "owner": 4 * PAGE, "server": 40},
        through=RUN,
        blocks=PAGE * (COUNTED + 400),
    ),
    Question(
        name="a page of queues that others answer for",
        ask=queues_of_others,
        most={"run": 10 * PAGE, "owner": 4 * PAGE, "server": 40},
        through=RUN,
        blocks=30 * PAGE,
    ),
    Question(
        name="two slices of a deep queue", ask=backlog, most={"run": 2 * SLICE + 10}, through=RUN, blocks=3 * SLICE
    ),
    Question(
        name="two pages of jobs",
        ask=jobs,
        most={"job_schedule": 4 * JOBS, "owner": 100},
        through={"job_schedule": {"job_schedule_pkey"}, "owner": {"owner_pkey", "owner_server"}},
        blocks=8 * JOBS,
    ),
    Question(
        name="when jobs last succeeded",
        ask=successes,
        most={"history": 6 * PARTITIONS * len(NAMES), "fire": 40 * len(NAMES), "job_schedule": 4 * len(NAMES)},
        blocks=20 * PARTITIONS * len(NAMES),
    ),
    Question(
        name="who is alive",
        ask=processes,
        most={"owner": 200, "server": 60, "worker": 4 * ALIVE},
        blocks=OWNED,
    ),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_a_gauge_reads_no_more_than_its_bound(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))

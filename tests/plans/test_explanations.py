"""What `why` and `doctor` read of a large database: as little for a million runs as for a thousand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from scheduler.store import watch
from scheduler.store.watch import ailments, circumstances
from scheduler.store.watch.circumstances import BEFORE_MOST, MEASURED
from tests.plans.test_lists import APP, APPS, DEAD_AFTER, ENDED_RUN, JOB, LANES, PARTITIONS, PENDING_RUN, prefetched
from tests.support.million import ALIVE, LEASES
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know

EXECUTORS = ["python", "http", "shell"]
BY_ID = {"run": {"run_pkey"}, "history": {"history_run"}}


def of_a_run(
    ask: Callable[[Connection, watch.Row], Awaitable[Any]], run: int = PENDING_RUN
) -> Callable[[Connection, Any], Awaitable[Any]]:
    async def asked(conn: Connection, _: Any) -> Any:
        (row,) = await watch.run(conn, run, app=APP)
        return await ask(conn, row)

    return asked


async def held(conn: Connection, run: int) -> Any:
    (row,) = await watch.run(conn, run, app=APP)
    return await circumstances.held(conn, APP, run, row["fence"])


A_RUN = {"run": 10, "history": 5 * PARTITIONS, "lease": 2 * LEASES}
RUN_BLOCKS = 4 * LEASES + 5 * PARTITIONS
QUESTIONS = [
    Question(
        name="what a run that waits has lost",
        ask=lambda conn, _: circumstances.waiting(conn, APP, PENDING_RUN),
        most={"run": 3},
        through=BY_ID,
        blocks=20,
    ),
    Question(
        name="how a lease holds a run",
        prepare=prefetched,
        ask=held,
        most=A_RUN,
        through=BY_ID,
        blocks=RUN_BLOCKS,
    ),
    Question(
        name="pauses and servers",
        ask=lambda conn, _: circumstances.defined(conn, APP, JOB, dead_after=DEAD_AFTER),
        most={"job": 10, "server": 10},
        through={"server": {"server_alive", "server_pkey"}},
        blocks=50,
    ),
    Question(
        name="who comes before a run",
        ask=of_a_run(lambda conn, run: circumstances.before(conn, run, EXECUTORS)),
        most=A_RUN | {"run": 9 * (BEFORE_MOST + 2) + 50},
        through={"run": {"run_due", "run_pkey"}, "history": {"history_run"}},
        blocks=10 * BEFORE_MOST,
    ),
    Question(
        name="how fast a queue drains",
        ask=lambda conn, _: circumstances.drained(conn, APP, "default"),
        most={"history": MEASURED + 5 * PARTITIONS},
        through=BY_ID,
        blocks=2 * MEASURED,
    ),
    Question(
        name="the runs that one waits for",
        ask=lambda conn, _: circumstances.previous(
            conn, {"app": APP, "job": JOB, "id": 1, "scheduled_at": "2100-01-01T00:00:00Z"}
        ),
        most={"run": 100, "lease": 2 * LEASES},
        through={"run": {"run_job", "run_pkey", "run_waiting"}},
        blocks=4 * LEASES,
    ),
    Question(
        name="what people did to a run",
        ask=lambda conn, _: circumstances.changes(conn, APP, ENDED_RUN, JOB),
        most={"audit": 300},
        through={"audit": {"audit_object"}},
        blocks=400,
        finds=False,
    ),
    Question(
        name="the names of workers",
        ask=lambda conn, _: circumstances.named_workers(conn, [1, 19_999]),
        most={"worker": 5},
        through={"worker": {"worker_pkey"}},
        blocks=20,
    ),
    Question(
        name="what is due and has nobody",
        ask=lambda conn, _: ailments.due(conn, dead_after=DEAD_AFTER, late=300),
        most={"run": 8 * LANES, "worker": 2 * ALIVE, "queue_limit": 0},
        through={"run": {"run_due", "run_keyed_at"}, "worker": {"worker_alive", "worker_pkey"}},
        blocks=40 * LANES,
    ),
    Question(
        name="invalid jobs",
        ask=lambda conn, _: ailments.invalid_jobs(conn),
        finds=False,
        most={"job": 5, "job_schedule": 5},
        through={"job_schedule": {"job_schedule_invalid"}},
        blocks=20,
    ),
    Question(
        name="apps without an owner",
        ask=lambda conn, _: ailments.apps_without_owner(conn),
        finds=False,
        most={"job": 5 * APPS, "owner": 5 * APPS, "server": 20 * APPS},
        through={"owner": {"owner_pkey", "owner_server"}, "server": {"server_alive", "server_pkey"}},
        blocks=40 * APPS,
    ),
    Question(
        name="jobs that never succeed",
        ask=lambda conn, _: ailments.never_succeeding(conn, failures=3),
        finds=False,
        most={"job": 500 + 5 * APPS, "history": 200 * (25 + PARTITIONS) + 110 * APPS * 2},
        through={"history": {"history_unsuccessful", "history_job"}},
        blocks=200 * 10 * PARTITIONS,
    ),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_an_explanation_reads_by_keys(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))


async def test_of_a_default_partition_the_first_rows_and_the_last_page_are_read(
    large: psycopg.Connection, large_dsn: str
) -> None:
    know(large, Statistics.NEVER)
    look = Question(name="defaults", ask=lambda conn, _: ailments.default_partitions(conn), blocks=0)
    found = await look.read(large_dsn, "force_custom_plan")
    for table in ("history", "log"):
        assert 0 < found.of(table).rows < 500, found
    assert found.blocks < 20

"""What people and dashboards ask is answered by a key, from a page of rows, however long the history is."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest

from scheduler.store import audit, define, watch
from tests.support.million import ALIVE, DAYS, ENDED, LEASES, OWNED
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know

APP, JOB, PREFETCHED_JOB = "shop", "job 401", "job 6"
SOME = ["billing", "mail", "none"]
PAGE = 20
PARTITIONS = DAYS + 4
APPS = 20
QUEUES = 4 * APPS
LANES = 9 * QUEUES
PENDING_RUN, ENDED_RUN = ENDED + 500_001, 500_003
DEAD_AFTER = 5.0


async def running(conn: Connection) -> int:
    return await _held(conn, "l.begun_at is not null")


async def prefetched(conn: Connection) -> int:
    return await _held(conn, "l.begun_at is null")


async def _held(conn: Connection, condition: LiteralString) -> int:
    query: LiteralString = (
        "select r.id from scheduler.lease l cross join unnest(l.runs) r where l.app = 'shop' and l.done is null and "
    )
    found = await (await conn.execute(query + condition + " order by r.id desc limit 1")).fetchone()
    assert found is not None
    return int(found[0])


def runs(**options: Any) -> Any:
    return lambda conn, _: watch.runs(conn, limit=PAGE, **options)


def edit(job: str) -> Any:
    query: LiteralString = "update scheduler.job set priority = 7 where app = %s and name = %s returning 1"
    return lambda conn, _: ask(conn, query, APP, job)


async def retry_what_is_pending(conn: Connection, _: Any) -> bool:
    with suppress(psycopg.DatabaseError):  # as it should be; what was read until then counts
        async with conn.transaction():
            await define.retry(conn, APP, PENDING_RUN)
            return False
    return True


async def remove(conn: Connection, _: Any) -> bool:
    await define.remove_job(conn, APP, JOB)
    return True


async def seal(conn: Connection, _: Any) -> bool:
    await define.limit_queue(conn, APP, "new", concurrency_limit=1, rate_limit=None, rate_interval=None)
    await conn.execute("set constraints all immediate")
    return True


def entries(**options: Any) -> Any:
    return lambda conn, _: audit.entries(conn, limit=PAGE, **options)


async def ask(conn: Connection, query: LiteralString, *parameters: Any) -> Any:
    return (await (await conn.execute(query, parameters)).fetchone() or [None])[0]


THE_KEY: LiteralString = "select scheduler.enqueue('shop', 'python', unique_key => %s::text)"
VERIFY: LiteralString = "select v.finding from scheduler.verify_audit(%s, 400, 410) v limit 1"
LAST_SUCCESS: LiteralString = """
    select h.finished_at from scheduler.history h
    where h.app = %s and h.job = %s and h.outcome = 'succeeded' order by h.id desc limit 1
"""

# Leases are few, and whoever looks for a run in them may go through all of an app's: a cancellation thrice.
LEASE = {"lease": 4 * LEASES}
BY_KEY = {"run": {"run_pkey"}, "history": {"history_run"}}
OF_JOB = {"run": {"run_job", "run_pkey"}, "history": {"history_job"}}
A_FEW = {"run": 10, "run_key": 10, "history": 5 * PARTITIONS} | LEASE
LOOK = LEASES + 5 * PARTITIONS  # blocks
WITHDRAWAL = {"job": 10, "job_schedule": 10, "run": 100, "fire": 100, "pulse": 10} | LEASE
A_PAGE = {"run": 3 * PAGE, "history": 6 * PAGE + PARTITIONS} | LEASE
OF_APPS = {
    "run": 2 * PAGE * APPS,
    "history": 3 * PAGE * APPS,
    "job": 5 * APPS,
    "lease": 5 * LEASES,
}
PAGE_BLOCKS = PAGE * PARTITIONS + LEASES
PAGES_BLOCKS = PAGE_BLOCKS * APPS
A_FORECAST = {"run": 2 * PAGE, "job": 3 * PAGE, "job_schedule": 3 * PAGE, "pulse": 2 * PAGE, "queue_limit": 2 * PAGE}
A_JOB = {"run": 5, "history": 5 * PARTITIONS, "job": 5, "job_schedule": 5, "pulse": 5}

CHANGES = [
    Question(
        name="cancel a pending run",
        ask=lambda conn, _: define.cancel(conn, APP, PENDING_RUN),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="cancel a running run",
        prepare=running,
        ask=lambda conn, run: define.cancel(conn, APP, run),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="cancel a prefetched run",
        prepare=prefetched,
        ask=lambda conn, run: define.cancel(conn, APP, run),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="cancel no run",
        ask=lambda conn, _: define.cancel(conn, APP, ENDED_RUN),
        finds=False,
        most=A_FEW,
        through=BY_KEY,
        blocks=2 * LOOK,
    ),
    Question(
        name="retry a run",
        ask=lambda conn, _: define.retry(conn, APP, ENDED_RUN),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(name="trigger a job", ask=lambda conn, _: define.trigger(conn, APP, JOB), most={"job": 5}, blocks=200),
    Question(
        name="retry a pending run",
        ask=retry_what_is_pending,
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="edit a job with a prefetched run",
        ask=edit(PREFETCHED_JOB),
        most=WITHDRAWAL,
        through=OF_JOB,
        blocks=3 * LOOK,
    ),
    Question(name="edit a job", ask=edit(JOB), most=WITHDRAWAL, through=OF_JOB, blocks=3 * LOOK),
    Question(
        name="pause a job",
        ask=lambda conn, _: define.pause(conn, APP, JOB),
        most=WITHDRAWAL,
        through=OF_JOB,
        blocks=3 * LOOK,
    ),
    Question(name="remove a job", ask=remove, most=WITHDRAWAL, through=OF_JOB, blocks=3 * LOOK),
    Question(
        name="add a change to its chain",
        ask=seal,
        most={"audit": 0, "audit_head": 5, "audit_pending": 20, "queue_limit": 5},
        through={"audit_head": {"audit_head_pkey"}, "audit_pending": {"audit_pending_pkey"}},
        blocks=200,
    ),
    Question(
        name="enqueue by a new key", ask=lambda conn, _: ask(conn, THE_KEY, "new"), most={"run_key": 5}, blocks=200
    ),
    Question(
        name="enqueue by a taken key", ask=lambda conn, _: ask(conn, THE_KEY, "key 1"), most={"run_key": 5}, blocks=200
    ),
]
LISTS = [
    Question(
        name="the latest runs",
        ask=runs(),
        most=OF_APPS,
        through={"history": {"history_run"}, "run": {"run_pkey", "run_due"}},
        blocks=PAGES_BLOCKS,
    ),
    Question(name="runs of an app", ask=runs(app=APP), most=A_PAGE, through=BY_KEY, blocks=PAGE_BLOCKS),
    Question(
        name="a later page", ask=runs(app=APP, before=ENDED // 2), most=A_PAGE, through=BY_KEY, blocks=PAGE_BLOCKS
    ),
    Question(name="pending runs", ask=runs(app=APP, state="pending"), most=A_PAGE, through=BY_KEY, blocks=PAGE_BLOCKS),
    Question(name="running runs", ask=runs(app=APP, state="running"), most=LEASE, blocks=PAGE_BLOCKS),
    Question(
        name="succeeded runs", ask=runs(app=APP, state="succeeded"), most=A_PAGE, through=BY_KEY, blocks=PAGE_BLOCKS
    ),
    *(
        Question(
            name=f"{state} runs",
            ask=runs(app=APP, state=state),
            most=A_PAGE | {"history": 20 * PAGE},  # one in ten of the unsuccessful was cancelled
            through={"history": {"history_unsuccessful"}},
            blocks=PAGE_BLOCKS,
        )
        for state in ("failed", "cancelled")
    ),
    Question(
        name="failed runs of all apps",
        ask=runs(state="failed"),
        most=OF_APPS,
        through={"history": {"history_unsuccessful", "history_run"}},
        blocks=PAGES_BLOCKS,
    ),
    Question(
        name="runs of a job",
        ask=runs(app=APP, job=JOB),
        most=A_PAGE,
        through=OF_JOB,
        blocks=PAGE_BLOCKS,
    ),
    Question(
        name="a later page of a job",
        ask=runs(app=APP, job=JOB, before=ENDED // 2),
        most=A_PAGE,
        through=OF_JOB,
        blocks=PAGE_BLOCKS,
    ),
    Question(
        name="runs of no job",
        ask=runs(app=APP, job="nobody's"),
        finds=False,
        most=A_PAGE,
        through=OF_JOB,
        blocks=PAGE_BLOCKS,
    ),
    Question(
        name="runs of a queue", ask=runs(app=APP, queue="default"), most=A_PAGE, through=BY_KEY, blocks=PAGE_BLOCKS
    ),
    Question(
        name="a pending run",
        ask=lambda conn, _: watch.run(conn, PENDING_RUN, app=APP),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="a run that ended",
        ask=lambda conn, _: watch.run(conn, ENDED_RUN, app=APP),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="a running run",
        prepare=running,
        ask=lambda conn, run: watch.run(conn, run, app=APP),
        most=A_FEW,
        through=BY_KEY,
        blocks=LOOK,
    ),
    Question(
        name="a run of whatever app",
        ask=lambda conn, _: watch.run(conn, ENDED_RUN),
        most=OF_APPS,
        through={"history": {"history_run"}},
        blocks=LOOK * APPS,
    ),
    Question(
        name="the attempts of a run",
        ask=lambda conn, _: watch.attempts(conn, APP, ENDED_RUN),
        most={"history": PARTITIONS},
        through=BY_KEY,
        blocks=10 * PARTITIONS,
    ),
    Question(
        name="the log of a run",
        ask=lambda conn, _: watch.Following(APP, 500_010, follow=True).look(conn),
        most={"log": PARTITIONS, "history": PARTITIONS},
        through={"log": {"log_pkey"}, "history": {"history_run"}},
        blocks=10 * PARTITIONS,
    ),
    Question(
        name="every app",
        ask=lambda conn, _: watch.known_apps(conn),
        most=OF_APPS,
        blocks=10 * APPS * PARTITIONS,
    ),
    Question(
        name="apps",
        ask=lambda conn, _: watch.apps(conn, limit=PAGE),
        # Each count ends at COUNTED; each row of it may lie in a block of its own.
        most=OF_APPS
        | {"run": 2 * APPS * watch.COUNTED, "job": APPS * watch.COUNTED, "owner": 2 * APPS, "server": 20 * APPS},
        through={"run": {"run_pkey", "run_due"}},
        blocks=2 * APPS * watch.COUNTED,
    ),
    Question(
        name="which of some apps there are",
        ask=lambda conn, _: watch.known_apps(conn, among=SOME),
        most={"run": 10, "history": 10 * PARTITIONS, "job": 10, "lease": 2 * LEASES},
        blocks=30 * PARTITIONS + LEASES,
    ),
    Question(
        name="some apps",
        ask=lambda conn, _: watch.apps(conn, among=SOME, limit=PAGE),
        most=OF_APPS
        | {"run": 2 * APPS * watch.COUNTED, "job": APPS * watch.COUNTED, "owner": 2 * APPS, "server": 20 * APPS},
        through={"run": {"run_pkey", "run_due"}},
        blocks=2 * APPS * watch.COUNTED,
    ),
    Question(
        name="queues of some apps",
        ask=lambda conn, _: watch.queues(conn, among=SOME, limit=PAGE),
        most={"run": PAGE * watch.COUNTED + 3 * LANES, "job": 5 * QUEUES, "worker": 2 * ALIVE} | LEASE,
        through={"run": {"run_due", "run_pkey"}, "job": {"job_queue"}, "worker": {"worker_alive", "worker_pkey"}},
        blocks=30 * watch.COUNTED,
    ),
    Question(
        name="jobs of some apps",
        ask=lambda conn, _: watch.jobs(conn, among=SOME, limit=PAGE),
        most={table: rows * PAGE for table, rows in A_JOB.items()} | {"job": 5 * PAGE * len(SOME)},
        through=OF_JOB,
        blocks=10 * PAGE * PARTITIONS,
    ),
    Question(
        name="runs of some apps",
        ask=runs(among=SOME),
        most={"run": 5 * PAGE * len(SOME), "history": (6 * PAGE + PARTITIONS) * len(SOME), "job": 10} | LEASE,
        through={"run": {"run_pkey"}, "history": {"history_run"}},
        blocks=PAGE_BLOCKS * len(SOME),
    ),
    Question(
        name="queues",
        ask=lambda conn, _: watch.queues(conn, limit=PAGE),
        most={"run": PAGE * watch.COUNTED + 3 * LANES, "job": 5 * QUEUES, "worker": 2 * ALIVE} | LEASE,
        through={"run": {"run_due", "run_pkey"}, "job": {"job_queue"}, "worker": {"worker_alive", "worker_pkey"}},
        blocks=30 * watch.COUNTED,
    ),
    Question(
        name="servers",
        ask=lambda conn, _: watch.servers(conn, dead_after=DEAD_AFTER, limit=PAGE),
        most={"server": 3 * PAGE, "owner": OWNED + APPS},
        through={"owner": {"owner_server"}},
        blocks=OWNED,
    ),
    Question(
        name="servers that ever were",
        ask=lambda conn, _: watch.servers(conn, gone=True, before=1000, dead_after=DEAD_AFTER, limit=PAGE),
        most={"server": 3 * PAGE, "owner": 0},
        blocks=100,
    ),
    Question(
        name="workers",
        ask=lambda conn, _: watch.workers(conn, dead_after=DEAD_AFTER, limit=PAGE),
        most={"worker": 3 * ALIVE, "lease": LEASES},
        through={"worker": {"worker_alive", "worker_pkey"}},
        blocks=2 * LEASES,
    ),
    Question(
        name="workers that ever were",
        ask=lambda conn, _: watch.workers(conn, gone=True, before=10_000, dead_after=DEAD_AFTER, limit=PAGE),
        most={"worker": 3 * PAGE, "lease": LEASES},
        blocks=2 * LEASES,
    ),
    Question(
        name="jobs",
        ask=lambda conn, _: watch.jobs(conn, limit=PAGE),
        most={table: rows * PAGE for table, rows in A_JOB.items()},
        through=OF_JOB,
        blocks=10 * PAGE * PARTITIONS,
    ),
    Question(
        name="jobs of an app",
        ask=lambda conn, _: watch.jobs(conn, app="mail", limit=PAGE),
        most={table: rows * PAGE for table, rows in A_JOB.items()},
        through=OF_JOB,
        blocks=10 * PAGE * PARTITIONS,
    ),
    Question(
        name="a job", ask=lambda conn, _: watch.job(conn, APP, JOB), most=A_JOB, through=OF_JOB, blocks=10 * PARTITIONS
    ),
    *(
        Question(
            name=name, ask=entries(**options), most={"audit": 2 * PAGE}, through={"audit": {index}}, blocks=5 * PAGE
        )
        for name, index, options in (
            ("the latest changes", "audit_at", {}),
            ("changes since then", "audit_at", {"since": datetime(2020, 1, 1, tzinfo=UTC)}),
            ("changes of an app", "audit_pkey", {"app": APP}),
            ("a later page of changes of an app", "audit_pkey", {"app": APP, "before": (APP, 500)}),
            ("changes of a job", "audit_object", {"app": APP, "object_": f"job {JOB}"}),
        )
    ),
    Question(
        name="a later page of changes",
        ask=entries(before=(APP, 500)),
        most={"audit": 2 * PAGE},
        through={"audit": {"audit_at", "audit_pkey"}},
        blocks=5 * PAGE,
    ),
    Question(
        name="the ends of all chains",
        ask=lambda conn, _: audit.audit_heads(conn),
        most={"audit": 5 * APPS, "audit_head": 5 * APPS},
        through={"audit": {"audit_pkey"}},
        blocks=20 * APPS,
    ),
    Question(
        name="a step of a verification",
        ask=lambda conn, _: ask(conn, VERIFY, APP),
        most={"audit": 10 * PAGE, "audit_head": 5},
        through={"audit": {"audit_pkey"}},
        blocks=40 * PAGE,
    ),
    Question(
        name="what a forecast needs of jobs",
        ask=lambda conn, _: watch.prospects(conn, attempts=PAGE, limit=PAGE),
        most={**A_FORECAST, "history": (PAGE + PARTITIONS) * PAGE},
        through=OF_JOB,
        blocks=(PAGE + 3 * PARTITIONS) * PAGE,
    ),
    Question(
        name="what a forecast needs of jobs of an app",
        ask=lambda conn, _: watch.prospects(conn, app="mail", after=("mail", "job 5"), attempts=PAGE, limit=PAGE),
        most={**A_FORECAST, "history": (PAGE + PARTITIONS) * PAGE},
        through=OF_JOB,
        blocks=(PAGE + 3 * PARTITIONS) * PAGE,
    ),
    Question(
        name="the last success of a job",
        ask=lambda conn, _: ask(conn, LAST_SUCCESS, APP, JOB),
        most={"history": 5 * PARTITIONS},
        through=OF_JOB,
        blocks=10 * PARTITIONS,
    ),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", CHANGES, ids=str)
async def test_a_change_finds_its_rows_by_key(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", LISTS, ids=str)
async def test_a_page_is_read_by_its_key(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))


async def test_what_ended_lately_is_looked_for_in_the_last_partition_only(
    large: psycopg.Connection, large_dsn: str
) -> None:
    know(large, Statistics.FRESH)
    lately = Question(name="lately", ask=lambda conn, _: watch.finished(conn, APP, within=60), blocks=0)
    found = await lately.read(large_dsn, "force_custom_plan")
    assert found.of("history").rows <= ENDED // (DAYS - 1)

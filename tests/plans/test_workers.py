"""What a worker asks reads as many rows as it takes, however many there are and whatever the statistics say."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.million import ALIVE, LEASES, PULSES, WORKERS
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know
from worker import store

APP, QUEUE, WORKER = "shop", "default", WORKERS
EXECUTORS = ["python", "http", "shell"]
LANES = 9  # of a queue: three priorities, three executors
QUEUES = 80
BATCH = 100
LARGE = 10  # specs of 400,000 bytes in 4 MiB


async def claimed(
    conn: Connection, *, queue: str = QUEUE, begin: bool = True, after: store.Place | None = None
) -> store.Claimed:
    claimed = await store.claim(
        conn, APP, WORKER, queue, limit=BATCH, executors=EXECUTORS, horizon=0.5, begin=begin, after=after
    )
    assert claimed is not None
    assert len(claimed.rows) == BATCH
    return claimed


async def prefetched(conn: Connection) -> store.Claimed:
    """Of another queue than claims are measured in: what a test gives back and takes back stays in the index, dead."""
    return await claimed(conn, queue="bulk", begin=False)


async def place(conn: Connection) -> store.Place:
    """Where a claim ended."""
    return (await claimed(conn)).place


async def large_specs(conn: Connection) -> None:
    """Ten times as many as fit into a lease come first, and are packed."""
    await conn.execute(
        """
        insert into scheduler.run (app, executor, spec, run_at, priority)
        select 'shop', 'python', jsonb_build_object('a', repeat('x', 400000)), scheduler.clock() - interval '1 day', -1
        from generate_series(1, %s)
        """,
        [BATCH],
    )


async def limited(conn: Connection) -> None:
    """A queue with limits, in which each run has a concurrency key of its own."""
    await conn.execute(
        """
        insert into scheduler.queue_limit (app, queue, concurrency_limit, rate_limit)
        values (%s, 'limited', 1000, 1000)
        """,
        [APP],
    )
    await conn.execute(
        """
        insert into scheduler.run (app, queue, executor, concurrency_key, run_at)
        select %s, 'limited', 'python', 'key ' || i, scheduler.clock() - interval '1 hour' from generate_series(1, %s) i
        """,
        [APP, BATCH],
    )


async def claim_of_limited(conn: Connection, _: Any = None) -> store.Claimed:
    claimed = await store.claim(
        conn, APP, WORKER, "limited", limit=SHARE, executors=EXECUTORS, horizon=0.5, begin=True, keyed=True
    )
    assert claimed is not None
    assert len(claimed.rows) == SHARE
    return claimed


async def claimed_of_limited(conn: Connection) -> store.Claimed:
    await limited(conn)
    return await claim_of_limited(conn)


async def claim_of_large(conn: Connection, _: Any) -> bool:
    claimed = await store.claim(conn, APP, WORKER, QUEUE, limit=BATCH, executors=EXECUTORS, horizon=0.5, begin=True)
    return claimed is not None and len(claimed.rows) == LARGE


async def claim_in_vain(conn: Connection, _: Any) -> Any:
    claimed = await store.claim(conn, APP, WORKER, QUEUE, limit=BATCH, executors=["sql"], horizon=0.5, begin=True)
    return claimed is None


async def begins(conn: Connection, leased: store.Claimed) -> bool:
    return await store.begin(conn, APP, WORKER, leased[0]) is not None


async def all_succeeded(conn: Connection, leased: store.Claimed) -> int:
    lease, rows, *_ = leased
    reports = [store.Report(row.id, "succeeded", row.run_at, row.run_at) for row in rows]
    return await store.finish_all(conn, APP, WORKER, lease, reports)


async def report(conn: Connection, leased: store.Claimed, outcome: str, runs: int = BATCH) -> int:
    lease, rows, *_ = leased
    error = None if outcome == "succeeded" else "ValueError: 7"
    reports = [store.Report(row.id, outcome, row.run_at, row.run_at, error=error) for row in rows[:runs]]
    return await store.finish(conn, APP, WORKER, lease, reports)


async def log(conn: Connection, _: Any) -> bool:
    at = 2_215_000_000.0
    await store.append_log(conn, APP, [store.Line(APP, n, 1, 1, at, "stdout", "x") for n in range(BATCH)])
    return True


async def pulses(conn: Connection) -> list[store.TakenPulse]:
    taken = await store.take_pulses(conn, WORKER, apps=None, queues=None, executors=EXECUTORS, limit=TAKEN, rate=1000.0)
    assert len(taken) == TAKEN
    return taken


async def report_pulses(conn: Connection, taken: list[store.TakenPulse]) -> bool:
    of_app = [one for one in taken if one.app == taken[0].app]
    at = 2_215_000_000.0
    passed = {"first": at, "last": at, "count": 1}
    span = {"after": at, "first": at - 3, "last": at - 2, "fires": 2, "failures": 0, "started": at, "finished": at}
    spans = [
        {"job": one.job, "lease": one.lease, "run_id": one.run_id, "skipped": passed, "missed": None, **span}
        for one in of_app
    ]
    answers = await store.report_pulses(conn, of_app[0].app, WORKER, spans)
    return all(answers[one.lease] > one.run_id for one in of_app)


async def release_pulses(conn: Connection, taken: list[store.TakenPulse], *, is_over: bool = False) -> int:
    leases = [one.lease for one in taken]
    return await store.release_pulses(conn, taken[0].app, WORKER, leases, is_over=is_over)


TAKEN = 10
SHARE = BATCH // 5  # of the runs that have a key, fewer than a claim looks at keys
OWN = PULSES // 2 // ALIVE + TAKEN  # pulses of a worker
HOLD = 10 * LEASES // ALIVE  # a worker's leases, and those that it left behind
RUN = {"run": {"run_due"}}
ONE_WORKER = {"worker": 5}
ENDS: dict[str, Any] = {
    "most": {"lease": HOLD, "run_key": 3 * BATCH, "history": 0},
    "through": {"run_key": {"run_key_pkey"}},
}
ENDED = 15 * BATCH  # blocks
# Into four indexes each, and past the entries of what other questions gave back and took back.
GIVEN_BACK = 80 * BATCH

QUESTIONS = [
    Question(
        name="a claim",
        ask=lambda conn, _: claimed(conn),
        most={"run": 5 * BATCH + 5 * LANES, "lease": 5} | ONE_WORKER,
        through=RUN | {"worker": {"worker_pkey", "worker_alive"}},
        blocks=15 * BATCH,
    ),
    Question(
        name="a claim that goes on where the last one ended",
        prepare=place,
        ask=lambda conn, after: claimed(conn, after=after),
        most={"run": 3 * BATCH, "lease": 5} | ONE_WORKER,
        through=RUN | {"worker": {"worker_pkey", "worker_alive"}},
        blocks=10 * BATCH,
    ),
    Question(
        name="a claim of large specs",
        prepare=large_specs,
        ask=claim_of_large,
        most={"run": 5 * BATCH + 5 * LANES, "lease": 5} | ONE_WORKER,
        through=RUN | {"worker": {"worker_pkey", "worker_alive"}},
        blocks=25 * BATCH,
    ),
    Question(
        name="a claim of what nobody wants to run",
        ask=claim_in_vain,
        most={"run": 5 * LANES} | ONE_WORKER,
        through=RUN,
        blocks=30 * LANES,
    ),
    Question(
        name="when something is due",
        ask=lambda conn, _: store.next_due(conn, None, None, EXECUTORS),
        most={"run": 2 * QUEUES * LANES},
        through=RUN,
        blocks=10 * QUEUES * LANES,
    ),
    Question(
        name="when something of one queue is due",
        ask=lambda conn, _: store.next_due(conn, [APP], [QUEUE], EXECUTORS),
        most={"run": 2 * QUEUES + 2 * LANES},
        through=RUN,
        blocks=10 * QUEUES,
    ),
    Question(
        name="a claim of what has limits",
        prepare=limited,
        ask=claim_of_limited,
        # What a queue may still have is known from the leases of its app.
        most={"run": 5 * BATCH, "slot": 5 * BATCH, "queue_limit": 20, "lease": 2 * LEASES} | ONE_WORKER,
        blocks=15 * BATCH + 2 * LEASES,
    ),
    Question(
        name="runs with limits succeeded",
        prepare=claimed_of_limited,
        ask=lambda conn, leased: report(conn, leased, "succeeded", SHARE // 2),
        most={"run": 10, "slot": 5 * BATCH, "lease": HOLD, "run_key": 3 * BATCH, "history": 0},
        blocks=ENDED,
    ),
    Question(
        name="a lease begins",
        prepare=prefetched,
        ask=begins,
        most={"lease": HOLD},
        blocks=200,
    ),
    Question(
        name="a whole lease succeeded",
        prepare=claimed,
        ask=all_succeeded,
        **ENDS,
        blocks=ENDED,
    ),
    Question(
        name="each of a lease succeeded",
        prepare=claimed,
        ask=lambda conn, leased: report(conn, leased, "succeeded"),
        **ENDS,
        blocks=ENDED,
    ),
    Question(
        name="a part of a lease succeeded",
        prepare=claimed,
        ask=lambda conn, leased: report(conn, leased, "succeeded", BATCH // 10),
        **ENDS,
        blocks=ENDED,
    ),
    Question(
        name="all of a lease failed",
        prepare=claimed,
        ask=lambda conn, leased: report(conn, leased, "failed"),
        **ENDS,
        blocks=GIVEN_BACK,
    ),
    Question(
        name="a lease is released",
        prepare=prefetched,
        ask=lambda conn, leased: store.release(conn, APP, WORKER, leased[0]),
        **ENDS,
        blocks=GIVEN_BACK,
    ),
    Question(
        name="some runs of a lease are released",
        prepare=prefetched,
        ask=lambda conn, leased: store.release(conn, APP, WORKER, leased[0], [row.id for row in leased[1][:9]]),
        **ENDS,
        blocks=ENDED,
    ),
    Question(
        name="the leases of a worker",
        ask=lambda conn, _: store.leases_of(conn, WORKER),
        most={"lease": HOLD},
        blocks=LEASES,
    ),
    Question(
        name="a heartbeat",
        ask=lambda conn, _: store.heartbeat(conn, WORKER),
        most={"lease": HOLD} | ONE_WORKER,
        through={"worker": {"worker_pkey", "worker_alive"}},
        blocks=LEASES,
    ),
    Question(
        name="jobs to be fired from a timer are taken",
        ask=lambda conn, _: pulses(conn),
        most={"pulse": 2 * PULSES, "job": 5 * TAKEN} | ONE_WORKER,
        through={"pulse": {"pulse_waiting", "pulse_pkey"}, "worker": {"worker_pkey", "worker_alive"}},
        blocks=60 * TAKEN,
    ),
    Question(
        name="no job to be fired from a timer is there",
        ask=lambda conn, _: store.take_pulses(
            conn, WORKER, apps=["nobody's"], queues=None, executors=EXECUTORS, limit=TAKEN, rate=1000.0
        ),
        finds=False,
        most={"pulse": PULSES} | ONE_WORKER,
        through={"worker": {"worker_pkey", "worker_alive"}},
        blocks=PULSES,
    ),
    Question(
        name="which of these leases are gone",
        prepare=prefetched,
        ask=lambda conn, leased: store.lost_leases(conn, APP, [leased[0], 10**12]),
        most={"lease": 2, "pulse": 2 * PULSES},
        through={"lease": {"lease_pkey"}, "pulse": {"pulse_pkey"}},
        blocks=PULSES,
    ),
    Question(
        name="the jobs that a worker fires from its timer",
        ask=lambda conn, _: store.pulses_of(conn, WORKER),
        most={"pulse": 2 * OWN},
        through={"pulse": {"pulse_worker"}},
        blocks=10 * OWN,
    ),
    Question(
        name="what was fired from a timer",
        prepare=pulses,
        ask=report_pulses,
        most={"pulse": 10 * TAKEN, "fire": 5 * TAKEN},  # what the ask before this one took back is still in the index
        through={"pulse": {"pulse_pkey", "pulse_worker"}, "fire": {"fire_pkey"}},
        blocks=60 * TAKEN,
    ),
    Question(
        name="jobs that were fired from a timer are let go",
        prepare=pulses,
        ask=release_pulses,
        most={"pulse": 4 * OWN},
        blocks=60 * TAKEN,
    ),
    Question(
        name="a job that was fired from a timer has ended",
        prepare=pulses,
        ask=lambda conn, taken: release_pulses(conn, taken, is_over=True),
        most={"pulse": 4 * OWN},
        blocks=60 * TAKEN,
    ),
    Question(name="lines of a log", ask=log, most={"log": 2 * BATCH}, blocks=30 * BATCH),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_a_worker_reads_no_more_than_it_takes(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))

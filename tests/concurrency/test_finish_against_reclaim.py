"""Ten thousand runs, each finished by its worker and taken back by servers at the same time: each attempt ends once."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import LiteralString

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.builders import APP, add_worker, column, one, rows

RUNS = int(os.environ.get("SCHEDULER_TEST_INTERLEAVINGS", "10000")) // 2  # in each of two tests
SIDES = 2  # sessions that finish, and as many that reclaim
PIPELINED = 20  # statements that are sent together, each a transaction of its own
# As claim leaves them, one run to a lease. 5,000 claims in one transaction would walk over each other's dead rows.
LEASES: LiteralString = """
    with made as (
        insert into scheduler.run (app, executor, max_attempts)
        select %s, 'python', %s from generate_series(1, %s)
        returning run as row
    )
    insert into scheduler.lease (app, worker, queue, claimed_at, begun_at, size, runs)
    select %s, %s, 'default', scheduler.clock(), scheduler.clock(), 1, array[m.row] from made m
    returning id
"""
FINISH: LiteralString = "select scheduler.finish(%s, %s, %s)"
RECLAIM: LiteralString = "select coalesce(sum(r.runs), 0) from scheduler.reclaim('1 hour', %s) r"


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_wherever_a_finish_and_a_reclaim_meet_the_attempt_ends_once(
    db: psycopg.Connection, connect: Connect, max_attempts: int
) -> None:
    """Finishes come in an order that is drawn, reclaims go through the leases as they lie: they meet anywhere."""
    draw = random.Random(max_attempts)
    worker = add_worker(db)
    leases = column(db, LEASES, APP, max_attempts, RUNS, APP, worker)
    db.execute("delete from scheduler.run")
    db.execute("select scheduler.retire_worker(%s)", [worker])
    draw.shuffle(leases)
    together = Barrier(2 * SIDES)

    def finish(session: psycopg.Connection, mine: list[int]) -> list[int]:
        """The leases whose end counted."""
        together.wait()
        counted = []
        for start in range(0, len(mine), PIPELINED):
            some = mine[start : start + PIPELINED]
            with session.pipeline():
                asked = [session.execute(FINISH, [APP, worker, lease]) for lease in some]
            counted += [lease for lease, cursor in zip(some, asked, strict=True) if cursor.fetchone() == (1,)]
        return counted

    def reclaim(session: psycopg.Connection, limits: random.Random) -> int:
        """How many runs were taken back, until nothing is left."""
        together.wait()
        taken = 0
        while one(session, "select count(*) from scheduler.lease"):
            taken += one(session, RECLAIM, limits.randrange(1, 8))
        return taken

    with ThreadPoolExecutor(2 * SIDES) as threads:
        finishing = [threads.submit(finish, connect(), leases[side::SIDES]) for side in range(SIDES)]
        reclaiming = [threads.submit(reclaim, connect(), random.Random(side)) for side in range(SIDES)]
        counted = [lease for one_side in finishing for lease in one_side.result()]
        taken = sum(one_side.result() for one_side in reclaiming)
    assert min(len(counted), taken) > RUNS / 20, "one side was always first: they did not meet"
    assert len(counted) + taken == RUNS
    assert sorted(column(db, "select h.fence from scheduler.history h where h.outcome = 'succeeded'")) == sorted(
        counted
    )
    lost = "failed" if max_attempts == 1 else "lost"
    assert rows(
        db,
        "select h.outcome, h.retry_at is null, count(*), count(distinct h.id) from scheduler.history h group by 1, 2"
        " order by 1 desc",
    ) == [("succeeded", True, len(counted), len(counted)), (lost, max_attempts == 1, taken, taken)]
    assert one(db, "select count(*) from scheduler.run") == (0 if max_attempts == 1 else taken)

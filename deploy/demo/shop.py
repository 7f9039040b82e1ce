"""Something to look at: the tasks of a small shop, its jobs, and customers who order all the time.

    scheduler worker --app shop billing --import shop       executes them
    python -m shop                                          defines the jobs, and orders until it is stopped

`SCHEDULER_DSN` says where. Orders come in waves of five minutes. One payment in fifty is refused and tried again, one
report in three fails for good, and one job has a schedule that nobody can read: so no panel stays empty.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import sys
import time
from typing import Any

import psycopg

from worker import Context, task

WAVE = 300.0  # seconds from one rush of orders to the next
JOBS = [  # app, name, schedule, executor, spec
    ("shop", "clean-carts", "@every 10s", "python", {"task": "clean_carts"}),
    ("shop", "recommend", "@every 1s", "python", {"task": "recommend"}),
    ("shop", "newsletter", "0 7 * * mon", "python", {"task": "send_email", "args": {"to": "everybody"}}),
    ("billing", "close-books", "* * * * *", "python", {"task": "close_books"}),
    ("billing", "report", "@every 20s", "python", {"task": "report"}),
    ("billing", "audit", "every other tuesday", "python", {"task": "report"}),
]
CHANCE = random.Random()  # noqa: S311  not for secrets


class RefusedError(Exception):
    """The bank says no."""


@task
async def send_email(to: str) -> dict[str, str]:
    await asyncio.sleep(CHANCE.expovariate(20))
    return {"sent": to}


@task(max_attempts=4)
async def charge(order: int) -> dict[str, int]:
    await asyncio.sleep(CHANCE.expovariate(10))
    if CHANCE.random() < 1 / 50:
        raise RefusedError(f"order {order}: the bank does not answer")
    return {"charged": order}


@task
def clean_carts(ctx: Context) -> None:
    ctx.log("removed 3 carts")
    time.sleep(0.05)


@task
async def recommend() -> None:
    await asyncio.sleep(0.01)


@task
async def close_books() -> dict[str, float]:
    await asyncio.sleep(2)
    return {"balance": round(CHANCE.uniform(0, 1e6), 2)}


@task(max_attempts=1)
async def report() -> None:
    if CHANCE.random() < 1 / 3:
        raise RuntimeError("the printer is out of paper")


def define(conn: psycopg.Connection[Any]) -> None:
    """By plain SQL, as any program may: that is also how a schedule that is none gets in."""
    for app, name, schedule, executor, spec in JOBS:
        conn.execute(
            "insert into scheduler.job (app, name, schedule, executor, spec, retry_delay)"
            " values (%s, %s, %s, %s, %s, '1 s') on conflict (app, name) do nothing",
            [app, name, schedule, executor, json.dumps(spec)],
        )


def order(conn: psycopg.Connection[Any], per_second: float) -> None:
    """What customers do in a second: payments now, and letters in a while."""
    rush = 1 + math.sin(2 * math.pi * time.time() / WAVE)
    count = round(per_second * rush) + 1
    conn.execute(
        """
        insert into scheduler.run (app, queue, executor, spec)
        select 'shop', 'payments', 'python',
               json_build_object('task', 'charge', 'args', json_build_object('order', n))
          from generate_series(1, %s) as n
        """,
        [count],
    )
    conn.execute(
        """
        insert into scheduler.run (app, executor, spec, run_at)
        select 'shop', 'python', '{"task": "send_email", "args": {"to": "a@b"}}', now() + random() * interval '20 s'
          from generate_series(1, %s)
        """,
        [count],
    )


def main(per_second: float = 20.0, seconds: float = math.inf) -> None:
    until = time.monotonic() + seconds
    with psycopg.connect(os.environ["SCHEDULER_DSN"], autocommit=True, application_name="demo load") as conn:
        define(conn)
        while time.monotonic() < until:
            order(conn, per_second)
            time.sleep(1)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))

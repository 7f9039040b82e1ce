"""What events, and requests that may be sent twice, read of a large database."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest

from scheduler.store import channel
from tests.plans.test_workers import APP, ENDED, WORKER, prefetched
from tests.support.questions import Question, every_way
from tests.support.reading import Connection
from tests.support.statistics import Statistics, know
from worker import store

SOME = 20
LANES = 200  # that one look of expire_events steps over at most

_EVENTS: LiteralString = """
    with event as (
        insert into scheduler.run (app, executor, spec, run_at, unique_key)
        select '!', 'event', jsonb_build_object('ttl', %s::text), scheduler.clock() - interval '1 hour', 'event ' || i
        from generate_series(1, %s) i
        returning id
    ), lock as (
        insert into scheduler.event_lock (app, run_id, fence, locked_at, expires_at)
        select '!', e.id, 1, scheduler.clock(), scheduler.clock() from event e
    )
    select max(e.id) from event e
"""


async def _one(conn: Connection, query: LiteralString, *parameters: Any) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return row[0]


async def published(conn: Connection) -> int:
    return int(await _one(conn, _EVENTS, "2h", SOME))


async def expired(conn: Connection) -> None:
    await _one(conn, _EVENTS, "1m", SOME)


async def cancelled(conn: Connection) -> Any:
    """A lease that was not begun, with keys, of whose runs one is to be cancelled."""
    leased = await prefetched(conn)
    await conn.execute(
        "update scheduler.lease l set keyed = true, cancel = array[(l.runs[1]).id] where l.app = %s and l.id = %s",
        [APP, leased[0]],
    )
    return leased


async def old_keys(conn: Connection) -> None:
    await conn.execute(
        "insert into scheduler.idempotency (app, token, key, kept_at)"
        " select 'shop', 't', i::text, scheduler.clock() - interval '2 days' from generate_series(1, %s) i",
        [SOME],
    )


FEW = {"run": 5 * SOME, "run_key": 5 * SOME, "event_lock": 5 * SOME, "history": 0}
QUESTIONS = [
    Question(
        name="an event is over",
        prepare=published,
        ask=lambda conn, event: channel.end_event(conn, "!", event),
        most=FEW,
        through={"run": {"run_pkey"}, "run_key": {"run_key_pkey"}, "event_lock": {"event_lock_pkey"}},
        blocks=60 * SOME,
    ),
    Question(
        name="which events have expired",
        prepare=expired,
        ask=lambda conn, _: _one(conn, "select e.expired from scheduler.expire_events() e"),
        most=FEW | {"run": 10 * LANES},
        through={"run": {"run_due"}, "run_key": {"run_key_pkey"}},
        blocks=20 * LANES,
    ),
    Question(
        name="a lease is released of which a run with a key is to be cancelled",
        prepare=cancelled,
        ask=lambda conn, leased: store.release(conn, APP, WORKER, leased[0]),
        most={"run": 50, "run_key": 5 * 100, "lease": 1_000, "history": 0},
        through={"run": {"run_pkey"}, "run_key": {"run_key_pkey"}},
        blocks=10 * ENDED,
    ),
    Question(
        name="keys of old requests are forgotten",
        prepare=old_keys,
        ask=lambda conn, _: _one(conn, "select scheduler.forget_requests(scheduler.clock() - interval '1 day')"),
        most={"idempotency": 5 * SOME},
        through={"idempotency": {"idempotency_kept"}},
        blocks=60 * SOME,
    ),
]


@pytest.mark.parametrize(("state", "mode"), every_way)
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
async def test_events_and_requests_are_found_by_their_keys(
    large: psycopg.Connection, large_dsn: str, question: Question, state: Statistics, mode: str
) -> None:
    know(large, state)
    question.check(await question.read(large_dsn, mode))

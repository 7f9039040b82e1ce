"""The one place that reads the time, and the setting that fakes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from tests.support.clock import Clock

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def now(conn: psycopg.Connection) -> datetime:
    row = conn.execute("select scheduler.clock()").fetchone()
    assert row is not None
    instant: datetime = row[0]
    return instant


def test_a_set_clock_stands_still_in_open_and_in_later_sessions(
    db: psycopg.Connection, connect: Callable[[], psycopg.Connection], clock: Clock
) -> None:
    clock.set(NOON)
    assert now(db) == now(db) == now(connect()) == clock.now == NOON


def test_a_clock_is_moved_by_hand(db: psycopg.Connection, clock: Clock) -> None:
    clock.set("2026-11-01T12:00:00Z")
    clock.advance(1.5)
    clock.advance(timedelta(hours=1))
    assert now(db) == NOON + timedelta(hours=1, seconds=1.5)


def test_without_a_fake_the_clock_is_the_servers(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    clock.run_free()
    row = db.execute("select scheduler.clock() = statement_timestamp()").fetchone()
    assert row == (True,)

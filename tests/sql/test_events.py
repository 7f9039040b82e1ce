"""What the SQL of events promises, where processes would not show it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.support.clock import Clock


def one(db: psycopg.Connection, query: Any, *values: Any) -> Any:
    row = db.execute(query, values).fetchone()
    return row and row[0]


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        ("1h30m10s", 5410),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("2d", 172_800),
        ("3153600000s", 3_153_600_000),
        ("5us", 0.000005),
        ("0s", 600),
        ("", 600),
        ("-5m", 600),
        ("10 minutes", 600),
        ("99999999999h", 600),
        (None, 600),
    ],
)
def test_a_ttl_is_read_as_go_writes_it_and_ten_minutes_if_nobody_can_read_it(
    db: psycopg.Connection, ttl: str | None, seconds: float
) -> None:
    found = one(db, "select scheduler.event_ttl(jsonb_build_object('ttl', %s::text))", ttl)
    assert found == timedelta(seconds=seconds)


def test_an_event_is_there_from_its_instant_until_its_end_and_a_lock_until_its_own(
    db: psycopg.Connection, clock: Clock
) -> None:
    clock.set("2026-03-01T12:00:00Z")
    event = one(db, "select id from scheduler.publish_event('c', 'x', '60s', '2026-03-01T12:01:00Z')")
    for at, there in (("12:00:59.999", False), ("12:01", True), ("12:01:59.999", True), ("12:02", False)):
        clock.set(f"2026-03-01T{at}Z")
        assert (one(db, "select count(*) from scheduler.list_events('c')") == 1) is there, at
        assert (one(db, "select scheduler.lock_event('c', %s, '1 ms')", event) is not None) is there, at
        assert one(db, "select scheduler.unlock_event('c', %s)", event) is there, at
        if not there:
            assert one(db, "select scheduler.end_event('c', %s)", event) is False
    clock.set("2026-03-01T12:01:10Z")
    first = one(db, "select scheduler.lock_event('c', %s, '5 s')", event)
    clock.set("2026-03-01T12:01:14.999Z")
    assert one(db, "select scheduler.lock_event('c', %s)", event) is None
    assert one(db, "select is_locked from scheduler.list_events('c')") is True
    clock.set("2026-03-01T12:01:15Z")
    assert one(db, "select is_locked from scheduler.list_events('c')") is False
    assert one(db, "select scheduler.lock_event('c', %s)", event) > first


@pytest.mark.parametrize("lanes", [1, 2, 100])
def test_expiry_looks_at_so_many_and_goes_on_where_it_ended(db: psycopg.Connection, clock: Clock, lanes: int) -> None:
    clock.set("2026-03-01T12:00:00Z")
    db.execute("""
        select scheduler.publish_event(a, 'x', case when g % 2 = 0 then '1s' else '1h' end)
        from unnest('{a,b,c}'::text[]) a, generate_series(1, 10) g
    """)
    db.execute("select scheduler.publish_event('b', 'later', '1s', '2026-03-01T13:00:00Z')")
    db.execute("insert into scheduler.run (app, executor) values ('b', 'shell')")
    db.execute("select scheduler.lock_event(r.app, r.id, '1 s') from scheduler.run r where r.executor = 'event'")
    clock.set("2026-03-01T12:00:30Z")
    place: tuple[Any, ...] = ("", "", 0, "", "-infinity", 0)
    looks = []
    while place[0] is not None:
        row = db.execute(
            """
            select app, queue, priority, executor, run_at::text, id, expired
            from scheduler.expire_events(4, %s, %s, %s, %s::smallint, %s, %s, %s)
            """,
            [lanes, *place],
        )
        *found, expired = row.fetchone() or ()
        place = tuple(found)
        looks.append(expired)
    assert sum(looks) == 15
    assert max(looks) <= 4
    assert one(db, "select count(*) from scheduler.run") == 17
    assert one(db, "select count(*) from scheduler.event_lock") == 0
    assert one(db, "select count(*) from scheduler.history where outcome = 'cancelled' and error ~ '^expired'") == 15


def test_the_end_of_an_event_frees_its_unique_key(db: psycopg.Connection) -> None:
    event = one(db, "select scheduler.enqueue('c', 'event', '{\"data\": \"x\"}', unique_key => 'k')")
    assert one(db, "select scheduler.enqueue('c', 'event', unique_key => 'k')") == event
    assert one(db, "select scheduler.end_event('c', %s)", event) is True
    assert one(db, "select scheduler.enqueue('c', 'event', '{\"ttl\": \"1us\"}', unique_key => 'k')") != event
    assert one(db, "select expired from scheduler.expire_events()") == 1
    assert one(db, "select count(*) from scheduler.run_key") == 0


def test_a_job_that_is_edited_or_removed_leaves_the_events_that_it_published(db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.job (app, name, schedule, executor) values ('c', 'j', '@hourly', 'event')")
    db.execute("""
        insert into scheduler.run (app, executor, job, scheduled_at, run_at)
        select 'c', 'event', 'j', t, t from unnest(array[now() - interval '1 min', now() + interval '1 min']) t
    """)
    db.execute('update scheduler.job set spec = \'{"data": "new"}\'')
    db.execute("delete from scheduler.job")
    assert one(db, "select array_agg(run_at < now()) from scheduler.run") == [True]

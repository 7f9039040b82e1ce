"""What a server reads of the database for /metrics: right numbers, by bounded statements, each app's by one server."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from scheduler import gauger
from scheduler.config import Settings
from scheduler.gauger import Gauger
from scheduler.link import Link
from scheduler.metrics.numbers import OTHER, Buckets, Tally
from scheduler.store import gauge
from tests.support.builders import add_job, add_run, add_server, add_worker, one, rows
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
Told = dict[tuple[str, ...], float]


def at(clock: Clock, seconds: float) -> datetime:
    return clock.now + timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def _noon(clock: Clock) -> None:
    clock.set(NOON)


def owner_of(db: psycopg.Connection, *apps: str) -> int:
    """A new server that owns these apps, which have a job each."""
    server = add_server(db)
    for app in apps:
        add_job(db, app=app)
        db.execute("insert into scheduler.owner (app, server, epoch, weight) values (%s, %s, 1, 2)", [app, server])
    return server


async def read(dsn: str, server: int, *, rounds: int = 1) -> Told:
    """What such a server would tell after so many rounds of everything."""
    async with Link(dsn, name="test gauger") as link:
        reader = Gauger(link, Settings(), lambda: server, Tally(), asyncio.Lock())
        for _ in range(rounds):
            for part in reader._parts:
                async with link.within(20) as conn:
                    while await part.step(conn) == 0.0:
                        pass
    samples = reader.gauges.samples()
    return {(s.family.name, *s.labels): s.value for s in samples if not isinstance(s.value, Buckets)}


async def test_pending_runs_are_counted_by_queue_and_the_oldest_due_one_is_told(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    server = owner_of(db, "shop")
    add_run(db, queue="mail", run_at=at(clock, -30), priority=5)
    add_run(db, queue="mail", run_at=at(clock, -10))
    add_run(db, queue="mail", run_at=at(clock, 3600), executor="shell")
    add_run(db, queue="keyed", run_at=at(clock, -40), concurrency_key="k")
    add_run(db, queue="keyed", run_at=at(clock, -90), concurrency_key="l", executor="shell")
    add_run(db, queue="later", run_at=at(clock, 60))
    found = await read(dsn, server)
    pending = {key[1:]: value for key, value in found.items() if key[0] == "scheduler_runs_pending"}
    assert pending == {("shop", "mail"): 3, ("shop", "keyed"): 2, ("shop", "later"): 1}
    oldest = {key[1:]: value for key, value in found.items() if key[0] == "scheduler_oldest_due_seconds"}
    assert oldest == {("shop", "mail"): 30, ("shop", "keyed"): 90, ("shop", "later"): 0}


async def test_each_app_is_told_by_the_server_that_owns_it_and_the_eldest_tells_of_those_without_an_owner(
    dsn: str, db: psycopg.Connection
) -> None:
    first, second = owner_of(db, "a"), owner_of(db, "b")
    gone = owner_of(db, "c")
    db.execute("update scheduler.server set dead_at = scheduler.clock() where id = %s", [gone])
    for app in ("a", "b", "c", "without jobs"):
        add_run(db, app=app)
    told = [await read(dsn, server) for server in (first, second)]
    of = [{key[1] for key in one if key[0] == "scheduler_runs_pending"} for one in told]
    assert of == [{"a", "c", "without jobs"}, {"b"}]
    assert [one["scheduler_apps_owned",] for one in told] == [1, 1]
    assert [one["scheduler_apps_unowned",] for one in told] == [1, 1]
    assert [one["scheduler_servers_alive",] for one in told] == [2, 2]


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_deep_queue_is_counted_slice_by_slice(
    dsn: str, db: psycopg.Connection, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauger, "SLICE", 1_000)
    server = owner_of(db, "shop")
    many, few = gauger.COUNTED * 2 + 345, gauger.COUNTED
    db.execute(
        "insert into scheduler.run (app, queue, executor, priority, run_at, concurrency_key)"
        " select 'shop', q.queue, 'x' || n %% 3, n %% 2, now() + n %% 7 * interval '1 s', %s::text || n %% 5"
        " from (values ('deep', %s), ('full', %s)) q (queue, runs) cross join generate_series(1, q.runs) n",
        [key, many, few],
    )
    first = await read(dsn, server)
    assert first["scheduler_runs_pending", "shop", "full"] == few
    assert first["scheduler_runs_pending", "shop", "deep"] == few + 1  # at least so many
    assert (await read(dsn, server, rounds=2))["scheduler_runs_pending", "shop", "deep"] == many


async def test_pages_leave_nothing_out_and_tell_nothing_twice(
    dsn: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauger, "QUEUE_PAGE", 3)
    monkeypatch.setattr(gauger, "JOB_PAGE", 3)
    monkeypatch.setattr(gauger, "LOOKED_AT", 2)
    server = owner_of(db, "a", "b")
    for number in range(7):
        add_run(db, app="a" if number % 2 else "b", queue=f"q{number}", concurrency_key="k" if number == 3 else None)
        add_job(db, f"job {number}", app="a", schedule="@daily")
    found = await read(dsn, server)
    pending = {key[1:]: value for key, value in found.items() if key[0] == "scheduler_runs_pending"}
    assert pending == {("a" if number % 2 else "b", f"q{number}"): 1 for number in range(7)}
    assert (found["scheduler_jobs", "a"], found["scheduler_jobs", "b"]) == (8, 1)


async def test_an_emptied_queue_goes_to_zero_and_does_not_vanish(dsn: str, db: psycopg.Connection) -> None:
    server = owner_of(db, "shop")
    add_run(db)
    async with Link(dsn, name="test gauger") as link, link.within(20) as conn:
        queues = gauger._Queues(lambda: server, gauges := gauger.Gauges())
        await queues.step(conn)
        db.execute("delete from scheduler.run")
        await queues.step(conn)
    assert {sample.value for sample in gauges.samples()} == {0}


def history(db: psycopg.Connection, job: str, at: Any, outcome: str) -> None:
    run = one(db, "select nextval('scheduler.run_id')")
    db.execute(
        "insert into scheduler.history (app, queue, id, job, executor, spec, outcome, attempt, priority, max_attempts,"
        " run_at, finished_at) values ('shop', 'default', %s, %s, 'x', '{}', %s, 1, 0, 3, %s, %s)",
        [run, job, outcome, at, at],
    )


def fire(db: psycopg.Connection, job: str, at: Any) -> None:
    db.execute(
        "insert into scheduler.fire (app, job, scheduled_at, outcome, decided_at)"
        " values ('shop', %s, %s, 'planned', scheduler.clock())",
        [job, at],
    )


async def test_jobs_are_told_by_how_many_of_their_instants_passed_since_a_success(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    server = owner_of(db, "shop")
    for job, last_success in (("fine", -100), ("failing", -100_000), ("unlucky", -11_000)):
        add_job(db, job, schedule="@hourly")
        history(db, job, at(clock, last_success), "succeeded")
        for hour in range(1, 10):
            fire(db, job, at(clock, -3600 * hour))
    add_job(db, "never", schedule="@hourly")
    for hour in range(1, 6):
        fire(db, "never", at(clock, -3600 * hour))
        history(db, "never", at(clock, -3600 * hour), "failed")
    fire(db, "fine", at(clock, 5))  # planned ahead
    db.execute("update scheduler.job_schedule set error = 'what is this?' where job = 'nightly'")
    found = await read(dsn, server)
    succeeded = {key[2]: value for key, value in found.items() if key[0].startswith("scheduler_job_last_success")}
    noon = at(clock, 0).timestamp()
    assert succeeded == {"failing": noon - 100_000, "never": 0, "unlucky": noon - 11_000, "fine": noon - 100}
    assert found["scheduler_jobs", "shop"] == 5
    assert found["scheduler_jobs_overdue", "shop"] == 2  # failing and never; of the unlucky one three passed
    assert found["scheduler_jobs_invalid", "shop"] == 1


async def test_a_history_is_looked_at_again_only_when_its_job_has_fired_or_has_not_succeeded_since(
    dsn: str, db: psycopg.Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = owner_of(db, "shop")
    for job in ("fine", "failing"):
        add_job(db, job, schedule="@hourly")
    db.execute("update scheduler.job_schedule set next_at = %s", [at(clock, 600)])
    db.execute("update scheduler.job_schedule set next_at = 'infinity' where job = 'nightly'")
    history(db, "fine", at(clock, -10), "succeeded")
    fire(db, "failing", at(clock, -10))
    asked: list[list[str]] = []
    real = gauge.gauge_successes

    async def noted(conn: Any, jobs: Any, **bounds: Any) -> Any:
        asked.append(sorted(job for _, job in jobs))
        return await real(conn, jobs, **bounds)

    monkeypatch.setattr(gauge, "gauge_successes", noted)
    async with Link(dsn, name="test gauger") as link, link.within(20) as conn:
        jobs = gauger._Jobs(lambda: server, gauger.Gauges(), Tally())
        await jobs.step(conn)
        await jobs.step(conn)
        db.execute("update scheduler.job_schedule set next_at = %s where job = 'fine'", [at(clock, 4200)])
        await jobs.step(conn)
    # The third has no next instant that would change, as jobs of a short period.
    assert asked == [["failing", "fine", "nightly"], ["failing", "nightly"], ["failing", "fine", "nightly"]]


async def test_ten_thousand_jobs_in_a_thousand_apps_make_fewer_than_900_series_of_a_server(
    dsn: str, db: psycopg.Connection
) -> None:
    server = add_server(db)
    db.execute(
        "insert into scheduler.job (app, name, schedule, executor)"
        " select 'app ' || n % 1000, 'job ' || n, '@hourly', 'x' from generate_series(1, 10000) n"
    )
    db.execute("select scheduler.assign_apps(null, true)")
    db.execute("insert into scheduler.run (app, executor) select 'app ' || n, 'x' from generate_series(0, 999) n")
    db.execute(
        "insert into scheduler.fire (app, job, scheduled_at, outcome, decided_at)"
        " select 'app ' || n % 1000, 'job ' || n, scheduler.clock() - interval '1 min', 'missed', scheduler.clock()"
        " from generate_series(1, 10000) n"
    )
    found = await read(dsn, server)
    assert 300 < len(found) < 550  # four outcomes of fires, reclaims and poison of 41 apps come to it, and 120 others
    by_name: Counter[str] = Counter()
    for (name, *_), value in found.items():
        by_name[name] += int(value)
    assert (by_name["scheduler_jobs"], by_name["scheduler_runs_pending"]) == (10_000, 1_000)
    assert found["scheduler_jobs", OTHER] == 9_600


async def test_it_says_how_long_a_snapshot_is_held_and_what_is_dead(
    dsn: str, db: psycopg.Connection, connect: Any
) -> None:
    server = owner_of(db, "shop")
    holder = connect()
    holder.autocommit = False
    holder.execute("set transaction isolation level repeatable read")
    holder.execute("select 1 from scheduler.run")
    db.execute("select pg_sleep(0.3)")
    found = await read(dsn, server)
    held = found["scheduler_db_snapshot_age_seconds",]
    assert held >= 0.3
    holder.rollback()
    found = await read(dsn, server)
    assert found["scheduler_db_snapshot_age_seconds",] < held
    assert found["scheduler_db_size_bytes",] > 1_000_000
    assert found["scheduler_db_wal_bytes_total",] > 0
    assert 0 <= found["scheduler_db_notify_queue_ratio",] <= 1
    assert 2 <= found["scheduler_db_connections",] <= found["scheduler_db_connections_most",]
    tables = {key[1] for key in found if key[0] == "scheduler_db_dead_rows"}
    assert {"run", "history", "lease"} <= tables
    assert "history_default" not in tables


def test_the_living_are_counted_and_the_silent_are_not(db: psycopg.Connection, clock: Clock) -> None:
    server = add_server(db)
    add_worker(db)
    clock.advance(4)
    add_worker(db)
    clock.advance(2)
    counted = "select p.servers, p.workers from scheduler.gauge_processes(%s, '5 s') p"
    assert rows(db, counted, server) == [(0, 1)]


def test_a_part_that_fails_lets_the_others_have_their_turns() -> None:
    async def fails_first() -> list[str]:
        done: list[str] = []
        reader = Gauger(_NoLink(), Settings(), lambda: 1, Tally(), asyncio.Lock())  # type: ignore[arg-type]

        async def broken(_: Any) -> float:
            done.append("broken")
            raise psycopg.OperationalError

        async def works(_: Any) -> float:
            done.append("works")
            return 5.0

        reader._parts = [gauger._Part(broken), gauger._Part(works)]
        with pytest.raises(psycopg.OperationalError):
            await reader.run_once()
        assert 0 < await reader.run_once() <= gauger.EVERY
        return done

    assert asyncio.run(fails_first()) == ["broken", "works"]


async def test_after_what_took_long_it_rests_long_and_asks_nothing_meanwhile() -> None:
    reader = Gauger(_NoLink(), Settings(), lambda: 1, Tally(), asyncio.Lock())  # type: ignore[arg-type]
    asked = 0

    async def slow(_: Any) -> float:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.5)
        return 0.0

    reader._parts = [gauger._Part(slow), gauger._Part(slow)]
    assert await reader.run_once() >= gauger.RESTS * 0.45
    assert await reader.run_once() > gauger.RESTS * 0.45 - 5  # some of it is over by now
    assert asked == 1


class _NoLink:
    def within(self, _: float) -> Any:
        return asyncio.timeout(30)


def test_every_gauge_of_the_database_is_a_function_of_sql(db: psycopg.Connection) -> None:
    """The functions are the store's; here they are called as `psql` would."""
    server = add_server(db)
    add_run(db)
    assert rows(db, "select q.pending from scheduler.gauge_queues(%s, '', '', 10, 10) q", server) == [(1,)]
    assert rows(db, "select b.runs, b.id from scheduler.gauge_backlog('shop', 'default', 10, false) b") == [(1, None)]
    assert rows(db, "select j.job from scheduler.gauge_jobs(%s, '', '', 10) j", server) == []
    assert rows(db, "select s.job from scheduler.gauge_successes('{shop}', '{unknown}', 1, 1) s") == []
    db.execute(
        """insert into scheduler.alarm (app, name, kind, channels)
        values ('shop', 'a', 'failed', '[{"channel": "webhook", "url": "http://127.0.0.1"}]'),
            ('shop', 'b', 'late', '[{"channel": "webhook", "url": "http://127.0.0.1"}]')"""
    )
    db.execute("insert into scheduler.alarm_state (app, alarm, since_at) values ('shop', 'b', now())")
    assert rows(db, "select a.app, a.firing from scheduler.gauge_alarms(10) a") == [("shop", 1)]
    assert one(db, "select d.size > 0 from scheduler.gauge_database() d")

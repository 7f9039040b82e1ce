"""Claims: which runs a worker gets, in which order, and how many at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from tests.support.builders import APP, add_job, add_run, add_worker, claim, column, finish, one, rows, state
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
BACKLOG: LiteralString = """
    insert into scheduler.run (app, executor, priority, run_at)
    select %s, %s, %s, scheduler.clock() + %s::interval from generate_series(1, %s)
"""

ROWS_READ: LiteralString = """
    select s.seq_tup_read + s.idx_tup_fetch from pg_stat_xact_user_tables s where s.relid = 'scheduler.run'::regclass
"""


def claimed(db: psycopg.Connection, options: LiteralString, *parameters: Any) -> list[int]:
    """The ids that a claim with these further arguments gets."""
    return [
        row[1]
        for row in rows(db, "select * from scheduler.claim(%s, %s, " + options + ")", APP, add_worker(db), *parameters)
    ]


def test_a_claim_says_all_that_a_worker_needs(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db, spec={"task": "t"}, timeout="1 min", max_attempts=4, traceparent="00-1-2-01")
    worker = add_worker(db)
    cursor = db.execute("select * from scheduler.claim(%s, %s)", [APP, worker])
    assert [column.name for column in cursor.description or ()] == [
        "lease", "id", "executor", "spec", "attempt", "run_at", "scheduled_at", "job", "timeout", "max_attempts",
        "lost", "priority", "limited", "traceparent",
    ]  # fmt: skip
    lease, *told = cursor.fetchall()[0]
    assert [str(value) for value in told] == [
        str(run), "python", "{'task': 't'}", "1", str(clock.now), "None", "None", "0:01:00", "4", "0",
        "0", "False", "00-1-2-01",
    ]  # fmt: skip
    assert rows(db, "select l.app, l.lease from scheduler.leases_of(%s) l", worker) == [(APP, lease)]


def test_a_lease_is_lost_once_it_is_gone_and_only_to_its_app(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    lost: LiteralString = "select l.lease from scheduler.lost_leases(%s, %s) l order by 1"
    worker = add_worker(db)
    add_run(db)
    first, runs = claim(db, worker)
    add_run(db)
    second, _ = claim(db, worker)
    assert column(db, lost, APP, [first, second]) == []
    assert column(db, lost, "another", [first, second]) == [first, second]
    finish(db, worker, first, runs)
    assert column(db, lost, APP, [first, second]) == [first]


def test_lower_priorities_go_first_then_earlier_runs_then_smaller_ids(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add = [
        add_run(db, priority=priority, run_at=f"2030-01-01 11:{minute}:00Z")
        for priority, minute in [(0, 30), (5, 10), (0, 20), (-3, 40), (-3, 50), (0, 20)]
    ]
    assert claim(db, add_worker(db))[1] == [add[each] for each in (3, 4, 2, 5, 0, 1)]


def test_a_limited_claim_takes_the_first_of_that_order(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    later, first, second = (add_run(db, run_at=f"2030-01-01 11:{minute}:00Z") for minute in (30, 10, 20))
    worker = add_worker(db)
    assert [claim(db, worker, 1)[1] for _ in range(4)] == [[first], [second], [later], []]


def test_a_run_is_not_claimed_before_its_time(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db, run_at="2030-01-01 12:00:10Z")
    assert claimed(db, "p_horizon => '9.999 s'") == []
    clock.advance(9.999)
    assert claimed(db, "'default'") == []
    assert claimed(db, "p_horizon => '1 ms'") == [run]


def test_a_run_within_the_horizon_is_claimed_and_says_when_to_start(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_run(db, run_at="2030-01-01 12:00:00.4Z")
    told = rows(
        db,
        "select c.run_at - scheduler.clock() from scheduler.claim(%s, %s, p_horizon => '0.5 s') c",
        APP,
        add_worker(db),
    )
    assert told[0][0].total_seconds() == 0.4


def test_a_worker_gets_only_runs_of_its_executors_queue_and_app(db: psycopg.Connection) -> None:
    add_run(db, executor="shell")
    add_run(db, app="another")
    mail = add_run(db, queue="mail")
    own = add_run(db)
    assert claimed(db, "p_limit => 9, p_executors => '{python,http}'") == [own]
    assert claimed(db, "'mail', 9") == [mail]
    assert claimed(db, "'nowhere'") == []


def test_the_backlog_of_another_executor_is_in_nobodys_way(db: psycopg.Connection) -> None:
    # Read row by row, 20,000 of them would be 20,000 rows removed by a filter; the lane is skipped in one probe.
    db.execute(BACKLOG, [APP, "shell", -1, "-1 hour", 20_000])
    db.execute(BACKLOG, [APP, "python", -1, "1 day", 20_000])
    run = add_run(db)
    with db.transaction():
        assert claimed(db, "'default', 1, '{python}'") == [run]
        assert one(db, ROWS_READ) < 100


def test_a_batch_holds_4_mib_of_specs_at_most(db: psycopg.Connection) -> None:
    runs = [add_run(db, spec={"text": "x" * 900_000}) for _ in range(10)]
    worker = add_worker(db)
    assert [claim(db, worker)[1] for _ in range(4)] == [runs[:4], runs[4:8], runs[8:], []]


def test_specs_that_do_not_compress_are_bounded_alike(db: psycopg.Connection) -> None:
    add: LiteralString = """
        insert into scheduler.run (app, executor, spec)
        select %s, 'python', jsonb_build_object('text', string_agg(md5(random()::text || g::text), ''))
        from generate_series(1, 28000) g returning id
    """
    runs = [one(db, add, APP) for _ in range(6)]
    worker = add_worker(db)
    assert [claim(db, worker)[1] for _ in range(3)] == [runs[:4], runs[4:], []]


def test_rows_that_fit_are_the_first_ones_in_their_order(db: psycopg.Connection) -> None:
    for size in (10, 20_000, 10, 900_000):
        add_run(db, spec={"text": "x" * size})
    places = column(db, "select r.ctid from scheduler.run r order by r.id")
    fitting: LiteralString = "select cardinality(f.rows), f.bytes from scheduler.fitting(%s::tid[], %s, %s) f"
    for room, first, expected in (
        (10**7, False, 4),
        (30_000, False, 3),
        (1_000, False, 1),
        (1, False, 0),
        (1, True, 1),
    ):
        ((count, size),) = rows(db, fitting, places, room, first)
        assert (count, first or size <= room) == (expected, True)


def test_a_claim_behind_a_place_takes_what_comes_after_it_in_that_lane(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    early, place, same_instant, later = (add_run(db, run_at=clock.now - timedelta(seconds=n)) for n in (3, 2, 2, 1))
    urgent, other = add_run(db, priority=-1), add_run(db, executor="shell")
    worker = add_worker(db)
    behind: LiteralString = """
        select c.id from scheduler.claim(%s, %s, p_limit => 9, p_executors => '{python}', p_priority => 0::smallint,
            p_after_at => scheduler.clock() - interval '2 s', p_after_id => %s) c
    """
    assert column(db, behind, APP, worker, place) == [same_instant, later]
    assert column(db, behind, APP, worker, place) == []
    whatever: LiteralString = "select c.id from scheduler.claim(%s, %s, p_limit => 9, p_priority => 0::smallint) c"
    assert column(db, whatever, APP, worker) == [early, place, other], "of that priority, whatever the executor"
    assert claim(db, worker)[1] == [urgent]


def test_a_claim_behind_a_place_does_not_walk_over_what_was_claimed_before_it(db: psycopg.Connection) -> None:
    """Claimed rows stay in the index while any snapshot is older, here that of the transaction itself."""
    fetched: LiteralString = "select pg_stat_get_xact_blocks_fetched('scheduler.run_due'::regclass)"
    behind: LiteralString = """
        select count(*) from scheduler.run p, scheduler.claim(%s, %s, p_limit => 5, p_executors => '{python}',
            p_priority => 0::smallint, p_after_at => p.run_at, p_after_id => p.id - 1) c
        where p.id = %s
    """
    worker = add_worker(db)
    with db.transaction():
        db.execute(BACKLOG, [APP, "python", 0, "-1 s", 3_000])
        claim(db, worker, 2_990)
        first = one(db, "select min(id) from scheduler.run")
        before = one(db, fetched)
        assert one(db, behind, APP, worker, first) == 5
        straight = one(db, fetched) - before
        claim(db, worker, 5)
        from_the_head = one(db, fetched) - before - straight
    assert straight * 3 < from_the_head


def test_a_run_of_any_size_is_claimed_alone_if_need_be(db: psycopg.Connection) -> None:
    big = [add_run(db, spec={"text": "x" * 1_048_000}, priority=number) for number in range(5)]
    assert claim(db, add_worker(db))[1] == big[:4]


def test_a_prefetched_run_counts_as_pending_until_it_is_begun(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run, worker = add_run(db), add_worker(db)
    lease, _ = claim(db, worker, begin=False)
    assert state(db, run) == "pending"
    clock.advance(1)
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) == []
    assert rows(db, "select r.state, r.started_at from scheduler.runs r") == [("running", clock.now)]
    clock.advance(1)
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) == [], "an answer may be lost"
    assert one(db, "select r.started_at < scheduler.clock() from scheduler.runs r") is True


def test_begin_leaves_out_what_was_cancelled_meanwhile(db: psycopg.Connection) -> None:
    first, _ = add_run(db), add_run(db)
    worker = add_worker(db)
    lease, _ = claim(db, worker, begin=False)
    assert one(db, "select scheduler.cancel(%s, %s)", APP, first) is True
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) == [first]
    assert one(db, "select scheduler.begin(%s, %s, %s)", "another", worker, lease) is None
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, add_worker(db), lease) is None


def test_a_paused_app_is_not_claimed_and_prefetched_runs_do_not_start(db: psycopg.Connection) -> None:
    run, worker = add_run(db), add_worker(db)
    lease, _ = claim(db, worker, begin=False)
    assert one(db, "select scheduler.pause(%s)", APP) is True
    assert one(db, "select scheduler.pause(%s)", APP) is False
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) is None
    assert claim(db, worker) == (0, [])
    assert one(db, "select scheduler.resume(%s)", APP) is True
    assert one(db, "select scheduler.resume(%s)", APP) is False
    assert claim(db, worker)[1] == [run]


def test_a_pause_does_not_give_back_what_runs_already(db: psycopg.Connection) -> None:
    # It would run twice at once: the worker that runs it goes on, as a pause promises.
    run, worker = add_run(db), add_worker(db)
    lease, _ = claim(db, worker)
    one(db, "select scheduler.pause(%s)", APP)
    assert one(db, "select scheduler.begin(%s, %s, %s)", APP, worker, lease) == []
    assert state(db, run) == "running"


def test_a_worker_that_is_not_alive_gets_nothing(db: psycopg.Connection) -> None:
    add_run(db)
    worker = add_worker(db)
    one(db, "select scheduler.retire_worker(%s)::text", worker)
    for nobody in (worker, 0):
        with pytest.raises(psycopg.Error) as refused:
            claim(db, nobody)
        assert refused.value.sqlstate == "JS004"


def test_the_lanes_of_a_queue_are_read_off_its_index(db: psycopg.Connection) -> None:
    for priority, executor in [(0, "python"), (0, "http"), (-1, "python"), (0, "python")]:
        add_run(db, priority=priority, executor=executor)
    add_run(db, priority=9, queue="mail")
    assert rows(db, "select l.priority, l.executor from scheduler.lanes(%s, 'default') l", APP) == [
        (-1, "python"), (0, "http"), (0, "python")
    ]  # fmt: skip


def test_next_due_names_the_queues_with_work_and_when_it_is_due(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db)
    add_run(db, run_at="2030-01-01 11:59:00Z")
    add_run(db, run_at="2030-01-01 12:00:00Z", priority=-1)
    add_run(db, app="crm", queue="mail", run_at="2030-01-01 13:00:00Z")
    add_run(db, app="crm", queue="mail", executor="shell", run_at="2030-01-01 12:30:00Z")
    add_run(db, app="paused")
    one(db, "select scheduler.pause('paused')")
    add_run(db, app="waits", job="nightly", scheduled_at=NOON, run_at="infinity")
    query: LiteralString = """
        select d.app, d.queue, extract(epoch from d.due_in)::int
        from scheduler.next_due(%s::text[], %s::text[], %s::text[]) d
    """
    assert rows(db, query, None, None, None) == [("shop", "default", -60), ("crm", "mail", 1800)]
    assert rows(db, query, None, None, ["python", "http"]) == [("shop", "default", -60), ("crm", "mail", 3600)]
    assert rows(db, query, ["crm"], None, None) == [("crm", "mail", 1800)]
    assert rows(db, query, None, ["mail", "default"], ["http"]) == []
    assert rows(db, query, ["crm"], ["default"], None) == []


def test_a_lease_says_which_jobs_its_runs_belong_to(db: psycopg.Connection) -> None:
    add_job(db, "a")
    for _ in range(2):
        one(db, "select scheduler.trigger(%s, 'a')", APP)
    add_run(db)
    claim(db, add_worker(db))
    assert column(db, "select l.jobs from scheduler.lease l") == [["a"]]

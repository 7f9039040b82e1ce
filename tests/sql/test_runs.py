"""Runs as programs write them: what a row may hold, when it is refused, and what a unique key promises."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import CheckViolation, DataError, UniqueViolation, UntranslatableCharacter
from psycopg.types.json import Jsonb

from tests.support.builders import APP, add_run, add_worker, claim, column, finish, one, rows, state
from tests.support.clock import Clock

NOON = "2030-01-01T12:00:00+00:00"
MIB = 1 << 20


def test_a_row_needs_no_more_than_an_executor(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    db.execute("insert into scheduler.run (executor) values ('python')")
    assert rows(db, """
        select r.app, r.queue, r.spec, r.run_at, r.priority, r.attempt, r.max_attempts, r.lost, r.timeout,
            r.retry_delay, r.retry_max_delay, r.job, r.scheduled_at, r.unique_key, r.tags
        from scheduler.run r
    """) == [("default", "default", {}, clock.now, 0, 0, 3, 0, None, None, None, None, None, None, None)]  # fmt: skip


def test_an_enqueued_run_is_like_an_inserted_one(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = one(db, "select scheduler.enqueue(%s, 'python', '{\"task\": \"t\"}')", APP)
    add_run(db, spec={"task": "t"})
    a, b = rows(db, "select to_jsonb(r) - 'id' from scheduler.run r order by r.id")
    assert a == b
    assert state(db, run) == "pending"


def test_enqueue_takes_every_option_as_people_write_it(db: psycopg.Connection) -> None:
    # Plain literals: an integer does not become a smallint on its way into a function.
    run = one(
        db,
        """
        select scheduler.enqueue('shop', 'shell', '{"command": "x"}', queue => 'mail', run_at => '2031-01-01Z',
            priority => -5, unique_key => 'k', max_attempts => 7, timeout => '1 min', tags => '{a,b}',
            retry_delay => '1 s', retry_max_delay => '2 s')
    """,
    )
    assert rows(db, """
        select r.queue, r.run_at = '2031-01-01Z', r.priority, r.unique_key, r.max_attempts, r.timeout::text, r.tags,
            r.retry_delay::text, r.retry_max_delay::text
        from scheduler.run r where r.id = %s
    """, run) == [("mail", True, -5, "k", 7, "00:01:00", ["a", "b"], "00:00:01", "00:00:02")]  # fmt: skip


def test_a_spec_that_is_small_only_while_compressed_is_refused(db: psycopg.Connection) -> None:
    db.execute("create table public.source as select jsonb_build_object('text', repeat('x', 20000000)) as spec")
    with pytest.raises(CheckViolation) as refused:
        db.execute("insert into scheduler.run (executor, spec) select 'python', s.spec from public.source s")
    assert refused.value.diag.constraint_name == "spec_is_at_most_1_mib"


REFUSED = {
    "app_is_1_to_100_characters": {"app": ""},
    "queue_is_1_to_100_characters": {"queue": "q" * 101},
    "executor_is_1_to_100_characters": {"executor": ""},
    "spec_is_an_object": {"spec": Jsonb([1])},
    "spec_is_at_most_1_mib": {"spec": {"text": "x" * (MIB + 1)}},
    "run_at_is_finite": {"run_at": "infinity"},
    "max_attempts_is_at_least_1": {"max_attempts": 0},
    "timeout_is_positive": {"timeout": "0"},
    "retry_delay_is_not_negative": {"retry_delay": "-1 s"},
    "retry_max_delay_is_not_negative": {"retry_max_delay": "-1 s"},
    "unique_key_is_1_to_500_characters": {"unique_key": ""},
}


@pytest.mark.parametrize(("rule", "columns"), REFUSED.items(), ids=REFUSED)
def test_a_row_is_refused_by_the_name_of_the_rule_that_it_breaks(
    db: psycopg.Connection, rule: str, columns: dict[str, Any]
) -> None:
    with pytest.raises(CheckViolation) as refused:
        add_run(db, **columns)
    assert refused.value.diag.constraint_name == rule


def test_a_run_at_the_end_or_the_beginning_of_time_is_refused_by_enqueue_too(db: psycopg.Connection) -> None:
    for instant in ("infinity", "-infinity"):
        with pytest.raises(CheckViolation, match="run_at_is_finite"):
            db.execute("select scheduler.enqueue(%s, 'python', run_at => %s)", [APP, instant])


def test_only_a_run_of_the_planner_waits_until_infinity_and_none_is_due_since_minus_infinity(
    db: psycopg.Connection,
) -> None:
    add_run(db, run_at="infinity", scheduled_at="2030-01-01T12:00:00+00:00")
    with pytest.raises(CheckViolation, match="run_at_is_finite"):
        add_run(db, run_at="-infinity", scheduled_at="2030-01-01T12:00:00+00:00")
    add_run(db, executor="sql", run_at="2030-01-01T12:00:00+00:00")
    for instant in ("infinity", "-infinity"):
        with pytest.raises(CheckViolation, match="run_at_is_finite"):
            db.execute("update scheduler.run set run_at = %s where executor = 'sql'", [instant])
        with (
            pytest.raises(CheckViolation, match="run_at_is_finite"),
            db.cursor() as cursor,
            cursor.copy("copy scheduler.run (executor, run_at) from stdin") as copy,
        ):
            copy.write_row(("python", instant))


def test_a_nul_in_a_spec_is_refused(db: psycopg.Connection) -> None:
    with pytest.raises(UntranslatableCharacter):
        db.execute("insert into scheduler.run (executor, spec) values ('python', %s)", ['{"text": "\\u0000"}'])
    with pytest.raises(DataError, match="NUL"):
        db.execute("insert into scheduler.run (executor, queue) values ('python', %s)", ["a\0b"])


def test_a_second_run_with_a_unique_key_is_not_created(db: psycopg.Connection) -> None:
    ask: LiteralString = "select scheduler.enqueue(%s, 'python', unique_key => 'welcome:42')"
    first = one(db, ask, APP)
    assert one(db, ask, APP) == first
    assert one(db, ask, "another") != first, "keys belong to an app"
    with pytest.raises(UniqueViolation) as refused:
        add_run(db, unique_key="welcome:42")
    diag = refused.value.diag
    assert diag.message_primary == 'app "shop" has a pending or running run with unique_key "welcome:42"'
    assert diag.message_hint == "scheduler.enqueue() returns the id of the run that is there instead of failing."
    assert (diag.schema_name, diag.table_name, diag.constraint_name) == ("scheduler", "run", "run_unique_key")


def test_two_rows_of_one_statement_cannot_share_a_key(db: psycopg.Connection) -> None:
    with pytest.raises(UniqueViolation):
        db.execute("insert into scheduler.run (executor, unique_key) values ('python', 'k'), ('python', 'k')")
    assert one(db, "select count(*) from scheduler.run") == 0


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_a_key_is_free_again_once_its_run_has_ended(db: psycopg.Connection, outcome: str) -> None:
    run, worker = add_run(db, unique_key="k", max_attempts=1), add_worker(db)
    lease, _ = claim(db, worker)
    assert one(db, "select scheduler.enqueue(%s, 'python', unique_key => 'k')", APP) == run, "it is running"
    assert finish(db, worker, lease, [run], outcome) == 1
    assert one(db, "select scheduler.enqueue(%s, 'python', unique_key => 'k')", APP) != run


def test_a_key_is_held_while_its_run_waits_for_another_attempt(db: psycopg.Connection) -> None:
    run, worker = add_run(db, unique_key="k"), add_worker(db)
    lease, _ = claim(db, worker)
    finish(db, worker, lease, [run], "failed")
    assert state(db, run) == "pending"
    assert one(db, "select scheduler.enqueue(%s, 'python', unique_key => 'k')", APP) == run
    one(db, "select scheduler.cancel(%s, %s)", APP, run)
    assert one(db, "select scheduler.enqueue(%s, 'python', unique_key => 'k')", APP) != run


def test_a_key_goes_with_a_run_that_somebody_deleted_by_hand_at_the_next_cleaning(db: psycopg.Connection) -> None:
    add_run(db, unique_key="gone")
    db.execute("delete from scheduler.run")
    kept, worker = add_run(db, unique_key="leased"), add_worker(db)
    claim(db, worker)
    add_run(db, unique_key="pending")
    assert one(db, "select scheduler.forget(scheduler.clock())") == 1
    assert one(db, "select scheduler.forget(scheduler.clock())") == 0
    assert sorted(column(db, "select k.unique_key from scheduler.run_key k")) == ["leased", "pending"]
    assert state(db, kept) == "running"


def test_the_view_has_the_columns_that_were_promised(db: psycopg.Connection) -> None:
    names = column(
        db,
        """
        select a.attname::text from pg_attribute a
        where a.attrelid = 'scheduler.runs'::regclass and a.attnum > 0 order by a.attnum
    """,
    )
    assert names[:17] == [
        "app", "queue", "id", "job", "executor", "spec", "state", "attempt", "run_at", "scheduled_at", "started_at",
        "finished_at", "worker", "fence", "error", "result", "tags",
    ]  # fmt: skip


def test_the_view_follows_a_run_from_its_insert_to_its_end(db: psycopg.Connection, clock: Clock) -> None:
    query: LiteralString = """
        select r.state, r.attempt, r.started_at, r.finished_at, r.worker, r.fence, r.error, r.result, r.tags
        from scheduler.runs r where r.app = 'shop' and r.id = %s
    """
    clock.set(NOON)
    run, worker = add_run(db, tags=["a"]), add_worker(db)
    assert rows(db, query, run) == [("pending", 0, None, None, None, None, None, None, ["a"])]
    lease, _ = claim(db, worker)
    begun = clock.now
    assert rows(db, query, run) == [("running", 1, begun, None, worker, lease, None, None, ["a"])]
    clock.advance(2)
    db.execute(
        """select scheduler.finish(
            %s, %s, %s, array[%s::bigint], '{failed}', array['{"n": 1}'::jsonb], '{no}', p_max_attempts => '{0}'
        )""",
        [APP, worker, lease, run],
    )
    assert rows(db, query, run) == [("failed", 1, begun, clock.now, worker, lease, "no", {"n": 1}, ["a"])]

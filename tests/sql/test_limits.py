"""Limits: of a concurrency key, of a queue, and of a queue's rate, kept exactly by the claim."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from tests.support.builders import APP, add_job, add_run, add_worker, claim, column, finish, one, plan, rows, state
from tests.support.clock import Clock

NOON = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
KEYED: LiteralString = "select c.id from scheduler.claim(%s, %s, p_limit => %s, p_keyed => true) c"


def limit_queue(db: psycopg.Connection, **limits: Any) -> None:
    db.execute(
        "select scheduler.limit_queue(%s, 'default', %s, %s, %s)",
        [APP, limits.get("concurrency"), limits.get("rate"), limits.get("per", timedelta(seconds=1))],
    )


def add_runs(db: psycopg.Connection, count: int, key: str | None = None, **columns: Any) -> list[int]:
    return [add_run(db, concurrency_key=key, **columns) for _ in range(count)]


def slots(db: psycopg.Connection) -> dict[str, int]:
    return dict(Counter(column(db, "select s.concurrency_key from scheduler.slot s")))


def test_of_one_key_no_more_runs_are_held_than_its_limit(db: psycopg.Connection) -> None:
    runs = add_runs(db, 4, "k", concurrency_limit=2)
    assert claim(db, add_worker(db))[1] == runs[:2]
    assert claim(db, add_worker(db)) == (0, [])


def test_a_key_without_a_limit_has_one_slot(db: psycopg.Connection) -> None:
    first, _ = add_runs(db, 2, "k")
    assert claim(db, add_worker(db))[1] == [first]
    assert claim(db, add_worker(db)) == (0, [])


def test_a_key_is_the_apps_whatever_the_queue(db: psycopg.Connection) -> None:
    add_run(db, concurrency_key="k")
    add_run(db, concurrency_key="k", queue="bulk")
    add_run(db, concurrency_key="k", app="billing")
    worker = add_worker(db)
    query: LiteralString = "select count(*) from scheduler.claim(%s, %s, %s) c"
    assert [one(db, query, *where) for where in ((APP, worker, "default"), (APP, worker, "bulk"))] == [1, 0]
    assert one(db, query, "billing", worker, "default") == 1


def test_a_run_starts_while_fewer_than_its_own_limit_are_held(db: psycopg.Connection) -> None:
    wide, narrow = add_run(db, concurrency_key="k", concurrency_limit=5), add_run(db, concurrency_key="k")
    later = add_run(db, concurrency_key="k", concurrency_limit=5)
    worker = add_worker(db)
    lease, taken = claim(db, worker)
    assert taken == [wide], "the next one must be alone when it starts, and nobody overtakes it"
    finish(db, worker, lease, taken)
    assert claim(db, worker)[1] == [narrow]
    assert claim(db, worker)[1] == [later]


def test_within_a_key_the_lower_priority_goes_first_and_then_the_earlier_run(db: psycopg.Connection) -> None:
    late, early = (add_run(db, concurrency_key="k", run_at=NOON - timedelta(hours=hours * 50_000)) for hours in (1, 2))
    urgent = add_run(db, concurrency_key="k", priority=-1)
    future = add_run(db, concurrency_key="k", priority=-2, run_at=NOON + timedelta(days=36_500))
    other = add_run(db, concurrency_key="k", priority=-2, executor="other")
    worker = add_worker(db)
    order = []
    for _ in range(3):
        ((lease, run),) = rows(
            db, "select c.lease, c.id from scheduler.claim(%s, %s, p_executors => '{python}') c", APP, worker
        )
        order.append(run)
        finish(db, worker, lease, [run])
    assert order == [urgent, early, late]
    assert [state(db, run) for run in (future, other)] == ["pending", "pending"]


def test_keys_have_turns_and_a_claim_goes_on_behind_the_last_one(db: psycopg.Connection) -> None:
    runs = {key: add_runs(db, 3, key, concurrency_limit=9) for key in "abcde"}
    worker = add_worker(db)
    taken = [column(db, KEYED, APP, worker, 2) for _ in range(5)]
    keys = {run: key for key, each in runs.items() for run in each}
    assert [[keys[run] for run in each] for each in taken] == [[*"ab"], [*"cd"], [*"ae"], [*"bc"], [*"de"]]


def test_slots_are_shared_out_among_the_keys_that_have_some(db: psycopg.Connection) -> None:
    runs = {key: add_runs(db, 9, key, concurrency_limit=limit) for key, limit in (("a", 9), ("b", 2), ("c", 9))}
    taken = column(db, KEYED, APP, add_worker(db), 9)
    assert {key: len({*each} & {*taken}) for key, each in runs.items()} == {"a": 4, "b": 2, "c": 3}


def test_keys_whose_slots_are_taken_do_not_keep_others_from_theirs(db: psycopg.Connection) -> None:
    for number in range(70):
        add_runs(db, 2, f"full {number:02}")
    open_one = add_run(db, concurrency_key="open")
    worker = add_worker(db)
    held = claim(db, worker)[1] + claim(db, worker)[1]
    assert len(held) == 71
    assert open_one in held


def test_neither_runs_with_keys_nor_those_without_starve_the_others(db: psycopg.Connection) -> None:
    add_runs(db, 200)
    keyed = add_runs(db, 200, "k", concurrency_limit=1000)
    worker = add_worker(db)
    taken = [run for _ in range(200) for run in claim(db, worker, 1)[1]]
    assert 50 < len({*taken} & {*keyed}) < 150


def test_each_kind_can_be_asked_for_and_is_told_apart(db: psycopg.Connection) -> None:
    keyed, plain = add_run(db, concurrency_key="k"), add_run(db)
    query: LiteralString = "select c.id, c.limited from scheduler.claim(%s, %s, p_limit => 9, p_keyed => %s) c"
    worker = add_worker(db)
    assert rows(db, query, APP, worker, False) == [(plain, False)]
    assert rows(db, query, APP, worker, True) == [(keyed, True)]


def test_what_is_limited_is_claimed_when_it_is_due_and_to_be_started(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db, concurrency_key="k", run_at=NOON + timedelta(milliseconds=100))
    worker = add_worker(db)
    ahead: LiteralString = "select c.id from scheduler.claim(%s, %s, p_horizon => '1 s', p_begin => %s) c"
    assert column(db, ahead, APP, worker, True) == []
    clock.set(NOON + timedelta(seconds=1))
    assert column(db, ahead, APP, worker, False) == []
    assert column(db, ahead, APP, worker, True) == [run]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled", "lost"])
@pytest.mark.parametrize("in_parts", [False, True])
def test_whatever_the_end_of_an_attempt_its_slot_is_free(db: psycopg.Connection, outcome: str, in_parts: bool) -> None:
    add_runs(db, 3, "k", concurrency_limit=3, max_attempts=1)
    worker = add_worker(db)
    lease, taken = claim(db, worker)
    assert slots(db) == {"k": 3}
    if in_parts:
        finish(db, worker, lease, taken[:1], outcome)
        assert slots(db) == {"k": 2}
        finish(db, worker, lease, taken[1:], outcome)
    else:
        finish(db, worker, lease, taken, outcome)
    assert slots(db) == {}


def test_a_whole_lease_frees_its_slots(db: psycopg.Connection) -> None:
    add_runs(db, 3, "k", concurrency_limit=3)
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    assert one(db, "select scheduler.finish(%s, %s, %s)", APP, worker, lease) == 3
    assert slots(db) == {}


def test_released_runs_give_their_slots_back_and_keep_their_key(db: psycopg.Connection) -> None:
    runs = add_runs(db, 3, "k", concurrency_limit=2)
    worker = add_worker(db)
    lease, taken = claim(db, worker)
    one(db, "select scheduler.release(%s, %s, %s, %s::bigint[])", APP, worker, lease, taken[:1])
    assert slots(db) == {"k": 1}
    one(db, "select scheduler.release(%s, %s, %s)", APP, worker, lease)
    assert slots(db) == {}
    assert claim(db, worker)[1] == runs[:2]


def test_reclaimed_runs_give_their_slots_back_and_keep_their_key(db: psycopg.Connection) -> None:
    runs = add_runs(db, 3, "k", concurrency_limit=2)
    dead = add_worker(db)
    claim(db, dead)
    one(db, "select scheduler.retire_worker(%s)::text", dead)
    assert rows(db, "select r.runs from scheduler.reclaim('1 hour') r") == [(2,)]
    assert slots(db) == {}
    claim(db, add_worker(db))
    assert slots(db) == {"k": 2}
    assert {state(db, run) for run in runs} == {"running", "pending"}


def test_a_cancelled_run_gives_its_slot_back(db: psycopg.Connection) -> None:
    waiting = add_runs(db, 2, "k")
    worker = add_worker(db)
    lease, taken = claim(db, worker)
    for run in waiting:
        assert one(db, "select scheduler.cancel(%s, %s)", APP, run) is True
    finish(db, worker, lease, taken, "cancelled")
    assert slots(db) == {}


def test_a_retry_and_an_attempt_that_comes_back_keep_key_and_limit(db: psycopg.Connection) -> None:
    run = add_run(db, concurrency_key="k", concurrency_limit=7, max_attempts=2)
    kept: LiteralString = "select r.concurrency_key, r.concurrency_limit from scheduler.run r"
    worker = add_worker(db)
    for _ in range(2):
        assert rows(db, kept) == [("k", 7)]
        lease, taken = claim(db, worker)
        finish(db, worker, lease, taken, "failed")
    assert rows(db, kept) == []
    one(db, "select scheduler.retry(%s, %s)", APP, run)
    assert rows(db, kept) == [("k", 7)]
    assert one(db, "select scheduler.cancel(%s, %s)", APP, one(db, "select r.id from scheduler.run r")) is True
    again = one(db, "select scheduler.retry(%s, h.id) from scheduler.history h order by h.ctid desc limit 1", APP)
    assert rows(db, kept + " where r.id = %s", again) == [("k", 7)]


def test_a_job_hands_its_key_on_to_its_runs(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_job(db, schedule="0 * * * *", concurrency_key="k", concurrency_limit=2)
    plan(db, "nightly", NOON + timedelta(hours=1), following=NOON + timedelta(hours=2))
    one(db, "select scheduler.trigger(%s, 'nightly')", APP)
    query: LiteralString = "select r.concurrency_key, r.concurrency_limit from scheduler.runs r"
    assert rows(db, query) == [("k", 2)] * 2


def test_enqueue_takes_a_key_and_a_limit(db: psycopg.Connection) -> None:
    one(db, "select scheduler.enqueue(%s, 'python', concurrency_key => 'k', concurrency_limit => 3)", APP)
    assert rows(db, "select r.concurrency_key, r.concurrency_limit from scheduler.run r") == [("k", 3)]


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"concurrency_limit": 2}, "concurrency_limit_has_a_key"),
        ({"concurrency_key": "k", "concurrency_limit": 0}, "concurrency_limit_is_at_least_1"),
        ({"concurrency_key": ""}, "concurrency_key_is_1_to_200_characters"),
        ({"concurrency_key": "k" * 201}, "concurrency_key_is_1_to_200_characters"),
        ({"concurrency_key": "k" * 10_000_000}, "concurrency_key_is_1_to_200_characters"),
    ],
)
@pytest.mark.parametrize("table", ["run", "job"])
def test_a_bad_key_or_limit_is_refused_by_the_name_of_the_rule(
    db: psycopg.Connection, table: str, columns: dict[str, Any], rule: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=rule):
        (add_run if table == "run" else add_job)(db, **columns)


def test_the_longest_key_of_the_longest_names_is_taken(db: psycopg.Connection) -> None:
    long = "\N{CJK UNIFIED IDEOGRAPH-4E00}"
    run = add_run(db, app=long * 100, queue=long * 100, executor=long * 100, concurrency_key=long * 200)
    assert run > 0


@pytest.mark.parametrize("keyed", [True, False])
def test_a_claim_that_cannot_see_what_others_took_is_refused(db: psycopg.Connection, keyed: bool) -> None:
    worker = add_worker(db)
    add_run(db, concurrency_key="k")
    if not keyed:
        limit_queue(db, concurrency=1)
    db.execute("set default_transaction_isolation = 'repeatable read'")
    with pytest.raises(psycopg.Error, match="must see what the claim before it took") as refused:
        rows(db, "select c.id from scheduler.claim(%s, %s, p_keyed => %s) c", APP, worker, keyed)
    assert refused.value.sqlstate == "JS003"


def test_of_a_queue_no_more_runs_are_held_than_its_limit(db: psycopg.Connection) -> None:
    add_runs(db, 9)
    worker = add_worker(db)
    lease, taken = claim(db, worker, 2)
    limit_queue(db, concurrency=3)
    assert len(claim(db, worker)[1]) == 1, "what was held before the limit was set counts"
    assert claim(db, worker) == (0, [])
    finish(db, worker, lease, taken[:1])
    assert len(claim(db, worker)[1]) == 1
    limit_queue(db)
    assert len(claim(db, worker)[1]) == 5


def test_a_queue_of_limit_zero_stands_still(db: psycopg.Connection) -> None:
    add_run(db)
    limit_queue(db, concurrency=0)
    assert claim(db, add_worker(db)) == (0, [])


def test_keys_and_the_limit_of_their_queue_both_hold(db: psycopg.Connection) -> None:
    for key in "abcd":
        add_runs(db, 2, key)
    limit_queue(db, concurrency=3)
    assert len(claim(db, add_worker(db))[1]) == 3
    assert sum(slots(db).values()) == 3


def test_a_rate_is_a_bucket_that_fills_itself_evenly(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_runs(db, 30, run_at=NOON - timedelta(hours=1))
    limit_queue(db, rate=4, per=timedelta(seconds=10))
    worker = add_worker(db)
    taken = []
    for second in (0, 1, 2, 2.5, 7.4, 7.5, 60):
        clock.set(NOON + timedelta(seconds=second))
        taken.append(len(claim(db, worker)[1]))
    assert taken == [4, 0, 0, 1, 1, 1, 4]


def test_in_no_time_more_runs_are_claimed_than_the_bucket_allows(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_runs(db, 300, run_at=NOON - timedelta(hours=1))
    limit_queue(db, rate=7, per=timedelta(seconds=3))
    worker = add_worker(db)
    at: list[float] = []
    for step in range(200):
        second = step * 0.137 + (20 if step > 100 else 0)
        clock.set(NOON + timedelta(seconds=second))
        at += [second] * len(claim(db, worker, 1 + step % 3)[1])
    worst = max(
        (last - first + 1) - 7 * (1 + (at[last] - at[first]) / 3)
        for first in range(len(at))
        for last in range(first, len(at))
    )
    assert worst <= 1e-6
    assert len(at) > 70, "and what it allows is claimed"


def test_a_smaller_interval_does_not_wait_for_the_old_one(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    add_runs(db, 9, run_at=NOON)
    limit_queue(db, rate=2, per=timedelta(days=1))
    worker = add_worker(db)
    assert len(claim(db, worker)[1]) == 2
    limit_queue(db, rate=2, per=timedelta(seconds=1))
    assert claim(db, worker) == (0, [])
    clock.set(NOON + timedelta(seconds=1))
    assert len(claim(db, worker)[1]) == 2


def test_workers_are_told_when_what_is_limited_may_start(db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    due: LiteralString = "select extract(epoch from d.due_in)::float8, d.keyed, d.limited from scheduler.next_due() d"
    add_run(db, concurrency_key="k", run_at=NOON - timedelta(seconds=2))
    add_run(db, concurrency_key="k", run_at=NOON + timedelta(seconds=7))
    add_run(db, concurrency_key="z", run_at=NOON + timedelta(seconds=5), executor="shell")
    assert rows(db, due) == [(-2, True, True), (5, True, True)]
    db.execute("delete from scheduler.run")
    add_runs(db, 3, run_at=NOON)
    assert rows(db, due) == [(0, False, False)]
    limit_queue(db, rate=1, per=timedelta(seconds=10))
    claim(db, add_worker(db))
    assert rows(db, due) == [(10, False, True)]
    limit_queue(db, concurrency=1)
    assert rows(db, due) == [], "all its slots are taken"
    assert rows(db, "select l.taken, l.slots, l.tokens from scheduler.leeway(%s, 'default') l", APP) == [(1, 0, None)]


def test_queues_that_a_worker_knows_can_be_left_out_of_its_look(db: psycopg.Connection) -> None:
    for queue in "abc":
        add_run(db, queue=queue)
    add_run(db, queue="b", concurrency_key="k")
    query: LiteralString = (
        "select d.queue, d.keyed from scheduler.next_due(p_skip_apps => %s::text[], p_skip_queues => %s::text[]) d"
    )
    assert {*rows(db, query, [APP, APP], ["b", "x"])} == {("a", False), ("c", False), ("b", True)}
    assert {queue for queue, _ in rows(db, query, [APP, APP], ["a", "c"])} == {"b"}


def test_a_slot_that_has_lost_its_lease_is_forgotten_and_no_other(db: psycopg.Connection) -> None:
    add_runs(db, 2, "k", concurrency_limit=2)
    worker = add_worker(db)
    claim(db, worker, 1)
    gone, _ = claim(db, worker, 1)
    db.execute("delete from scheduler.lease where id = %s", [gone])
    one(db, "select scheduler.forget('-infinity')")
    assert slots(db) == {"k": 1}


def test_who_awaits_hints_hears_of_a_free_slot_when_something_waits_for_it(db: psycopg.Connection) -> None:
    add_runs(db, 2, "k")
    worker = add_worker(db)
    with psycopg.connect(db.info.dsn, autocommit=True) as ears:
        ears.execute("listen scheduler_run")
        ears.execute("select scheduler.await_hints()")
        for expected in (1, 0):
            lease, taken = claim(db, worker)
            finish(db, worker, lease, taken)
            heard = list(ears.notifies(timeout=0.2 if not expected else 5, stop_after=1))
            assert len(heard) == expected, "the last one leaves nobody waiting"


def test_taking_keyed_runs_locks_them_and_closing_a_lease_gives_the_slots_back(db: psycopg.Connection) -> None:
    runs = add_runs(db, 3, "k", concurrency_limit=2)
    take: LiteralString = "select array_length(scheduler.take_keyed(%s, 'default', null, scheduler.clock(), %s), 1)"
    assert one(db, take, APP, 9) == 2
    assert one(db, take, APP, 1) == 1
    lease, _ = claim(db, add_worker(db))
    db.execute("select scheduler.free_slots(%s, 'default', %s, %s)", [APP, lease, runs[:1]])
    assert slots(db) == {"k": 1}

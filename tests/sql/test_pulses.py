"""Jobs that workers fire from timers of their own: who holds one, what its reports change, and how it is taken back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, LiteralString

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.builders import APP, add_worker, one, own, rows
from tests.support.clock import Clock
from tests.support.jobs import edit_job, fires, plan_once, runs, schedule
from tests.support.sessions import blocked

NOON = 1_772_366_400.0
SECOND: LiteralString = "@every 1s"


async def handed_over(dsn: str, db: psycopg.Connection, clock: Clock, name: str = "tidy", **columns: Any) -> None:
    """A job of noon, each second, that waits for a worker."""
    clock.set("2026-03-01T12:00:00Z")
    schedule(db, name, **{"expression": SECOND, "spec": {"task": "beat"}} | columns)
    await plan_once(dsn)


def take(db: psycopg.Connection, worker: int, limit: int = 10, rate: float = 1000, **only: list[str]) -> list[str]:
    """The jobs that the worker was given."""
    query = "select t.job from scheduler.take_pulses(%s, %s, %s, %s, p_limit => %s, p_rate => %s) t"
    given = [only.get("apps"), only.get("queues"), only.get("executors"), limit, rate]
    return [job for (job,) in db.execute(query, [worker, *given]).fetchall()]


def lease(db: psycopg.Connection, name: str = "tidy") -> int | None:
    found = rows(db, "select p.lease from scheduler.pulse p where p.app = %s and p.job = %s", APP, name)
    return found[0][0] if found else None


def pulse(db: psycopg.Connection, what: LiteralString, name: str = "tidy") -> Any:
    query: LiteralString = "select " + what + " from scheduler.pulse p where p.app = %s and p.job = %s"
    return one(db, query, APP, name)


def span(db: psycopg.Connection, first: float, fires: int, **more: Any) -> dict[str, Any]:
    """A report of as many fires, a second apart, from so many seconds after noon on, under what the lease is now."""
    last = first + max(0, fires - 1)
    return {
        "job": "tidy",
        "lease": lease(db),
        "run_id": pulse(db, "p.run_id"),
        "after": NOON + last,
        "first": NOON + first,
        "last": NOON + last,
        "fires": fires,
        "failures": 0,
        "started": NOON + first,
        "finished": NOON + last + 0.2,
        "error": None,
        "result": {"fires": fires},
        "skipped": None,
        "missed": None,
    } | more


def report(db: psycopg.Connection, worker: int, *spans: dict[str, Any]) -> list[tuple[int, int]]:
    query: LiteralString = "select r.lease, r.run_id from scheduler.report_pulses(%s, %s, %s::jsonb) r"
    return rows(db, query, APP, worker, json.dumps(spans))


def release(db: psycopg.Connection, worker: int, lease: int | None, *, is_over: bool = False) -> int:
    return int(one(db, "select scheduler.release_pulses(%s, %s, %s, %s)", APP, worker, [lease], is_over))


def held(db: psycopg.Connection, worker: int) -> list[tuple[int, bool]]:
    return rows(db, "select p.lease, p.is_revoked from scheduler.pulses_of(%s) p", worker)


def ledger(db: psycopg.Connection) -> list[tuple[str, str, int | None, str | None]]:
    """Instant, outcome, how many instants the row stands for, and the last of them."""
    query: LiteralString = """
        select f.scheduled_at, f.outcome, f.instants, f.last_at from scheduler.fire f
        where f.app = %s and f.job = 'tidy' order by f.scheduled_at
    """
    return [(f"{at:%M:%S}", what, many, last and f"{last:%M:%S}") for at, what, many, last in rows(db, query, APP)]


def history(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    query: LiteralString = "select h.outcome, h.fence, h.result, h.error from scheduler.history h order by h.id"
    return rows(db, query)


async def test_a_job_of_a_short_period_waits_for_a_worker_and_has_no_rows(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock)
    assert (runs(db), fires(db)) == ([], [])
    assert one(db, "select s.next_at from scheduler.job_schedule s") is None
    assert pulse(db, "to_char(p.anchor_at, 'MI:SS') || ' ' || p.period") == "00:01 00:00:01"
    clock.advance(60)
    assert await plan_once(dsn) > 0
    assert runs(db) == []


async def test_one_worker_has_it_under_a_fence_that_grows(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    first, second = add_worker(db), add_worker(db)
    assert take(db, first) == ["tidy"]
    assert take(db, second) == []
    fence = lease(db)
    assert held(db, first) == [(fence, False)]
    assert release(db, second, fence) == 0
    assert release(db, first, fence) == 1
    assert take(db, second) == ["tidy"]
    assert (lease(db) or 0) > (fence or 0)


async def test_two_that_take_at_once_share_what_waits(
    dsn: str, db: psycopg.Connection, clock: Clock, connect: Connect
) -> None:
    for name in ("a", "b", "c"):
        await handed_over(dsn, db, clock, name)
    first, second = add_worker(db), add_worker(db)
    other = connect()
    with db.transaction():
        assert take(db, first, limit=2) == ["a", "b"]
        assert take(other, second, limit=2) == ["c"]


async def test_a_worker_takes_what_it_can_run_and_as_much_as_it_can_fire(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock, "a", queue="slow")
    await handed_over(dsn, db, clock, "b", executor="shell")
    await handed_over(dsn, db, clock, "c", expression="@every 10ms")
    await handed_over(dsn, db, clock, "d", expression="@every 20ms")
    worker = add_worker(db)
    assert take(db, worker, apps=["another"]) == []
    assert take(db, worker, queues=["default"], executors=["python"], rate=49.0) == []
    assert take(db, worker, queues=["default"], executors=["python"], rate=149.0) == ["c"]
    assert release(db, worker, lease(db, "c")) == 1
    assert take(db, worker, queues=["default"], executors=["python"], rate=99.0) == ["d"]
    assert take(db, worker, queues=["default"], executors=["python"], rate=100.0) == ["c"]
    assert take(db, worker, limit=1) == ["a"]
    assert take(db, worker) == ["b"]


def test_a_worker_that_was_declared_dead_takes_nothing(db: psycopg.Connection) -> None:
    worker = add_worker(db)
    db.execute("update scheduler.worker set dead_at = now()")
    with pytest.raises(psycopg.DatabaseError) as refused:
        take(db, worker)
    assert refused.value.sqlstate == "JS004"


async def test_a_report_is_a_row_of_history_and_of_the_ledger(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    worker = add_worker(db)
    take(db, worker)
    fence, run = lease(db), pulse(db, "p.run_id")
    skipped = {"first": NOON + 4, "last": NOON + 5, "count": 2}
    missed = {"first": NOON + 6, "last": NOON + 6, "count": 1}
    more = {"failures": 1, "error": "ValueError: 7", "after": NOON + 6, "skipped": skipped, "missed": missed}
    ((answered, following),) = report(db, worker, span(db, 1, 3, **more))
    assert answered == fence
    assert following > run
    assert history(db) == [("failed", fence, {"fires": 3}, "ValueError: 7")]
    assert ledger(db) == [
        ("00:01", "fired", 3, "00:03"),
        ("00:04", "skipped", 2, "00:05"),
        ("00:06", "missed", 1, "00:06"),
    ]
    assert one(db, "select f.run_id from scheduler.fire f where f.outcome = 'fired'") == run
    view: LiteralString = "select r.job, r.state, r.scheduled_at, r.spec from scheduler.runs r where r.id = %s"
    ((job, state, at, spec),) = rows(db, view, run)
    assert (job, state, f"{at:%M:%S}", spec) == ("tidy", "failed", "00:01", {"task": "beat"})
    assert f"{pulse(db, 'p.after_at'):%M:%S}" == "00:06"


async def test_the_lease_of_what_is_fired_is_lost_once_it_is_let_go(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock)
    await handed_over(dsn, db, clock, "waits")
    worker = add_worker(db)
    take(db, worker, limit=1)
    fence = lease(db)
    lost: LiteralString = "select l.lease from scheduler.lost_leases(%s, %s) l"
    assert rows(db, lost, APP, [fence]) == []
    db.execute("select scheduler.release_pulses(%s, %s, %s, false)", [APP, worker, [fence]])
    assert rows(db, lost, APP, [fence]) == [(fence,)]


async def test_a_report_whose_answer_was_lost_counts_once(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    worker = add_worker(db)
    take(db, worker)
    sent = span(db, 1, 3)
    assert report(db, worker, sent) == report(db, worker, sent)
    assert len(history(db)) == len(ledger(db)) == 1


async def test_who_does_not_hold_it_any_more_reports_nothing(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    first, second = add_worker(db, "first"), add_worker(db)
    take(db, first)
    stale = span(db, 1, 3)
    db.execute("update scheduler.worker set dead_at = scheduler.clock() where id = %s", [first])
    reclaimed: LiteralString = "select r.app, r.worker, r.runs, r.lost from scheduler.reclaim('1 hour') r"
    assert rows(db, reclaimed) == [(APP, first, 1, True)]
    assert rows(db, reclaimed) == []
    take(db, second)
    before = (history(db), ledger(db), pulse(db, "p"))
    assert report(db, first, stale, stale | {"lease": lease(db)}) == []
    assert release(db, first, stale["lease"]) == release(db, first, lease(db)) == 0
    assert (history(db), ledger(db), pulse(db, "p")) == before
    ((outcome, fence, _, error),) = history(db)
    assert (outcome, fence) == ("failed", stale["lease"])
    assert error == f"worker {first} (first on ) was lost; what it fired since its last report is not known"


async def test_the_next_holder_is_told_of_the_gap_and_the_ledger_says_why(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock)
    first, second = add_worker(db), add_worker(db)
    take(db, first)
    db.execute("update scheduler.worker set dead_at = scheduler.clock() where id = %s", [first])
    assert one(db, "select count(*) from scheduler.reclaim_pulses(10)") == 1
    ((gap, lost),) = rows(db, "select t.is_gap, t.lost from scheduler.take_pulses(%s) t", second)
    assert (gap, lost) == (True, 1)
    report(db, second, span(db, 9, 1, missed={"first": NOON + 1, "last": NOON + 8, "count": 8}))
    assert ledger(db) == [("00:01", "missed", 8, "00:08"), ("00:09", "fired", 1, "00:09")]
    assert "worker 1" in (fires(db)[0][2] or "")
    assert (pulse(db, "p.gap"), pulse(db, "p.lost")) == (None, 0)


async def test_a_worker_that_left_without_a_word_of_it_is_taken_for_lost(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock)
    worker = add_worker(db)
    take(db, worker)
    db.execute("select scheduler.retire_worker(%s)", [worker])
    assert one(db, "select count(*) from scheduler.reclaim('1 hour')") == 1
    assert lease(db) is None


@pytest.mark.parametrize("end", ["pause", "pause the app", "remove", "edit"])
async def test_what_was_ended_while_nobody_held_it_is_not_fired(
    dsn: str, db: psycopg.Connection, clock: Clock, end: str
) -> None:
    await handed_over(dsn, db, clock)
    finish_off(db, end)
    assert take(db, add_worker(db)) == []
    assert one(db, "select count(*) from scheduler.pulse") == 0


def finish_off(db: psycopg.Connection, end: str) -> None:
    match end:
        case "pause":
            db.execute("select scheduler.pause(%s, 'tidy')", [APP])
        case "pause the app":
            db.execute("select scheduler.pause(%s)", [APP])
        case "remove":
            db.execute("delete from scheduler.job")
        case _:
            edit_job(db, spec=psycopg.types.json.Jsonb({"task": "another"}))


@pytest.mark.parametrize("end", ["pause", "pause the app", "remove", "edit"])
async def test_its_holder_is_told_to_let_go_and_until_then_nobody_else_gets_it(
    dsn: str, db: psycopg.Connection, clock: Clock, connect: Connect, end: str
) -> None:
    await handed_over(dsn, db, clock)
    first, second = add_worker(db), add_worker(db)
    take(db, first)
    listener = connect()
    listener.execute("listen scheduler_pulse")
    finish_off(db, end)
    assert str(first) in [notice.payload for notice in listener.notifies(timeout=5, stop_after=1)]
    fence = lease(db)
    assert held(db, first) == [(fence, True)]
    clock.advance(5)
    if end != "remove":
        db.execute("select scheduler.resume(%s, 'tidy')", [APP])
        db.execute("select scheduler.resume(%s)", [APP])
    await plan_once(dsn)
    assert take(db, second) == []
    assert report(db, first, span(db, 1, 3)) != []
    assert release(db, first, fence) == 1
    assert take(db, second) == ([] if end == "remove" else ["tidy"])
    assert ledger(db) == [("00:01", "fired", 3, "00:03")]
    if end == "edit":
        assert one(db, "select (p.run).spec from scheduler.pulse p") == {"task": "another"}


async def test_a_job_that_no_worker_fires_has_nothing_to_be_revoked(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock)
    take(db, add_worker(db))
    revoke: LiteralString = "select scheduler.revoke_pulse(%s, 'tidy')"
    assert [one(db, revoke, app) for app in ("another", APP, APP)] == [False, True, False]


async def test_an_edit_keeps_the_grid_and_fires_nothing_twice(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock, expression="@every 4s")
    worker = add_worker(db)
    take(db, worker)
    clock.advance(9.5)
    edit_job(db, priority=3)
    await plan_once(dsn)
    report(db, worker, span(db, 4, 2, after=NOON + 12))
    release(db, worker, lease(db))
    assert [f"{at:%M:%S}" for at in (pulse(db, "p.anchor_at"), pulse(db, "p.after_at"))] == ["00:12", "00:12"]


async def test_an_edit_to_a_longer_period_brings_the_rows_back(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    edit_job(db, schedule="@every 5s")
    await plan_once(dsn)
    assert one(db, "select count(*) from scheduler.pulse") == 0
    assert runs(db) == [("12:00:05", "pending")]
    edit_job(db, schedule="@after 2s")
    await plan_once(dsn)
    assert pulse(db, "p.from_end") is True


async def test_a_pause_and_a_resume_begin_anew_after_now(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    db.execute("select scheduler.pause(%s)", [APP])
    clock.advance(60)
    await plan_once(dsn)
    assert one(db, "select count(*) from scheduler.pulse") == 0
    db.execute("select scheduler.resume(%s)", [APP])
    await plan_once(dsn)
    assert f"{pulse(db, 'p.anchor_at'):%M:%S}" == "01:01"


async def test_a_server_with_a_lower_limit_plans_by_rows_again(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    await handed_over(dsn, db, clock)
    await handed_over(dsn, db, clock, "quick", expression="@every 10ms")
    await plan_once(dsn, pulse_below=0.5)
    assert runs(db) == [("12:00:01", "pending")]
    assert lease(db, "quick") is None
    assert rows(db, "select p.job from scheduler.pulse p") == [("quick",)]
    assert one(db, "select scheduler.recall_pulses('0.5 s')") == 0


@pytest.mark.parametrize("limit", ["key", "queue"])
async def test_a_job_with_a_limit_is_planned_by_rows(
    dsn: str, db: psycopg.Connection, clock: Clock, limit: str
) -> None:
    key: dict[str, Any] = {"concurrency_key": "tenant 7", "concurrency_limit": 1} if limit == "key" else {}
    if limit == "queue":
        db.execute("insert into scheduler.queue_limit (app, queue, rate_limit) values (%s, 'default', 1)", [APP])
    await handed_over(dsn, db, clock, **key)
    await plan_once(dsn)
    assert runs(db) == [("12:00:01", "pending")]
    assert rows(db, "select p.job from scheduler.pulse p") == []


async def test_a_plan_of_an_older_definition_hands_nothing_over(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set("2026-03-01T12:00:00Z")
    schedule(db, expression=SECOND)
    old = {"jobs": ["tidy"], "revisions": [1], "expected": "-infinity", "next": "2026-03-01T12:00:01Z"}
    plan = old | {"period": "1 s", "from_end": False}
    edit_job(db, priority=3)
    assert hand_over(db, [plan]) == 0
    assert hand_over(db, [plan | {"revisions": [2]}]) == 1
    assert hand_over(db, [plan | {"revisions": [2]}]) == 0


async def test_a_server_that_lost_the_app_hands_nothing_over(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set("2026-03-01T12:00:00Z")
    schedule(db, expression=SECOND)
    plan = {"jobs": ["tidy"], "revisions": [1], "expected": "-infinity", "next": "2026-03-01T12:00:01Z"}
    plan |= {"period": "1 s", "from_end": False}
    assert hand_over(db, [plan], epoch="o.epoch - 1") == 0
    assert hand_over(db, [plan], server="o.server + 1") == 0
    assert hand_over(db, [plan]) == 1


def hand_over(
    db: psycopg.Connection,
    plans: list[dict[str, Any]],
    *,
    server: LiteralString = "o.server",
    epoch: LiteralString = "o.epoch",
) -> Any:
    """How many are handed over by a server that says it is this one, and owns the app under this epoch."""
    own(db)
    query: LiteralString = "select scheduler.plan_pulses(o.app, " + server + ", " + epoch + ", %s::jsonb)"
    return one(db, query + " from scheduler.owner o where o.app = %s", json.dumps(plans), APP)


async def test_a_job_that_has_ended_is_forgotten_unless_it_was_edited(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    await handed_over(dsn, db, clock, ends_at=datetime.fromisoformat("2026-03-01T12:00:03Z"))
    worker = add_worker(db)
    assert take(db, worker) == ["tidy"]
    edit_job(db, ends_at=None)
    await plan_once(dsn)
    release(db, worker, lease(db), is_over=True)
    assert take(db, worker) == ["tidy"]
    release(db, worker, lease(db), is_over=True)
    assert rows(db, "select p.job from scheduler.pulse p") == []


async def test_an_edit_waits_for_who_takes_the_job_and_then_has_it_let_go(
    dsn: str, db: psycopg.Connection, clock: Clock, connect: Connect
) -> None:
    await handed_over(dsn, db, clock)
    worker = add_worker(db)
    with db.transaction():
        take(db, worker)
        edit = blocked(connect(), connect(), "update scheduler.job set priority = 3 returning 1")
    assert edit.value() == 1
    assert [is_revoked for _, is_revoked in held(db, worker)] == [True]

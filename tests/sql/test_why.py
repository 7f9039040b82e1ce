"""Why a run has not started, or how it went: each reason is brought about, and told with its facts and its remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scheduler import db as database
from scheduler.store import watch
from scheduler.store.watch.circumstances import BEFORE_MOST
from scheduler.why import Answer, Reason, Sight, explain
from tests.conftest import Connect
from tests.support.builders import APP, add_job, add_run, add_server, add_worker, claim, finish, one
from tests.support.clock import Clock
from tests.support.jobs import NOON, busy_at_its_next_instant, edit_job, plan_once, schedule

ROOT = Path(__file__).parents[2]
TESTS = ("tests/sql/test_why.py", "tests/process/test_why_processes.py")
DEAD_AFTER = 20.0


async def ask(dsn: str, run: int, **sight: bool) -> Answer:
    async with await database.connect(dsn, name="test") as conn:
        (row,) = await watch.run(conn, run, app=APP)
        return await explain(conn, row, dead_after=DEAD_AFTER, sight=Sight(**{"audit": True, "others": True, **sight}))


async def why(dsn: str, run: int) -> dict[str, Reason]:
    return {reason.code: reason for reason in (await ask(dsn, run)).reasons}


def worker_for(
    db: psycopg.Connection,
    label: str = "worker",
    *,
    apps: Sequence[str] | None = None,
    queues: Sequence[str] | None = None,
    executors: Sequence[str] = ("python",),
    slots: int = 1,
) -> int:
    return int(
        one(
            db,
            "select scheduler.register_worker(%s, 'host', 1, %s::text[], %s::text[], %s::text[], %s)",
            label,
            apps and list(apps),
            queues and list(queues),
            list(executors),
            slots,
        )
    )


def runs_of(facts: Any) -> list[int]:
    return [row["run"] for row in facts["runs"]]


def lose(db: psycopg.Connection) -> None:
    """A worker begins what is due, and is never heard of again."""
    claim(db, add_worker(db))
    db.execute("select scheduler.reclaim('0')")


async def test_a_run_to_come_says_when_it_is_due(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    worker_for(db)
    run = add_run(db, run_at=clock.now + timedelta(minutes=5))
    answer = await ask(dsn, run)
    (reason,) = answer.reasons
    assert (reason.code, reason.facts["seconds"]) == ("not_due", 300)
    assert reason.text == "It is due at 2026-03-01T12:05:00Z, in 5.0 min."
    assert answer.expected_at == clock.now + timedelta(minutes=5)


async def test_a_run_that_failed_says_with_what_and_when_it_is_tried_again(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    run = add_run(db, retry_delay="10 min", retry_max_delay="10 min")
    worker = add_worker(db)
    lease, _ = claim(db, worker)
    db.execute(
        "select scheduler.finish(%s, %s, %s, %s::bigint[], '{failed}', p_errors => '{boom}',"
        " p_retry_after => '{7 min}')",
        [APP, worker, lease, [run]],
    )
    answer = await ask(dsn, run)
    reason = {reason.code: reason for reason in answer.reasons}["retry_later"]
    assert reason.facts["last_attempt"]["error"] == "boom"
    assert "Attempt 1 of 3 ended as failed: boom. The next is due at 2026-03-01T12:07:00Z" in reason.text
    assert [event["what"] for event in answer.timeline] == ["started", "failed", "due"]
    assert answer.timeline[1]["retry_at"] == clock.now + timedelta(minutes=7)


async def test_a_paused_app_is_told_with_the_command_that_ends_it(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    run = add_run(db)
    db.execute("select scheduler.pause(%s)", [APP])
    answer = await ask(dsn, run)
    reason = {reason.code: reason for reason in answer.reasons}["paused_app"]
    assert reason.remedy == "scheduler job resume shop"
    assert answer.expected_at is None
    db.execute("select scheduler.resume(%s)", [APP])
    assert "paused_app" not in await why(dsn, run)


async def test_a_paused_job_keeps_no_run_that_somebody_triggered(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    add_job(db)
    run = one(db, "select scheduler.trigger(%s, 'nightly')", APP)
    db.execute("select scheduler.pause(%s, 'nightly')", [APP])
    answer = await ask(dsn, run)
    assert "starts all the same" in {reason.code: reason for reason in answer.reasons}["paused_job"].text
    assert answer.expected_at is not None
    assert [event["what"] for event in answer.timeline if event["by"]] == ["triggered"]
    assert claim(db, add_worker(db))[1] == [run]


async def test_a_run_whose_job_may_not_overlap_names_the_run_that_it_waits_for(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    await busy_at_its_next_instant(dsn, db, clock, "queue")
    clock.advance(5)
    await plan_once(dsn)
    running = one(db, "select id from scheduler.runs where state = 'running'")
    waits = one(db, "select id from scheduler.run where run_at = 'infinity'")
    reasons = await why(dsn, waits)
    assert runs_of(reasons["waits_for_previous"].facts) == [running]
    assert "overlap = queue" in reasons["waits_for_previous"].text
    assert "no_server" not in reasons
    clock.advance(60)
    assert "no_server" in await why(dsn, waits), "and nobody is there to let it go"


async def test_a_run_that_nothing_will_ever_let_go_is_told(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, run_at="infinity", scheduled_at="2026-01-01T00:00:00Z")
    reason = (await why(dsn, run))["never_due"]
    assert reason.remedy == f"scheduler runs cancel shop {run}"


async def test_a_queue_that_was_stopped_is_told(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    run = add_run(db)
    db.execute("insert into scheduler.queue_limit (app, queue, concurrency_limit) values (%s, 'default', 0)", [APP])
    reason = (await why(dsn, run))["queue_stopped"]
    assert reason.remedy == "scheduler limit shop default --none"
    assert claim(db, add_worker(db)) == (0, [])


async def test_a_full_queue_names_the_runs_that_fill_it(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    db.execute("insert into scheduler.queue_limit (app, queue, concurrency_limit) values (%s, 'default', 2)", [APP])
    first, second, third = (add_run(db) for _ in range(3))
    _, held = claim(db, add_worker(db))
    assert held == [first, second]
    reason = (await why(dsn, third))["queue_full"]
    assert sorted(runs_of(reason.facts)) == held
    assert (reason.facts["concurrency_limit"], reason.facts["taken"]) == (2, 2)


async def test_an_empty_bucket_says_when_it_has_a_token_again(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    worker_for(db)
    db.execute(
        "insert into scheduler.queue_limit (app, queue, rate_limit, rate_interval) values (%s, 'default', 2, '60 s')",
        [APP],
    )
    runs = [add_run(db) for _ in range(3)]
    worker = add_worker(db)
    assert claim(db, worker)[1] == runs[:2]
    answer = await ask(dsn, runs[2])
    reason = {reason.code: reason for reason in answer.reasons}["rate_empty"]
    refills_at = reason.facts["refills_at"]
    assert refills_at == clock.now + timedelta(seconds=30)
    assert answer.expected_at == refills_at
    clock.set(refills_at - timedelta(milliseconds=1))
    assert claim(db, worker) == (0, [])
    clock.set(refills_at)
    assert claim(db, worker)[1] == runs[2:], "and then it starts"


async def test_a_full_concurrency_key_names_the_runs_that_have_its_slots(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    first, second = (add_run(db, concurrency_key="customer 42") for _ in range(2))
    assert claim(db, add_worker(db))[1] == [first]
    reason = (await why(dsn, second))["key_full"]
    assert runs_of(reason.facts) == [first]
    assert f"'customer 42' lets 1 of the app's runs go at a time, and they are held: run {first}." in reason.text


async def test_who_is_there_and_what_each_worker_lacks_is_told(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, executor="shell", queue="mail")
    assert (await why(dsn, run))["no_worker"].text.endswith(": there is none at all.")
    worker_for(db, "python only")
    worker_for(db, "elsewhere", apps=["billing"], queues=["bulk"], executors=["shell"])
    silent = worker_for(db, "silent", executors=["shell"])
    db.execute("update scheduler.worker set seen_at = seen_at - interval '1 min' where id = %s", [silent])
    answer = await ask(dsn, run)
    reason = {reason.code: reason for reason in answer.reasons}["no_worker"]
    assert {one["label"]: one["lacks"] for one in reason.facts["workers"]} == {
        "python only": ["executor"],
        "elsewhere": ["app", "queue"],
        "silent": ["sign_of_life"],
    }
    assert "(elsewhere) lacks the app and the queue" in reason.text
    assert reason.remedy == "scheduler worker --app shop --queue mail --executors shell"
    assert answer.expected_at is None
    seen = await ask(dsn, run, others=False)
    assert "elsewhere" not in seen.reasons[0].text
    worker_for(db, "right", executors=["shell"], queues=["mail"])
    assert "no_worker" not in await why(dsn, run)


async def test_runs_that_come_before_it_are_counted_by_priority_and_instant(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    worker_for(db, executors=["python", "http"])
    for number in range(3):
        add_run(db, run_at=clock.now - timedelta(seconds=10 + number))
        add_run(db, priority=-1, executor="http", run_at=clock.now - timedelta(seconds=number))
    add_run(db, priority=-1, run_at=clock.now + timedelta(hours=1))  # to come
    add_run(db, priority=-1, executor="shell")  # of nobody's
    add_run(db, queue="other", priority=-1)
    run = add_run(db, run_at=clock.now - timedelta(seconds=5))
    add_run(db, run_at=clock.now - timedelta(seconds=4))
    reason = (await why(dsn, run))["behind"]
    assert reason.facts == {"count": 6, "is_at_least": False, "of_higher_priority": 3}
    keyed = [add_run(db, concurrency_key="k", run_at=clock.now - timedelta(seconds=9 - n)) for n in range(3)]
    assert (await why(dsn, keyed[2]))["behind"].facts["count"] == 2


async def test_the_count_of_those_before_it_has_an_end(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    db.execute(
        "insert into scheduler.run (app, executor) select %s, 'python' from generate_series(1, %s)",
        [APP, BEFORE_MOST + 5],
    )
    answer = await ask(dsn, add_run(db))
    reason = {reason.code: reason for reason in answer.reasons}["behind"]
    assert reason.facts["is_at_least"]
    assert "more than 10,000 due runs come before it" in reason.text
    assert answer.expected_at is None


async def test_the_start_is_expected_by_the_rate_at_which_its_queue_drained(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    worker = worker_for(db, slots=10)
    for _ in range(20):  # one every 2 s
        add_run(db, run_at=clock.now)
        lease, runs = claim(db, worker)
        finish(db, worker, lease, runs)
        clock.advance(2)
    db.execute("select scheduler.heartbeat(%s)", [worker])
    for number in range(9):
        add_run(db, run_at=clock.now - timedelta(seconds=9 - number))
    answer = await ask(dsn, add_run(db, run_at=clock.now))
    assert answer.rate == pytest.approx(0.5)
    assert answer.expected_at == clock.now + timedelta(seconds=20)


async def test_workers_that_have_no_free_slot_are_named(dsn: str, db: psycopg.Connection) -> None:
    worker = worker_for(db, "busy", slots=1)
    add_run(db)
    claim(db, worker, 1)
    run = add_run(db)
    reasons = await why(dsn, run)
    assert "(busy) has 1" in reasons["workers_busy"].text
    worker_for(db, "free", slots=1)
    assert (await why(dsn, run)).keys() == {"about_to_start"}


async def test_lost_attempts_are_told_and_that_the_next_is_isolated(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, max_attempts=5)
    for lost in (1, 2):
        lose(db)
        reason = (await why(dsn, run))["lost"]
        assert (reason.facts["lost"], reason.facts["in_child"]) == (lost, lost == 2)
    assert "in a child process of its own" in reason.text


async def test_a_run_that_nothing_keeps_says_so(dsn: str, db: psycopg.Connection) -> None:
    worker_for(db)
    answer = await ask(dsn, add_run(db))
    assert [reason.code for reason in answer.reasons] == ["about_to_start"]
    assert answer.expected_at == answer.now


async def test_an_event_waits_for_a_client(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, executor="event", spec={"data": "x", "ttl": "1h"})
    assert (await why(dsn, run))["event"].facts["locked_until"] is None
    db.execute("select scheduler.lock_event(%s, %s, interval '1 min')", [APP, run])
    assert "has it locked until" in (await why(dsn, run))["event"].text


async def test_a_prefetched_run_names_its_worker(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db)
    worker = worker_for(db, "ahead")
    lease, _ = claim(db, worker, begin=False)
    clock.advance(3)
    reason = (await why(dsn, run))["prefetched"]
    assert (reason.facts["worker"], reason.facts["lease"], reason.facts["seconds"]) == (worker, lease, 3)
    assert f"Worker {worker} (ahead on host) took it 3.0 s ago" in reason.text


async def test_a_running_run_says_where_and_since_when_and_that_it_is_to_stop(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, timeout="90 s")
    worker = worker_for(db)
    claim(db, worker)
    reasons = await why(dsn, run)
    assert reasons.keys() == {"running"}
    assert (reasons["running"].facts["worker"], reasons["running"].facts["timeout"]) == (worker, 90)
    db.execute("select scheduler.cancel(%s, %s)", [APP, run])
    answer = await ask(dsn, run)
    assert [reason.code for reason in answer.reasons] == ["running", "cancelling"]
    assert [event["what"] for event in answer.timeline] == ["claimed", "begun", "cancel asked for"]


async def test_a_run_in_the_hands_of_a_silent_worker_says_so(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    run = add_run(db)
    claim(db, worker_for(db, "gone"))
    add_server(db)
    assert "worker_gone" not in await why(dsn, run)
    clock.advance(30)
    reasons = await why(dsn, run)
    assert "silent for 30.0 s" in reasons["worker_gone"].text
    assert "no_server" in reasons, "nor is there anybody to take it back"


async def test_a_success_says_how_late_it_began_and_how_long_it_took(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    run = add_run(db)
    clock.advance(2)
    worker = worker_for(db)
    lease, runs = claim(db, worker)
    clock.advance(3)
    finish(db, worker, lease, runs)
    answer = await ask(dsn, run)
    (reason,) = answer.reasons
    assert (reason.code, reason.facts["late"], reason.facts["seconds"]) == ("succeeded", 2, 3)
    assert [(event["what"], event["worker"], event["fence"]) for event in answer.timeline] == [
        ("started", worker, lease),
        ("succeeded", worker, lease),
    ]


async def test_a_planned_run_has_its_plan_in_the_timeline(dsn: str, db: psycopg.Connection, clock: Clock) -> None:
    clock.set(NOON)
    schedule(db)
    clock.advance(55)
    await plan_once(dsn)
    run = one(db, "select id from scheduler.run")
    answer = await ask(dsn, run)
    assert [(event["what"], event["text"]) for event in answer.timeline] == [
        ("planned", "for 2026-03-01T12:01:00Z"),
        ("due", None),
    ]
    edit_job(db, priority=3)


async def test_a_failure_says_why_it_is_not_tried_again_and_as_what_it_was_run_once_more(
    dsn: str, db: psycopg.Connection
) -> None:
    run = add_run(db, max_attempts=1)
    worker = add_worker(db)
    lease, runs = claim(db, worker)
    finish(db, worker, lease, runs, "failed")
    reasons = await why(dsn, run)
    assert reasons.keys() == {"failed"}
    assert "attempt 1 of 1, its last" in reasons["failed"].text
    again = one(db, "select scheduler.retry(%s, %s)", APP, run)
    assert (await why(dsn, run))["retried"].facts == {"run": again}
    assert "retried" not in {reason.code for reason in (await ask(dsn, run, audit=False)).reasons}


async def test_a_poisonous_run_is_called_so(dsn: str, db: psycopg.Connection) -> None:
    run = add_run(db, max_attempts=5)
    for _ in range(3):
        lose(db)
    reasons = await why(dsn, run)
    assert reasons.keys() == {"poison"}
    assert "was lost" in reasons["poison"].text


async def test_a_cancelled_run_says_by_whom(dsn: str, db: psycopg.Connection, connect: Connect) -> None:
    run = add_run(db)
    with connect() as session:
        session.execute("set scheduler.actor = 'ada@example.org'")
        session.execute("select scheduler.cancel(%s, %s)", [APP, run])
    answer = await ask(dsn, run)
    (reason,) = answer.reasons
    assert reason.code == "cancelled"
    assert "by ada@example.org at" in reason.text
    assert [event["by"] for event in answer.timeline if event["what"] == "cancel asked for"] == ["ada@example.org"]
    hidden = await ask(dsn, run, audit=False)
    assert "ada" not in str(hidden.as_row())


def test_every_reason_is_documented_and_tested_and_no_other() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scheduler/why").glob("*.py"))
    given = set(re.findall(r'Reason\(\s*"(\w+)"', sources))
    page = (ROOT / "docs/why.md").read_text(encoding="utf-8")
    assert len(given) > 20
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == given
    tests = "".join((ROOT / path).read_text(encoding="utf-8") for path in TESTS)
    assert {code for code in given if f'"{code}"' not in tests} == set()

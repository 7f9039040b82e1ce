"""`scheduler why` as it is typed, over HTTP, and about what real workers do."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.api import make_token, served
from tests.support.builders import APP, add_run, add_worker, claim, rows
from tests.support.command import Scheduler
from tests.support.fleet import Fleet, wait_until


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_a_task_that_no_worker_knows_is_told_from_the_last_attempt(fleet: Fleet, db: psycopg.Connection) -> None:
    fleet.start()
    (run,) = fleet.insert("nope", app=APP, retry_delay="1 hour", retry_max_delay="1 hour")
    wait_until(lambda: rows(db, "select from scheduler.history where id = %s", run))
    answer = Scheduler(fleet.dsn).json("why", str(run))
    reason = {reason["code"]: reason for reason in answer["reasons"]}["unknown_task"]
    assert "unknown task 'nope': this worker has " in reason["text"]
    assert "--import MODULE" in reason["remedy"]
    assert answer["timeline"][1]["label"] == "w1"


def test_it_is_said_in_sentences_and_in_json(scheduler: Scheduler, db: psycopg.Connection) -> None:
    run = add_run(db, run_at="2100-01-01T00:00:00Z", queue="a\x1b[2Jb")
    said = scheduler.says("why", str(run))
    assert f"run {run} of app shop, queue a\\x1b[2Jb: pending, attempt 0 of 3" in said
    assert "\nnot_due: It is due at 2100-01-01T00:00:00Z, in " in said
    assert "\n  remedy: scheduler worker --app shop --queue " in said
    answer = scheduler.json("why", "shop", str(run))
    assert [reason["code"] for reason in answer["reasons"]] == ["not_due", "no_worker"]
    assert scheduler.json("why", str(run), "--app", "shop")["id"] == run
    assert scheduler.refuses("why", "4711", status=1) == "error: there is no run 4711"


def test_it_is_told_over_http_as_much_as_a_token_may_know(dsn: str, db: psycopg.Connection) -> None:
    run, waits = add_run(db), add_run(db, executor="shell")
    worker = add_worker(db)
    claim(db, worker, 1)
    db.execute("select scheduler.register_worker('secret host', p_apps => '{billing}', p_executors => '{shell}')")
    db.execute("set scheduler.actor = 'ada@example.org'")
    db.execute("select scheduler.cancel(%s, %s)", [APP, run])
    tokens = [make_token(db, "root", ["admin"]), make_token(db, "reader", ["read"], [APP])]
    with served(dsn) as client:
        root, reader = (client.bearing(token) for token in tokens)
        path = "/api/v1/apps/shop/runs/{}/why"
        answer = root.read(path.format(run))
        assert [reason["code"] for reason in answer["reasons"]] == ["running", "cancelling"]
        assert [event["by"] for event in answer["timeline"] if event["by"]] == ["ada@example.org"]
        assert "secret host" in str(root.read(path.format(waits)))
        for number in (run, waits):
            told = str(reader.read(path.format(number)))
            assert "ada" not in told
            assert "secret host" not in told
        assert reader.get(path.format(4711)).status == 404
        assert client.get(path.format(run)).status == 401

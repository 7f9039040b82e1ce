"""The doctor and the forecast over HTTP: what the commands say, and nobody waits for it who asked something else."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scheduler.api.routes import forecast as routes
from scheduler.api.turns import Turns
from scheduler.forecast import apart
from tests.support.api import Answer, Client, make_token, served
from tests.support.builders import APP, add_job, one
from tests.support.clock import Clock
from tests.support.command import Scheduler
from tests.support.fleet import wait_until
from tests.support.jobs import plan_once, schedule
from tests.support.pids import alive, written

OF_APP = f"/api/v1/apps/{APP}/forecast"


async def test_the_doctor_finds_over_http_what_the_command_finds(api: Client, db: psycopg.Connection, dsn: str) -> None:
    schedule(db, "bad", "61 * * * *")
    await plan_once(dsn)
    report = api.read("/api/v1/doctor")
    said = json.loads(Scheduler(dsn)("doctor", "--json").stdout)
    found, typed = ([one for one in told["findings"] if one["code"] == "job_invalid"] for told in (report, said))
    assert found == typed
    assert "Job bad of app shop is not planned" in found[0]["text"]
    assert (report["is_sound"], report["checks"], report["left_out"]) == (False, said["checks"], [])
    wait_until(lambda: doctors(db) == 0)


def test_examinations_take_turns_and_who_waits_too_long_is_told(
    dsn: str, db: psycopg.Connection, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.data.Turns", lambda what, _: Turns(what, 0.3))
    with served(dsn) as client, psycopg.connect(dsn) as other, ThreadPoolExecutor() as pool:
        api = client.bearing(root)
        other.execute("lock table scheduler.worker")  # a check waits for it until its time is up
        first = pool.submit(api.get, "/api/v1/doctor")
        wait_until(lambda: doctors(db) == 1)
        second = api.get("/api/v1/doctor")
        assert (second.status, second.detail) == (503, "an examination is under way already")
        assert int(second.headers["retry-after"]) > 0
        assert api.get("/api/v1/tokens").status == 200
        other.rollback()
        assert first.result(30).status == 200
        assert api.get("/api/v1/doctor").status == 200


def doctors(db: psycopg.Connection) -> int:
    """Examinations that are under way."""
    query = "datname = current_database() and application_name = 'walclock doctor'"
    return int(one(db, "select count(*) from pg_stat_activity where " + query))


def test_a_forecast_over_http_is_that_of_the_command(dsn: str, db: psycopg.Connection, clock: Clock, root: str) -> None:
    clock.set("2026-03-01T12:00:30Z")
    schedule(db, "minutely")
    schedule(db, "nightly", "0 3 * * *", timezone="Asia/Kathmandu", jitter="90 s")
    schedule(db, "tail", "@after 7h")
    schedule(db, "bad", "99 * * * *")
    add_job(db, "elsewhere", app="mail", schedule="* * * * *", starts_at="2026-03-01T13:00:00Z")
    scheduler = Scheduler(dsn)
    with served(dsn) as client:
        api = client.bearing(root)
        assert api.read("/api/v1/forecast") == scheduler.json("forecast")
        told = api.read(f"{OF_APP}?hours=48&peaks=2")
        assert told == scheduler.json("forecast", APP, "--hours", "48", "--peaks", "2")
        assert (len(told["per_minute"]), len(told["peaks"])) == (48 * 60, 2)
        words = ["--if", "nightly=0 */6 * * *", "--if", "tail=", "--if", "new=@every 90m"]
        supposed = {"nightly": "0 */6 * * *", "tail": None, "new": "@every 90m"}
        suppositions = [{"job": job, "schedule": schedule} for job, schedule in supposed.items()]
        compared = api("POST", OF_APP, {"suppositions": suppositions}).json
        assert compared == scheduler.json("forecast", APP, *words)
        assert [one["after"] for one in compared["changes"]] == [4, None, 15]
        everywhere = [{"app": "mail", "job": "elsewhere", "schedule": None}]
        compared = api("POST", "/api/v1/forecast", {"suppositions": everywhere, "hours": 2}).json
        assert compared == scheduler.json("forecast", "--hours", "2", "--if", "mail/elsewhere=")


def test_a_forecast_is_of_the_apps_that_the_token_reaches(server: Client, db: psycopg.Connection) -> None:
    schedule(db, "minutely")
    add_job(db, "elsewhere", app="mail", schedule="* * * * *")
    for apps, concurrency in (([APP], 3), (["mail"], 5), (None, 7)):
        db.execute(
            "select scheduler.register_worker('w', p_apps => %s::text[], p_concurrency => %s)", [apps, concurrency]
        )
    reader = server.bearing(make_token(db, "r", ["read"], [APP, "none"]))
    told = reader.read("/api/v1/forecast?hours=1")
    assert [one["app"] for one in told["apps"]] == [APP]
    assert told["together"]["slots"] == 3 + 7
    assert reader.get("/api/v1/apps/mail/forecast").detail == "there is no app mail"
    assert reader.get("/api/v1/apps/none/forecast").detail == "app 'none' has no jobs"
    for supposed in ("elsewhere", "new"):
        body = {"suppositions": [{"app": "mail", "job": supposed, "schedule": "@daily"}]}
        assert reader("POST", "/api/v1/forecast", body).detail == "there is no app mail"


@pytest.mark.parametrize(
    ("query", "suppositions", "status", "why"),
    [
        ("hours=0", None, 400, ">= 1"),
        ("hours=721", None, 400, "<= 720"),
        ("peaks=101", None, 400, "<= 100"),
        ("", [], 400, "length >= 1"),
        ("", [{"job": "minutely"}], 400, "schedule"),
        ("", [{"job": "minutely", "schedule": "* * *"}], 400, "schedule '* * *'"),
        ("", [{"job": "ghost", "schedule": None}], 404, "there is no job ghost of app shop to be removed"),
    ],
)
def test_what_cannot_be_forecast_is_refused_with_what_is_wrong(
    *, api: Client, db: psycopg.Connection, query: str, suppositions: Any, status: int, why: str
) -> None:
    schedule(db, "minutely")
    asked = (
        api.get(f"{OF_APP}?{query}") if suppositions is None else api("POST", OF_APP, {"suppositions": suppositions})
    )
    assert (asked.status, why in asked.detail) == (status, True), asked.body


def test_more_jobs_than_a_server_forecasts_are_refused_at_once(
    api: Client, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MOST_JOBS", 2)
    for number in range(3):
        schedule(db, f"job {number}")
    refused = api.get("/api/v1/forecast")
    assert (refused.status, refused.detail) == (409, "there are more than 2 jobs")
    assert "one app" in refused.json["hint"]


def begin_forecast(pool: Executor, api: Client, db: psycopg.Connection, *, jobs: int) -> tuple[Future[Answer], int]:
    """One that takes two seconds or more for each five jobs, and the process that computes it."""
    for number in range(jobs):
        schedule(db, f"job {number}", jitter="90 s")
    asked = pool.submit(api.get, f"{OF_APP}?hours=720")
    wait_until(lambda: computing() or asked.done())
    (process,) = computing()
    return asked, process


def computing() -> list[int]:
    """The processes that this one started to compute forecasts."""
    children = [int(pid) for thread in Path("/proc/self/task").glob("*/children") for pid in written(thread).split()]
    return [pid for pid in children if apart.__name__ in written(Path(f"/proc/{pid}/cmdline")).split("\0")]


def test_a_large_forecast_keeps_nobody_waiting(api: Client, db: psycopg.Connection) -> None:
    waits: list[float] = []
    with ThreadPoolExecutor() as pool:
        asked, process = begin_forecast(pool, api, db, jobs=5)
        started = time.monotonic()
        while not asked.done():
            began = time.monotonic()
            assert api.get("/api/v1/apps").status == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
        took = time.monotonic() - started
        told = asked.result().json
    assert 5 * 43_190 <= told["fires"] <= 5 * 43_200
    assert len(waits) > 10
    assert sorted(waits)[len(waits) // 2] < took / 5
    assert not alive(process)


def test_forecasts_take_turns_and_one_that_takes_too_long_is_given_up(
    dsn: str, db: psycopg.Connection, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "TIME_LIMIT", 5.0)
    monkeypatch.setattr("scheduler.api.data.Turns", lambda what, _: Turns(what, 0.3))
    with served(dsn) as client, ThreadPoolExecutor() as pool:
        api = client.bearing(root)
        asked, process = begin_forecast(pool, api, db, jobs=40)
        assert api.get(OF_APP).detail == "a forecast is under way already"
        answer = asked.result(30)
        assert (answer.status, answer.detail) == (503, "the forecast took longer than 5 s and was given up")
        assert not alive(process)


def test_a_forecast_that_somebody_kills_is_answered_and_logged(
    api: Client, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor() as pool:
        asked, process = begin_forecast(pool, api, db, jobs=20)
        os.kill(process, signal.SIGKILL)
        answer = asked.result(30)
    assert (answer.status, answer.detail) == (503, "the forecast failed; the server's log says more")
    assert "a forecast ended with status -9" in caplog.text


def test_a_server_that_stops_ends_its_forecast(
    dsn: str, db: psycopg.Connection, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.service._GRACE", 25)
    with ThreadPoolExecutor() as pool:
        with served(dsn) as client:
            asked, process = begin_forecast(pool, client.bearing(root), db, jobs=20)
            began = time.monotonic()
        assert time.monotonic() - began < 20, "its requests have 25 seconds to end"
        answer = asked.result(30)
    assert (answer.status, answer.detail) == (503, "the server stops")
    assert not alive(process)

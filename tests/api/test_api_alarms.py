"""Alarms over HTTP: set, seen to fire, silenced, tried and removed, in the name of whoever asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.support.api import Client, make_token
from tests.support.builders import APP, add_run, add_worker, claim, column, finish, one, rows
from tests.support.command import Scheduler

ALARMS = f"/api/v1/apps/{APP}/alarms"
MAIL = {"channel": "email", "to": ["ops@example.com"]}
HOOK = {"channel": "webhook", "url": "https://ops.example.com/walclock"}
FAILED = {"kind": "failed", "channels": [HOOK, MAIL], "gather": 0, "pause": 0}


def fail_a_run(db: psycopg.Connection) -> int:
    run = add_run(db, max_attempts=1)
    worker = add_worker(db)
    lease, ids = claim(db, worker)
    assert finish(db, worker, lease, ids, "failed") == 1
    return run


def test_an_alarm_that_is_put_fires_and_its_notice_is_a_run_that_a_worker_takes(
    api: Client, db: psycopg.Connection
) -> None:
    answer = api("PUT", f"{ALARMS}/a%2Fb", FAILED)
    assert (answer.status, answer.headers["location"]) == (201, f"{ALARMS}/a%2Fb")
    assert (answer.json["name"], answer.json["state"], answer.json["within"]) == ("a/b", "quiet", 600)
    assert api.read("/api/v1/alarms?firing=true")["alarms"] == []
    api("PUT", "/api/v1/apps/mail/alarms/quiet", FAILED)
    run = fail_a_run(db)
    db.execute("select scheduler.look_for_alarms('0 s', '30 s')")
    (firing,) = api.read("/api/v1/alarms?firing=true")["alarms"]
    assert (firing["app"], firing["name"], firing["state"]) == (APP, "a/b", "firing")
    assert (firing["latest"]["run"], firing["told_at"] is not None) == (run, True)
    assert api.read(f"{ALARMS}?firing=true")["alarms"] == [firing]
    assert api.read("/api/v1/apps/mail/alarms?firing=true")["alarms"] == []
    registered = {"label": "remote", "executors": ["alarm"], "apps": ["_alarms"], "concurrency": 5}
    worker = api("POST", "/api/v1/work/register", registered).json["worker"]
    taken = api("POST", "/api/v1/work/claim", {"worker": worker, "limit": 5}).json["runs"]
    assert [run["spec"]["channel"] for run in taken] == [HOOK, MAIL]
    assert {run["spec"]["notice"]["state"] for run in taken} == {"firing"}


def test_what_is_put_is_the_whole_rule_and_an_edit_goes_by_its_version(api: Client, db: psycopg.Connection) -> None:
    first = api("PUT", f"{ALARMS}/a", {**FAILED, "times": 3, "job": "nightly"}, If_None_Match="*")
    assert (first.status, first.json["times"], first.json["job"]) == (201, 3, "nightly")
    assert api("PUT", f"{ALARMS}/a", FAILED, If_None_Match="*").status == 412
    version = first.headers["etag"]
    assert api.get(f"{ALARMS}/a", If_None_Match=version).status == 304
    fail_a_run(db)
    db.execute("select scheduler.look_for_alarms('0 s', '30 s')")
    assert api.get(f"{ALARMS}/a").headers["etag"] == version, "how it stands is not what it is"
    second = api("PUT", f"{ALARMS}/a", FAILED, If_Match=version)
    assert (second.status, second.json["times"], second.json["job"]) == (200, 1, None)
    assert api("PUT", f"{ALARMS}/a", FAILED, If_Match=version).status == 412
    assert api("DELETE", f"{ALARMS}/a", If_Match=version).status == 412
    assert api("PUT", f"{ALARMS}/b", FAILED, If_Match="*").status == 412
    assert api("DELETE", f"{ALARMS}/a", If_Match=second.headers["etag"]).status == 204
    for method, path in (("GET", "a"), ("DELETE", "a"), ("DELETE", "a/silence"), ("POST", "a/test")):
        assert api(method, f"{ALARMS}/{path}").detail == "there is no alarm a in app shop"


def test_a_rule_of_sql_and_of_the_command_is_read_and_a_rule_over_http_is_what_the_command_shows(
    api: Client, dsn: str
) -> None:
    scheduler = Scheduler(dsn)
    words = ["--slack", "${secret:hook}", "--dingtalk", "${secret:ding}", "--dingtalk-key", "${secret:key}"]
    scheduler.says("alarm", "add", APP, "typed", "failing", "--times", "20", "--within", "5m", *words)
    channels = [
        {"channel": "slack", "url": "${secret:hook}"},
        {"channel": "dingtalk", "url": "${secret:ding}", "secret": "${secret:key}"},
    ]
    api("PUT", f"{ALARMS}/sent", {"kind": "failing", "times": 20, "within": 300, "channels": channels})
    sent, typed = api.pages(f"{ALARMS}?limit=1", "alarms")
    assert scheduler.json("alarm", "list", "--app", APP)["alarms"] == [sent, typed]
    moves = {"name", "created_at"}
    assert {key: sent[key] for key in sent if key not in moves} == {
        key: typed[key] for key in typed if key not in moves
    }
    assert api.pages("/api/v1/alarms?limit=1", "alarms") == [sent, typed]


def test_a_silence_lasts_for_so_long_or_until_an_instant_and_ends_when_it_is_told_to(
    api: Client, db: psycopg.Connection
) -> None:
    api("PUT", f"{ALARMS}/a", FAILED)
    silenced = api("PUT", f"{ALARMS}/a/silence", {"seconds": 7200}).json
    ends = datetime.fromisoformat(silenced["silence_ends_at"])
    assert silenced["state"] == "silenced"
    assert abs(ends - datetime.now(UTC) - timedelta(hours=2)) < timedelta(seconds=30)
    until = api("PUT", f"{ALARMS}/a/silence", {"until": "2040-01-01T00:00:00+01:00"}).json
    assert until["silence_ends_at"] == "2039-12-31T23:00:00Z"
    assert api("PUT", f"{ALARMS}/a", FAILED).json["state"] == "silenced", "a rule that is replaced stays silent"
    assert api("DELETE", f"{ALARMS}/a/silence").json["state"] == "quiet"
    for body in ({}, {"seconds": 60, "until": "2040-01-01T00:00:00Z"}):
        assert "one of seconds and until is needed" in api("PUT", f"{ALARMS}/a/silence", body).detail
    assert api("PUT", f"{ALARMS}/b/silence", {"seconds": 60}).status == 404


def test_a_test_is_answered_with_the_runs_that_carry_it(api: Client, db: psycopg.Connection) -> None:
    api("PUT", f"{ALARMS}/a", FAILED)
    answer = api("POST", f"{ALARMS}/a/test")
    assert answer.status == 201
    notices = answer.json["notices"]
    assert [notice["channel"] for notice in notices] == ["webhook", "email"]
    for notice in notices:
        run = api.read(f"/api/v1/apps/_alarms/runs/{notice['run']}")
        assert (run["executor"], run["state"], run["spec"]["notice"]["state"]) == ("alarm", "pending", "test")
        assert run["spec"]["channel"]["channel"] == notice["channel"]


def test_changes_are_audited_in_the_name_of_the_token_that_made_them(
    server: Client, api: Client, db: psycopg.Connection
) -> None:
    ops = server.bearing(make_token(db, "ops", ["write"], [APP]))
    assert ops("PUT", f"{ALARMS}/a", FAILED).status == 201
    assert ops("PUT", f"{ALARMS}/a/silence", {"seconds": 60}).status == 200
    assert ops("DELETE", f"{ALARMS}/a").status == 204
    entries = api.read(f"/api/v1/apps/{APP}/audit?object=alarm%20a")["entries"]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("token ops", "remove"), ("token ops", "edit"), ("token ops", "add"),
    ]  # fmt: skip


def test_a_token_for_some_apps_reaches_their_alarms_and_no_other(server: Client, db: psycopg.Connection) -> None:
    ops = server.bearing(make_token(db, "ops", ["write"], [APP]))
    root = server.bearing(make_token(db, "all", ["write"]))
    for app in ("a", APP, "z"):
        root("PUT", f"/api/v1/apps/{app}/alarms/a", FAILED)
    assert [row["app"] for row in ops.pages("/api/v1/alarms?limit=1", "alarms")] == [APP]
    for method, path, body in (
        ("GET", "", None), ("GET", "/a", None), ("PUT", "/a", FAILED), ("DELETE", "/a", None),
        ("PUT", "/a/silence", {"seconds": 60}), ("DELETE", "/a/silence", None), ("POST", "/a/test", None),
    ):  # fmt: skip
        assert ops(method, f"/api/v1/apps/z/alarms{path}", body).detail == "there is no app z"
    assert one(db, "select count(*) from scheduler.run where app = '_alarms'") == 0
    assert column(db, "select app from scheduler.alarm where silence_ends_at is null order by app") == ["a", APP, "z"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "sad"}, "sad"),
        ({"channels": []}, "length >= 1"),
        ({"channels": [{"channel": "pigeon"}]}, "pigeon"),
        ({"channels": [{"channel": "slack", "url": "https://hooks.slack.com/x"}]}, "takes the name of a secret"),
        ({"channels": [{"channel": "slack", "url": "${secret:a}\n"}]}, "takes the name of a secret"),
        (
            {"channels": [{"channel": "dingtalk", "url": "${secret:d}", "secret": "SEC0"}]},
            "the secret of dingtalk takes the name of a secret",
        ),
        ({"channels": [{"channel": "webhook", "url": "ftp://x"}]}, "must begin with http"),
        ({"channels": [{"channel": "email", "to": ["ops"]}]}, "is no address"),
        ({"channels": [{"channel": "webhook", "url": "https://x", "headers": {"a": "\0"}}]}, "NUL character"),
        ({"channels": [MAIL] * 11}, "length <= 10"),
        ({"kind": "late", "times": 2}, "is a state, and not counted"),
        ({"kind": "no_worker", "job": "nightly"}, "job is not for no_worker"),
        ({"within": 0}, ">= 0.001"),
        ({"tiems": 2}, "tiems"),
    ],
)
def test_an_alarm_that_makes_no_sense_is_refused_with_what_is_wrong(
    api: Client, db: psycopg.Connection, change: dict[str, Any], why: str
) -> None:
    answer = api("PUT", f"{ALARMS}/a", {**FAILED, **change})
    assert (answer.status, why in answer.detail) == (400, True), answer.body
    assert b"hooks.slack.com" not in answer.body, "what was refused may be the secret"
    assert rows(db, "select name from scheduler.alarm") == []


def test_a_rule_over_http_has_the_defaults_of_the_table(api: Client, db: psycopg.Connection) -> None:
    api("PUT", f"{ALARMS}/a", {"kind": "failed", "channels": [MAIL]})
    insert = "insert into scheduler.alarm (app, name, kind, channels) values (%s, 'b', 'failed', %s)"
    db.execute(insert, [APP, json.dumps([MAIL])])
    columns = "kind, job, times, within, channels, gather, pause, repeat, silence_ends_at"
    assert one(db, f"select count(distinct ({columns})) from scheduler.alarm") == 1

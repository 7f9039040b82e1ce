"""The audit over HTTP: who changed what, and whether that account is whole."""

from __future__ import annotations

import hashlib
import json

import psycopg

from tests.support.api import Client, make_token
from tests.support.builders import APP, add_job
from tests.support.command import Scheduler

OF_APP = f"/api/v1/apps/{APP}/audit"


def test_a_change_over_http_is_kept_with_the_name_of_its_token(api: Client, db: psycopg.Connection) -> None:
    add_job(db)
    assert api("POST", f"/api/v1/apps/{APP}/jobs/nightly/pause").status == 200
    latest, earlier = api.read(OF_APP)["entries"]
    assert (latest["actor"], latest["action"], latest["object"]) == ("token root", "pause", "job nightly")
    assert (earlier["actor"], earlier["action"]) == (None, "add")


def test_pages_of_the_audit_are_what_the_command_lists(api: Client, db: psycopg.Connection, dsn: str) -> None:
    for name in ("a", "b", "c"):
        add_job(db, name=name)
    expected = Scheduler(dsn).json("audit", "list")["entries"]
    assert api.pages("/api/v1/audit?limit=1", "entries") == expected
    of_app = [entry for entry in expected if entry["app"] == APP]
    assert api.pages(f"{OF_APP}?limit=2", "entries") == of_app
    assert [one["object"] for one in api.read(f"{OF_APP}?object=job%20b")["entries"]] == ["job b"]


def test_tampering_is_found_over_http(api: Client, db: psycopg.Connection) -> None:
    add_job(db)
    whole = api.read(f"{OF_APP}/verification")
    assert (whole["ok"], whole["heads"][0]["entries"]) == (True, 1)
    head = whole["heads"][0]["head"]
    assert api.read(f"{OF_APP}/verification?head={head}")["ok"]
    db.execute("set session_replication_role = replica")
    db.execute("update scheduler.audit set object = 'job another'")
    db.execute("set session_replication_role = origin")
    findings = api.read("/api/v1/audit/verification")["findings"]
    assert [(one["app"], one["n"], one["finding"]) for one in findings if one["app"] == APP] == [(APP, 1, "edited")]


def test_an_export_over_http_is_checked_with_nothing_but_sha256(api: Client, db: psycopg.Connection) -> None:
    add_job(db, name="a")
    add_job(db, name="b")
    *lines, head = api.get(f"{OF_APP}/export").body.splitlines()
    hashes = [hashlib.sha256(line).hexdigest() for line in lines]
    assert [json.loads(line)["previous"] for line in lines[1:]] == hashes[:-1]
    assert json.loads(head) == {"app": APP, "entries": 2, "head": hashes[-1]}


def test_an_admin_of_one_app_sees_the_changes_of_that_app_only(
    server: Client, api: Client, db: psycopg.Connection
) -> None:
    add_job(db)
    theirs = server.bearing(make_token(db, "theirs", ["admin"], ["theirs"]))
    assert theirs.get(OF_APP).status == theirs.get("/api/v1/apps/nobody/audit").status == 404
    assert theirs.get("/api/v1/audit").status == 403
    assert theirs.read("/api/v1/apps/theirs/audit")["entries"][0]["object"] == "token theirs"

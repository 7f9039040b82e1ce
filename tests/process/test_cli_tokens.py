"""Tokens by command: shown once, listed without what would open anything, revoked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from scheduler.tokens import digest, looks_right
from tests.support.builders import rows
from tests.support.command import Scheduler


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_a_token_is_printed_once_and_listed_by_its_first_characters(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    made = scheduler(
        "token", "create", "ci", "--scope", "write", "work", "--app", "shop", "billing", "--expires", "90d"
    )
    token = made.stdout.strip()
    assert looks_right(token)
    assert token not in made.stderr
    assert rows(db, "select t.name, t.scopes, t.apps, t.hash from scheduler.token t") == [
        ("ci", ["work", "write"], ["shop", "billing"], digest(token))
    ]
    (row,) = scheduler.json("token", "list")["tokens"]
    assert (row["name"], row["prefix"], row["scopes"], row["apps"], row["state"], row["last_used_at"]) == (
        "ci", token[:10], ["work", "write"], ["shop", "billing"], "live", None,
    )  # fmt: skip
    left = datetime.fromisoformat(row["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left < timedelta(days=91)
    shown = scheduler.says("token", "list")
    assert token[:10] in shown
    assert token[10:] not in shown + str(row)


def test_a_token_is_a_json_document_for_programs_and_scopes_may_be_repeated(scheduler: Scheduler) -> None:
    made = scheduler.json("token", "create", "ops", "--scope", "admin", "--scope", "read")
    assert looks_right(made.pop("token"))
    assert made == {"name": "ops", "scopes": ["admin", "read"], "apps": None, "expires_at": None}
    assert re.search(r"ops +sched_\w{4} +admin, read +all +live", scheduler.says("token", "list"))


def test_a_revoked_token_is_not_listed_and_leaves_its_name(scheduler: Scheduler) -> None:
    scheduler.says("token", "create", "ci", "--scope", "read")
    assert "ci is revoked" in scheduler.says("token", "revoke", "ci")
    assert scheduler.json("token", "list")["tokens"] == []
    assert [row["state"] for row in scheduler.json("token", "list", "--all")["tokens"]] == ["revoked"]
    scheduler.says("token", "create", "ci", "--scope", "read", "--expires", "2099-01-01T00:00:00Z")
    refused = scheduler.refuses("token", "revoke", "nobody", status=1)
    assert 'there is no token "nobody"' in refused


def test_what_cannot_be_a_token_is_refused_in_one_line(scheduler: Scheduler) -> None:
    scheduler.says("token", "create", "ci", "--scope", "read")
    assert 'there is a token "ci" already' in scheduler.refuses("token", "create", "ci", "--scope", "read", status=1)
    assert "'root' is not one of" in scheduler.refuses("token", "create", "x", "--scope", "read", "root")
    past = scheduler.refuses("token", "create", "x", "--scope", "read", "--expires", "2020-01-01T00:00:00Z")
    assert "the token would have expired already" in past
    assert "has a sign" in scheduler.refuses("token", "create", "x", "--scope", "read", "--expires", "-1h")
    assert "Missing option '--scope'" in scheduler.refuses("token", "create", "x")
    assert "name is 1 to 100 characters" in scheduler.refuses("token", "create", "", "--scope", "read")
    assert len(scheduler.json("token", "list")["tokens"]) == 1

"""Tokens over HTTP: shown once, listed without their secret, refused soon after they were revoked."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from tests.support.api import Client, make_token
from tests.support.command import Scheduler
from tests.support.fleet import wait_until

TOKENS = "/api/v1/tokens"


def test_a_token_is_shown_once_and_does_what_it_says(api: Client, server: Client, db: psycopg.Connection) -> None:
    answer = api("POST", TOKENS, {"name": "ci", "scopes": ["write", "write"], "apps": ["shop"], "expires_in": 3600})
    assert (answer.status, answer.json["scopes"], answer.json["apps"]) == (201, ["write"], ["shop"])
    token = answer.json["token"]
    assert server.bearing(token).get("/api/v1/apps/shop/jobs").status == 200
    assert server.bearing(token).get("/api/v1/apps/other/jobs").status == 404
    listed = api.get(TOKENS)
    assert token not in listed.body.decode()
    row = listed.json["tokens"][0]
    assert (row["name"], row["scopes"], row["state"], row["expires_at"]) == (
        "ci", ["write"], "live", answer.json["expires_at"],
    )  # fmt: skip
    stored = " ".join(map(str, db.execute("select t from scheduler.token t").fetchall()))
    assert token not in stored


def test_the_list_is_that_of_the_command_line(api: Client, db: psycopg.Connection, dsn: str) -> None:
    for name in ("a", "b", "c"):
        make_token(db, name, ["read"])
    expected = Scheduler(dsn).json("token", "list")["tokens"]
    assert api.pages(f"{TOKENS}?limit=1", "tokens") == expected == api.read(TOKENS)["tokens"]


def test_a_revoked_token_is_refused_within_five_seconds(api: Client, server: Client, db: psycopg.Connection) -> None:
    token = make_token(db, "ci", ["read"])
    assert server.bearing(token).get("/api/v1/apps").status == 200
    assert api("DELETE", f"{TOKENS}/ci").status == 204
    revoked = time.monotonic()

    def is_refused() -> bool:
        asked = time.monotonic()
        refused = server.bearing(token).get("/api/v1/apps").status == 401
        assert refused or asked - revoked < 5
        return refused

    wait_until(is_refused)
    assert [row["name"] for row in api.read(f"{TOKENS}?all=true")["tokens"]] == ["ci", "root"]
    assert api("DELETE", f"{TOKENS}/ci").status == 404
    assert api("POST", TOKENS, {"name": "ci", "scopes": ["read"]}).status == 201, "its name is free again"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"name": "x", "scopes": []}, 400), ({"name": "x", "scopes": ["root"]}, 400),
     ({"name": "", "scopes": ["read"]}, 400),
     ({"scopes": ["read"]}, 400), ({"name": "x", "scopes": ["read"], "apps": []}, 400),
     ({"name": "x" * 101, "scopes": ["read"]}, 400),
     ({"name": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, 400),
     ({"name": "x", "scopes": ["read"], "expires_in": 60, "expires_at": "2090-01-01T00:00:00Z"}, 400),
     ({"name": "a\0b", "scopes": ["read"]}, 400), ({"name": "root", "scopes": ["read"]}, 409)],
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_refused(api: Client, body: dict[str, Any], status: int) -> None:
    answer = api("POST", TOKENS, body)
    assert (answer.status, bool(answer.detail)) == (status, True)

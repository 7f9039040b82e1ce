"""Who may do what: each role at each route, cell by cell, from the same table that the routes come of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from scheduler.api.operation import Operation
from scheduler.api.routes import OPERATIONS
from scheduler.tokens import SCOPES, implied, new_token
from tests.support.api import Answer, Client, make_token, served
from tests.support.builders import add_job, add_run
from tests.support.database import Databases

EVERYTHING = frozenset(SCOPES)
MAIL = '[{"channel": "email", "to": ["ops@example.com"]}]'
PARTS = {
    "app": "shop", "job": "nightly", "queue": "default", "run": "1", "token": "none", "event": "1", "alarm": "a",
}  # fmt: skip


@dataclass(frozen=True)
class Role:
    """Of whom: what it sends as credentials (bearer, basic or none), and what it may do; None: nothing."""

    name: str
    scopes: frozenset[str] | None
    apps: tuple[str, ...] | None = None
    sends: str = "bearer"


ROLES = [
    Role("without a token", None, sends="nothing"),
    Role("with a token that is not known", None, sends="unknown"),
    Role("with a token that is mistyped", None, sends="mistyped"),
    Role("with a revoked token", None, sends="revoked"),
    *(Role(scope, implied([scope])) for scope in SCOPES),
    Role("admin as a password", EVERYTHING, sends="basic"),
    Role("read as a password", implied(["read"]), sends="basic"),
    Role("admin of the app", EVERYTHING, ("shop",)),
    Role("admin of another app", EVERYTHING, ("elsewhere",)),
    Role("read of another app", implied(["read"]), ("elsewhere",)),
    Role("anybody, where no token is asked for", EVERYTHING, sends="open"),
]


@dataclass(frozen=True)
class World:
    clients: dict[str, Client]


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[World]:
    with databases.fresh() as dsn, psycopg.connect(dsn, autocommit=True) as db:
        add_run(db, id=1)
        add_job(db)
        db.execute("insert into scheduler.alarm (app, name, kind, channels) values ('shop', 'a', 'failed', %s)", [MAIL])
        make_token(db, "first", ["read"])  # or the server makes one
        with served(dsn) as guarded, served(dsn, is_open=True) as open_to_all:
            yield World({role.name: _client(role, guarded, open_to_all, db) for role in ROLES})


def _client(role: Role, guarded: Client, open_to_all: Client, db: psycopg.Connection) -> Client:
    if role.sends == "open":
        return open_to_all
    if role.sends == "nothing":
        return guarded
    if role.sends in {"unknown", "mistyped"}:
        return guarded.bearing(new_token() if role.sends == "unknown" else "sched_mistyped")
    token = make_token(db, f"token of {role.name}", sorted(role.scopes or {"admin"}), role.apps)
    if role.sends == "revoked":
        db.execute("select scheduler.revoke_token(%s)", [f"token of {role.name}"])
    return guarded.basic(token) if role.sends == "basic" else guarded.bearing(token)


def ask(client: Client, operation: Operation, **parts: str) -> Answer:
    """A request of the operation, as its example or with an empty object; what it changes is of no account here."""
    names = PARTS | parts
    path = re.sub(r"\{(\w+)\}", lambda found: quote(names[found[1]], safe=""), operation.path)
    takes_body = operation.body is not None or operation.reads is not None
    body: Any = (operation.example or {}) if takes_body else None
    if named_in_body(operation):
        body = _about(body, names["app"])
    return client(operation.method, path, body)


def _about(body: Any, app: str) -> Any:
    """The same, about another app than the example's."""
    if isinstance(body, list):
        return [_about(one, app) for one in body]
    if not isinstance(body, dict):
        return body
    named = {"app": app, "apps": [app]}
    return {key: named[key] if value and key in named else _about(value, app) for key, value in body.items()}


def about(operation: Operation) -> str | None:
    """The app that it is asked about."""
    return PARTS["app"] if "{app}" in operation.path or named_in_body(operation) else operation.app


def named_in_body(operation: Operation) -> bool:
    return operation.example is not None and _about(operation.example, "another") != operation.example


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_role_gets_what_it_may_at_each_route_and_nothing_else(
    world: World, operation: Operation, role: Role
) -> None:
    answer = ask(world.clients[role.name], operation)
    if operation.scope is None:
        assert answer.status in {200, 503}
    elif role.scopes is None:
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    elif operation.scope not in role.scopes:
        assert (answer.status, f"scope {operation.scope}" in answer.detail) == (403, True)
    elif operation.everywhere and role.apps is not None:
        assert (answer.status, "all apps" in answer.detail) == (403, True)
    elif (app := about(operation)) and role.apps is not None and app not in role.apps:
        assert (answer.status, answer.detail) == (404, f"there is no app {app}")
    else:
        assert answer.status not in {401, 403, 421}
        assert answer.status < 500, answer.body
        assert b"there is no app" not in answer.body


OF_AN_APP = [operation for operation in OPERATIONS if "{app}" in operation.path]


@pytest.mark.parametrize("operation", OF_AN_APP, ids=lambda operation: operation.name)
def test_what_a_token_does_not_reach_looks_like_what_is_not_there(world: World, operation: Operation) -> None:
    stranger = world.clients["admin of another app"]
    there = ask(stranger, operation)
    absent = ask(
        stranger, operation, app="absent", job="absent", run="999", queue="absent", event="999", alarm="absent"
    )
    assert (there.status, there.body.replace(b"shop", b"absent")) == (404, absent.body)
    assert {**there.headers, "date": "", "content-length": ""} == {**absent.headers, "date": "", "content-length": ""}


@pytest.mark.parametrize("operation", OF_AN_APP, ids=lambda operation: operation.name)
def test_a_missing_scope_is_said_before_anything_is_looked_up(world: World, operation: Operation) -> None:
    role = "read" if operation.scope != "read" else "work"
    answers = {ask(world.clients[role], operation, **parts).body for parts in ({}, {"app": "absent", "run": "999"})}
    assert len(answers) == 1
    assert b"scope" in answers.pop()


def test_a_list_holds_what_the_token_reaches_and_its_pages_are_full(world: World) -> None:
    """Filtered in the query: filtered after it, a page of one row would be empty before the app's turn comes."""
    client = world.clients["admin of the app"]
    for app in ("a", "b", "shop", "t"):
        world.clients["admin"]("PUT", f"/api/v1/apps/{app}/jobs/j", {"executor": "x", "spec": {}})
        world.clients["admin"]("POST", f"/api/v1/apps/{app}/jobs/j/trigger")
        rule = {"kind": "failed", "channels": json.loads(MAIL)}
        world.clients["admin"]("PUT", f"/api/v1/apps/{app}/alarms/j", rule)
    for name in ("apps", "jobs", "queues", "runs", "alarms"):
        page = client.read(f"/api/v1/{name}?limit=1")
        assert [row["app"] for row in page[name]] == ["shop"], name
        assert {row["app"] for row in client.pages(f"/api/v1/{name}?limit=1", name)} == {"shop"}
        assert {"a", "b", "t"} <= {row["app"] for row in world.clients["read"].pages(f"/api/v1/{name}?limit=1", name)}
    assert world.clients["admin of another app"].read("/api/v1/apps") == {"apps": [], "next": None}


def test_no_operation_is_open_but_those_that_say_nothing_of_the_database() -> None:
    assert {operation.path for operation in OPERATIONS if operation.scope is None} == {
        "/healthz", "/healthy", "/readyz", "/openapi.json", "/docs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:8080", 200), ("127.0.0.1:1", 200), ("[::1]:8080", 200), ("[::1]", 200),
     ("rebound.example", 421), ("rebound.example:8080", 421), ("127.0.0.1.rebound.example", 421), ("", 421),
     ("10.0.0.1", 421), ("[::2]:80", 421), ("localhost@rebound.example", 421)],
)  # fmt: skip
def test_without_tokens_a_page_whose_name_was_made_to_lead_here_gets_nothing(
    world: World, host: str, status: int
) -> None:
    client = world.clients["anybody, where no token is asked for"]
    assert client.get("/api/v1/apps", Host=host).status == status
    assert world.clients["admin"].get("/api/v1/apps", Host=host).status == 200, "a token says more than a name"

"""The document describes what there is, and what there is keeps to it, whatever schemathesis thinks of."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from scheduler.api.openapi import document
from scheduler.api.page import rendered
from scheduler.api.routes import OPERATIONS
from tests.support.api import Client, make_token, served
from tests.support.builders import add_job, add_run
from tests.support.database import Databases

EXAMPLES = int(os.environ.get("SCHEDULER_TEST_EXAMPLES", "12"))
"""Requests of each operation that schemathesis makes up."""

load_all_checks()
schemathesis.openapi.format(
    "schedule", st.sampled_from(["@daily", "*/5 * * * *", "0 0 3 * * 1-5", "@every 90s", "@after 5s"])
)
schemathesis.openapi.format("go-duration", st.sampled_from(["10m", "1h30m10s", "1.5h", "300ms", ""]))
schemathesis.openapi.format(
    "timezone", st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
)
_DESCRIBED = [operation for operation in OPERATIONS if operation.tag != "docs"]
schema = schemathesis.openapi.from_dict(document(_DESCRIBED))
# What no schema says: values that exclude or need each other, and what only the database's clock knows.
_RULES = re.compile(
    "NUL character|needs a concurrency_key|a concurrency_limit, a rate_limit or both|expired already|exclude each other"
    '|ends_at is before starts_at|the spec of executor|"args" of executor'
    "|is a state, and not counted|job is not for no_worker|one of seconds and until|channels are at most"
    "|^line [0-9]+: "  # of NDJSON the schema says that it is text
    "|NUL"  # which PostgreSQL does not store
    "|is no instant|is not the `next` of a list"  # of a place in a list, which only the list before it can tell
    "|Expected `int.*got `float`"  # JSON Schema takes 1.0 for an integer
)


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[Client]:
    """What the examples in the document name is there, each with something to show."""
    with databases.fresh() as dsn, psycopg.connect(dsn, autocommit=True) as db:
        token = make_token(db, "root", ["admin"])
        for app in ("billing", "0", "a"):
            add_job(db, app=app, schedule="@daily")
            add_job(db, "0", app=app)
            for alarm in ("nightly-failed", "0"):
                db.execute(
                    "insert into scheduler.alarm (app, name, kind, channels) values (%s, %s, 'failed', %s)",
                    [app, alarm, '[{"channel": "email", "to": ["ops@example.com"]}]'],
                )
            for run in (0, 1, 2, 42):  # ended, or who follows its log would wait for ever
                add_run(db, app=app, id=run)
                db.execute("select scheduler.cancel(%s, %s)", [app, run])
        db.execute("select setval('scheduler.run_id', 1000000)")  # those that it triggers are out of its reach
        with served(dsn) as client:
            yield client.bearing(token)


@schemathesis.serializer("application/x-ndjson")
def _lines(_: Any, value: Any) -> bytes:
    return str(value).encode()


def _made_up(*phases: Phase) -> settings:
    return settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )


@schema.exclude(tag="forecast").parametrize()
@_made_up(Phase.explicit, Phase.generate)
def test_nothing_that_may_be_asked_breaks_the_contract(case: schemathesis.Case[Any], world: Client) -> None:
    _keep_the_contract(case, world)


# Each forecast is a process of its own, and takes 0.4 s: not one for each of the hundred edges of its types.
@schema.include(tag="forecast").parametrize()
@_made_up(Phase.generate)
def test_no_forecast_that_may_be_asked_for_breaks_the_contract(case: schemathesis.Case[Any], world: Client) -> None:
    _keep_the_contract(case, world)


def _keep_the_contract(case: schemathesis.Case[Any], world: Client) -> None:
    body = case.body
    wait = body.get("wait") if isinstance(body, dict) else None
    if isinstance(body, dict) and isinstance(wait, int | float) and 0 < wait <= 60:
        body["wait"] = 0  # a claim that waits for a minute is answered, but not today
    answer = case.call(base_url=f"http://127.0.0.1:{world.port}", headers=dict(world.headers))
    is_rule = answer.status_code in {410, 412, 422} or (
        answer.status_code == 400 and _RULES.search(answer.json()["detail"])
    )
    case.validate_response(answer, excluded_checks=[positive_data_acceptance] if is_rule else [])


def test_the_document_is_served_to_everybody(server: Client) -> None:
    answer = server.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["openapi"] == "3.1.0"
    described = {
        (method.upper(), path, one["operationId"])
        for path, methods in answer.json["paths"].items()
        for method, one in methods.items()
    }
    assert described == {(one.method, one.path, one.name) for one in _DESCRIBED}
    assert len({name for _, _, name in described}) == len(described), "each operation has a name of its own"


def test_the_document_names_no_type_that_it_does_not_hold() -> None:
    found = document(_DESCRIBED)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert named == set(found["components"]["schemas"])


def test_every_operation_says_what_it_needs_and_how_it_fails() -> None:
    for path, methods in document(_DESCRIBED)["paths"].items():
        for method, one in methods.items():
            assert one["summary"].endswith("."), path
            in_path = {parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path))
            if one["security"]:
                assert {"401", "403", "503"} <= one["responses"].keys(), (method, path)
            if "requestBody" in one:
                assert {"400", "413", "415"} <= one["responses"].keys(), (method, path)
                assert all("example" in content for content in one["requestBody"]["content"].values()), (method, path)
            if in_path:
                assert "404" in one["responses"], (method, path)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.style = ""
        self._is_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self._is_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._is_style:
            self.style += data
            self._is_style = False


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(server: Client) -> None:
    answer = server.get("/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = _Page()
    page.feed(answer.body.decode())
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form"})
    names = {name for name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on") or name in {"src", "style"}]
    links = {str(value) for name, value in page.attributes if name == "href"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(page.ids)
    assert {link for link in links if not link.startswith("#")} == {"/openapi.json"}
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_page_shows_every_operation(server: Client) -> None:
    page = _Page()
    page.feed(server.get("/docs").body.decode())
    assert {operation.name for operation in _DESCRIBED} <= set(page.ids)


def test_what_stands_in_the_document_is_text_on_the_page() -> None:
    found: dict[str, Any] = document(_DESCRIBED)
    found["paths"]["/healthz"]["get"]["summary"] = "<script>alert(1)</script> `<b>`"
    page = _Page()
    page.feed(rendered(found))
    assert page.tags.isdisjoint({"script"})

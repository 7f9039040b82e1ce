"""The traceparent of a request, in the runs that it writes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.api import Client
from tests.support.builders import column, rows
from tests.support.collector import collecting
from tests.support.serving import serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"
RUNS = "/api/v1/apps/shop/runs"
RUN = {"executor": "python", "spec": {"task": "t"}}
STORED = "select traceparent from scheduler.run order by id"
LINES = b"".join(json.dumps({**RUN, **more}).encode() + b"\n" for more in ({}, {"priority": 1, "tags": ["a\tb"]}))
NDJSON = "application/x-ndjson"


def post_all_kinds(client: Client, **headers: str) -> None:
    """One run, one that is written by itself, two in an array, two as lines."""
    posts: list[tuple[Any, dict[str, str]]] = [
        (RUN, {}),
        ({**RUN, "unique_key": headers.get("traceparent", "k")}, {}),
        ([RUN, RUN], {}),
    ]
    for body, more in [*posts, (LINES, {"Content_Type": NDJSON})]:
        answer = client("POST", RUNS, body, **headers, **more)
        assert answer.status == 201, answer.body


def test_every_run_of_a_request_carries_its_traceparent(api: Client, db: psycopg.Connection) -> None:
    post_all_kinds(api, traceparent=GIVEN)
    assert column(db, STORED) == [GIVEN] * 6
    assert rows(db, "select priority, tags, traceparent from scheduler.run where priority = 1") == [
        (1, ["a\tb"], GIVEN)
    ]
    run = column(db, "select id from scheduler.run")[0]
    assert api.read(f"{RUNS}/{run}")["traceparent"] == GIVEN


@pytest.mark.parametrize("given", [None, "nonsense", f'{GIVEN}", "priority": "9'])
def test_a_request_with_none_or_a_malformed_one_writes_runs_without(
    api: Client, db: psycopg.Connection, given: str | None
) -> None:
    post_all_kinds(api, **({} if given is None else {"traceparent": given}))
    assert column(db, STORED) == [None] * 6


def test_a_packed_stream_carries_it_too(api: Client, db: psycopg.Connection) -> None:
    body = gzip.compress(LINES * 4_000)
    answer = api("POST", RUNS, body, Content_Type=NDJSON, Content_Encoding="gzip", traceparent=GIVEN)
    assert answer.json == {"created": 8_000}
    assert rows(db, "select traceparent, count(*) from scheduler.run group by 1") == [(GIVEN, 8_000)]


def test_a_server_that_is_traced_has_a_producer_span_in_between(
    dsn: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    with collecting() as collector, serving(dsn, tmp_path) as serve:
        _, url = serve(env=collector.env())
        client = Client(int(url.rpartition(":")[2]))
        post_all_kinds(client, traceparent=GIVEN)
        one, alone, array, lines = collector.wait_for(4)
    assert [span.name for span in (one, alone, array, lines)] == ["enqueue shop/default"] * 2 + ["enqueue shop"] * 2
    assert {(span.trace, span.parent, span.kind) for span in (one, alone, array, lines)} == {
        (TRACE, PARENT, "PRODUCER")
    }
    assert column(db, STORED) == [f"{span.traceparent}-01" for span in (one, alone, array, array, lines, lines)]
    ids = column(db, "select id from scheduler.run order by id")
    assert [span.attributes["walclock.run_id"] for span in (one, alone)] == ids[:2]
    assert [span.attributes["messaging.batch.message_count"] for span in (array, lines)] == [2, 2]
    assert one.attributes["messaging.destination.name"] == "shop/default"
    assert not any(span.is_error for span in (one, alone, array, lines))

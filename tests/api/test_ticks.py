"""Ticks: posted over HTTP, read from the topic by a client that shares no code with us."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.fleet import ROOT
from tests.support.kafka import Cluster, cluster
from tests.support.serving import Serve, serving


@pytest.fixture
def serve(dsn: str, tmp_path: Path) -> Iterator[Serve]:
    with serving(dsn, tmp_path) as serve:
        yield serve


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    with cluster() as cluster_:
        yield cluster_


def post(url: str, body: Any, path: str = "/ticks") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=data), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["detail"]


async def test_what_is_posted_is_on_the_topic_at_its_instant_and_an_item_that_is_posted_again_moves(
    serve: Serve, kafka: Cluster
) -> None:
    _, url = serve("--executors", "kafka", env={"SCHEDULER_KAFKA_BROKERS": kafka.brokers})
    now = time.time()
    assert post(url, {"item": "moved", "at": "2031-01-01T00:00:00Z"}) == (200, {"ticks": 1})
    first = b'{"item": "one",  "at": "2023-02-28T14:16:00Z", "more": {"n": 1.50}}'
    assert post(url, first, "/tick") == (200, {"ticks": 1})
    assert post(url, [{"item": "seconds", "at": now + 2}, {"item": "moved", "at": (now + 1) * 1000}]) == (
        200,
        {"ticks": 2},
    )
    lines = b'{"item": "far", "at": "2031-01-01"}\n{"item": "late", "at": 0}\n'
    assert post(url, lines) == (200, {"ticks": 2})
    messages = await kafka.messages("ticks", 4)
    found = {message.key: message for message in messages}
    assert sorted(key or b"" for key in found) == [b"late", b"moved", b"one", b"seconds"]
    assert found[b"one"].value == first
    for item, at in (("moved", now + 1), ("seconds", now + 2)):
        message = found[item.encode()]
        assert json.loads(message.value or b"")["item"] == item
        assert message.timestamp >= at * 1000 - 1, "never early"
        assert "Scheduler-Fence" in dict(message.headers)


def test_single_posts_of_many_clients_leave_one_tick_of_each_item(serve: Serve, db: psycopg.Connection) -> None:
    _, url = serve()
    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(lambda nr: post(url, {"item": f"i{nr % 50}", "at": "2031-01-01"}), range(400)))
    assert answers == [(200, {"ticks": 1})] * 400
    rows = db.execute("select count(*), count(distinct unique_key), min(app), min(executor) from scheduler.run")
    assert rows.fetchone() == (50, 50, "ticks", "kafka")


def test_what_is_no_tick_is_refused_with_its_number_and_writes_nothing(serve: Serve, db: psycopg.Connection) -> None:
    _, url = serve()
    good = {"item": "a", "at": 0}
    for bad, said in (
        ({"item": "a"}, "at"),
        ({"item": "", "at": 0}, "item has 0 characters"),
        ({"item": "a\0", "at": 0}, "NUL"),
        ({"item": "x" * 501, "at": 0}, "501"),
        ({"item": "a", "at": "tomorrow"}, "'tomorrow' is no instant"),
        ({"item": "a", "at": 1e300}, "is no instant"),
        ({"item": "a", "at": None}, "at"),
        ("text", "tick 2"),
    ):
        status, detail = post(url, [good, bad])
        assert (status, "tick 2" in detail, said in detail) == (400, True, True), (bad, detail)
    for body in (b"", b"{", b"[{]", b'{"item": "a", "at": 0}\n{'):
        assert post(url, body)[0] == 400, body
    assert db.execute("select count(*) from scheduler.run").fetchone() == (0,)


@pytest.mark.parametrize("page", ["channels", "ticks"])
def test_the_examples_of_the_page_work_as_they_stand(serve: Serve, page: str) -> None:
    _, url = serve()
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    script = "\n".join(["set -euo pipefail", *re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)])
    script = script.replace("http://127.0.0.1:8080", url)
    done = subprocess.run(
        ["bash", "-c", script], check=False, capture_output=True, text=True, env=dict(os.environ), timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert ('"data":"order 42"' if page == "channels" else '{"ticks":2}') in done.stdout


@pytest.mark.parametrize("page", ["channels", "ticks"])
def test_the_sql_of_the_page_works_as_it_stands(db: psycopg.Connection, page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        db.execute(block)
    assert db.execute("select count(*) > 0 from scheduler.run").fetchone() == (True,)

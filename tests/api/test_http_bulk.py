"""Runs that are posted many at a time: arrays, and lines of NDJSON, also packed; all of them or none."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.api import unpack
from scheduler.api.lines import LONGEST, Lines
from scheduler.api.problem import Problem
from scheduler.store import insert
from tests.support.api import Answer, Client
from tests.support.builders import column, one, rows
from tests.support.fleet import wait_until

RUNS = "/api/v1/apps/shop/runs"
LINE = b'{"executor": "python", "spec": {"task": "send_email", "args": {"to": "a@example.org"}}}\n'
COUNT = "select count(*) from scheduler.run"


def post(api: Client, body: bytes, **headers: str) -> Answer:
    return api("POST", RUNS, body, Content_Type="application/x-ndjson", **headers)


def lines(*runs: Any) -> bytes:
    return b"".join(json.dumps(run).encode() + b"\n" for run in runs)


def stream(api: Client, pieces: Iterable[bytes]) -> Answer:
    """Sent as it is made, in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    headers = {**api.headers, "Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
    try:
        connection.request("POST", RUNS, iter(pieces), headers, encode_chunked=True)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def test_an_array_is_answered_with_its_ids_in_order(api: Client, db: psycopg.Connection) -> None:
    answer = api("POST", RUNS, [{"executor": f"e{n}", "unique_key": None if n % 2 else f"k{n}"} for n in range(200)])
    assert answer.status == 201
    assert column(db, "select executor from scheduler.run order by id") == [f"e{n}" for n in range(200)]
    assert answer.json["ids"] == column(db, "select id from scheduler.run order by id")
    assert api("POST", RUNS, []).json == {"ids": []}


def test_of_an_array_with_a_bad_run_or_a_taken_key_nothing_is_written(api: Client, db: psycopg.Connection) -> None:
    bad = api("POST", RUNS, [{"executor": "a"}, {"executor": "a", "priority": "high"}])
    assert (bad.status, "$[1].priority" in bad.detail) == (400, True)
    twice = api("POST", RUNS, [{"executor": "a", "unique_key": "k"}, {"executor": "a", "unique_key": "k"}])
    assert (twice.status, '"k"' in twice.detail) == (409, True)
    assert one(db, COUNT) == 0


def test_lines_are_runs_with_all_that_is_said_of_them(api: Client, db: psycopg.Connection) -> None:
    spec = {"text": 'a\tb\nc\r\\N \\. \\\\ "quoted" é €'}
    said = {
        "executor": "a\\b",
        "spec": spec,
        "queue": "tab\there",
        "run_at": "2031-05-04T03:02:01.25+02:00",
        "priority": -3,
        "unique_key": "\\N",
        "max_attempts": 2,
        "timeout": 90.25,
        "tags": ['b "c"\\', "{,}", "null"],
        "concurrency_key": "k",
        "concurrency_limit": 4,
    }
    answer = post(api, lines(said, {"executor": "b", "delay": 3600}) + b'{"executor":"c"}')  # no newline at the end
    assert (answer.status, answer.json) == (201, {"created": 3})
    found = rows(
        db,
        "select executor, spec, queue, run_at::text, priority, unique_key, max_attempts, timeout::text, tags,"
        " concurrency_key, concurrency_limit from scheduler.run order by id limit 1",
    )
    assert found == [
        (
            *("a\\b", spec, "tab\there", "2031-05-04 01:02:01.25+00", -3, "\\N", 2, "00:01:30.25"),
            *(['b "c"\\', "{,}", "null"], "k", 4),
        )
    ]
    late = rows(
        db,
        "select run_at - now() between '59 min' and '1 h', executor from scheduler.run where executor in ('b', 'c')"
        " order by executor",
    )
    assert late == [(True, "b"), (False, "c")]


BAD = {
    "is no JSON": (b'{"executor": "a"', "truncated"),
    "is no run": (b'{"executor": 7}', "executor"),
    "is empty": (b"", ""),
    "is not UTF-8": (b'{"executor": "\xff"}', "UTF-8"),
    "holds a NUL": (b'{"executor": "a\\u0000"}', "NUL"),
    "is refused by the database": (b'{"executor": "a", "spec": {"a": 1e999999}}', "refused"),
    "breaks a rule of the table": (b'{"executor": "a", "timeout": 1e-9}', "timeout is positive"),
    "is two": (b'{"executor": "a"} {"executor": "a"}', ""),
}


@pytest.mark.parametrize(("bad", "word"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("before", [0, 3, 20_000])
def test_a_line_that_is_no_run_is_named_and_nothing_is_written(
    api: Client, db: psycopg.Connection, bad: bytes, word: str, before: int
) -> None:
    answer = post(api, LINE * before + bad + b"\n" + LINE * 10)
    assert answer.status == 400, answer.body
    assert answer.detail.startswith(f"line {before + 1}: ")
    assert word in answer.detail
    assert one(db, COUNT) == 0


def test_a_unique_key_that_is_taken_is_named_and_nothing_is_written(api: Client, db: psycopg.Connection) -> None:
    assert api("POST", RUNS, {"executor": "a", "unique_key": "mine"}).status == 201
    answer = post(api, LINE + lines({"executor": "a", "unique_key": "mine"}))
    assert answer.status == 409
    assert '"mine"' in answer.detail
    assert one(db, COUNT) == 1


def test_packed_lines_are_unpacked(api: Client, db: psycopg.Connection) -> None:
    packed = gzip.compress(LINE * 30_000) + gzip.compress(LINE)
    assert post(api, packed, Content_Encoding="gzip").json == {"created": 30_001}
    assert one(db, COUNT) == 30_001


def test_an_array_may_be_packed_too(api: Client) -> None:
    body = gzip.compress(json.dumps([{"executor": "a"}]).encode())
    answer = api("POST", RUNS, body, Content_Type="application/json", Content_Encoding="gzip")
    assert (answer.status, len(answer.json["ids"])) == (201, 1)


@pytest.mark.parametrize("filling", [b" ", b"\n", b"\0", b"1", b"["])
def test_a_bomb_is_refused_by_its_first_line_and_nothing_is_written(
    api: Client, db: psycopg.Connection, filling: bytes
) -> None:
    answer = post(api, gzip.compress(LINE + filling * 20_000_000, 1), Content_Encoding="gzip")
    assert (answer.status, answer.detail[:6]) == (400, "line 2"), answer.body
    assert one(db, COUNT) == 0


def test_of_an_array_only_so_much_is_unpacked(api: Client) -> None:
    bomb = gzip.compress(b"[" + b" " * 20_000_000 + b"]", 1)
    assert api("POST", RUNS, bomb, Content_Type="application/json", Content_Encoding="gzip").status == 413


async def test_what_grows_beyond_all_measure_is_refused_also_when_every_line_is_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpack, "FREE", 1_000_000)

    async def body() -> AsyncIterator[bytes]:
        yield gzip.compress(b'{"executor":"a"}\n' * 200_000, 9)

    sizes: list[int] = []

    async def unpack_it() -> None:
        async for piece in unpack.unpacked(body(), "gzip"):
            sizes.append(len(piece))  # noqa: PERF401  one after the other, up to the error

    with pytest.raises(Problem, match="200-fold"):
        await unpack_it()
    assert max(sizes) <= unpack.PIECE
    assert sum(sizes) <= 2_000_000  # of 3,400,000


PACKED = {
    "not at all": (b"not packed", "gzip", 400),
    "cut off": (gzip.compress(LINE, mtime=0)[:-4], "gzip", 400),
    "unknown": (LINE, "br", 415),
    "empty": (b"", "gzip", 400),
}


@pytest.mark.parametrize(("body", "encoding", "status"), PACKED.values(), ids=PACKED.keys())
def test_what_is_packed_otherwise_is_refused(api: Client, body: bytes, encoding: str, status: int) -> None:
    assert post(api, body, Content_Encoding=encoding).status == status


def test_a_line_is_only_so_long(api: Client, db: psycopg.Connection) -> None:
    answer = post(api, LINE + b'{"executor": "' + b"a" * LONGEST)
    assert (answer.status, answer.detail[:7]) == (400, "line 2:")
    assert one(db, COUNT) == 0


def test_nothing_of_a_stream_that_breaks_off_is_written(api: Client, db: psycopg.Connection) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as wire:
        head = f"POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {api.headers['Authorization']}\r\n"
        head += "Content-Type: application/x-ndjson\r\nContent-Length: 900000000\r\n\r\n"
        wire.sendall(head.encode() + LINE * 60_000)
        copying = "select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
        wait_until(lambda: db.execute(copying).rowcount == 1)
    wait_until(lambda: db.execute(copying).rowcount == 0)
    assert one(db, COUNT) == 0


def test_a_stream_with_a_known_key_is_answered_alike_and_does_nothing(api: Client, db: psycopg.Connection) -> None:
    body = LINE * 25_000
    assert [post(api, body, Idempotency_Key="k").json for _ in range(2)] == [{"created": 25_000}] * 2
    assert post(api, gzip.compress(body), Content_Encoding="gzip", Idempotency_Key="k").json == {"created": 25_000}
    assert post(api, body + LINE, Idempotency_Key="k").status == 422
    assert one(db, COUNT) == 25_000


def test_a_stream_wakes_those_who_await_its_runs(api: Client, db: psycopg.Connection, connect: Any) -> None:
    ears = connect()
    ears.execute("listen scheduler_run")
    ears.execute("select scheduler.await_hints('{shop}')")
    post(api, LINE * 3)
    (heard,) = ears.notifies(timeout=20, stop_after=1)
    assert heard.payload == "shop\tdefault"


def test_a_long_stream_takes_no_more_memory_than_a_short_one(api: Client, db: psycopg.Connection) -> None:
    line = json.dumps({"executor": "python", "spec": {"text": "x" * 2_000}}).encode() + b"\n"

    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            yield line * 100

    stream(api, [line])
    tracemalloc.start()
    try:
        answer = stream(api, pieces())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.json == {"created": 20_000}
    assert peak < 12_000_000, peak  # of 40,000,000 bytes: what is made, what is sent, and what is read meanwhile


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
posted = st.fixed_dictionaries(
    {"executor": texts, "spec": st.dictionaries(texts, texts | st.integers(-9, 9) | st.none(), max_size=3)},
    optional={
        "queue": texts,
        "priority": st.integers(-9, 9),
        "tags": st.lists(texts, max_size=3),
        "concurrency_key": texts,
        "timeout": st.integers(1, 90_000),
    },
)


@settings(max_examples=5, deadline=None)
@given(st.lists(posted, min_size=30, max_size=60), st.integers(1, 400), st.booleans())
def test_whatever_a_text_holds_comes_through_copy_as_it_was(
    databases: Any, runs: list[dict[str, Any]], piece: int, ascii_only: bool
) -> None:
    body = b"".join(json.dumps(run, ensure_ascii=ascii_only).encode() + b"\n" for run in runs)
    reading = Lines("sh\\op\t", datetime(2030, 1, 1, tzinfo=UTC))
    copied = b"".join(reading.take(body[at : at + piece]) for at in range(0, len(body), piece)) + reading.end()
    with databases.fresh() as dsn, psycopg.connect(dsn) as conn:
        with conn.cursor().copy(insert.COPY) as copy:
            copy.write(copied)
        found = rows(
            conn, "select executor, spec, queue, priority, tags, concurrency_key, app from scheduler.run order by id"
        )
    assert found == [
        (
            *(run["executor"], run["spec"], run.get("queue", "default"), run.get("priority", 0), run.get("tags")),
            *(run.get("concurrency_key"), "sh\\op\t"),
        )
        for run in runs
    ]

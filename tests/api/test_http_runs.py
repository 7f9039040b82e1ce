"""Runs that are posted one by one: what is taken and refused, what commits together, and what is asked for twice."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from scheduler.api.gathering import Gathering
from scheduler.model import SPEC_BYTES
from tests.support.api import Answer, Client, make_token
from tests.support.builders import column, one, rows
from tests.support.fleet import wait_until

RUNS = "/api/v1/apps/shop/runs"
MAIL = {"task": "send_email", "args": {"to": "a@example.org", "text": 'a "b" \\ \n\té'}}


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(32)


def post(api: Client, body: Any = None, **headers: str) -> Answer:
    return api("POST", RUNS, {"executor": "python"} if body is None else body, **headers)


def id_of(answer: Answer, status: int = 201) -> int:
    assert answer.status == status, answer.body
    return int(answer.json["id"])


def test_a_posted_run_is_what_was_said_of_it(api: Client, db: psycopg.Connection) -> None:
    said = {
        "executor": "python",
        "spec": MAIL,
        "queue": "mail",
        "run_at": "2031-05-04T03:02:01.5+02:00",
        "priority": -7,
        "unique_key": "welcome:42",
        "max_attempts": 9,
        "timeout": 1.5,
        "tags": ["a", 'b "c"\\'],
        "concurrency_key": "customer 7",
        "concurrency_limit": 3,
    }
    run = id_of(post(api, said))
    found = rows(
        db,
        "select app, executor, spec, queue, run_at::text, priority, unique_key, max_attempts, timeout::text, tags,"
        " concurrency_key, concurrency_limit from scheduler.run where id = %s",
        run,
    )
    assert found == [
        (
            *("shop", "python", MAIL, "mail", "2031-05-04 01:02:01.5+00", -7, "welcome:42", 9, "00:00:01.5"),
            *(["a", 'b "c"\\'], "customer 7", 3),
        )
    ]


def test_what_is_not_said_is_as_in_sql(api: Client, db: psycopg.Connection) -> None:
    run = id_of(post(api))
    db.execute("insert into scheduler.run (app, executor) values ('shop', 'python')")
    plain = (
        "select array_agg(distinct (spec, queue, priority, max_attempts, timeout, tags, unique_key)::text)"
        " from scheduler.run"
    )
    assert len(one(db, plain)) == 1
    assert one(db, "select run_at between now() - interval '1 minute' and now() from scheduler.run where id = %s", run)


@pytest.mark.parametrize("more", [{}, {"unique_key": "u"}])
def test_a_delay_counts_by_the_databases_clock(api: Client, db: psycopg.Connection, more: dict[str, str]) -> None:
    run = id_of(post(api, {"executor": "python", "delay": 3600.5, **more}))
    assert one(
        db,
        "select run_at - now() between interval '59 minutes' and interval '1 hour 0.5 seconds' from scheduler.run"
        " where id = %s",
        run,
    )


def test_a_taken_unique_key_answers_with_the_run_that_has_it(api: Client, db: psycopg.Connection) -> None:
    first = id_of(post(api, {"executor": "python", "unique_key": "once"}))
    assert id_of(post(api, {"executor": "other", "unique_key": "once"}), 200) == first
    assert column(db, "select executor from scheduler.run") == ["python"]


REFUSED = {
    "no executor": ({}, "executor"),
    "an unknown field": ({"executor": "a", "speck": {}}, "speck"),
    "an empty name": ({"executor": ""}, "executor"),
    "a long queue": ({"executor": "a", "queue": "q" * 101}, "queue"),
    "a spec that is no object": ({"executor": "a", "spec": [1]}, "spec must be a JSON object"),
    "a spec that is null": ({"executor": "a", "spec": None}, "spec must be a JSON object"),
    "a large spec": ({"executor": "a", "spec": {"a": "x" * SPEC_BYTES}}, "at most 1,048,576"),
    "an instant without a zone": ({"executor": "a", "run_at": "2031-05-04T03:02:01"}, "run_at"),
    "two instants": ({"executor": "a", "run_at": "2031-05-04T03:02:01Z", "delay": 1}, "exclude each other"),
    "a negative delay": ({"executor": "a", "delay": -1}, "delay"),
    "a timeout of nothing": ({"executor": "a", "timeout": 0}, "timeout"),
    "a timeout below a microsecond": ({"executor": "a", "timeout": 1e-9}, "timeout is positive"),
    "no attempt": ({"executor": "a", "max_attempts": 0}, "max_attempts"),
    "a large priority": ({"executor": "a", "priority": 32_768}, "priority"),
    "a limit without a key": ({"executor": "a", "concurrency_limit": 1}, "needs a concurrency_key"),
    "a NUL in a name": ({"executor": "a", "queue": "a\0b"}, "NUL"),
    "a NUL in the spec": ({"executor": "a", "spec": {"a": "\0"}}, "NUL"),
    "half a surrogate pair": (b'{"executor": "a", "spec": {"a": "\\udc00"}}', "surrogate"),
    "a number that no database stores": (b'{"executor": "a", "spec": {"a": 1e999999}}', "refused: "),
    "bytes that are not UTF-8": (b'{"executor": "a", "spec": {"a": "\xff"}}', "not UTF-8"),
    "a spec as deep as a well": (b'{"executor": "a", "spec": {"a":' + b"[" * 9_999 + b"]" * 9_999 + b"}}", "deep"),
    "half an object": (b'{"executor": "a"', ""),
    "nothing": (b"", ""),
    "a number": (b"7", ""),
}


@pytest.mark.parametrize(("body", "word"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_a_run_is_refused_in_one_line(api: Client, db: psycopg.Connection, body: Any, word: str) -> None:
    answer = post(api, body, Content_Type="application/json")
    assert answer.status == 400, answer.body
    assert word in answer.detail
    assert "\n" not in answer.detail
    assert rows(db, "select from scheduler.run") == []


def test_a_backslash_before_u0000_is_no_nul(api: Client, db: psycopg.Connection) -> None:
    id_of(post(api, b'{"executor": "a", "spec": {"a": "\\\\u0000"}}', Content_Type="application/json"))
    assert column(db, "select spec ->> 'a' from scheduler.run") == ["\\u0000"]


class Held:
    """Nothing is inserted while it is held, so what is posted meanwhile gathers."""

    def __init__(self, db: psycopg.Connection, connect: Any) -> None:
        self.db = db
        self.session = connect()
        self.session.autocommit = False
        self.session.execute("lock table scheduler.run in share mode")

    def wait_for(self, count: int) -> None:
        """Until so many wait for it."""
        waiting = (
            "select count(*) from pg_locks where not granted and relation = 'scheduler.run'::regclass"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        wait_until(lambda: one(self.db, waiting) >= count)

    def let_go(self) -> None:
        self.session.rollback()


def gathered(held: Held, api: Client, pool: ThreadPoolExecutor, bodies: list[Any]) -> list[Answer]:
    """The answers to posts of which the first is under way in each lane when the others come."""
    answers: list[Future[Answer]] = []
    arrived: list[int] = []
    add = Gathering.add

    async def noted(self: Any, entries: Any, size: int) -> Any:
        arrived.append(size)
        return await add(self, entries, size)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Gathering, "add", noted)
        for lane in range(2):
            answers.append(pool.submit(post, api, bodies[lane]))
            held.wait_for(lane + 1)
        answers += [pool.submit(post, api, body) for body in bodies[2:]]
        wait_until(lambda: len(arrived) == len(bodies))
        held.let_go()
        return [future.result(30) for future in answers]


def test_posts_that_arrive_together_are_committed_together(
    api: Client, db: psycopg.Connection, connect: Any, pool: ThreadPoolExecutor
) -> None:
    answers = gathered(Held(db, connect), api, pool, [{"executor": "python", "tags": [str(n)]} for n in range(30)])
    ids = [id_of(answer) for answer in answers]
    assert dict(rows(db, "select id, tags[1]::integer from scheduler.run")) == {run: n for n, run in enumerate(ids)}
    assert one(db, "select count(distinct xmin::text) from scheduler.run") <= 10


def test_a_run_that_the_database_refuses_spoils_no_other(
    api: Client, db: psycopg.Connection, connect: Any, pool: ThreadPoolExecutor
) -> None:
    good = {"executor": "python"}
    bad = b'{"executor": "a", "spec": {"a": 1e999999}}'
    bodies: list[Any] = [good if n not in {7, 8, 20} else bad for n in range(30)]
    held = Held(db, connect)

    def post_it(body: Any) -> Answer:
        return post(api, body, Content_Type="application/json")

    answers = [pool.submit(post_it, body) for body in bodies]
    held.wait_for(2)
    held.let_go()
    assert [future.result(30).status for future in answers] == [201 if body is good else 400 for body in bodies]
    assert one(db, "select count(*) from scheduler.run") == 27


def test_a_request_with_a_known_key_is_answered_alike_and_does_nothing(api: Client, db: psycopg.Connection) -> None:
    for body in ({"executor": "a"}, [{"executor": "b"}, {"executor": "c"}]):
        first, second = (post(api, body, Idempotency_Key=f"k{len(body)}") for _ in range(2))
        assert (first.status, first.json) == (second.status, second.json)
        assert first.status == 201
    assert sorted(column(db, "select executor from scheduler.run")) == ["a", "b", "c"]


def test_a_key_that_was_used_with_another_body_is_refused(api: Client, db: psycopg.Connection) -> None:
    id_of(post(api, Idempotency_Key="k"))
    assert post(api, {"executor": "other"}, Idempotency_Key="k").status == 422
    assert one(db, "select count(*) from scheduler.run") == 1


def test_keys_of_other_tokens_and_apps_are_others(api: Client, server: Client, db: psycopg.Connection) -> None:
    other = server.bearing(make_token(db, "other", ["write"]))
    ids = {
        id_of(post(api, Idempotency_Key="k")),
        id_of(post(other, Idempotency_Key="k")),
        id_of(api("POST", "/api/v1/apps/mail/runs", {"executor": "python"}, Idempotency_Key="k")),
    }
    assert len(ids) == 3


def test_two_equal_requests_at_once_make_one_run(
    api: Client, db: psycopg.Connection, connect: Any, pool: ThreadPoolExecutor
) -> None:
    held = Held(db, connect)
    answers = [pool.submit(post, api, None, Idempotency_Key="k") for _ in range(4)]
    held.wait_for(1)
    wait_until(lambda: one(db, "select count(*) from pg_locks where not granted") >= 4)
    held.let_go()
    assert len({id_of(answer.result(30)) for answer in answers}) == 1
    assert one(db, "select count(*) from scheduler.run") == 1


def test_a_request_that_failed_leaves_its_key_to_the_next(api: Client, db: psycopg.Connection) -> None:
    bad = b'{"executor": "a", "spec": {"a": 1e999999}}'
    assert post(api, bad, Content_Type="application/json", Idempotency_Key="k").status == 400
    id_of(post(api, Idempotency_Key="k"))


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
def test_a_key_that_is_none_is_refused(api: Client, key: str) -> None:
    answer = post(api, None, Idempotency_Key=key.encode().decode("latin-1"))
    assert answer.status == 400
    assert "Idempotency-Key" in answer.detail


def test_keys_are_forgotten_after_a_day_in_bounded_steps(db: psycopg.Connection) -> None:
    keep = "insert into scheduler.idempotency (app, token, key, kept_at) select 'shop', 't', k::text, %s from {} k"
    db.execute(keep.format("generate_series(1, 10001)"), ["2026-01-01Z"])
    db.execute(keep.format("generate_series(20001, 20002)"), ["2026-01-02Z"])
    forgotten = [one(db, "select scheduler.forget_requests('2026-01-01 12:00Z')") for _ in range(3)]
    assert forgotten == [10_000, 1, 0]
    assert one(db, "select count(*) from scheduler.idempotency") == 2


def test_the_requests_of_a_transaction_that_is_open_are_waited_for(db: psycopg.Connection) -> None:
    assert rows(db, "select digest from scheduler.open_request('shop', 't', 'k')") == []
    db.execute("select scheduler.close_request('shop', 't', 'k', '\\x01', 201, '{}')")
    assert rows(db, "select status, answer from scheduler.open_request('shop', 't', 'k')") == [(201, "{}")]


def test_who_may_not_write_posts_nothing(server: Client, db: psycopg.Connection) -> None:
    reader = server.bearing(make_token(db, "reader", ["read"]))
    elsewhere = server.bearing(make_token(db, "elsewhere", ["write"], ["mail"]))
    assert post(server).status == 401
    assert post(reader).status == 403
    assert post(elsewhere).status == 404
    assert elsewhere("POST", "/api/v1/apps/mail/runs", {"executor": "python"}).status == 201
    assert column(db, "select app from scheduler.run") == ["mail"]


def test_another_type_of_body_is_refused(api: Client) -> None:
    answer = post(api, b"executor=python", Content_Type="application/x-www-form-urlencoded")
    assert answer.status == 415
    assert "application/json" in answer.detail
    assert post(api, json.dumps({"executor": "a" * 5_000_000}).encode(), Content_Type="application/json").status == 413

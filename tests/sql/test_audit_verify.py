"""What somebody does to the audit behind its back is found, and named; an untouched one is never suspected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import closing
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler import db as database
from scheduler.install import SQL_ROOT
from scheduler.store import audit as store
from tests.support.builders import APP, add_job, one
from tests.support.database import Databases

Found = list[tuple[int, int, str, int | None]]
LINE: LiteralString = (
    "scheduler.audit_line(a.app, a.n, a.at, a.role, a.actor, a.action, a.object, a.before, a.after, a.previous)"
)


async def verify(dsn: str, app: str | None = None, kept: bytes | None = None) -> store.Verdict:
    async with await database.connect(dsn, name="test") as conn:
        return await store.verify(conn, app=app, kept=kept)


async def found(dsn: str, kept: bytes | None = None) -> Found:
    verdict = await verify(dsn, APP, kept)
    return [(each.n, each.last, each.finding, each.was) for each in verdict.findings]


def fill(db: psycopg.Connection, count: int = 10) -> None:
    for number in range(1, count + 1):
        add_job(db, f"job {number}")


def tamper(db: psycopg.Connection, *statements: LiteralString) -> None:
    """As a superuser can, whatever the triggers say."""
    with db.transaction():
        db.execute("set local session_replication_role = replica")
        for statement in statements:
            db.execute(statement)


REHASH: LiteralString = "update scheduler.audit a set hash = sha256(convert_to(" + LINE + ", 'UTF8')) where a.n = 4"
ONE_MORE: LiteralString = """
    insert into scheduler.audit
    select app, 11, at, role, actor, action, object, before, after, hash, sha256('x') from scheduler.audit where n = 10
"""
TAMPERED: dict[str, tuple[tuple[LiteralString, ...], Found]] = {
    "who": (("update scheduler.audit set role = 'nobody' where n = 4",), [(4, 4, "edited", None)]),
    "the actor": (("update scheduler.audit set actor = 'me' where n = 4",), [(4, 4, "edited", None)]),
    "when": (("update scheduler.audit set at = at + interval '1 us' where n = 4",), [(4, 4, "edited", None)]),
    "what": (("update scheduler.audit set object = 'job 5' where n = 4",), [(4, 4, "edited", None)]),
    "after": (("""update scheduler.audit set after = '{}' where n = 4""",), [(4, 4, "edited", None)]),
    "before": (("""update scheduler.audit set before = '{}' where n = 4""",), [(4, 4, "edited", None)]),
    "the hash": (("update scheduler.audit set hash = sha256('x') where n = 4",), [(4, 4, "edited", None)]),
    "the first": (("update scheduler.audit set role = 'nobody' where n = 1",), [(1, 1, "edited", None)]),
    "the last": (("update scheduler.audit set role = 'nobody' where n = 10",), [(10, 10, "edited", None)]),
    "an entry and its hash": (
        ("update scheduler.audit set role = 'nobody' where n = 4", REHASH),
        [(4, 4, "rewritten", None)],
    ),
    "one is gone": (("delete from scheduler.audit where n = 4",), [(4, 4, "deleted", None)]),
    "some are gone": (("delete from scheduler.audit where n between 1 and 3 or n = 7",),
                      [(1, 3, "deleted", None), (7, 7, "deleted", None)]),
    "the tail is gone": (("delete from scheduler.audit where n > 7",), [(8, 10, "truncated", None)]),
    "all are gone": (("delete from scheduler.audit",), [(1, 10, "truncated", None)]),
    "two changed places": (
        ("update scheduler.audit set n = -4 where n = 4", "update scheduler.audit set n = 4 where n = 7",
         "update scheduler.audit set n = 7 where n = -4"),
        [(4, 4, "reordered", 7), (7, 7, "reordered", 4)],
    ),
    "neighbours changed places": (
        ("update scheduler.audit set n = -4 where n = 4", "update scheduler.audit set n = 4 where n = 5",
         "update scheduler.audit set n = 5 where n = -4"),
        [(4, 4, "reordered", 5), (5, 5, "reordered", 4)],
    ),
    "one is too many": (
        (ONE_MORE,), [(11, 11, "added", None)],
    ),
    "the head is gone": (("delete from scheduler.audit_head",), [(1, 10, "added", None)]),
    "the head is set back": (("update scheduler.audit_head set n = 8",), [(9, 10, "added", None)]),
    "the head is another": (("update scheduler.audit_head set hash = sha256('x')",), [(10, 10, "rewritten", None)]),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "expected"), TAMPERED.values(), ids=TAMPERED)
async def test_what_was_done_to_a_chain_is_found_and_named(
    db: psycopg.Connection, dsn: str, statements: tuple[LiteralString, ...], expected: Found
) -> None:
    fill(db)
    add_job(db, app="other")
    assert (await verify(dsn)).findings == []
    tamper(db, *statements)
    assert await found(dsn) == expected


async def test_it_is_found_on_either_side_of_a_steps_border(
    db: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FIRST", 3)
    monkeypatch.setattr(store, "_MOST", 3)
    fill(db)
    assert await found(dsn) == []
    tamper(db, "delete from scheduler.audit where n between 3 and 5", REHASH.replace("n = 4", "n = 7"))
    assert await found(dsn) == [(3, 5, "deleted", None)]
    tamper(db, "update scheduler.audit set role = 'nobody' where n = 6", REHASH.replace("n = 4", "n = 6"))
    assert await found(dsn) == [(3, 5, "deleted", None), (6, 6, "rewritten", None)]


async def test_a_chain_that_was_written_anew_as_a_whole_shows_beside_a_head_that_was_kept(
    db: psycopg.Connection, dsn: str
) -> None:
    fill(db, 5)
    kept = one(db, "select hash from scheduler.audit_head")
    fill_more = [add_job(db, f"later {number}") for number in range(3)]
    assert await found(dsn, kept) == [], f"the chain went on behind it: {fill_more}"
    with db.transaction():
        db.execute("set local session_replication_role = replica")
        previous = bytes(32)
        for n in range(1, 9):
            db.execute("update scheduler.audit set role = 'nobody', previous = %s where n = %s", [previous, n])
            line = one(db, "select " + LINE + " from scheduler.audit a where a.n = %s", n)
            previous = hashlib.sha256(line.encode()).digest()
            db.execute("update scheduler.audit set hash = %s where n = %s", [previous, n])
        db.execute("update scheduler.audit_head set hash = %s", [previous])
    assert await found(dsn) == [], "nothing inside tells it"
    assert await found(dsn, kept) == [(0, 0, "unknown head", None)]


async def test_a_step_that_takes_too_long_is_done_in_smaller_ones(
    db: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(db, 200)
    tamper(db, "update scheduler.audit set role = 'nobody' where n = 150")
    # The same line, 10 ms later: 200 at a time take longer than they may, 20 do not.
    text = (SQL_ROOT / "functions/7_history/audit_line.sql").read_text()
    text = text.replace("language sql stable parallel safe", "language plpgsql stable")
    text = re.sub(
        r"as \$\$.*?select (.*?)\n\$\$",
        r"as $$ begin perform pg_sleep(0.01); return \1; end $$",
        text,
        flags=re.DOTALL,
    )
    assert "pg_sleep" in text
    db.execute(text.encode())
    async with await database.connect(dsn, name="test") as conn:
        await conn.execute("set statement_timeout = '1s'")
        verdict = await store.verify(conn, app=APP)
    assert [(each.n, each.finding) for each in verdict.findings] == [(150, "edited")]


CHANGES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["add", "edit", "pause", "remove", "limit"]), st.text(max_size=8)),
    max_size=6,
)


def _change(db: psycopg.Connection, app: str, kind: str, text: str) -> None:
    text = text.replace("\0", "").encode(errors="ignore").decode()
    actions: dict[str, Callable[[], object]] = {
        "add": lambda: db.execute(
            "insert into scheduler.job (app, name, executor, spec)"
            " values (%s, %s, 'x', jsonb_build_object('a', %s::text)) on conflict do nothing",
            [app, text or "-", text],
        ),
        "edit": lambda: db.execute("update scheduler.job set tags = array[%s] where app = %s", [text, app]),
        "pause": lambda: db.execute("select scheduler.pause(%s), scheduler.resume(%s)", [app, app]),
        "remove": lambda: db.execute("delete from scheduler.job where app = %s", [app]),
        "limit": lambda: db.execute("select scheduler.limit_queue(%s, %s, 5)", [app, text or "-"]),
    }
    actions[kind]()


def test_a_history_that_nobody_touched_is_accepted_whatever_it_is(databases: Databases) -> None:
    with databases.fresh() as dsn, closing(psycopg.connect(dsn, autocommit=True)) as db:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(transactions=st.lists(st.tuples(CHANGES, st.booleans()), max_size=4))
        def accepted(transactions: list[tuple[list[tuple[str, str, str]], bool]]) -> None:
            for changes, is_rolled_back in transactions:
                with db.transaction(force_rollback=is_rolled_back):
                    for app, kind, text in changes:
                        _change(db, app, kind, text)
            query: LiteralString = """
                select h.app, v.* from scheduler.audit_heads() h cross join lateral scheduler.verify_audit(h.app) v
            """
            assert db.execute(query).fetchall() == []
            assert db.execute("select from scheduler.audit_heads() h where h.n <> h.last_n").rowcount == 0

        accepted()

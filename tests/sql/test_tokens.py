"""Tokens at rest: what is kept of one, until when it is good, and who is told of the first one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from scheduler import db as opening
from scheduler.errors import ConflictError, InvalidError, NotFoundError
from scheduler.store import access as store
from scheduler.store.access import Token
from scheduler.store.refusal import explained
from scheduler.tokens import digest, new_token
from tests.support.builders import column, one, rows
from tests.support.clock import Clock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    async with await opening.connect(dsn, name="tests") as conn:
        yield conn


async def make(
    conn: Any, name: str = "ci", scopes: tuple[str, ...] = ("write",), apps: Any = None, expires_at: Any = None
) -> str:
    token = new_token()
    await store.create_token(conn, name, digest(token), token[:10], scopes, apps, expires_at)
    return token


async def test_a_token_is_known_by_its_digest_with_its_scopes_and_apps(dsn: str) -> None:
    async with connected(dsn) as conn:
        token, wide = await make(conn, apps=["shop", "billing"]), await make(conn, "ops", ("admin",))
        found = await store.token_of(conn, digest(token))
        assert found == Token("ci", frozenset({"read", "write"}), frozenset({"shop", "billing"}))
        asked = [
            ("read", "shop"),
            ("write", "billing"),
            ("read", "other"),
            ("read", None),
            ("work", "shop"),
            ("admin", "shop"),
        ]
        assert [found.may(*each) for each in asked] == [True, True, False, False, False, False]
        anything = await store.token_of(conn, digest(wide))
        assert anything == Token("ops", frozenset({"read", "write", "work", "admin"}), None)
        assert [anything.may("admin"), anything.may("work", "other")] == [True, True]
        assert await store.token_of(conn, digest(new_token())) is None


async def test_a_token_ends_at_its_instant_and_its_name_is_free_then(dsn: str, clock: Clock) -> None:
    clock.set(NOON)  # seen by sessions that are opened later
    async with connected(dsn) as conn:
        token = await make(conn, expires_at=NOON + timedelta(hours=1))
    clock.advance(timedelta(minutes=59))
    async with connected(dsn) as conn:
        assert await store.token_of(conn, digest(token))
    clock.advance(timedelta(minutes=1))
    async with connected(dsn) as conn:
        assert await store.token_of(conn, digest(token)) is None
        assert [row["state"] for row in await store.tokens(conn)] == ["expired"]
        assert await store.token_of(conn, digest(await make(conn)))
        listed = await store.tokens(conn, gone=True)
    assert [(row["state"], row["revoked_at"]) for row in listed] == [
        ("live", None), ("revoked", NOON + timedelta(hours=1)),
    ]  # fmt: skip


async def test_a_revoked_token_is_unknown_at_once_and_leaves_its_name_but_not_its_row(dsn: str) -> None:
    async with connected(dsn) as conn, connected(dsn) as other:
        token = await make(conn)
        await store.revoke_token(conn, "ci")
        assert await store.token_of(other, digest(token)) is None
        with pytest.raises(psycopg.Error) as refused:
            await store.revoke_token(conn, "ci")
        assert isinstance(explained(refused.value), NotFoundError)
        await make(conn)
        assert len(await store.tokens(conn)) == 1
        assert len(await store.tokens(conn, gone=True)) == 2


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": "taken"}, ConflictError, 'there is a token "taken" already'),
    ({"name": ""}, InvalidError, "name is 1 to 100 characters"),
    ({"scopes": ("read", "root")}, InvalidError, "scopes are read write work or admin"),
    ({"scopes": ()}, InvalidError, "scopes are read write work or admin"),
    ({"apps": []}, InvalidError, "apps are named"),
    ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, InvalidError, "would have expired already"),
]


@pytest.mark.parametrize(("values", "kind", "words"), REFUSED, ids=lambda value: str(value)[:30])
async def test_a_token_that_makes_no_sense_is_refused_in_one_line(
    dsn: str, values: dict[str, Any], kind: type[Exception], words: str
) -> None:
    async with connected(dsn) as conn:
        await make(conn, "taken")
        with pytest.raises(psycopg.Error) as refused:
            await make(conn, **values)
    error = explained(refused.value)
    assert isinstance(error, kind)
    assert words in str(error)


async def test_the_use_of_a_token_is_written_once_a_minute_however_often_it_is_noted(dsn: str, clock: Clock) -> None:
    clock.set(NOON)
    async with connected(dsn) as conn:
        for name in ("busy", "idle"):
            await make(conn, name)
        for _ in range(3):
            await store.note_use(conn, ["busy", "busy", "unknown"])
    version = "select t.xmin::text from scheduler.token t where t.name = 'busy'"
    with psycopg.connect(dsn, autocommit=True) as db:
        assert rows(db, "select t.name, t.last_used_at from scheduler.token t order by t.name") == [
            ("busy", NOON), ("idle", None),
        ]  # fmt: skip
        written = one(db, version)
        db.execute("select scheduler.note_use('{busy}')")
        assert one(db, version) == written, "the row was written again within the minute"
    clock.advance(timedelta(seconds=61))
    async with connected(dsn) as conn:
        await store.note_use(conn, ["busy"])
        assert {row["name"]: row["last_used_at"] for row in await store.tokens(conn)}["busy"] == clock.now


async def test_whoever_notes_a_use_waits_for_nobody(dsn: str, db: psycopg.Connection) -> None:
    async with connected(dsn) as conn:
        await make(conn)
        with db.transaction():
            db.execute("select from scheduler.token for update")
            async with asyncio.timeout(5):
                await store.note_use(conn, ["ci"])
        assert (await store.tokens(conn))[0]["last_used_at"] is None


async def test_nothing_of_a_token_but_its_first_ten_characters_is_in_the_database(
    dsn: str, db: psycopg.Connection
) -> None:
    async with connected(dsn) as conn:
        token = await make(conn)
        listed = await store.tokens(conn)
    (stored,) = column(db, "select t::text from scheduler.token t")
    assert token[:10] in stored
    assert token[10:20] not in stored
    assert not {"hash", "token"} & listed[0].keys()
    assert digest(token).hex() in stored
    assert digest(token).hex() not in str(listed)


async def test_of_servers_that_start_together_one_is_given_the_first_token(dsn: str, db: psycopg.Connection) -> None:
    async def start() -> str | None:
        async with connected(dsn) as conn:
            return await store.first_token(conn)

    # All of them look before the first one has written: it waits for the lock, which this session has.
    with db.transaction():
        db.execute("select pg_advisory_xact_lock(7716805)")
        starting = [asyncio.create_task(start()) for _ in range(4)]
        waiting = (
            "select count(*) from pg_locks l where l.locktype = 'advisory' and l.objid = 7716805 and not l.granted"
        )
        while one(db, waiting) < len(starting):  # noqa: ASYNC110  what is waited for happens in the database
            await asyncio.sleep(0.01)
    given = [token for token in await asyncio.gather(*starting) if token]
    assert len(given) == 1
    async with connected(dsn) as conn:
        found = await store.token_of(conn, digest(given[0]))
        assert found == Token("admin", frozenset({"read", "write", "work", "admin"}), None)


async def test_no_token_is_made_by_itself_once_there_was_one(dsn: str) -> None:
    async with connected(dsn) as conn:
        await make(conn, "mine", ("read",))
        assert await store.first_token(conn) is None
        await store.revoke_token(conn, "mine")
        assert await store.first_token(conn) is None, "to revoke all tokens must not print a new one into a log"

"""Installing the schema, upgrading it, and refusing one that does not fit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from scheduler import db, install
from scheduler.errors import SchemaError
from scheduler.install import SqlFile, SqlTree, State, check, ensure_known, migrate
from tests.support.snapshot import COMMAND, PATH, snapshot

FIRST = SqlFile("0001_thing", "create table scheduler.thing (app text primary key);")
SECOND = SqlFile("0002_color", "alter table scheduler.thing add column color text;")
COUNT = SqlFile(
    "0_ground/count_things",
    "create or replace function scheduler.count_things() returns bigint\n"
    "language sql as $$ select count(*) from scheduler.thing $$;",
)
SMALL = SqlTree((FIRST, SECOND), (COUNT,))
TRIGGER = SqlFile(
    "9_trigger/thing_is_kept",
    "create or replace trigger thing_is_kept before update on scheduler.thing\n"
    "for each row execute function suppress_redundant_updates_trigger();",
)

WAITING = """
    select count(*) from pg_stat_activity a
    where a.datname = current_database() and a.wait_event_type = 'Lock' and a.application_name = 'walclock installer'
"""


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
    async with await db.connect(dsn, name="installer") as conn:
        yield conn


async def one(conn: AsyncConnection[TupleRow], query: str) -> object:
    row = await (await conn.execute(query.encode())).fetchone()
    return row[0] if row else None


async def until(met: Callable[[], Awaitable[object]]) -> None:
    while not await met():  # noqa: ASYNC110  what is waited for happens in the database
        await asyncio.sleep(0.01)


def page(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return snapshot(conn)


async def test_twenty_installers_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    tree = SqlTree.read()

    async def install_it() -> list[str]:
        async with connected(empty_dsn) as conn:
            return await migrate(conn, tree)

    applied = Counter(name for names in await asyncio.gather(*(install_it() for _ in range(20))) for name in names)
    assert applied == Counter([*(each.name for each in tree.migrations), "functions"])


async def test_a_second_install_does_nothing_and_waits_for_nobody(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn, connected(empty_dsn) as busy, busy.transaction():
        await migrate(conn, SMALL)
        before = await one(conn, "select max(m.applied_at) from scheduler.migration m")
        await busy.execute("lock table scheduler.thing in access exclusive mode")
        await busy.execute("lock table scheduler.migration in exclusive mode")
        assert await migrate(conn, SMALL) == []
        assert await one(conn, "select max(m.applied_at) from scheduler.migration m") == before


async def test_an_upgrade_applies_what_is_new_and_all_functions(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        assert await migrate(conn, SqlTree((FIRST,), ())) == ["0001_thing", "functions"]
        assert await check(conn, SMALL) is State.OLDER
        assert await migrate(conn, SMALL) == ["0002_color", "functions"]
        assert await check(conn, SMALL) is State.CURRENT
        assert await one(conn, "select scheduler.count_things()") == 0


async def test_an_edited_function_is_applied_again_without_any_migration(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        await migrate(conn, SMALL)
        edited = replace(COUNT, text=COUNT.text.replace("count(*)", "count(*) + 1"))
        assert await migrate(conn, SqlTree((FIRST, SECOND), (edited,))) == ["functions"]
        assert await one(conn, "select scheduler.count_things()") == 1


async def test_a_schema_upgraded_step_by_step_equals_a_fresh_one(dsn: str, empty_dsn: str) -> None:
    tree = SqlTree.read()
    async with connected(empty_dsn) as conn:
        for count in range(len(tree.migrations)):
            await migrate(conn, SqlTree(tree.migrations[:count], ()))
        await migrate(conn, tree)
    assert page(empty_dsn) == page(dsn)


async def test_a_schema_whose_functions_are_applied_over_themselves_equals_a_fresh_one(
    dsn: str, empty_dsn: str
) -> None:
    tree = SqlTree.read()
    edited = (*tree.functions[:-1], replace(tree.functions[-1], text=tree.functions[-1].text + "\n-- edited"))
    async with connected(empty_dsn) as conn:
        await migrate(conn, tree)
        await migrate(conn, replace(tree, functions=edited))
    assert page(empty_dsn) == page(dsn)


def test_the_snapshot_for_reviewers_is_current(dsn: str) -> None:
    assert PATH.read_text(encoding="utf-8") == page(dsn), f"the schema changed; run `{COMMAND}` and commit the file"


async def test_a_changed_checksum_of_an_applied_migration_is_refused_by_name(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        await migrate(conn, SMALL)
        edited = SqlTree((replace(FIRST, text=FIRST.text + " -- edited"), SECOND), (COUNT,))
        for ask in (migrate, check, ensure_known):
            with pytest.raises(SchemaError, match="migration 0001_thing is not the one that was applied"):
                await ask(conn, edited)


@pytest.mark.parametrize("broken", ["migration", "function"])
async def test_a_failed_install_leaves_nothing_and_names_file_and_line(empty_dsn: str, broken: str) -> None:
    wrong = "create table scheduler.good (app text primary key);\n\ncreate tabel scheduler.bad ();"
    trees = {
        "migration": (SqlTree((FIRST, SqlFile("0002_bad", wrong)), ()), r"0002_bad\.sql:3: syntax error"),
        "function": (SqlTree((FIRST,), (SqlFile("3_claim/bad", wrong),)), r"3_claim/bad\.sql:3: syntax error"),
    }
    tree, message = trees[broken]
    async with connected(empty_dsn) as conn:
        with pytest.raises(SchemaError, match=message):
            await migrate(conn, tree)
        assert await one(conn, "select to_regnamespace('scheduler')") is None
        assert await check(conn, tree) is State.ABSENT


async def test_a_failed_upgrade_leaves_the_schema_as_it_was(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        await migrate(conn, SMALL)
        bad = SqlFile("0003_bad", "alter table scheduler.thing drop column color; select 1 / 0;")
        with pytest.raises(SchemaError, match="division by zero"):
            await migrate(conn, SqlTree((FIRST, SECOND, bad), (COUNT,)))
        assert await check(conn, SMALL) is State.CURRENT


async def test_a_file_that_forgets_the_schema_name_fails_instead_of_littering(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        with pytest.raises(SchemaError, match=r"0001_thing\.sql"):
            await migrate(conn, SqlTree((SqlFile("0001_thing", "create table thing (app text primary key);"),), ()))


async def test_a_newer_schema_is_refused_by_everyone(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        await migrate(conn, SMALL)
        older = SqlTree((FIRST,), (COUNT,))
        assert await check(conn, older) is State.NEWER
        for ask in (migrate, ensure_known):
            with pytest.raises(SchemaError, match=r"newer than this program.*migration 1.*upgrade walclock here"):
                await ask(conn, older)


async def test_an_absent_or_older_schema_is_refused_with_the_way_out(empty_dsn: str) -> None:
    async with connected(empty_dsn) as conn:
        with pytest.raises(SchemaError, match=r"no scheduler schema.*run `scheduler migrate`"):
            await ensure_known(conn, SMALL)
        await migrate(conn, SqlTree((FIRST,), ()))
        with pytest.raises(SchemaError, match=r"older than this program.*run `scheduler migrate`"):
            await ensure_known(conn, SMALL)
        await migrate(conn, SMALL)
        await ensure_known(conn, SMALL)


async def test_an_old_server_is_refused(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "OLDEST_POSTGRES", 99)
    async with connected(empty_dsn) as conn:
        with pytest.raises(SchemaError, match=r"the server is PostgreSQL \d\d .*PostgreSQL 99 or later is needed"):
            await migrate(conn)


async def test_a_role_without_rights_is_told_so(dsn: str) -> None:
    async with connected(dsn) as conn, conn.transaction(force_rollback=True):
        await conn.execute("create role walclock_test_nobody")
        await conn.execute("set role walclock_test_nobody")
        with pytest.raises(SchemaError, match=r"cannot be read.*permission denied"):
            await check(conn)


async def test_an_upgrade_gets_a_busy_table_by_trying_again(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_BEGIN", install._BEGIN.replace("'5s'", "'100ms'"))
    async with connected(empty_dsn) as conn, connected(empty_dsn) as busy:
        await migrate(conn, SMALL)

        async def waits() -> bool:
            return await one(busy, WAITING) == 1

        async def waits_no_more() -> bool:
            return not await waits()

        async with busy.transaction():
            await busy.execute("lock table scheduler.thing in row exclusive mode")
            upgrade = asyncio.create_task(migrate(conn, SqlTree((FIRST, SECOND), (COUNT, TRIGGER))))
            await until(waits)
            await until(waits_no_more)
        assert await upgrade == ["functions"]


async def test_a_table_that_stays_locked_is_reported_and_nothing_changes(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_BEGIN", install._BEGIN.replace("'5s'", "'20ms'"))
    monkeypatch.setattr(install, "_LOCK_TRIES", 2)
    async with connected(empty_dsn) as conn, connected(empty_dsn) as busy, busy.transaction():
        await migrate(conn, SMALL)
        await busy.execute("lock table scheduler.thing in row exclusive mode")
        with pytest.raises(SchemaError, match="somebody keeps a table of it locked"):
            await migrate(conn, SqlTree((FIRST, SECOND), (COUNT, TRIGGER)))
        assert await check(conn, SMALL) is State.CURRENT


def test_migrations_are_numbered_without_gaps() -> None:
    migrations = SqlTree.read().migrations
    assert [each.version for each in migrations] == list(range(1, len(migrations) + 1))

"""The database's roles: what each may do, what none may, and how they are made and kept up to date."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Identifier

from scheduler import db as opening
from scheduler.errors import SchemaError
from scheduler.install import SqlFile, SqlTree, State, check, grant_roles, migrate
from tests.support.builders import add_job, add_run, add_worker, claim, column, one, rows
from tests.support.database import Databases
from tests.support.roles import logged_in, make_roles

pytestmark = pytest.mark.direct("takes other roles within a session")

READ = ("job", "job_schedule", "fire", "run", "lease", "history", "log", "runs", "server", "worker", "owner", "app")


@pytest.fixture
def with_roles(dsn: str) -> str:
    """The test's database, with the roles."""
    make_roles(dsn)
    return dsn


def session(role: str) -> Any:
    @pytest.fixture(name=role)
    def open_one(with_roles: str) -> Iterator[psycopg.Connection]:
        with logged_in(with_roles, f"scheduler_{role}") as conn:
            yield conn

    return open_one


reader, producer, worker, admin = session("reader"), session("producer"), session("worker"), session("admin")


def may_not(conn: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(InsufficientPrivilege):
            conn.execute(statement.encode())


def test_a_reader_sees_definitions_and_runs_and_changes_nothing(
    reader: psycopg.Connection, db: psycopg.Connection
) -> None:
    add_job(db)
    add_run(db)
    assert column(reader, "select r.state from scheduler.runs r") == ["pending"]
    assert column(reader, "select j.name from scheduler.job j") == ["nightly"]
    for table in READ:
        reader.execute(f"select * from scheduler.{table}".encode())
        if table != "runs":
            may_not(reader, f"delete from scheduler.{table}", f"insert into scheduler.{table} default values")
    may_not(
        reader,
        "select t.name from scheduler.token t",
        "select r.apps from scheduler.restriction r",
        "update scheduler.job set queue = 'other'",
        "select scheduler.enqueue('shop', 'python')",
        "select scheduler.cancel('shop', 1)",
        "select scheduler.pause('shop')",
        "select scheduler.claim('shop', 1)",
    )


def test_a_producer_writes_runs_in_every_way_and_takes_them_back(
    producer: psycopg.Connection, db: psycopg.Connection
) -> None:
    add_job(db)
    run = one(producer, "insert into scheduler.run (app, executor, unique_key) values ('shop', 'x', 'k') returning id")
    assert one(producer, "select scheduler.enqueue('shop', 'x', unique_key => 'k')") == run
    with producer.cursor().copy("copy scheduler.run (app, executor) from stdin") as copy:
        copy.write("shop\tx\n" * 3)
    one(producer, "select scheduler.trigger('shop', 'nightly')")
    assert one(producer, "select scheduler.cancel('shop', %s)", run) is True
    again = one(producer, "select scheduler.retry('shop', %s)", run)
    lease, held = claim(db, add_worker(db), limit=10)
    assert again in held
    assert one(producer, "select scheduler.cancel('shop', %s)", again) is True
    assert one(db, "select l.cancel from scheduler.lease l where l.id = %s", lease) == [again]
    states = dict(rows(producer, "select r.state, count(*) from scheduler.runs r group by r.state"))
    assert states == {"running": 5, "cancelled": 1}
    may_not(
        producer,
        "delete from scheduler.run",
        "update scheduler.run set priority = 0",
        "insert into scheduler.run (app, executor, scheduled_at) values ('shop', 'x', now())",
        "insert into scheduler.run (app, executor, attempt) values ('shop', 'x', 2)",
        "delete from scheduler.run_key",
        "delete from scheduler.lease",
        "insert into scheduler.history (app) values ('shop')",
        "insert into scheduler.job (app, name, executor) values ('shop', 'mine', 'x')",
        "select scheduler.pause('shop')",
        "select scheduler.claim('shop', 1)",
        "select scheduler.finish('shop', 1, 1)",
        "select t.hash from scheduler.token t",
    )


def test_a_hint_of_a_producers_run_reaches_who_awaits_it(producer: psycopg.Connection, db: psycopg.Connection) -> None:
    db.execute("listen scheduler_run")
    db.execute("select scheduler.await_hints('{shop}')")
    producer.execute("insert into scheduler.run (app, executor) values ('shop', 'x')")
    assert [hint.payload for hint in db.notifies(timeout=10, stop_after=1)] == ["shop\tdefault"]


def test_a_worker_has_the_protocol_and_sees_no_run_that_it_did_not_claim(
    worker: psycopg.Connection, db: psycopg.Connection
) -> None:
    runs = [add_run(db, spec='{"a": 1}', unique_key=f"k{n}") for n in range(4)]
    me = one(worker, "select scheduler.register_worker('w')")
    assert column(worker, "select d.queue from scheduler.next_due() d") == ["default"]
    worker.execute("select scheduler.await_hints('{shop}')")
    query = "select c.lease, c.id from scheduler.claim('shop', %s, p_limit => 4, p_begin => false) c"
    taken = rows(worker, query, me)
    lease = taken[0][0]
    assert [run for _, run in taken] == runs
    assert one(worker, "select scheduler.begin('shop', %s, %s)", me, lease) == []
    worker.execute("select scheduler.heartbeat(%s)", [me])
    assert one(worker, "select l.lease from scheduler.leases_of(%s) l", me) == lease
    assert rows(worker, "select * from scheduler.pulses_of(%s)", me) == []
    worker.execute(
        "select scheduler.append_log('shop', %s, array[1::smallint], '{1}', array[now()], '{out}', '{hello}')",
        [runs[:1]],
    )
    ended = "select scheduler.finish('shop', %s, %s, %s, %s)"
    assert one(worker, ended, me, lease, runs[:2], ["succeeded", "failed"]) == 2
    assert one(worker, "select scheduler.release('shop', %s, %s, %s)", me, lease, runs[2:3]) == 1
    assert one(worker, "select scheduler.finish('shop', %s, %s)", me, lease) == 1
    worker.execute("select scheduler.retire_worker(%s)", [me])
    assert sorted(column(db, "select r.state from scheduler.runs r")) == [
        "pending",
        "pending",
        "succeeded",
        "succeeded",
    ]
    may_not(
        worker,
        "select r.spec from scheduler.run r",
        "select r.spec from scheduler.runs r",
        "select l.runs from scheduler.lease l",
        "select h.spec from scheduler.history h",
        "select l.text from scheduler.log l",
        "insert into scheduler.run (app, executor) values ('shop', 'x')",
        "update scheduler.worker set seen_at = now()",
        "select scheduler.enqueue('shop', 'x')",
        "select scheduler.cancel('shop', 1)",
        "select scheduler.reclaim('0')",
        "select scheduler.create_token('x', sha256('x'), 'x', '{admin}')",
    )


def test_an_admin_defines_pauses_limits_and_makes_tokens_but_cannot_change_the_schema(
    admin: psycopg.Connection, db: psycopg.Connection
) -> None:
    admin.execute("insert into scheduler.job (app, name, executor, schedule) values ('shop', 'nightly', 'x', '@daily')")
    admin.execute("update scheduler.job set queue = 'mail'")
    assert one(admin, "select scheduler.pause('shop', 'nightly')") is True
    assert one(admin, "select scheduler.pause('shop')") is True
    assert one(admin, "select scheduler.resume('shop')") is True
    admin.execute("select scheduler.limit_queue('shop', 'mail', 2)")
    admin.execute("select scheduler.create_token('ci', sha256('x'), 'x', '{read}')")
    admin.execute("select scheduler.revoke_token('ci')")
    admin.execute("select scheduler.remove_job('shop', 'nightly')")
    assert one(db, "select count(*) from scheduler.job") == 0
    may_not(
        admin,
        "create table scheduler.mine ()",
        "create function scheduler.mine() returns int language sql as 'select 1'",
        "create trigger mine before insert on scheduler.run execute function suppress_redundant_updates_trigger()",
        "alter table scheduler.run add column mine int",
        "truncate scheduler.history",
        "drop function scheduler.clock()",
        "update scheduler.migration set checksum = ''",
        "delete from scheduler.restriction",
        "create role mine",
    )


def test_nobody_may_anything_without_a_role(with_roles: str, db: psycopg.Connection) -> None:
    with logged_in(with_roles) as stranger:
        may_not(stranger, "select scheduler.clock()", "select from scheduler.runs")
    open_to_all = column(
        db,
        """
        select p.proname from pg_proc p
        cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace = 'scheduler'::regnamespace and a.grantee = 0
        """,
    )
    assert open_to_all == ["apps_allowed"]
    tables = column(
        db,
        """
        select c.relname from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.relnamespace = 'scheduler'::regnamespace and a.grantee = 0
        """,
    )
    assert tables == []


async def test_the_roles_are_made_where_they_are_missing_and_an_upgrade_keeps_their_rights_up_to_date(
    empty_dsn: str,
) -> None:
    role = f"walclock_test_made_{os.getpid()}"
    grants = f"revoke all on all tables in schema scheduler from {role}; grant usage on schema scheduler to {role};"
    tree = SqlTree.read()
    public = next(one for one in tree.grants if one.name == "public")
    first = replace(tree, grants=(public, SqlFile(role, f"{grants} grant delete on scheduler.run to {role};")))
    later = replace(tree, grants=(public, SqlFile(role, f"{grants} grant select on scheduler.run to {role};")))
    rights = (
        "select array_agg(a.privilege_type) from pg_class c, aclexplode(c.relacl) a"
        f" where c.oid = 'scheduler.run'::regclass and a.grantee = '{role}'::regrole"
    )
    async with await opening.connect(empty_dsn, name="installer") as conn:
        try:
            await migrate(conn, first)
            assert await grant_roles(conn, first) == [role]
            assert await grant_roles(conn, first) == []
            assert await (await conn.execute(rights.encode())).fetchone() == (["DELETE"],)
            assert await check(conn, later) is State.OLDER
            await migrate(conn, later)
            assert await (await conn.execute(rights.encode())).fetchone() == (["SELECT"],)
        finally:
            await conn.execute(f"drop owned by {role}".encode())
            await conn.execute(f"drop role {role}".encode())


async def test_a_role_of_another_database_gets_nothing_here_by_an_upgrade(dsn: str, empty_dsn: str) -> None:
    async with await opening.connect(dsn, name="installer") as conn:
        await grant_roles(conn)
    async with await opening.connect(empty_dsn, name="installer") as conn:
        await migrate(conn)
        found = await conn.execute("select has_schema_privilege('scheduler_reader', 'scheduler', 'usage')")
        assert await found.fetchone() == (False,)


async def test_without_the_right_to_make_roles_the_schema_is_installed_and_the_rest_is_told_in_a_line(
    empty_dsn: str, dsn: str, databases: Databases
) -> None:
    owner = f"walclock_test_owner_{os.getpid()}"
    missing = f"walclock_test_missing_{os.getpid()}"
    tree = SqlTree.read()
    with psycopg.connect(databases.server, autocommit=True) as superuser:
        superuser.execute(f"create role {owner} login".encode())
        allowed = SQL("grant create on database {} to {}")
        superuser.execute(allowed.format(Identifier(str(conninfo_to_dict(empty_dsn)["dbname"])), Identifier(owner)))
        try:
            poor = make_conninfo(empty_dsn, options=f"-c role={owner}")
            async with await opening.connect(poor, name="installer") as conn:
                await migrate(conn)
                more = replace(tree, grants=(*tree.grants, SqlFile(missing, "")))
                await migrate(conn, more)
                with pytest.raises(SchemaError, match=rf"no role was made.*create role {missing} nologin") as refused:
                    await grant_roles(conn, more)
                assert "\n" not in str(refused.value)
                await asyncio.to_thread(make_roles, dsn)  # as somebody with the right has done
                await migrate(conn, tree)
                assert await grant_roles(conn, tree) == []
        finally:
            with psycopg.connect(empty_dsn, autocommit=True) as db:
                db.execute(f"drop owned by {owner} cascade".encode())
            superuser.execute(f"drop role {owner}".encode())

"""What a statement of the `sql` executor may not do, with a login of its own in the scheduler's own database.

That is the worst place for it. A login in another database reaches even less.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.calls import call
from tests.support.database import Databases
from tests.support.fleet import Fleet, wait_until
from tests.support.logins import login
from tests.support.pids import until
from tests.support.pooler import pooler
from worker.executors import ExecutionFailed, Settings
from worker.executors.sql import SqlExecutor

pytestmark = pytest.mark.direct("a login of its own, which the tests' pooler replaces by its own")
EXECUTOR = SqlExecutor(Settings())

# The statement, and words of the server's refusal. {owner} is the role that owns the scheduler's tables.
REFUSED = [
    # to become somebody else
    ("set role {owner}", "permission denied to set role"),
    ("select set_config('role', '{owner}', false)", "permission denied to set role"),
    ("set session authorization {owner}", "permission denied to set session authorization"),
    ("set local session authorization {owner}", "permission denied to set session authorization"),
    ("reset role; select from scheduler.job", "permission denied for schema scheduler"),
    ("reset session authorization; select from scheduler.job", "permission denied for schema scheduler"),
    ("grant {owner} to current_user", "permission denied|must have admin option"),
    ("create role mallory superuser", "permission denied|must be superuser"),
    ("alter role current_user superuser", "permission denied|must be superuser"),
    ("alter role current_user createrole", "permission denied"),
    ("alter role {owner} password 'x'", "permission denied|must be superuser"),
    ("grant pg_execute_server_program to current_user", "permission denied|must have admin option"),
    # to read and to write what is the scheduler's
    ("select * from scheduler.job", "permission denied for schema scheduler"),
    ("select * from scheduler.run", "permission denied for schema scheduler"),
    ("select * from scheduler.runs", "permission denied for schema scheduler"),
    ("select * from scheduler.history", "permission denied for schema scheduler"),
    ("select * from scheduler.log", "permission denied for schema scheduler"),
    ("insert into scheduler.run (app, executor) values ('shop', 'shell')", "permission denied for schema scheduler"),
    ("copy scheduler.run (app, executor) to stdout", "permission denied for schema scheduler"),
    ("update scheduler.lease set worker = 1", "permission denied for schema scheduler"),
    ("truncate scheduler.run", "permission denied for schema scheduler"),
    ("lock table scheduler.run", "permission denied for schema scheduler"),
    ("create table scheduler.more ()", "permission denied for schema scheduler"),
    ("drop schema scheduler cascade", "must be owner of schema scheduler"),
    ("alter schema scheduler rename to gone", "must be owner of schema scheduler"),
    ("grant usage on schema scheduler to current_user", "permission denied for schema scheduler"),
    ("select scheduler.enqueue('shop', 'shell', '{{}}')", "permission denied for schema scheduler"),
    ("select scheduler.cancel('shop', 1)", "permission denied for schema scheduler"),
    ("select * from scheduler.claim(1, 'shop', 'default', 1)", "permission denied for schema scheduler"),
    ("create trigger x before insert on scheduler.run execute function now()", "permission denied for schema"),
    ("create temp view v as select * from scheduler.run", "permission denied for schema scheduler"),
    ("do $$ begin execute 'select * from scheduler.run'; end $$", "permission denied for schema scheduler"),
    ("select 1; select 2; select * from scheduler.run", "permission denied for schema scheduler"),
    ("/* x */ with w as (select * from scheduler.run) select * from w", "permission denied for schema scheduler"),
    ("table pg_authid", "permission denied for table pg_authid"),
    ("select passwd from pg_shadow", "permission denied for view pg_shadow"),
    ("table pg_hba_file_rules", "permission denied for view pg_hba_file_rules"),
    # to get out of the database
    ("copy (select 1) to program 'touch {canary}'", "permission denied to COPY to or from an external program|must be"),
    ("create temp table t (x text); copy t from program 'touch {canary}'", "permission denied to COPY|must be"),
    ("copy (select 1) to '{canary}'", "permission denied to COPY to a file|must be"),
    ("create temp table t (x text); copy t from '/etc/passwd'", "permission denied to COPY from a file|must be"),
    ("select pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
    ("select pg_read_binary_file('/etc/passwd')", "permission denied for function pg_read_binary_file"),
    ("select pg_ls_dir('/')", "permission denied for function pg_ls_dir"),
    ("select pg_stat_file('/etc/passwd')", "permission denied for function pg_stat_file"),
    ("select pg_ls_logdir()", "permission denied for function pg_ls_logdir"),
    ("select lo_import('/etc/passwd')", "permission denied for function lo_import"),
    ("select lo_export(lo_create(0), '{canary}')", "permission denied for function lo_export"),
    ("load '/tmp/anything'", "access to library|could not access file"),
    (
        "create function pg_temp.f(text) returns int language c as 'libc.so.6', 'system'",
        "permission denied for language c",
    ),
    ("create function pg_temp.f() returns int language internal as 'int4in'", "denied for language internal"),
    ("create extension dblink", "permission denied to create extension|is not available"),
    ("create extension postgres_fdw", "permission denied to create extension|is not available"),
    ("create extension file_fdw", "permission denied to create extension|is not available"),
    ("create extension plpython3u", "permission denied to create extension|is not available"),
    ("select dblink_connect('host=127.0.0.1')", "does not exist"),
    ("create foreign data wrapper w", "permission denied to create foreign-data wrapper"),
    (
        "create subscription s connection 'host=127.0.0.1' publication p with (connect = false)",
        "permission denied to create subscription|must be superuser",
    ),
    # to change the server, or other sessions
    ("alter system set log_statement = 'none'", "permission denied|cannot run inside a transaction block"),
    ("set session_replication_role = replica", "permission denied to set parameter"),
    ("set log_statement = 'none'", "permission denied to set parameter"),
    ("set log_min_messages = 'panic'", "permission denied to set parameter"),
    ("select pg_reload_conf()", "permission denied for function pg_reload_conf"),
    ("select pg_rotate_logfile()", "permission denied for function pg_rotate_logfile"),
    ("select pg_switch_wal()", "permission denied for function pg_switch_wal"),
    ("select pg_terminate_backend({pid})", "permission denied to terminate process|must be a"),
    ("select pg_cancel_backend({pid})", "permission denied to cancel query|must be a"),
    ("alter database {database} set search_path = pg_temp", "must be owner of database"),
    ("alter database {database} connection limit 0", "must be owner of database"),
    ("create event trigger e on ddl_command_start execute function now()", "permission denied to create event|must"),
    # to put something in the way of others
    ("create table public.run ()", "permission denied for schema public"),
    ("create function public.clock() returns int language sql as 'select 1'", "permission denied for schema public"),
    ("create operator public.= (leftarg = int, rightarg = int, function = int4eq)", "denied for schema public"),
    ("create schema evil", "permission denied for database"),
    ("create function pg_catalog.clock() returns int language sql as 'select 1'", "denied for schema pg_catalog"),
    # to leave the transaction
    ("commit", "ended its transaction by itself"),
    ("rollback", "ended its transaction by itself"),
    ("select 1; commit; select 2", "ended its transaction by itself"),
    ("abort; set statement_timeout = 0", "ended its transaction by itself"),
    ("prepare transaction 'left'", "prepared transactions are disabled|ended its transaction by itself"),
]  # fmt: skip
# Allowed to everybody by PostgreSQL; gone when the run has ended.
PASSING = [
    "set statement_timeout = 0",
    "set session statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0",
    "select set_config('statement_timeout', '0', false)",
    "set search_path = pg_temp, public",
    "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set application_name = 'walclock reports'",
    "set default_transaction_read_only = on",
    "set scheduler.run_id = '1'; set scheduler.fence = '999999999'",
    "create temp table run (x int); create temp table job (x int)",
    "create function pg_temp.now() returns int language sql as 'select 1'",
    "select pg_advisory_lock(7716804)",
    "select pg_advisory_lock(7716801, 1), pg_advisory_lock(42)",
    "listen scheduler_run",
    "declare c cursor with hold for select 1",
    "prepare p as select 1",
    "begin",
    "savepoint s; rollback to savepoint s",
    "commit and chain",
    "rollback and chain; set statement_timeout = 0; commit and chain",
    "set constraints all deferred",
    "notify scheduler_run, 'shop\tdefault'",
    "select pg_notify('scheduler_plan', 'shop')",
]
STATE = """
    select current_setting('statement_timeout') as timeout, current_setting('search_path') as path,
        current_setting('timezone') as zone, current_setting('default_transaction_read_only') as read_only,
        current_setting('application_name') as name, current_setting('scheduler.run_id') as run,
        current_setting('scheduler.fence') as fence, current_setting('lock_timeout') as lock_timeout,
        to_regclass('pg_temp.run')::text as temporary, to_regprocedure('pg_temp.now()')::text as function,
        (select count(*) from pg_prepared_statements where name = 'p') as prepared,
        (select count(*) from pg_cursors where name = 'c') as cursors,
        (select count(*) from pg_listening_channels()) as channels,
        (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks
"""


@pytest.fixture(scope="module")
def tenant(databases: Databases) -> Iterator[str]:
    with login(databases.server, f"tenant_{os.getpid()}_{uuid.uuid4().hex[:8]}", password="hush-hush") as dsn:
        yield dsn


@pytest.fixture
def named(tenant: str, direct_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A named database: the scheduler's own, with the tenant's login."""
    dsn = make_conninfo(tenant, dbname=conninfo_to_dict(direct_dsn)["dbname"])
    monkeypatch.setenv("SCHEDULER_SQL_DSN_SHOP", dsn)
    return dsn


async def run(sql: str, **more: Any) -> Any:
    return await EXECUTOR.execute(call({"dsn": "shop", "sql": sql} | more))


async def refusal(sql: str, **more: Any) -> str:
    with pytest.raises(ExecutionFailed) as caught:
        await run(sql, **more)
    return str(caught.value)


def test_no_escape_leads_anywhere(named: str, db: psycopg.Connection, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    tmp_path.chmod(0o777)
    ((owner,),) = db.execute("select quote_ident(current_user)").fetchall()
    filled = {"owner": owner, "canary": canary, "pid": db.info.backend_pid, "database": f'"{db.info.dbname}"'}

    async def all_of_them() -> None:
        for sql, words in REFUSED:
            said = await refusal(sql.format(**filled))
            assert any(word in said for word in words.split("|")), f"{sql}: {said}"
            assert not canary.exists(), sql

    asyncio.run(all_of_them())
    assert db.execute("select count(*) from scheduler.run").fetchone() == (0,)
    assert db.execute("select rolsuper, rolcreaterole from pg_roles where rolname = 'mallory'").fetchone() is None


def test_nothing_that_a_run_leaves_behind_meets_the_next_one(named: str, db: psycopg.Connection) -> None:
    async def all_of_them() -> None:
        clean = await run(STATE)
        assert clean["rows"][0]["timeout"] == "3601s"
        assert (clean["rows"][0]["run"], clean["rows"][0]["locks"]) == ("7", 0)
        for sql in PASSING:
            await run(sql)
            assert await run(STATE) == clean, sql
        # Its own defaults are a login's to change, but not those that a run is given.
        await run("alter role current_user set statement_timeout = 0")
        assert await run(STATE) == clean

    asyncio.run(all_of_them())
    # Connections end a moment after they were closed.
    left = "select count(*) from pg_stat_activity where usename = %s"
    wait_until(lambda: db.execute(left, [conninfo_to_dict(named)["user"]]).fetchone() == (0,))
    assert db.execute("select pg_try_advisory_lock(7716804), pg_try_advisory_lock(42)").fetchone() == (True, True)


def test_other_peoples_statements_are_not_seen(named: str, db: psycopg.Connection) -> None:
    rows = asyncio.run(run(f"select query from pg_stat_activity where pid = {db.info.backend_pid}"))["rows"]
    assert rows == [{"query": "<insufficient privilege>"}]


def test_a_statement_that_lifts_its_own_limit_still_ends_with_its_run(named: str, db: psycopg.Connection) -> None:
    async def cancelled() -> None:
        running = asyncio.ensure_future(run("set statement_timeout = 0; select pg_sleep(600)"))
        seen = (
            "select count(*) from pg_stat_activity where query like 'set statement_timeout = 0%' and state = 'active'"
        )
        await until(lambda: db.execute(seen).fetchone() == (1,))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: db.execute(seen).fetchone() == (0,))

    asyncio.run(cancelled())


@pytest.mark.parametrize("option", ["", "-c role={tenant}"])
def test_a_login_that_owns_the_schedulers_tables_is_refused(
    named: str, direct_dsn: str, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Also when it has put on another role, which `reset role` takes off."""
    option = option.format(tenant=conninfo_to_dict(named)["user"])
    monkeypatch.setenv("SCHEDULER_SQL_DSN_SHOP", make_conninfo(direct_dsn, options=option))
    said = asyncio.run(refusal("reset role; select * from scheduler.run"))
    assert said.startswith("dsn 'shop' logs in as '")
    assert said.endswith("', who owns the scheduler's own tables: give it a login of its own")


def test_a_member_of_the_owner_is_refused(named: str, db: psycopg.Connection) -> None:
    user = conninfo_to_dict(named)["user"]
    db.execute("create role walclock_owner_of_tables")
    try:
        db.execute("alter table scheduler.lease owner to walclock_owner_of_tables")
        assert asyncio.run(run("select 1 as one"))["rows"] == [{"one": 1}]
        db.execute(f"grant walclock_owner_of_tables to {user}".encode())
        assert "who owns the scheduler's own tables" in asyncio.run(refusal("select 1"))
    finally:
        db.execute("drop owned by walclock_owner_of_tables cascade")
        db.execute("drop role walclock_owner_of_tables")


def test_a_forged_notification_cancels_nothing(named: str, fleet: Fleet) -> None:
    worker = fleet.start(env={"SCHEDULER_HEARTBEAT": "20", "SCHEDULER_DEAD_AFTER": "60"})
    number = fleet.worker(worker)["id"]
    (forged, asked) = fleet.insert("nap", {"seconds": 8}, count=2)
    wait_until(lambda: fleet.row(forged)["state"] == fleet.row(asked)["state"] == "running")
    asyncio.run(run(f"select pg_notify('scheduler_cancel', '{number} {forged}') from generate_series(1, 500)"))
    fleet.db.execute("select scheduler.cancel('default', %s)", [asked])
    fleet.wait_for([asked], "cancelled", 7)  # sooner than by the next heartbeat of its own
    fleet.wait_for([forged])


@pytest.mark.parametrize(
    "left",
    [
        "set search_path = pg_temp, public; set statement_timeout = 0",
        "create temp table run (x int)",
        "select pg_advisory_lock(42), pg_advisory_lock_shared(43)",
        "select pg_advisory_lock(42); select 1 / 0",
        "listen scheduler_run",
        "declare c cursor with hold for select 1",
        "prepare p as select 1",
        "set session authorization pg_monitor",
        "set role pg_monitor",
    ],
)
def test_a_backend_of_a_pooler_is_left_as_it_was(
    databases: Databases, empty_dsn: str, monkeypatch: pytest.MonkeyPatch, one_backend: str, left: str
) -> None:
    monkeypatch.setenv(
        "SCHEDULER_SQL_DSN_SHOP", make_conninfo(one_backend, dbname=conninfo_to_dict(empty_dsn)["dbname"])
    )
    state = STATE.replace("select current_setting", "select session_user, current_user, current_setting", 1)
    backend = "select pg_backend_pid() as pid"

    async def two_runs() -> None:
        clean, before = await run(state), await run(backend)
        if "1 / 0" in left:
            assert "division by zero" in await refusal(left)  # and the pooler ends the backend
        else:
            await run(left)
            assert await run(backend) == before
        assert await run(state) == clean

    asyncio.run(two_runs())


@pytest.fixture(scope="module")
def one_backend(databases: Databases) -> Iterator[str]:
    """A pooler with one backend a database: who comes next meets what was left."""
    with pooler(databases.server, size=1) as dsn:
        yield dsn

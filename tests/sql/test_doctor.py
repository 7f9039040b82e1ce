"""The doctor finds each ailment that is planted, says the remedy, and survives checks that fail."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from scheduler import db as database
from scheduler.doctor import Finding, Limits, Report, examine, settings
from scheduler.doctor.examine import INSTALLED, attempt
from scheduler.errors import ConfigError
from scheduler.session import Session
from scheduler.store import watch
from scheduler.store.watch import ailments
from tests.conftest import Connect
from tests.support.builders import APP, add_job, add_run, add_server, add_worker, claim, finish, one, own
from tests.support.clock import Clock
from tests.support.jobs import NOON, plan_once, schedule

ROOT = Path(__file__).parents[2]
TESTS = ("tests/sql/test_doctor.py", "tests/process/test_doctor_processes.py", "tests/process/test_pooler.py")
CARELESS = {"full_page_writes_off", "synchronous_commit_off"}
"""What is wrong with the server that tests run on; it is thrown away."""


async def report(dsn: str, **limits: Any) -> Report:
    async with await database.connect(dsn, name="doctor", statement_timeout=5) as conn:
        return await examine(conn, Limits(**limits))


async def findings(dsn: str, **limits: Any) -> dict[str, Finding]:
    """By code, but for what ails the server of the tests."""
    found = (await report(dsn, **limits)).findings
    return {finding.code: finding for finding in found if finding.code not in CARELESS}


async def test_a_new_database_lacks_nothing_but_the_partitions_that_a_server_makes(dsn: str) -> None:
    found = await report(dsn)
    others = CARELESS | {"slot_unbounded"}  # which another test has on this server for a moment
    codes = {finding.code: finding.level for finding in found.findings if finding.code not in others}
    assert codes == {"partition_missing": "warning"}
    assert len(found.checks) > 20
    assert found.left_out == []


async def test_settings_that_lose_what_was_committed_are_errors(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server has its fsync on the command line, so it cannot be turned off here: that it is, is told."""
    found = {finding.code: finding for finding in (await report(dsn)).findings}
    assert found.keys() >= CARELESS
    assert {found[code].level for code in CARELESS} == {"error"}
    assert found["synchronous_commit_off"].remedy.startswith("alter system set synchronous_commit = on;")
    real = ailments.settings

    async def told(conn: Session) -> watch.Row:
        return {**await real(conn), "fsync": "off"}

    monkeypatch.setattr(ailments, "settings", told)
    assert "fsync_off" in await findings(dsn)


async def test_a_database_without_the_schema_is_one_finding_and_the_rest_is_left_out(empty_dsn: str) -> None:
    found = await report(empty_dsn)
    (schema,) = (finding for finding in found.findings if finding.code not in CARELESS)
    assert (schema.code, schema.level, schema.remedy) == ("schema", "error", "run `scheduler migrate`")
    assert len(found.left_out) == len(INSTALLED)


async def test_a_schema_that_is_not_this_programs_is_an_error(dsn: str, db: psycopg.Connection) -> None:
    db.execute("update scheduler.migration set checksum = 'x' where version = 0")
    assert "older than this program" in (await findings(dsn))["schema"].text
    db.execute("insert into scheduler.migration (version, name, checksum) values (9999, '9999_later', 'x')")
    assert (await findings(dsn))["schema"].remedy == "upgrade walclock here"


async def test_a_database_clock_that_is_faked_is_an_error(dsn: str, clock: Clock) -> None:
    clock.set(NOON)
    finding = (await findings(dsn))["clock_faked"]
    assert finding.remedy.startswith("alter database ")
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(finding.remedy.encode())
    assert "clock_faked" not in await findings(dsn)


async def test_who_holds_the_oldest_snapshot_is_named(dsn: str, connect: Connect) -> None:
    holder = connect()
    holder.execute("set application_name = 'nightly report'")
    holder.execute("begin isolation level repeatable read")
    holder.execute("select count(*), 'password of ada' from scheduler.run")
    found = (await findings(dsn, snapshot_age=0))["old_snapshot"]
    assert found.level == "warning"
    assert found.facts["pid"] == holder.info.backend_pid
    assert "nightly report, idle in transaction" in found.text
    assert "select count(*), '…' from scheduler.run" in found.text
    assert found.remedy == f"select pg_terminate_backend({holder.info.backend_pid});"
    assert (await findings(dsn, snapshot_age=0, snapshot_age_worst=0))["old_snapshot"].level == "error"
    holder.execute("rollback")
    assert "old_snapshot" not in await findings(dsn, snapshot_age=0)


async def test_a_table_without_autovacuum_is_an_error_and_the_remedy_mends_it(dsn: str, db: psycopg.Connection) -> None:
    db.execute("alter table scheduler.run set (autovacuum_enabled = off)")
    finding = (await findings(dsn))["autovacuum_off"]
    assert finding.facts == {"tables": ["run"]}
    db.execute(finding.remedy.encode())
    assert "autovacuum_off" not in await findings(dsn)


async def test_dead_rows_are_counted(dsn: str, db: psycopg.Connection) -> None:
    db.execute("alter table scheduler.run set (autovacuum_enabled = off)")
    db.execute("insert into scheduler.run (app, executor) select 'shop', 'python' from generate_series(1, 2000)")
    db.execute("delete from scheduler.run")
    db.execute("select pg_stat_force_next_flush()")
    finding = (await findings(dsn, dead_rows=1_000))["dead_rows"]
    assert (finding.facts["table"], finding.facts["dead"], finding.level) == ("run", 2_000, "warning")
    assert "dead_rows" not in await findings(dsn)


async def test_a_slot_that_nobody_reads_is_named(dsn: str, db: psycopg.Connection) -> None:
    name = f"doctor_{db.info.backend_pid}"
    db.execute("select pg_create_physical_replication_slot(%s, true)", [name])
    try:
        found = [one for one in (await report(dsn, slot_behind=0)).findings if one.facts.get("name") == name]
        unbounded = await findings(dsn)
    finally:
        db.execute("select pg_drop_replication_slot(%s)", [name])
    assert [(one.code, one.level, one.remedy) for one in found] == [
        ("slot_behind", "error", f"select pg_drop_replication_slot('{name}');")
    ]
    assert name in unbounded["slot_unbounded"].facts["slots"]


async def test_wal_the_notify_queue_and_connections_have_bounds(dsn: str, db: psycopg.Connection) -> None:
    found = await findings(dsn, wal_growth=0, notify_queue=0, connections=0)
    assert found.keys() >= {"wal_size", "notify_queue", "connections_used"}
    assert found["wal_size"].facts["size"] > 0
    assert found.keys() & {"connections_short"} == set()
    for _ in range(found["connections_used"].facts["most"] // 4):
        add_worker(db)
        add_server(db)
    short = (await findings(dsn))["connections_short"]
    assert short.facts["needed"] > short.facts["most"]


async def test_an_orphaned_partition_is_found_and_the_remedy_brings_it_back(dsn: str, db: psycopg.Connection) -> None:
    day = one(db, "select (scheduler.clock() at time zone 'UTC')::date + 40")
    name = f"history_{day:%Y%m%d}"
    db.execute(SQL("create table scheduler.{} (like scheduler.history including all)").format(Identifier(name)))
    finding = (await findings(dsn))["partition_orphaned"]
    assert finding.facts["partition"] == name
    db.execute(finding.remedy.partition("  -- ")[0].encode())
    assert "partition_orphaned" not in await findings(dsn)


async def test_a_missing_partition_is_an_error_once_a_server_should_have_made_it(
    dsn: str, db: psycopg.Connection
) -> None:
    assert (await findings(dsn))["partition_missing"].remedy == "scheduler run --no-worker"
    add_server(db)
    finding = (await findings(dsn))["partition_missing"]
    assert (finding.level, len(finding.facts["partitions"])) == ("error", 9)


async def test_rows_of_several_days_in_a_default_partition_are_told(
    dsn: str, db: psycopg.Connection, clock: Clock
) -> None:
    clock.set(NOON)
    worker = add_worker(db)
    for _ in range(2):
        add_run(db)
        lease, runs = claim(db, worker)
        finish(db, worker, lease, runs)
        assert "partition_default" not in await findings(dsn)
    clock.advance(timedelta(days=2))
    add_run(db)
    lease, runs = claim(db, worker)
    finish(db, worker, lease, runs)
    finding = (await findings(dsn))["partition_default"]
    assert "history_default holds rows from 2026-03-01 to 2026-03-03" in finding.text


async def test_jobs_and_no_server_is_an_error(dsn: str, db: psycopg.Connection) -> None:
    add_job(db)
    assert (await findings(dsn)).keys() >= {"no_server"}
    own(db)
    assert (await findings(dsn, dead_after=60)).keys() & {"no_server", "app_without_owner"} == set()


async def test_an_app_that_no_living_server_plans_is_named(dsn: str, db: psycopg.Connection) -> None:
    add_job(db)
    add_job(db, "other", app="billing")
    add_server(db)
    assert (await findings(dsn, dead_after=60))["app_without_owner"].facts == {"apps": ["billing", "shop"]}


async def test_a_bad_schedule_by_plain_sql_is_an_error(dsn: str, db: psycopg.Connection) -> None:
    schedule(db, "good")
    schedule(db, "bad", "61 * * * *")
    await plan_once(dsn)
    finding = (await findings(dsn))["job_invalid"]
    assert "Job bad of app shop is not planned, its schedule is '61 * * * *': " in finding.text
    db.execute(finding.remedy.encode())
    await plan_once(dsn)
    assert "job_invalid" not in await findings(dsn)


async def test_a_job_that_never_succeeds_is_named_with_its_error(dsn: str, db: psycopg.Connection) -> None:
    worker = add_worker(db)
    for name in ("bad", "good"):
        add_job(db, name, max_attempts=1)
    for outcomes in (("failed", "failed"),) * 2 + (("failed", "succeeded"),):
        for name, outcome in zip(("bad", "good"), outcomes, strict=True):
            run = one(db, "select scheduler.trigger(%s, %s)", APP, name)
            lease, _ = claim(db, worker)
            finish(db, worker, lease, [run], outcome)
    finding = (await findings(dsn))["job_never_succeeds"]
    assert (finding.facts["job"], finding.facts["ended"], finding.level) == ("bad", 3, "warning")
    assert finding.remedy == "scheduler runs list --app shop --job bad"


async def test_due_work_without_a_worker_is_named_and_late_work_with_one_is_a_warning(
    dsn: str, db: psycopg.Connection
) -> None:
    add_server(db)
    add_run(db, queue="mail", executor="shell")
    add_run(db, queue="keyed", executor="shell", concurrency_key="k")
    add_run(db, executor="event")  # waits for a client
    add_run(db, app="paused", executor="shell")
    db.execute("select scheduler.pause('paused')")
    add_run(db, run_at="2000-01-01T00:00:00Z")
    add_worker(db)
    found = [
        (one.code, one.facts["queue"])
        for one in (await report(dsn, dead_after=60)).findings
        if one.code in ("no_worker", "late")
    ]
    assert found == [("no_worker", "keyed"), ("no_worker", "mail"), ("late", "default")]
    assert (await findings(dsn, dead_after=60))["no_worker"].remedy.startswith("scheduler worker --app shop --queue ")


async def test_a_token_that_expires_soon_is_named(dsn: str, db: psycopg.Connection) -> None:
    for name, days in (("soon", 3), ("late", 30)):
        db.execute(
            "select scheduler.create_token(%s, sha256(%s::bytea), 'p', '{read}', null,"
            " scheduler.clock() + make_interval(days => %s))",
            [name, name, days],
        )
    finding = (await findings(dsn))["token_expires"]
    assert (finding.facts["name"], finding.level) == ("soon", "warning")


async def test_a_role_without_rights_is_told_what_it_could_not_see(dsn: str, db: psycopg.Connection) -> None:
    name = f"doctor_{db.info.backend_pid}"
    db.execute(SQL("create role {} login").format(Identifier(name)))
    try:
        async with await database.connect(dsn, name="doctor") as conn:
            await conn.execute(SQL("set role {}").format(Identifier(name)))
            found = await attempt(INSTALLED[-1], conn, Limits())
    finally:
        db.execute(SQL("drop role {}").format(Identifier(name)))
    assert [(one.code, one.level, one.facts) for one in found] == [
        ("not_allowed", "warning", {"check": "tokens.expiring"})
    ]


async def test_a_check_that_fails_is_a_finding_and_the_others_go_on(
    dsn: str, db: psycopg.Connection, connect: Connect
) -> None:
    """A table that somebody keeps locked."""
    locker = connect()
    locker.execute("begin")
    locker.execute("lock table scheduler.token in access exclusive mode")
    async with await database.connect(dsn, name="doctor", statement_timeout=0.3) as conn:
        found = (await examine(conn, Limits())).findings
    (failed,) = [one for one in found if one.facts.get("check") == "tokens.expiring"]  # others may be too slow as well
    assert (failed.code, failed.level) == ("check_failed", "error")
    assert "statement timeout" in failed.text


async def test_nothing_can_be_written_on_the_doctors_connection(dsn: str) -> None:
    refused = ""

    async def write(conn: Session, _: Limits) -> list[Finding]:
        await conn.execute("insert into scheduler.run (executor) values ('python')")
        return []

    async with await database.connect(dsn, name="doctor") as conn:
        await examine(conn, Limits())
        (finding,) = await attempt(write, conn, Limits())
        refused = finding.text
    assert "read-only" in refused


async def test_a_database_that_cannot_be_reached_is_one_line(dsn: str) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await report(make_conninfo(dsn, dbname="nowhere"))


async def test_a_snapshot_that_is_young_is_none_of_its_business(dsn: str, connect: Connect) -> None:
    holder = connect()
    holder.execute("begin isolation level repeatable read")
    holder.execute("select 1")
    async with await database.connect(dsn, name="doctor") as conn:
        (row,) = await ailments.snapshots(conn)
    assert row["pid"] == holder.info.backend_pid
    assert "old_snapshot" not in await findings(dsn)


def test_every_finding_is_documented_and_tested_and_no_other() -> None:
    given = {code for code, _ in settings._HURT.values()}
    for path in (ROOT / "scheduler/doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                code = node.args[1]
                assert isinstance(code, ast.Constant) or path.name == "settings.py", ast.unparse(node)
                given |= {str(code.value)} if isinstance(code, ast.Constant) else set()
    assert len(given) > 20
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == given
    tests = "".join((ROOT / path).read_text(encoding="utf-8") for path in TESTS)
    assert {code for code in given if f'"{code}"' not in tests} == set()

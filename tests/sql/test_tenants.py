"""Roles that are restricted to some apps: they see and touch no row of another app, whatever they try."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from tests.support.builders import add_worker, column, one, rows
from tests.support.roles import login, make_roles, session_of

pytestmark = pytest.mark.direct("takes other roles within a session")

MINE, THEIRS = "mine", "theirs"
EVERY_ROLE = ("scheduler_reader", "scheduler_producer", "scheduler_worker", "scheduler_admin")
OF_APP = (
    "app", "job", "job_schedule", "fire", "owner", "run", "lease", "run_key", "slot", "queue_limit", "history", "log",
    "pulse", "audit", "audit_head", "audit_pending", "event_lock", "idempotency", "alarm", "alarm_state", "alarm_look",
)  # fmt: skip
READABLE = (
    *(table for table in OF_APP if table not in {"audit_pending", "idempotency", "alarm_look"}),
    "runs",
    "worker",
    "token",
)
SECRET = "the-secret-of-theirs"  # in what every row of theirs holds that can hold a text
STEPS = 1500

# All that there is, in each app. `{}` is the app, `[]` what its texts say.
FILL = """
    insert into scheduler.job (app, name, executor, schedule, spec)
        values ('{}', 'nightly', 'x', '@daily', '{"s": "[]"}'), ('{}', 'demand', 'x', null, '{"s": "[]"}');
    insert into scheduler.app (app) values ('{}');
    insert into scheduler.owner (app, weight) values ('{}', 1);
    insert into scheduler.queue_limit (app, queue, rate_limit) values ('{}', 'limited', 10);
    insert into scheduler.fire (app, job, scheduled_at, outcome, reason, decided_at)
        values ('{}', 'nightly', '2026-01-01Z', 'missed', '[]', now());
    insert into scheduler.pulse (app, job, revision, period, from_end, anchor_at, gap)
        values ('{}', 'demand', 1, '1 second', false, now(), '[]');
    insert into scheduler.run (app, executor, spec, unique_key, concurrency_key)
        select '{}', 'x', '{"s": "[]"}', 'key ' || n, case when n > 6 then 'slots' end from generate_series(1, 8) n;
    select scheduler.claim('{}', scheduler.register_worker('w', p_apps => '{{}}'), p_limit => 2, p_keyed => false);
    select scheduler.claim('{}', scheduler.register_worker('w', p_apps => '{{}}'), p_limit => 1, p_keyed => true);
    select scheduler.finish('{}', l.worker, l.id, p_outcomes => '{failed}', p_errors => '{[]}', p_max_attempts => '{0}',
        p_runs => array[(l.runs[1]).id]) from scheduler.lease l where l.app = '{}' and not l.limited;
    insert into scheduler.log (app, run_id, attempt, line, at, stream, text)
        select h.app, h.id, 1, 1, now(), 'out', '[]' from scheduler.history h where h.app = '{}';
    select scheduler.claim('{}', scheduler.register_worker('w', p_apps => '{{}}'), p_limit => 2);
    select scheduler.create_token('{}', sha256('{}'), 'x', '{read}', '{{}}');
    insert into scheduler.run (app, executor, spec) values ('{}', 'event', '{"data": "[]"}');
    insert into scheduler.event_lock (app, run_id, fence, locked_at, expires_at)
        select r.app, r.id, 1, now(), now() + interval '1 hour' from scheduler.run r
        where r.app = '{}' and r.executor = 'event';
    insert into scheduler.idempotency (app, token, key, kept_at, answer) values ('{}', '[]', '[]', now(), '[]');
    insert into scheduler.alarm (app, name, kind, channels)
        values ('{}', 'a', 'failed', '[{"channel": "webhook", "url": "[]"}]');
    insert into scheduler.alarm_state (app, alarm, latest) values ('{}', 'a', '{"error": "[]"}');
"""


@dataclass(frozen=True)
class Tenant:
    """A login that has every role, and is restricted to one app."""

    name: str
    conn: psycopg.Connection


@pytest.fixture
def filled(dsn: str, db: psycopg.Connection) -> str:
    make_roles(dsn)
    for app, text in ((MINE, "mine"), (THEIRS, SECRET)):
        db.execute(FILL.replace("{{}}", f"{{{app}}}").replace("{}", app).replace("[]", text).encode())
    add_worker(db, SECRET)  # of all apps
    db.execute("select scheduler.register_server('s', p_address => 'http://s')")
    return dsn


@pytest.fixture
def tenant(filled: str, db: psycopg.Connection) -> Iterator[Tenant]:
    with login(filled, *EVERY_ROLE) as name:
        db.execute("select scheduler.restrict_role(%s, %s)", [name, [MINE]])
        with session_of(filled, name) as conn:
            yield Tenant(name, conn)


def all_of(db: psycopg.Connection, app: str) -> dict[str, list[str]]:
    """Every row of an app, and what belongs to no app, as its owner sees it."""
    found = {
        table: column(db, f"select t::text from scheduler.{table} t where t.app = %s order by 1", app)
        for table in OF_APP
    }
    for table in ("worker", "token"):
        query = f"select t::text from scheduler.{table} t where %s = any (t.apps) or t.apps is null order by 1"
        found[table] = column(db, query, app)
    found["server"] = column(db, "select t::text from scheduler.server t order by 1")
    found["restriction"] = column(db, "select t::text from scheduler.restriction t order by 1")
    return found


def test_there_is_a_row_of_each_app_in_every_table(filled: str, db: psycopg.Connection) -> None:
    for app in (MINE, THEIRS):
        empty = {"restriction", "audit_pending"}
        assert [table for table, found in all_of(db, app).items() if not found and table not in empty] == []


@pytest.mark.parametrize("table", READABLE)
def test_a_restricted_role_sees_its_own_rows_and_no_others(tenant: Tenant, table: str) -> None:
    seen = column(tenant.conn, f"select t::text from scheduler.{table} t")
    assert seen
    assert THEIRS not in str(seen)


def test_it_writes_its_own_rows_and_no_others(tenant: Tenant, db: psycopg.Connection) -> None:
    before = all_of(db, THEIRS)
    for app in (MINE, THEIRS):
        statements = (
            f"insert into scheduler.run (app, executor) values ('{app}', 'x')",
            f"select scheduler.enqueue('{app}', 'x', unique_key => 'new')",
            f"insert into scheduler.job (app, name, executor) values ('{app}', 'new', 'x')",
            f"insert into scheduler.run_key (app, unique_key, run_id) values ('{app}', 'a', 1)",
            f"insert into scheduler.log values ('{app}', 1, 1, 2, now(), 'out', 'x')",
            f"select * from scheduler.claim('{app}', scheduler.register_worker('w'))",
            f"select scheduler.register_worker('w', p_apps => '{{{app}}}')",
            f"select scheduler.create_token('new {app}', sha256('new {app}'), 'x', '{{read}}', '{{{app}}}')",
        )
        for statement in statements:
            if app == MINE:
                tenant.conn.execute(statement.encode())
            else:
                with pytest.raises(InsufficientPrivilege):
                    tenant.conn.execute(statement.encode())
    for statement in (
        "select scheduler.create_token('wide', sha256('wide'), 'x', '{admin}')",
        "select scheduler.restrict_role(session_user, null)",
        "select scheduler.restrict_role(session_user, '{theirs}')",
        "select scheduler.register_server('mine')",
        "delete from scheduler.restriction",
        "alter table scheduler.run disable row level security",
        "drop policy own_apps on scheduler.run",
    ):
        with pytest.raises(InsufficientPrivilege):
            tenant.conn.execute(statement.encode())
    assert tenant.conn.execute("update scheduler.job set queue = 'q'").rowcount == 3
    assert tenant.conn.execute("delete from scheduler.run").rowcount > 0
    with pytest.raises(InsufficientPrivilege):
        tenant.conn.execute("update scheduler.queue_limit set app = 'theirs'")
    assert all_of(db, THEIRS) == before


def test_no_function_with_its_owners_rights_touches_another_app(tenant: Tenant, db: psycopg.Connection) -> None:
    held: LiteralString = "select l.worker, l.id, (l.runs[1]).id from scheduler.lease l where l.app = 'theirs'"
    worker, lease, running = rows(db, held)[0]
    pending = one(db, "select min(r.id) from scheduler.run r where r.app = 'theirs'")
    mine = one(tenant.conn, "select scheduler.register_worker('w')")
    calls = {
        "cancel": [f"cancel('theirs', {pending})", f"cancel('theirs', {running})"],
        "claim": [f"claim('theirs', {mine})", f"claim('theirs', {worker})"],
        "begin": [f"begin('theirs', {worker}, {lease})"],
        "finish": [f"finish('theirs', {worker}, {lease})"],
        "release": [f"release('theirs', {worker}, {lease})"],
        "take_pulses": [f"take_pulses({mine}, '{{theirs}}')"],
        "report_pulses": [f"report_pulses('theirs', {worker}, '[]')"],
        "release_pulses": [f"release_pulses('theirs', {worker}, '{{{lease}}}')"],
        "next_due": ["next_due('{theirs}')"],
        "register_worker": ["register_worker('w', p_apps => '{mine,theirs}')"],
        "heartbeat": [f"heartbeat({worker})"],
        "retire_worker": [f"retire_worker({worker})"],
        "restrict_role": ["restrict_role('scheduler_reader', '{mine}')"],
        "retry": ["retry('theirs', 1)", f"retry('theirs', {running})"],
        "trigger": ["trigger('theirs', 'nightly')", "trigger('theirs', 'none')"],
        "lost_leases": [f"lost_leases('theirs', array[{lease}])"],
        "test_alarm": ["test_alarm('theirs', 'a')", "test_alarm('theirs', 'none')"],
        "record": ["record('theirs', 'add', 'job x', null, null)"],
    }
    before = all_of(db, THEIRS)
    for statement in (call for several in calls.values() for call in several):
        with pytest.raises(psycopg.Error) as refused:
            tenant.conn.execute(f"select * from scheduler.{statement}".encode())
        assert refused.value.sqlstate in {"42501", "JS004"}, statement
    # With no app named, these mean the apps that are open.
    assert set(column(tenant.conn, "select d.app from scheduler.next_due() d")) == {MINE}
    assert column(tenant.conn, "select t.app from scheduler.take_pulses(%s) t", mine) == [MINE]
    assert all_of(db, THEIRS) == before
    definers = """
        select p.proname from pg_proc p
        where p.pronamespace = 'scheduler'::regnamespace and p.prosecdef and p.prorettype <> 'trigger'::regtype
    """
    assert set(column(db, definers)) - {"apps_allowed"} == calls.keys(), "each of them is called here"


def test_copy_takes_out_its_own_rows_and_puts_in_none(tenant: Tenant) -> None:
    with tenant.conn.cursor().copy("copy (select * from scheduler.history) to stdout") as copy:
        assert THEIRS.encode() not in b"".join(copy)
    with tenant.conn.cursor().copy("copy scheduler.run (app, spec) to stdout") as copy:
        found = b"".join(copy)
    assert MINE.encode() in found
    assert THEIRS.encode() not in found
    with (
        pytest.raises(psycopg.errors.FeatureNotSupported),
        tenant.conn.cursor().copy("copy scheduler.run (app, executor) from stdin"),
    ):
        pass


def test_no_role_that_it_may_take_and_no_setting_leads_out_of_a_restriction(
    tenant: Tenant, db: psycopg.Connection
) -> None:
    seen = "select distinct r.app from scheduler.runs r"
    ways = [f"set role {role}" for role in EVERY_ROLE]
    ways += ["reset role", "set row_security = off", "set session_replication_role = replica", "set local role none"]
    for way in ways:
        try:
            tenant.conn.execute(way.encode())
            assert set(column(tenant.conn, seen)) <= {MINE}
        except (InsufficientPrivilege, psycopg.errors.InvalidParameterValue):
            pass  # refused: that is no way out either
        assert column(tenant.conn, "select scheduler.apps_allowed()") == [[MINE]]
        tenant.conn.execute("reset role")
        tenant.conn.execute("reset row_security")
    tenant.conn.execute(f"alter role {tenant.name} set role = 'scheduler_reader'".encode())
    assert column(tenant.conn, "select scheduler.apps_allowed()") == [[MINE]]


def test_a_restriction_holds_for_who_inherits_it_and_several_leave_what_they_share(
    filled: str, db: psycopg.Connection
) -> None:
    with login(filled) as group, login(filled, group, "scheduler_reader") as member:
        db.execute("select scheduler.restrict_role(%s, '{mine,theirs}')", [group])
        with session_of(filled, member) as conn:
            apps = "select distinct r.app from scheduler.runs r order by 1"
            assert column(conn, apps) == [MINE, THEIRS]
            db.execute("select scheduler.restrict_role(%s, '{theirs,other}')", [member])
            assert column(conn, apps) == [THEIRS]
            db.execute("select scheduler.restrict_role(%s, null)", [group])
            db.execute("select scheduler.restrict_role(%s, '{}')", [member])
            assert column(conn, apps) == []
            db.execute("select scheduler.restrict_role(%s, null)", [member])
            assert column(conn, apps) == [MINE, THEIRS]


def test_who_comes_by_set_role_from_a_login_of_many_is_held_too(tenant: Tenant, filled: str) -> None:
    with login(filled, tenant.name) as door, session_of(filled, door) as conn:
        conn.execute(f"set role {tenant.name}".encode())
        assert column(conn, "select distinct r.app from scheduler.runs r") == [MINE]
        with pytest.raises(InsufficientPrivilege, match='app "theirs" is not open to this role'):
            conn.execute("select * from scheduler.claim('theirs', 1)")


def test_an_app_and_a_worker_that_are_closed_to_it_are_as_those_that_are_not_there(
    tenant: Tenant, db: psycopg.Connection
) -> None:
    (theirs,) = column(db, "select w.id from scheduler.worker w where w.label = %s", SECRET)
    (mine, *_) = column(db, "select w.id from scheduler.worker w where w.apps = '{mine}'")
    tenant.conn.execute("select scheduler.admit('mine'), scheduler.admit_worker(%s)", [mine])
    refused = []
    for statement in ("select scheduler.admit('theirs')", "select scheduler.admit('nowhere')"):
        with pytest.raises(InsufficientPrivilege) as error:
            tenant.conn.execute(statement.encode())
        refused.append(str(error.value).replace("theirs", "nowhere"))
    for worker in (theirs, 10**6):
        for function in ("heartbeat", "retire_worker", "admit_worker"):
            with pytest.raises(psycopg.Error, match="is not registered, has stopped or was declared dead"):
                tenant.conn.execute(f"select scheduler.{function}({worker})".encode())
    assert refused[0] == refused[1]


def test_only_the_owner_switches_row_level_security_on(filled: str) -> None:
    with login(filled, *EVERY_ROLE) as name, session_of(filled, name) as conn:
        with pytest.raises(InsufficientPrivilege, match="must be owner"):
            conn.execute("select scheduler.isolate_apps()")
        with login(filled, "scheduler_reader") as other:
            conn.execute("select scheduler.restrict_role(%s, '{mine}')", [other])  # an admin may, and it is switched on
            assert column(conn, "select c.relrowsecurity from pg_class c where c.oid = 'scheduler.run'::regclass") == [
                True
            ]


def test_a_role_that_no_restriction_would_hold_is_refused(filled: str, db: psycopg.Connection) -> None:
    for role, words in ((one(db, "select current_user"), "would not be held"), ("nobody_at_all", "there is no role")):
        with pytest.raises(psycopg.Error, match=words):
            db.execute("select scheduler.restrict_role(%s, '{mine}')", [role])


def test_without_a_restricted_role_there_is_no_row_level_security(filled: str, db: psycopg.Connection) -> None:
    secured = "select c.relname from pg_class c where c.relnamespace = 'scheduler'::regnamespace and c.relrowsecurity"
    assert column(db, secured) == []
    with login(filled, "scheduler_reader") as name:
        db.execute("select scheduler.restrict_role(%s, '{mine}')", [name])
        tables = {*OF_APP, "worker", "token", "restriction", "server", "idempotency"}
        assert set(column(db, secured)) == tables
        # And no table was forgotten, of today's and of tomorrow's: each has it, or holds nothing of an app.
        every = column(
            db,
            """
            select c.relname from pg_class c
            where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
            """,
        )
        assert set(every) - tables == {"migration"}


def test_the_owner_is_never_asked(tenant: Tenant, db: psycopg.Connection) -> None:
    assert set(column(db, "select distinct r.app from scheduler.runs r")) == {MINE, THEIRS}
    plan = "\n".join(column(db, "explain (verbose) select * from scheduler.runs r where r.app = 'mine'"))
    assert "apps_allowed" not in plan
    assert "apps_allowed" in "\n".join(column(tenant.conn, "explain (verbose) select * from scheduler.run r"))


class Fuzzer:
    """Makes up statements, of any kind and shape, that reach for the rows of the other."""

    def __init__(self, db: psycopg.Connection, seed: int) -> None:
        self.chance = random.Random(seed)
        numbers = column(
            db,
            """
            select l.id from scheduler.lease l union select l.worker from scheduler.lease l
            union select r.id from scheduler.runs r union select s.id from scheduler.server s
            """,
        )
        self.pools: dict[str, list[str]] = {
            "text": ["'theirs'", "'theirs'", "'mine'", "'nightly'", "'demand'", "'default'", "'key 1'", "'w'"],
            "bigint": [str(number) for number in numbers],
            "integer": ["1", "100"],
            "smallint": ["0::smallint"],
            "double precision": ["1000"],
            "boolean": ["true", "false"],
            "text[]": ["'{theirs}'", "'{mine,theirs}'", "null", "'{}'"],
            "bigint[]": [f"'{{{','.join(map(str, numbers))}}}'", "null"],
            "smallint[]": ["'{1}'"],
            "integer[]": ["'{1}'"],
            "interval": ["'0'", "'1 hour'", "'-1 hour'"],
            "interval[]": ["null"],
            "timestamptz[]": ["array[now()]", "null"],
            "timestamptz": ["now()", "'-infinity'", "'infinity'", "null"],
            "jsonb": ["""'[{"jobs": ["nightly"], "revisions": [1], "expected": "-infinity", "fires": []}]'""", "'{}'"],
            "jsonb[]": ["null"],
            "json": ["null", "'{}'"],
            "scheduler.job": ["null", "(select j from scheduler.job j where j.app = 'theirs' limit 1)"],
            "scheduler.alarm": ["null", "(select a from scheduler.alarm a where a.app = 'theirs' limit 1)"],
            "scheduler.alarm_state": ["null", "(select s from scheduler.alarm_state s limit 1)"],
            "bytea": ["sha256('theirs')", "sha256('new')"],
            "tid[]": ["array['(0,1)', '(0,2)', '(0,3)', '(0,9)']::tid[]"],
        }
        self.functions = [
            (name, arguments.split(", ") if arguments else [])
            for name, arguments in rows(
                db,
                """
                select p.proname, replace(array_to_string(array(
                    select format_type(a.type, null)
                    from unnest(p.proargtypes) with ordinality as a (type, nr) order by a.nr
                ), ', '), 'timestamp with time zone', 'timestamptz')
                from pg_proc p
                where p.pronamespace = 'scheduler'::regnamespace and p.prorettype <> 'trigger'::regtype
                order by 1, 2
                """,
            )
        ]
        self.columns = dict(
            rows(
                db,
                """
                select c.relname, array_agg(a.attname::text order by a.attnum)
                from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p', 'v') group by c.relname
                """,
            )
        )

    def statement(self) -> str:
        table = self.chance.choice([*self.columns, *OF_APP])
        where = self.chance.choice(["", " where t.app = 'theirs'", " where t.app <> 'mine'", " where t.ctid = '(0,1)'"])
        make = (self.call, self.call, self.call, self.insert, self.select, self.update, self.delete)
        return self.chance.choice(make)(table, where)

    def call(self, *_: str) -> str:
        name, kinds = self.chance.choice(self.functions)
        return f"select * from scheduler.{name}({', '.join(self.chance.choice(self.pools[kind]) for kind in kinds)})"

    def select(self, table: str, where: str) -> str:
        shape = self.chance.choice(
            ["select t.* from scheduler.{0} t{1}", "select t.* from scheduler.{0} t{1} for update"]
        )
        joined = "select u.* from scheduler.run r, scheduler.{0} u"
        return self.chance.choice([shape, joined]).format(table, where)

    def insert(self, table: str, _: str) -> str:
        columns = ", ".join(self.columns[table])
        theirs = """(jsonb_populate_record(t, '{"app": "theirs"}')).*"""
        shapes = (
            f"insert into scheduler.{table} select {theirs} from scheduler.{table} t",
            f"insert into scheduler.{table} ({columns}) select {columns} from scheduler.{table} on conflict do nothing",
            "insert into scheduler.run (app, executor, unique_key) values ('theirs', 'x', 'key 1')",
            "insert into scheduler.run (app, executor) values ('mine', 'x') returning *",
            """
            insert into scheduler.job (app, name, executor) values ('theirs', 'nightly', 'y')
            on conflict (app, name) do update set executor = 'y'
            """,
            """
            merge into scheduler.job j using (values ('theirs')) v (app) on j.app = v.app
            when matched then update set executor = 'y' when not matched then do nothing
            """,
        )
        return self.chance.choice(shapes)

    def update(self, table: str, where: str) -> str:
        column = self.chance.choice(self.columns[table])
        value = self.chance.choice([f"t.{column}", "'theirs'", "null", "default"])
        return f"update scheduler.{table} t set {column} = {value}{where} returning t.*"

    def delete(self, table: str, where: str) -> str:
        return f"delete from scheduler.{table} t{where} returning t.*"


@pytest.mark.parametrize("seed", [1, 2])
def test_no_statement_reaches_a_row_of_another_app(tenant: Tenant, db: psycopg.Connection, seed: int) -> None:
    before = all_of(db, THEIRS)
    fuzzer = Fuzzer(db, seed)
    done: dict[str, int] = {}
    called: set[str] = set()
    tenant.conn.execute("set lock_timeout = '1s'")
    for _ in range(STEPS):
        statement = fuzzer.statement()
        role = fuzzer.chance.choice([*EVERY_ROLE, "none", "none", "none"])
        tenant.conn.execute(f"set role {role}".encode())
        found: Any
        try:
            with tenant.conn.transaction(force_rollback=fuzzer.chance.random() < 0.7):
                cursor = tenant.conn.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            found = error
        assert SECRET not in str(found), statement
        if isinstance(found, psycopg.Error):
            continue
        apps = [nr for nr, one in enumerate(cursor.description or []) if one.name == "app"]
        assert THEIRS not in [row[nr] for row in found for nr in apps], statement
        kind = statement.split()[0]
        done[kind] = done.get(kind, 0) + 1
        called |= set(re.findall(r"from scheduler\.(\w+)\(", statement))
    after = all_of(db, THEIRS)
    assert {name: after[name] for name in after if after[name] != before[name]} == {}
    # Something was done, and not only refused.
    assert all(done.get(kind, 0) >= 5 for kind in ("select", "insert", "update", "delete")), done
    assert len(called) > len(fuzzer.functions) / 2, called

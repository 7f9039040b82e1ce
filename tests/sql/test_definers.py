"""Functions that run with their owner's rights: no name and no operator of the caller's gets in between."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.builders import add_run, column, one, rows
from tests.support.roles import logged_in, make_roles

pytestmark = pytest.mark.direct("takes another role within a session")

# Whoever calls one of these has changed something with the owner's rights.
TRAPS = """
    create table public.trapped (what text);
    grant insert on public.trapped to public;
    create function public.spring(text, text) returns boolean language plpgsql as
        $$ begin insert into public.trapped values (current_user); return true; end $$;
    create function public.spring(bigint, bigint) returns boolean language plpgsql as
        $$ begin insert into public.trapped values (current_user); return true; end $$;
    create operator public.= (leftarg = text, rightarg = text, function = public.spring);
    create operator public.= (leftarg = bigint, rightarg = bigint, function = public.spring);
    create operator public.<> (leftarg = text, rightarg = text, function = public.spring);
    create function public.cardinality(anyarray) returns integer language plpgsql as
        $$ begin insert into public.trapped values (current_user); return 0; end $$;
"""
SHADOWS = """
    create temp table worker (id bigint, apps text[], seen_at timestamptz, dead_at timestamptz, stopped_at timestamptz);
    create temp table run (id bigint, app text);
    create temp table lease (app text, id bigint, worker bigint);
    create temp table restriction (role regrole, apps text[]);
    create function pg_temp.clock() returns timestamptz language sql as 'select ''-infinity''::timestamptz';
    create function pg_temp.nextval(regclass) returns bigint language sql as 'select 1::bigint';
    set search_path = public, pg_temp, pg_catalog;
"""


@pytest.fixture
def caller(dsn: str, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A session of a worker and producer that has put something of its own before everything that PostgreSQL has."""
    make_roles(dsn)
    db.execute(TRAPS.encode())
    with logged_in(dsn, "scheduler_worker", "scheduler_producer") as conn:
        for statement in SHADOWS.split(";\n"):
            conn.execute(statement.encode())
        yield conn


def test_a_shadow_in_pg_temp_and_an_operator_in_public_do_nothing_to_the_protocol(
    caller: psycopg.Connection, db: psycopg.Connection
) -> None:
    runs = [add_run(db) for _ in range(3)]
    me = caller.execute("select scheduler.register_worker('w')").fetchone()
    assert me
    taken = rows(caller, "select c.lease, c.id from scheduler.claim('shop', %s, p_limit => 2) c", me[0])
    lease = taken[0][0]
    assert [run for _, run in taken] == runs[:2]
    caller.execute("select scheduler.heartbeat(%s)", me)
    assert one(caller, "select scheduler.begin('shop', %s, %s)", me[0], lease) == []
    assert one(caller, "select scheduler.release('shop', %s, %s, %s)", me[0], lease, runs[:1]) == 1
    assert one(caller, "select scheduler.finish('shop', %s, %s)", me[0], lease) == 1
    assert one(caller, "select scheduler.cancel('shop', %s)", runs[2]) is True
    caller.execute("select scheduler.retire_worker(%s)", me)
    assert dict(rows(db, "select r.id, r.state from scheduler.runs r")) == {
        runs[0]: "pending", runs[1]: "succeeded", runs[2]: "cancelled",
    }  # fmt: skip
    assert column(db, "select t.what from public.trapped t") == []


def test_the_traps_are_set(caller: psycopg.Connection, db: psycopg.Connection) -> None:
    caller.execute("select 'a'::text = 'b'::text, cardinality('{1}'::bigint[])")
    assert len(column(db, "select t.what from public.trapped t")) == 2
    assert one(caller, "select count(*) from worker") == 0, "its own, and not the scheduler's"


def test_every_function_with_its_owners_rights_has_a_fixed_search_path(db: psycopg.Connection) -> None:
    found = rows(
        db,
        """
        select p.proname, (select c from unnest(p.proconfig) c where c like 'search_path=%%')
        from pg_proc p where p.pronamespace = 'scheduler'::regnamespace and p.prosecdef
        """,
    )
    assert len(found) > 10
    assert {path for _, path in found} == {"search_path=pg_catalog, pg_temp"}

"""The schema on one page, read from the catalogs of an installed database.

Reviewers read `sql/snapshot.txt`; tests compare a fresh schema with an upgraded one through the same text, which is
the same on every supported PostgreSQL. Partitions are left out, they come and go with the days; so are the bodies of
functions and views, which are what their files say.

`python -m tests.support.snapshot --write` renews the file; without `--write` it is printed.
"""

from __future__ import annotations

import sys
from itertools import groupby
from typing import LiteralString

import psycopg

from scheduler.install import SQL_ROOT
from tests.support.database import Databases, clear_away

PATH = SQL_ROOT / "snapshot.txt"
COMMAND = "python -m tests.support.snapshot --write"

_TABLES: LiteralString = """
    select 'table ' || c.relname
        || coalesce(' partition by ' || pg_get_partkeydef(c.oid), '')
        || coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')
    from pg_class c
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    order by c.relname
"""
_VIEWS: LiteralString = """
    select 'view ' || c.relname || coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')
    from pg_class c
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('v', 'm')
    order by c.relname
"""
# What belongs to a table or view, in the order: columns, constraints, indexes, triggers.
_PARTS: LiteralString = """
    select c.relname, line
    from pg_class c
    cross join lateral (
        select 1 as part, a.attnum::text as place, rpad(a.attname, 17)
            || format_type(a.atttypid, a.atttypmod)
            || case when a.attnotnull then ' not null' else '' end
            || case a.attidentity when 'a' then ' generated always as identity' when 'd' then ' generated as identity'
               else '' end
            || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
            || case when a.attstorage = t.typstorage then '' else ' storage ' || case a.attstorage
               when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end end as line,
            a.attnum as rank
        from pg_attribute a
        join pg_type t on t.oid = a.atttypid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        union all
        -- PostgreSQL 18 also lists NOT NULL here ('n'); the columns say it on every version.
        select 2, k.conname, k.conname || ': ' || pg_get_constraintdef(k.oid), position(k.contype::text in 'pufcx')
        from pg_constraint k where k.conrelid = c.oid and k.contype in ('p', 'u', 'f', 'c', 'x')
        union all
        select 3, i.indexrelid::regclass::text, regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE ', ''), 0
        from pg_index i where i.indrelid = c.oid
            and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = c.oid)
        union all
        select 4, g.tgname, regexp_replace(pg_get_triggerdef(g.oid), '^CREATE ', ''), 0
        from pg_trigger g where g.tgrelid = c.oid and not g.tgisinternal
    ) p
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
    order by c.relname, part, rank, place collate "C"
"""
_SEQUENCES: LiteralString = """
    select 'sequence ' || c.relname || ' cache ' || s.seqcache
    from pg_class c join pg_sequence s on s.seqrelid = c.oid
    where c.relnamespace = 'scheduler'::regnamespace
    order by c.relname
"""
_DOMAINS: LiteralString = """
    select 'domain ' || t.typname || ' ' || format_type(t.typbasetype, t.typtypmod)
        || coalesce(' ' || string_agg(k.conname || ': ' || pg_get_constraintdef(k.oid), ', ' order by k.conname), '')
    from pg_type t left join pg_constraint k on k.contypid = t.oid and k.contype = 'c'
    where t.typnamespace = 'scheduler'::regnamespace and t.typtype = 'd'
    group by t.oid
    order by t.typname
"""
_FUNCTIONS: LiteralString = """
    select case p.prokind when 'p' then 'procedure ' when 'a' then 'aggregate ' else 'function ' end
        || p.proname || '(' || pg_get_function_arguments(p.oid) || ')'
        || coalesce(' -> ' || pg_get_function_result(p.oid), '')
        || case p.provolatile when 'i' then ', immutable' when 's' then ', stable' else '' end
        || case when p.prosecdef then ', security definer' else '' end
        || coalesce(', set ' || array_to_string(p.proconfig, ', '), '')
        || coalesce(' -- ' || obj_description(p.oid, 'pg_proc'), '')
    from pg_proc p
    where p.pronamespace = 'scheduler'::regnamespace
    order by p.proname, pg_get_function_identity_arguments(p.oid) collate "C"
"""


def snapshot(conn: psycopg.Connection) -> str:
    """The page, as text. Two schemas are equal when their pages are."""
    conn.execute("set search_path = pg_catalog")  # so that names are written out the same for everyone
    parts = {
        name: [f"    {line}" for _, line in lines]
        for name, lines in groupby(conn.execute(_PARTS).fetchall(), key=lambda row: str(row[0]))
    }
    page = [f"Generated by `{COMMAND}`; do not edit."]
    for (head,) in [*conn.execute(_TABLES), *conn.execute(_VIEWS)]:
        page += ["", head, *parts.get(head.split()[1], [])]
    for query in (_DOMAINS, _SEQUENCES, _FUNCTIONS):
        page += ["", *(line for (line,) in conn.execute(query))]
    conn.execute("reset search_path")
    return "\n".join(page).replace("timestamp with time zone", "timestamptz") + "\n"


def main() -> None:
    try:
        with Databases.started() as databases, databases.fresh() as dsn, psycopg.connect(dsn, autocommit=True) as conn:
            page = snapshot(conn)
    finally:
        clear_away()
    if sys.argv[1:] == ["--write"]:
        PATH.write_text(page, encoding="utf-8")
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()

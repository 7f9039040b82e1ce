"""What the planner knows of a database, from nothing to everything, switched within moments.

Autovacuum may not have come by yet, or long ago: a plan has to be good whatever the statistics say.
"""

from __future__ import annotations

from enum import StrEnum
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier


class Statistics(StrEnum):
    FRESH = "fresh"
    """Analysed as it is, each partition on its own; autovacuum never analyses a partitioned table as a whole."""
    NEVER = "never"
    """Not analysed."""
    EMPTY = "empty"
    """Analysed when it held nothing yet."""
    OUTGROWN = "outgrown"
    """Analysed when it held thirty rows, all of one app and one job."""


_LEAVES: LiteralString = """
    select c.relname, array(select a.attname::text from pg_attribute a where a.attrelid = c.oid) from pg_class c
    where c.relnamespace = 'scheduler'::regnamespace and c.relkind = 'r'
"""
# Statistics of the planner cannot be kept in a table of one's own (anyarray). So they are kept as those of an empty
# twin of each table, and handed over by giving them another owner.
_HAND_OVER: LiteralString = """
    update pg_statistic s set starelid = o.oid
    from pg_class t join pg_class o on o.relname = t.relname and o.relnamespace = %s::regnamespace
    where t.relnamespace = %s::regnamespace and s.starelid = t.oid
"""
_SIZES: LiteralString = """
    update pg_class c set relpages = k.relpages, reltuples = k.reltuples, relallvisible = k.relallvisible
    from known.relation k where k.state = %s and c.oid = k.oid
"""


def prepare(conn: psycopg.Connection) -> None:
    """Makes every state of a filled database that was never analysed. It is then FRESH."""
    conn.execute("create schema known; create table known.state as select 'never' as now")
    conn.execute("""
        create table known.relation as
        select ''::text as state, c.oid, c.relpages, c.reltuples, c.relallvisible from pg_class c limit 0
    """)
    _note_sizes(conn, Statistics.NEVER)
    # What analysing an empty table leaves behind.
    conn.execute(
        """
        insert into known.relation
        select %s, k.oid, k.relpages, greatest(k.reltuples, 0), 0 from known.relation k where k.state = %s
        """,
        [Statistics.EMPTY, Statistics.NEVER],
    )
    conn.execute(
        """
        insert into known.relation
        select %s, k.oid, case when c.relkind = 'r' then 1 else 2 end, 30, 0
        from known.relation k join pg_class c on c.oid = k.oid where k.state = %s
        """,
        [Statistics.OUTGROWN, Statistics.NEVER],
    )
    leaves: list[tuple[str, list[str]]] = conn.execute(_LEAVES).fetchall()
    for state in (Statistics.OUTGROWN, Statistics.FRESH):
        conn.execute(SQL("create schema {}").format(Identifier(state)))
    for leaf, columns in leaves:
        table = Identifier("scheduler", leaf)
        for state in (Statistics.OUTGROWN, Statistics.FRESH):
            conn.execute(
                SQL("create table {} (like {}) with (autovacuum_enabled = off)").format(Identifier(state, leaf), table)
            )
        twin = Identifier(Statistics.OUTGROWN, leaf)
        of_one_app = SQL("where app = 'shop'" if "app" in columns else "")
        conn.execute(SQL("insert into {} select * from {} {} limit 30").format(twin, table, of_one_app))
        if "job" in columns and not leaf.startswith("job"):
            conn.execute(SQL("update {} set job = 'job 1'").format(twin))
        conn.execute(SQL("analyze {}").format(twin))
        conn.execute(SQL("analyze {}").format(table))
    _note_sizes(conn, Statistics.FRESH)
    conn.execute("update known.state set now = %s", [Statistics.FRESH])


def know(conn: psycopg.Connection, state: Statistics) -> None:
    """From now on the planner of every session knows that much."""
    ((now,),) = conn.execute("select now from known.state").fetchall()
    if now == state:
        return
    with conn.transaction():
        if now in {Statistics.FRESH, Statistics.OUTGROWN}:
            conn.execute(_HAND_OVER, [now, "scheduler"])
        if state in {Statistics.FRESH, Statistics.OUTGROWN}:
            conn.execute(_HAND_OVER, ["scheduler", state])
        conn.execute(_SIZES, [state])
        conn.execute("update known.state set now = %s", [state])


def _note_sizes(conn: psycopg.Connection, state: Statistics) -> None:
    conn.execute(
        """
        insert into known.relation
        select %s, c.oid, c.relpages, c.reltuples, c.relallvisible from pg_class c
        where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'i')
        """,
        [state],
    )

"""What a statement read, table by table, as PostgreSQL counted it, in whatever function or trigger it was hidden.

Every server counts the rows, index entries and blocks that a transaction reads of each relation. One that has
auto_explain (the wheel's have not, Debian's has) also tells the plan of each statement inside a function.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import Diagnostic

Connection = AsyncConnection[Any]

# Partitions count with their table, under the names of its indexes (theirs are made up by the server), and so do TOAST
# tables.
_COUNTERS: LiteralString = """
    with recursive kin (oid, top) as (
        select c.oid, c.oid from pg_class c
        where c.relnamespace = 'scheduler'::regnamespace and c.relkind in ('r', 'p', 'i', 'I') and not c.relispartition
        union all
        select i.inhrelid, k.top from kin k join pg_inherits i on i.inhparent = k.oid
    ), toast (oid, top) as (
        select t.oid, k.top from kin k join pg_class c on c.oid = k.oid
        cross join lateral (
            select c.reltoastrelid union all
            select x.indexrelid from pg_index x where x.indrelid = c.reltoastrelid
        ) t (oid)
        where c.reltoastrelid <> 0
    )
    select coalesce(x.indrelid, k.top)::regclass::text, case when x.indrelid is not null then k.top::regclass::text end,
        sum(pg_stat_get_xact_tuples_returned(k.oid))::bigint, sum(pg_stat_get_xact_blocks_fetched(k.oid))::bigint
    from kin k left join pg_index x on x.indexrelid = k.top
    group by 1, 2
    union all
    select t.top::regclass::text, 'toast', 0, sum(pg_stat_get_xact_blocks_fetched(t.oid))::bigint
    from toast t group by 1
"""
_EXPLAIN: LiteralString = """
    select set_config('auto_explain.' || s.name, s.value, false) from (values
        ('log_min_duration', '0'), ('log_nested_statements', 'on'), ('log_analyze', 'on'), ('log_buffers', 'on'),
        ('log_timing', 'off'), ('log_format', 'json'), ('log_level', 'notice')
    ) s (name, value)
"""


@dataclass(slots=True)
class Read:
    """What was read of one table, its partitions and TOAST included."""

    scanned: int = 0
    """Rows that sequential scans went through."""
    entries: dict[str, int] = field(default_factory=dict)
    """Entries read of each index."""
    blocks: int = 0
    """Blocks, of the table and of its indexes."""

    @property
    def rows(self) -> int:
        return self.scanned + sum(self.entries.values())


@dataclass(slots=True)
class Reading:
    tables: dict[str, Read] = field(default_factory=dict)
    plans: list[dict[str, Any]] = field(default_factory=list)
    """Of each statement, inner ones first, with `Query Text` and `Plan`; none without auto_explain."""

    def of(self, table: str) -> Read:
        return self.tables.get(table, Read())

    @property
    def blocks(self) -> int:
        return sum(one.blocks for one in self.tables.values())

    def __str__(self) -> str:
        lines = [
            f"{table}: {read.scanned} rows scanned, index entries {read.entries}, {read.blocks} blocks"
            for table, read in self.tables.items()
        ]
        return "\n".join([*lines, *map(outline, self.plans)])


@asynccontextmanager
async def reading(conn: Connection) -> AsyncIterator[Reading]:
    """Of what is executed inside; complete when it ends. The connection must be in a transaction."""
    notices: list[str] = []

    def take(notice: Diagnostic) -> None:
        notices.append(notice.message_primary or "")

    found = Reading()
    explains = await can_explain(conn)
    before = await _counters(conn)
    if explains:
        conn.add_notice_handler(take)
        await conn.execute("set client_min_messages = notice")
        await conn.execute(_EXPLAIN)
    notices.clear()
    try:
        yield found
    finally:
        if explains:
            conn.remove_notice_handler(take)
    if explains:
        await conn.execute("set auto_explain.log_min_duration = -1")
    after = await _counters(conn)
    for (table, index), (rows, blocks) in after.items():
        rows_before, blocks_before = before[table, index]
        if blocks == blocks_before:
            continue
        read = found.tables.setdefault(table.removeprefix("scheduler."), Read())
        read.blocks += blocks - blocks_before
        if index is None:
            read.scanned += rows - rows_before
        elif rows > rows_before:
            read.entries[index.removeprefix("scheduler.")] = rows - rows_before
    found.plans += [json.loads(text[text.index("{") :]) for text in notices if "plan:" in text]


async def can_explain(conn: Connection) -> bool:
    """Whether the server has auto_explain; it is then loaded."""
    try:
        async with conn.transaction():
            await conn.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        return False
    return True


def outline(plan: dict[str, Any]) -> str:
    """A plan in lines, for people who have to find out what went wrong."""
    return "\n".join([" ".join(plan["Query Text"].split())[:200], *_lines(plan["Plan"], 1)])


def _lines(node: dict[str, Any], depth: int) -> Iterator[str]:
    what = [node["Node Type"], node.get("Relation Name"), node.get("Index Name")]
    loops = int(node["Actual Loops"])
    yield (
        "    " * depth
        + " ".join(filter(None, what))
        + f" rows={node['Actual Rows'] * loops:g} of {node['Plan Rows']} expected, loops={loops}"
        + f" removed={_removed(node)} blocks={node.get('Shared Hit Blocks', 0) + node.get('Shared Read Blocks', 0)}"
    )
    for inner in node.get("Plans", []):
        yield from _lines(inner, depth + 1)


def _removed(node: dict[str, Any]) -> int:
    """Rows that a node read in vain."""
    each = sum(int(value) for key, value in node.items() if key.startswith("Rows Removed by"))
    return each * int(node["Actual Loops"])


async def _counters(conn: Connection) -> dict[tuple[str, str | None], tuple[int, int]]:
    rows = await (await conn.execute(_COUNTERS)).fetchall()
    return {(table, index): (int(read or 0), int(blocks or 0)) for table, index, read, blocks in rows}

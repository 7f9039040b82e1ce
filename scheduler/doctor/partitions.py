"""The daily partitions: those of the coming days, those that belong to nothing, and what lies in none."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduler.doctor.finding import Finding, Limits, some
from scheduler.session import Session
from scheduler.store import partition
from scheduler.store.partition import DAYS_AHEAD, TABLES, Partition
from scheduler.store.watch import ailments


async def attached(conn: Session, _: Limits) -> list[Finding]:
    findings = []
    for row in await ailments.orphaned_partitions(conn):
        one = Partition.named(row["name"])
        if one is None:
            continue
        attach = (
            f"alter table scheduler.{one.table} attach partition scheduler.{one.name} "
            f"for values from ('{one.starts_at}') to ('{one.ends_at}');"
        )
        detach = f"alter table scheduler.{one.table} detach partition scheduler.{one.name} finalize; "
        findings.append(
            Finding(
                "error",
                "partition_orphaned",
                f"Table {one.name} is no partition of {one.table}: what happened on {one.day} is not found, and "
                "rows of that day go elsewhere.",
                f"{detach if row['is_pending'] else ''}{attach}  -- or drop table scheduler.{one.name};",
                {"table": one.table, "partition": one.name, "is_detaching": row["is_pending"]},
            )
        )
    return findings


async def coming(conn: Session, limits: Limits) -> list[Finding]:
    there, now = await partition.partitions(conn)
    orphans = {row["name"] for row in await ailments.orphaned_partitions(conn)}
    days = [now.date() + timedelta(days=ahead) for ahead in range(1, DAYS_AHEAD + 1)]
    missing = [one for day in days for table in TABLES if (one := Partition(table, day)) not in there]
    missing = [one for one in missing if one.name not in orphans]  # said already
    if not missing:
        return []
    has_server = (await ailments.servers(conn, dead_after=limits.dead_after))["has_server"]
    is_near = missing[0].day == days[0] and has_server
    return [
        Finding(
            "error" if is_near else "warning",
            "partition_missing",
            f"There is no {some([one.name for one in missing])}: janitors make them {DAYS_AHEAD} days ahead.",
            "look into the servers' logs for the janitor" if has_server else "scheduler run --no-worker",
            {"partitions": [one.name for one in missing]},
        )
    ]


async def defaults(conn: Session, _: Limits) -> list[Finding]:
    """Rows of a database's first day lie there for good reason; those of several days do not."""
    findings = []
    for row in await ailments.default_partitions(conn):
        earliest, latest = row["earliest"], row["latest"]
        if not isinstance(earliest, datetime) or not isinstance(latest, datetime) or earliest.date() == latest.date():
            continue
        findings.append(
            Finding(
                "warning",
                "partition_default",
                f"{row['table']}_default holds rows from {earliest.date()} to {latest.date()}: no partition was made "
                "in time, and these rows are deleted one by one once they are old.",
                "keep a server running: its janitor makes partitions ahead, and deletes what is old",
                row,
            )
        )
    return findings

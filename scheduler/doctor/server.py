"""The database server: autovacuum, dead rows, old snapshots, WAL, and the queue of notifications."""

from __future__ import annotations

from scheduler.doctor.finding import Finding, Limits, Row, literal, size, some
from scheduler.session import Session
from scheduler.store.watch import ailments


async def autovacuum(conn: Session, _: Limits) -> list[Finding]:
    found = await ailments.settings(conn)
    findings = []
    if "off" in (found["autovacuum"], found["track_counts"]):
        findings.append(
            Finding(
                "error",
                "autovacuum_off",
                "autovacuum is off: what runs leave behind is never removed, and claims get slower and slower.",
                "alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf();",
                {"autovacuum": found["autovacuum"], "track_counts": found["track_counts"]},
            )
        )
    tables = await ailments.tables_without_autovacuum(conn)
    if tables:
        findings.append(
            Finding(
                "error",
                "autovacuum_off",
                f"autovacuum is off for {some(tables)}.",
                " ".join(f"alter table scheduler.{table} reset (autovacuum_enabled);" for table in tables),
                {"tables": tables},
            )
        )
    return findings


async def dead_rows(conn: Session, limits: Limits) -> list[Finding]:
    return [
        Finding(
            "warning",
            "dead_rows",
            f"Table {row['table']} has {row['dead']:,} dead rows, and {row['live']:,} that live; it was last vacuumed "
            f"{'never' if row['vacuumed_at'] is None else 'at ' + str(row['vacuumed_at'])}.",
            f"vacuum (analyze) scheduler.{row['table']};  -- and look whether something keeps an old snapshot",
            row,
        )
        for row in await ailments.dead_rows(conn, least=limits.dead_rows)
    ]


async def snapshots(conn: Session, limits: Limits) -> list[Finding]:
    """Who keeps dead rows from being removed. Only the oldest of each kind: the next one shows once that is gone."""
    findings = []
    for row in await ailments.snapshots(conn):
        if row["age"] <= limits.snapshot_age:
            continue
        level = "error" if row["age"] > limits.snapshot_age_worst else "warning"
        if row["kind"] == "prepared":
            findings.append(
                Finding(
                    level,  # type: ignore[arg-type]  # one of the two
                    "prepared_transaction",
                    f"Transaction {row['name']!r} was prepared by {row['role']} {row['age']:.0f} s ago and neither "
                    "committed nor rolled back: no row that died since can be removed.",
                    f"rollback prepared {literal(row['name'])};",
                    row,
                )
            )
            continue
        query = f": {row['query']}" if row["query"] else ""
        findings.append(
            Finding(
                level,  # type: ignore[arg-type]  # one of the two
                "old_snapshot",
                f"Process {row['pid']} ({row['role']}, {row['application'] or 'no application name'}, {row['state']}) "
                f"holds a snapshot since {row['age']:.0f} s: no row that died since can be removed{query}",
                f"select pg_terminate_backend({row['pid']});",
                row,
            )
        )
    return findings


async def slots(conn: Session, limits: Limits) -> list[Finding]:
    findings = []
    found = await ailments.slots(conn)
    for row in found:
        drop = f"select pg_drop_replication_slot({literal(row['name'])});"
        if row["wal_status"] in ("lost", "unreserved"):
            findings.append(
                Finding("error", "slot_lost", f"Replication slot {row['name']} has lost WAL that it needs.", drop, row)
            )
        elif not row["is_active"] and (row["behind"] or 0) >= limits.slot_behind:
            findings.append(
                Finding(
                    "error",
                    "slot_behind",
                    f"Replication slot {row['name']}, which nobody reads, keeps {size(row['behind'])} of WAL"
                    + (" and an old snapshot." if row["holds_rows"] else "."),
                    drop,
                    row,
                )
            )
    if found and found[0]["keeps_all"]:
        findings.append(
            Finding(
                "warning",
                "slot_unbounded",
                f"Replication slots ({some([row['name'] for row in found])}) may keep WAL until the disk is full.",
                "alter system set max_slot_wal_keep_size = '20GB'; select pg_reload_conf();",
                {"slots": [row["name"] for row in found]},
            )
        )
    return findings


async def wal(conn: Session, limits: Limits) -> list[Finding]:
    found = await ailments.wal(conn)
    if found["size"] <= limits.wal_growth * max(found["max_wal_size"], found["wal_keep_size"]):
        return []
    return [
        Finding(
            "warning",
            "wal_size",
            f"pg_wal holds {size(found['size'])}, and max_wal_size is {size(found['max_wal_size'])}: something keeps "
            "it, or checkpoints do not come.",
            "select * from pg_replication_slots; select * from pg_stat_archiver;",
            found,
        )
    ]


async def archiving(conn: Session, _: Limits) -> list[Finding]:
    found = await ailments.archiving(conn)
    if found is None:
        return []
    return [
        Finding(
            "error",
            "archiving_fails",
            f"WAL is not archived since {found['failed_at']} ({found['failures']} failures, the last of "
            f"{found['file']}): it piles up, and backups have a hole.",
            "show archive_command;  -- and look into PostgreSQL's log for what it says",
            found,
        )
    ]


async def notifications(conn: Session, limits: Limits) -> list[Finding]:
    found: Row = await ailments.notify_queue(conn)
    if found["ratio"] < limits.notify_queue:
        return []
    return [
        Finding(
            "error",
            "notify_queue",
            f"The queue of notifications is {found['ratio']:.0%} full. Once it is, every commit that notifies fails. A "
            "session that listens and stays in a transaction keeps it.",
            "select pid, xact_start, query from pg_stat_activity where state like 'idle in%' order by xact_start;",
            found,
        )
    ]

"""All checks, each by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psycopg

from scheduler import db
from scheduler.db import reason
from scheduler.doctor import clocks, definitions, partitions, processes, schema, server, settings, tokens, work
from scheduler.doctor.finding import Finding, Limits, Row
from scheduler.errors import SchedulerError
from scheduler.session import Session

Check = Callable[[Session, Limits], Awaitable[list[Finding]]]

STATEMENT_TIMEOUT = 3.0
"""Seconds. A check that takes longer is given up, and said to have been."""
ANYWHERE: tuple[Check, ...] = (
    clocks.this_machine,
    settings.durability,
    settings.pooler,
    server.snapshots,
    server.slots,
    server.wal,
    server.archiving,
    server.notifications,
)
"""Of the server alone: they need no schema."""
INSTALLED: tuple[Check, ...] = (
    clocks.faked,
    clocks.processes,
    settings.connections,
    server.autovacuum,
    server.dead_rows,
    partitions.attached,
    partitions.coming,
    partitions.defaults,
    processes.servers,
    processes.listeners,
    definitions.invalid,
    definitions.owners,
    definitions.successes,
    work.due,
    tokens.expiring,
)


@dataclass(frozen=True, slots=True)
class Report:
    """`checks`: those that were made; `left_out`: those that the schema was needed for, and is not there."""

    findings: list[Finding]
    checks: list[str]
    left_out: list[str]

    @property
    def is_sound(self) -> bool:
        """No error; warnings may be."""
        return all(finding.level != "error" for finding in self.findings)

    def as_row(self) -> Row:
        return {
            "is_sound": self.is_sound,
            "findings": [finding.as_row() for finding in self.findings],
            "checks": self.checks,
            "left_out": self.left_out,
        }


async def examine_at(dsn: str, limits: Limits) -> Report:
    """On a connection of its own. ConfigError or ReadOnlyError when there is none to be had."""
    async with await db.connect(dsn, name="doctor", statement_timeout=STATEMENT_TIMEOUT) as conn:
        return await examine(conn, limits)


async def examine(conn: Session, limits: Limits) -> Report:
    """Errors first. The connection is the doctor's alone, with a short timeout; nothing is written on it."""
    if not conn.is_pooled:
        await conn.execute("set default_transaction_read_only = on")
    findings = await attempt(schema.installed, conn, limits)
    has_schema = not findings
    made = [*ANYWHERE, *INSTALLED] if has_schema else [*ANYWHERE]
    for check in made:
        findings += await attempt(check, conn, limits)
    findings.sort(key=lambda finding: finding.level)
    return Report(findings, [name(schema.installed), *map(name, made)], [] if has_schema else names(INSTALLED))


async def attempt(check: Check, conn: Session, limits: Limits) -> list[Finding]:
    """What a check finds; that it failed, if it did."""
    try:
        return await check(conn, limits)
    except psycopg.errors.InsufficientPrivilege as error:
        return [
            Finding(
                "warning",
                "not_allowed",
                f"{name(check)} could not be checked as {conn.info.user}: {reason(error)}.",
                "have somebody run it who may: the schema's owner, or a member of scheduler_admin and pg_monitor",
                {"check": name(check)},
            )
        ]
    except (psycopg.Error, SchedulerError, OSError, ValueError, TypeError) as error:
        text = reason(error) if isinstance(error, psycopg.Error) else str(error)
        return [
            Finding(
                "error",
                "check_failed",
                f"{name(check)} could not be checked: {text}.",
                "try again; if it stays so, look for locks and load in pg_stat_activity",
                {"check": name(check)},
            )
        ]


def name(check: Check) -> str:
    return f"{check.__module__.rpartition('.')[2]}.{check.__name__}"


def names(checks: Sequence[Check]) -> list[str]:
    return [name(check) for check in checks]

"""Servers, workers, and whether they hear."""

from __future__ import annotations

from scheduler.doctor.finding import Finding, Limits, some
from scheduler.session import Session
from scheduler.store.watch import ailments


async def servers(conn: Session, limits: Limits) -> list[Finding]:
    found = await ailments.servers(conn, dead_after=limits.dead_after)
    if found["has_server"] or not (found["has_jobs"] or found["workers"]):
        return []
    return [
        Finding(
            "error",
            "no_server",
            "No server is alive: nothing is planned, and what dead workers held stays with them.",
            "scheduler run --no-worker",
            found,
        )
    ]


async def listeners(conn: Session, limits: Limits) -> list[Finding]:
    """By the names of sessions: what a session listens to PostgreSQL tells to nobody else."""
    return [
        Finding(
            "error",
            "listener_dead",
            f"{row['kind'].capitalize()} {some(row['ids'])} ({row['label']}) should listen, and {row['listening']} of "
            f"{len(row['ids'])} do: it finds its work by polling.",
            f"look into the log of {row['label']} for the listener; behind a pooler in transaction mode set "
            "SCHEDULER_LISTEN_DSN",
            row,
        )
        for row in await ailments.deaf(conn, dead_after=limits.dead_after)
    ]

"""What is due, and nobody there for it."""

from __future__ import annotations

import shlex

from scheduler.doctor.finding import Finding, Limits
from scheduler.session import Session
from scheduler.store.watch import ailments


async def due(conn: Session, limits: Limits) -> list[Finding]:
    findings = []
    for row in await ailments.due(conn, dead_after=limits.dead_after, late=limits.late):
        words = ["scheduler", "worker", "--app", row["app"], "--queue", row["queue"], "--executors", row["executor"]]
        where = f"In queue {row['queue']} of app {row['app']} runs with executor {row['executor']} are due"
        if row["workers"] == 0:
            text = f"{where} since {row['late']:.0f} s, and no live worker takes them."
            findings.append(Finding("error", "no_worker", text, shlex.join(words), row))
        else:
            text = f"{where} since {row['late']:.0f} s, although {row['workers']} live workers could take them."
            findings.append(Finding("warning", "late", text, f"{shlex.join(words)}  # one more", row))
    return findings

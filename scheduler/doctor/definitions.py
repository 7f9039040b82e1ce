"""Jobs: those that cannot be planned, those that nobody plans, and those that never succeed."""

from __future__ import annotations

import shlex

from scheduler.doctor.finding import Finding, Limits, literal, some
from scheduler.session import Session
from scheduler.store.watch import ailments


async def invalid(conn: Session, _: Limits) -> list[Finding]:
    return [
        Finding(
            "error",
            "job_invalid",
            f"Job {row['job']} of app {row['app']} is not planned, its schedule is {row['schedule']!r}: {row['error']}",
            f"update scheduler.job set schedule = '0 3 * * *' "  # noqa: S608  to be pasted, and quoted
            f"where app = {literal(row['app'])} and name = {literal(row['job'])};",
            row,
        )
        for row in await ailments.invalid_jobs(conn)
    ]


async def owners(conn: Session, limits: Limits) -> list[Finding]:
    found = await ailments.apps_without_owner(conn)
    if not found or not (await ailments.servers(conn, dead_after=limits.dead_after))["has_server"]:
        return []  # without a server no app has an owner, and that is said once
    apps = sorted(row["app"] for row in found)
    return [
        Finding(
            "error",
            "app_without_owner",
            f"No living server plans app {some(apps)}, although one is alive.",
            "look into the servers' logs for the assigner",
            {"apps": apps},
        )
    ]


async def successes(conn: Session, limits: Limits) -> list[Finding]:
    return [
        Finding(
            "warning",
            "job_never_succeeds",
            f"The last {row['ended']} runs of job {row['job']} of app {row['app']} did not succeed: "
            f"{row['error'] or 'no error was reported'}.",
            shlex.join(["scheduler", "runs", "list", "--app", row["app"], "--job", row["job"]]),
            row,
        )
        for row in await ailments.never_succeeding(conn, failures=limits.failures)
    ]

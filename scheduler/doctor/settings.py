"""Settings of PostgreSQL that hurt, connections, and a pooler on the way."""

from __future__ import annotations

from scheduler.config import resolve_listen_dsn
from scheduler.doctor.finding import Finding, Limits
from scheduler.session import Session
from scheduler.store.watch import ailments

_HURT = {
    "fsync": ("fsync_off", "a crash of the machine may destroy the database"),
    "full_page_writes": ("full_page_writes_off", "a crash of the machine may leave pages half written"),
    "synchronous_commit": ("synchronous_commit_off", "a crash may take back runs that were committed a moment ago"),
}
SERVER, WORKER = 5, 4
"""Connections of each."""


async def durability(conn: Session, _: Limits) -> list[Finding]:
    found = await ailments.settings(conn)
    return [
        Finding(
            "error",
            code,
            f"{name} is off: {why}.",
            f"alter system set {name} = on; select pg_reload_conf();",
            {"setting": name, "value": found[name], "source": found["sources"].get(name)},
        )
        for name, (code, why) in _HURT.items()
        if found[name] == "off"
    ]


async def connections(conn: Session, limits: Limits) -> list[Finding]:
    found = await ailments.connections(conn)
    findings = []
    if found["used"] > limits.connections * found["most"]:
        findings.append(
            Finding(
                "warning",
                "connections_used",
                f"{found['used']} of {found['most']} connections are in use.",
                f"alter system set max_connections = {2 * found['most']};  -- and restart PostgreSQL",
                found,
            )
        )
    processes = await ailments.alive(conn)
    needed = SERVER * processes["servers"] + WORKER * processes["workers"]
    if needed > found["most"]:
        findings.append(
            Finding(
                "error",
                "connections_short",
                f"{processes['servers']} servers and {processes['workers']} workers need {needed} connections, and "
                f"there are {found['most']}.",
                f"alter system set max_connections = {2 * needed};  -- and restart PostgreSQL",
                {**found, **processes, "needed": needed},
            )
        )
    return findings


async def pooler(conn: Session, _: Limits) -> list[Finding]:
    if not conn.is_pooled or resolve_listen_dsn():
        return []
    return [
        Finding(
            "warning",
            "pooler",
            "The DSN leads through a pooler in transaction mode, where no notification is heard: services poll.",
            "export SCHEDULER_LISTEN_DSN=postgresql://…  # that of PostgreSQL itself, for the listener alone",
        )
    ]

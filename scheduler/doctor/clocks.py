"""Clocks: this machine's and the database's."""

from __future__ import annotations

import time

from scheduler.doctor.finding import Finding, Limits, quoted
from scheduler.session import Session
from scheduler.store.watch import ailments

LOOKS = 3


async def this_machine(conn: Session, limits: Limits) -> list[Finding]:
    """Against the database server's own clock: of a few looks the quickest, which errs by half of what it took."""
    offset, error = 0.0, float("inf")
    for _ in range(LOOKS):
        sent, began = time.time(), time.monotonic()
        now = await ailments.server_time(conn)
        took = time.monotonic() - began
        if took < error:
            offset, error = sent + took / 2 - now, took
    if abs(offset) - error / 2 <= limits.clock_offset:
        return []
    return [
        Finding(
            "error",
            "clock_offset",
            f"This machine's clock is {abs(offset):.3g} s {'ahead of' if offset > 0 else 'behind'} the database's. "
            "Nothing is scheduled by it, but logs, result times of other systems and TLS are.",
            "timedatectl set-ntp true",
            {"offset": offset, "uncertain_by": error / 2},
        )
    ]


async def faked(conn: Session, _: Limits) -> list[Finding]:
    found = await ailments.faked_clock(conn)
    if not found["fake"]:
        return []
    return [
        Finding(
            "error",
            "clock_faked",
            f"The clock that decides what is due stands at {found['fake']}: the setting scheduler.fake_clock, which is "
            "meant for tests, is set.",
            f"alter database {quoted(found['database'])} reset scheduler.fake_clock;",
            found,
        )
    ]


async def processes(conn: Session, limits: Limits) -> list[Finding]:
    """As they measured it themselves; said with each heartbeat."""
    if (await ailments.faked_clock(conn))["fake"]:
        return []  # then every clock is off
    return [
        Finding(
            "error",
            "clock_offset_process",
            f"The clock of {row['host']}, where {row['kind']} {row['id']} ({row['label']}) runs, is "
            f"{abs(row['clock_ahead']):.3g} s {'ahead of' if row['clock_ahead'] > 0 else 'behind'} the database's. "
            "Nothing is scheduled by it, but its logs and what its runs write are.",
            f"timedatectl set-ntp true  # on {row['host']}",
            row,
        )
        for row in await ailments.wrong_clocks(conn, most=limits.clock_offset)
    ]

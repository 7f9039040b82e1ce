"""Tokens of the HTTP API that expire soon, or did."""

from __future__ import annotations

import shlex

from scheduler.doctor.finding import Finding, Limits
from scheduler.session import Session
from scheduler.store.watch import ailments

DAY = 86_400


async def expiring(conn: Session, limits: Limits) -> list[Finding]:
    return [
        Finding(
            "warning",
            "token_expires",
            f"Token {row['name']} {'expired' if row['has_expired'] else 'expires'} at {row['expires_at']}.",
            f"{shlex.join(['scheduler', 'token', 'create', row['name'] + '-2', '--scope', '…'])}, hand it out, "
            f"and then {shlex.join(['scheduler', 'token', 'revoke', row['name']])}",
            row,
        )
        for row in await ailments.expiring_tokens(conn, within=limits.token_days * DAY)
    ]

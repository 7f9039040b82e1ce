"""What is wrong with the database, the processes and the definitions, as `scheduler doctor` says it."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from scheduler.api.operation import Ask, Operation
from scheduler.doctor import Limits, examine_at


class Finding(TypedDict):
    """`remedy`: a command or SQL to paste, or what to do. `facts`: what it rests on, which differs by `code`."""

    level: Literal["error", "warning"]
    code: str
    text: str
    remedy: str
    facts: dict[str, Any]


class Report(TypedDict):
    """`is_sound`: there is no error. `left_out`: checks that the schema was needed for, and is not there."""

    is_sound: bool
    findings: list[Finding]
    checks: list[str]
    left_out: list[str]


async def show_findings(ask: Ask) -> Report:
    async with ask.data.examining.turn():
        # By a connection of its own: its statements end sooner than a request's, and it sets it to read only.
        report = await examine_at(ask.data.dsn, Limits(dead_after=ask.settings.dead_after))
    row: Report = report.as_row()  # type: ignore[assignment]
    return row


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/v1/doctor",
        handle=show_findings,
        scope="admin",
        everywhere=True,
        summary="What is wrong, or will be soon, and what to do about it; errors first. A server looks once at a time.",
        tag="doctor",
        answer=Report,
    ),
)

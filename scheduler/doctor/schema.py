"""Is the schema this program's."""

from __future__ import annotations

from scheduler import install
from scheduler.doctor.finding import Finding, Limits
from scheduler.errors import SchemaError
from scheduler.session import Session


async def installed(conn: Session, _: Limits) -> list[Finding]:
    try:
        await install.ensure_known(conn)
    except SchemaError as error:
        text = str(error).partition(" (")[0]
        return [Finding("error", "schema", f"{text[0].upper()}{text[1:]}.", error.hint or "scheduler migrate")]
    return []

"""What the database's refusals mean, in the words of errors.py."""

from __future__ import annotations

import psycopg

from scheduler.errors import ConflictError, InvalidError, SchedulerError, from_database


def explained(error: psycopg.Error) -> SchedulerError | None:
    """The exception that stands for it, or None when it is not about what was asked for.

    The constraints of the tables are named like the rules they hold: `queue_is_1_to_100_characters`.
    """
    if known := from_database(error):
        return known
    rule = (error.diag.constraint_name or "").replace("_", " ")
    if isinstance(error, psycopg.errors.CheckViolation) and error.diag.schema_name == "scheduler":
        return InvalidError(f"refused: {rule}")
    if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.schema_name == "scheduler":
        return ConflictError(error.diag.message_primary or rule, hint=error.diag.message_hint)
    if isinstance(error, psycopg.errors.DataError):  # a jsonb number out of range, an instant before 4713 BC
        return InvalidError(f"refused: {error.diag.message_primary or str(error)}")
    return None

"""What can go wrong, as one tree.

SchedulerError
├── ConfigError            a setting, a DSN or an option is unusable
├── EmbeddedError          the PostgreSQL that comes along could not be started or reached
├── SchemaError            the database's schema is absent, older or newer than this program
├── InvalidError   JS001   a value was refused; the message says which and what would be right
│   └── ScheduleError      a schedule expression or time zone cannot be understood, or never fires
├── NotFoundError  JS002   there is no such app, job, run or process
├── ConflictError  JS003   it exists already, or its state forbids the request
├── LeaseLostError JS004   the worker was declared dead; whatever it held belongs to others now
├── ReadOnlyError          the database takes no writes now, as a standby does; it passes
├── WrongDatabaseError     another database answers than before, or an older state of it; nothing mends that
└── MissingExtraError      an optional dependency is not installed; the message names the extra

Errors that cross the SQL border carry a SQLSTATE of class JS; `from_database` maps each to its class, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


class SchedulerError(Exception):
    """The root: one line for a person, and optionally a hint that says the way out."""

    sqlstate: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(SchedulerError):
    pass


class EmbeddedError(SchedulerError):
    pass


class SchemaError(SchedulerError):
    pass


class InvalidError(SchedulerError):
    sqlstate = "JS001"


class ScheduleError(InvalidError):
    pass


class NotFoundError(SchedulerError):
    sqlstate = "JS002"


class ConflictError(SchedulerError):
    sqlstate = "JS003"


class LeaseLostError(SchedulerError):
    sqlstate = "JS004"


class ReadOnlyError(SchedulerError):
    pass


class WrongDatabaseError(SchedulerError):
    pass


class MissingExtraError(SchedulerError):
    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency", hint=f"pip install 'walclock[{extra}]'")


_BY_SQLSTATE = {
    error.sqlstate: error for error in (InvalidError, NotFoundError, ConflictError, LeaseLostError) if error.sqlstate
}


def from_database(error: psycopg.Error) -> SchedulerError | None:
    """The exception that stands for a SQLSTATE of ours, or None when the error is not ours to explain."""
    kind = _BY_SQLSTATE.get(error.sqlstate or "")
    if kind is None:
        return None
    return kind(error.diag.message_primary or str(error), hint=error.diag.message_hint)

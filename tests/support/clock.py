"""Moves the time that the database goes by. `scheduler.clock()` reads it from the setting `scheduler.fake_clock`."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier, Literal


class Clock:
    """The time stands still from the first `set` on, and moves when it is told to.

    It reaches the given sessions at once and every session opened later: they start with the database's setting. A
    process that was connected before keeps its time until it reconnects; set the clock before starting one.
    """

    def __init__(self, dsn: str, sessions: list[psycopg.Connection]) -> None:
        self._dsn = dsn
        self._sessions = sessions
        self._now: datetime | None = None

    @property
    def now(self) -> datetime:
        """The instant it was last set to."""
        assert self._now is not None, "the clock was not set yet"
        return self._now

    def set(self, instant: datetime | str) -> None:
        """Makes it this instant; a text is read as ISO 8601 and must have its offset."""
        parsed = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        assert parsed.tzinfo is not None, "an instant needs its offset: 2026-01-01T00:00:00Z"
        self._now = parsed
        self._write(parsed.isoformat())

    def advance(self, by: timedelta | float) -> None:
        """Lets that much time pass; a number is in seconds."""
        self.set(self.now + (by if isinstance(by, timedelta) else timedelta(seconds=by)))

    def run_free(self) -> None:
        """Gives the database its own clock back."""
        self._now = None
        self._write("")

    def _write(self, value: str) -> None:
        database = Identifier(str(conninfo_to_dict(self._dsn)["dbname"]))
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute(SQL("alter database {} set scheduler.fake_clock = {}").format(database, Literal(value)))
        for session in self._sessions:
            # A statement that is running or a transaction that failed cannot be told; it keeps the time it has.
            if session.info.transaction_status in {TransactionStatus.IDLE, TransactionStatus.INTRANS}:
                session.execute("select set_config('scheduler.fake_clock', %s, false)", [value])

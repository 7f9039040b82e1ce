"""Whether the database that answers is the one we know, and takes writes.

A failover, a moved address or a restored backup may lead a process that reconnects to a standby, to an old primary that
nobody stopped, or to another database altogether. What was claimed, planned or reported would then be lost, or done
twice. So each new session of a service is looked at before anything is done with it:

    read-only (a standby, default_transaction_read_only)   nothing is done; it is asked again until that has passed
    another system identifier, or a timeline that is       nothing mends that: the process says so and ends
    smaller than one that was seen

What one session of a process found holds for all of them.
"""

from __future__ import annotations

import logging
from typing import LiteralString

import psycopg

from scheduler.errors import ReadOnlyError, WrongDatabaseError
from scheduler.session import Session

log = logging.getLogger(__name__)

_IS_READ_ONLY: LiteralString = "select current_setting('transaction_read_only')::boolean, pg_is_in_recovery()"
# The timeline of what is being written now. That in pg_control_checkpoint() is the old one until some seconds after a
# promotion.
_WHICH: LiteralString = """
    select format('%s of system %s', current_database(), c.system_identifier),
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
    from pg_control_system() c
"""


class Standing:
    """What the sessions of one DSN have seen."""

    def __init__(self) -> None:
        self._which: str | None = None
        self._timeline = 0
        self._is_read_only = False
        self._wrong: str | None = None

    @property
    def which(self) -> str | None:
        """The database that a session found: its name and its cluster's number. None until one did, or where that is
        not told.
        """
        return self._which

    async def admit(self, conn: Session) -> None:
        """ReadOnlyError or WrongDatabaseError unless work may be done on this session."""
        self.ensure_right()
        is_read_only, is_standby = (await (await conn.execute(_IS_READ_ONLY)).fetchall())[0]
        if is_read_only:
            self.say_read_only("it is a standby" if is_standby else "default_transaction_read_only is on")
            raise ReadOnlyError("the database is read-only")
        try:
            which = await (await conn.execute(_WHICH)).fetchall()
        except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.OperationalError) as error:
            if error.sqlstate is None:
                raise
            log.debug("this server does not say which it is: %s", error)  # some that others manage do not
        else:
            self._compare(*which[0])
        if self._is_read_only:
            self._is_read_only = False
            log.warning("the database takes writes again: going on")

    def ensure_right(self) -> None:
        """WrongDatabaseError once a session led to another database."""
        if self._wrong is not None:
            raise WrongDatabaseError(self._wrong)

    def say_read_only(self, why: str) -> None:
        """Once, until it has passed."""
        if not self._is_read_only:
            self._is_read_only = True
            log.error("the database is read-only (%s): nothing is done until it takes writes again", why)

    def _compare(self, which: str, timeline: int) -> None:
        if self._which is not None and which != self._which:
            self._wrong = f"another database answers than before: {which}, and it was {self._which}"
        elif timeline < self._timeline:
            self._wrong = (
                f"the database went back in time: it is on timeline {timeline}, and was on {self._timeline} before, "
                "as when an old primary answers, or a backup was restored"
            )
        self.ensure_right()
        self._which, self._timeline = which, timeline


_standings: dict[str, Standing] = {}


def of(dsn: str) -> Standing:
    """That of a DSN, one for the whole process."""
    return _standings.setdefault(dsn, Standing())


def unite(dsn: str, other: str) -> None:
    """Both lead to one database, or ought to: what is found out on one way holds for the other."""
    _standings[other] = of(dsn)

"""Connections to PostgreSQL: how they are opened, what each is set to, and how long to wait for a lost one.

Three ways, by who asks:
- `connect` at the start of a command: fails at once, with one line that a person can act on and no password in it;
- `connect_forever` in a service that was connected once: a database that restarts or moves is waited for;
- `pool` for statements that come and go.

Settings are SET after connecting, never sent as start-up options, which PgBouncer refuses.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from scheduler.errors import ConfigError

log = logging.getLogger(__name__)

_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 10,
    # A peer that vanished without a word is noticed within 10 + 3 * 5 s, and an unacknowledged send within 15 s.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_SESSION = """
    select set_config('statement_timeout', %(statement)s, false),
           set_config('idle_in_transaction_session_timeout', %(idle)s, false),
           set_config('timezone', 'UTC', false)
"""
_NAME_BYTES = 63  # PostgreSQL cuts application_name there, with a warning


async def connect(dsn: str, *, name: str, statement_timeout: float = 10.0) -> AsyncConnection[TupleRow]:
    """An autocommit connection that shows as `walclock <name>` in pg_stat_activity.

    `statement_timeout` is in seconds; 0 turns it off. A transaction left idle for as long is ended by the server.
    ConfigError, in one line, when the DSN cannot be read or the database cannot be reached with it.
    """
    conninfo = read_dsn(dsn, name=name)
    try:
        return await _open(conninfo, statement_timeout)
    except psycopg.OperationalError as error:
        raise ConfigError(f"cannot connect to {_where(conninfo)}: {reason(error)}") from error


async def connect_forever(
    dsn: str, *, name: str, statement_timeout: float = 10.0, backoff: Backoff | None = None
) -> AsyncConnection[TupleRow]:
    """As `connect`, but whatever the failure, it is logged and tried again, until connected or cancelled.

    Even a refused password is waited for: the process worked a moment ago, so somebody is likely to be rotating it.
    ConfigError only for a DSN that cannot be read, which no waiting mends.
    """
    conninfo = read_dsn(dsn, name=name)
    backoff = backoff or Backoff()
    while True:
        try:
            return await _open(conninfo, statement_timeout)
        except psycopg.OperationalError as error:
            delay = backoff.next()
            log.warning("%s: no connection, next try in %.2f s: %s", name, delay, reason(error))
            await asyncio.sleep(delay)


def pool(dsn: str, *, name: str, size: int, statement_timeout: float = 10.0) -> AsyncConnectionPool:
    """Up to `size` connections like those of `connect`; open it with `async with`.

    It reconnects on its own. A connection that broke while nobody used it is noticed by its next user: every caller is
    a loop that tries again, and a check before each use would double the round trips.
    """
    conninfo = read_dsn(dsn, name=name)
    return AsyncConnectionPool(
        conninfo,
        kwargs={"autocommit": True},
        configure=_configure(statement_timeout),
        min_size=1,
        max_size=size,
        name=f"walclock {name}",
        open=False,
    )


def read_dsn(dsn: str, *, name: str) -> str:
    """The DSN as libpq keywords, with our defaults where it says nothing. ConfigError when it cannot be read.

    libpq's own complaint is not passed on: it quotes the part it stumbled over, which may be of the password.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        given = None
    if given is None or "@" in str(given.get("host", "")) or not _are_ports(str(given.get("port", ""))):
        raise ConfigError(
            "the DSN cannot be read",
            hint="write postgresql://user:password@host:5432/database with special characters percent-encoded, "
            "or host=… dbname=… user=…",
        )
    application = f"walclock {name}".encode()[:_NAME_BYTES].decode(errors="ignore")
    return make_conninfo("", **{**_DEFAULTS, **given, "application_name": application})


def reason(error: psycopg.Error) -> str:
    """What went wrong, in the server's or libpq's words but in one line."""
    text = (error.diag.message_primary or str(error)).removeprefix("connection failed: ")
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())  # libpq repeats itself
    return "; ".join(lines) or type(error).__name__


class Backoff:
    """Waits that double from `first` to `most` seconds, with full jitter, so that a fleet does not return in step."""

    def __init__(self, first: float = 0.05, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait now. Never under `first`: a zero would be a busy loop."""
        self._failures += 1
        ceiling = min(self._most, self._first * 2 ** min(self._failures, 30))
        return random.uniform(self._first, ceiling)  # noqa: S311  jitter, not a secret

    def reset(self) -> None:
        """To be called after a success."""
        self._failures = 0


async def _open(conninfo: str, statement_timeout: float) -> AsyncConnection[TupleRow]:
    conn = await AsyncConnection.connect(conninfo, autocommit=True)
    try:
        await _configure(statement_timeout)(conn)
    except BaseException:
        await conn.close()
        raise
    return conn


def _configure(statement_timeout: float) -> Callable[[AsyncConnection[TupleRow]], Awaitable[None]]:
    milliseconds = str(round(statement_timeout * 1000))

    async def configure(conn: AsyncConnection[TupleRow]) -> None:
        await conn.execute(_SESSION, {"statement": milliseconds, "idle": milliseconds})

    return configure


def _are_ports(text: str) -> bool:
    return all(port.strip().isdigit() for port in text.split(",") if port.strip())


def _where(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo)
    database, host = given.get("dbname"), given.get("host")
    return f"{f'database {database}' if database else 'the default database'} at {host or 'the local socket'}"

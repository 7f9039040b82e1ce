"""Connections to PostgreSQL: how they are opened, what each is set to, and how long to wait for a lost one.

Three ways, by who asks:
- `connect` at the start of a command: fails at once, with one line that a person can act on and no password in it;
- `connect_forever` in a service that was connected once: a database that restarts or moves is waited for;
- `pool` for statements that come and go.

Settings are SET after connecting, never sent as start-up options, which PgBouncer refuses.

A DSN may name several hosts: the one that takes writes is looked for, beginning with the host that was found last. Who
gave up waiting for a host (a heartbeat waits for two seconds only) begins with the next one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

from scheduler.errors import ConfigError, ReadOnlyError
from scheduler.session import Session

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10  # seconds, of all hosts together
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": CONNECT_TIMEOUT,
    # A peer that vanished without a word is noticed within 10 + 3 * 5 s, and an unacknowledged send within 15 s.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_NAME_BYTES = 63  # PostgreSQL cuts application_name there, with a warning


async def connect(dsn: str, *, name: str, statement_timeout: float = 10.0) -> Session:
    """An autocommit connection that shows as `walclock <name>` in pg_stat_activity.

    `statement_timeout` is in seconds; 0 turns it off. A transaction left idle for as long is ended by the server.
    ConfigError, in one line, when the DSN cannot be read or the database cannot be reached with it; ReadOnlyError when
    it was reached, but no host of it takes writes, and the DSN asks for one that does.
    """
    conninfo = read_dsn(dsn, name=name)
    try:
        return await _open(conninfo, statement_timeout)
    except psycopg.OperationalError as error:
        text = f"cannot connect to {_where(conninfo)}: {reason(error)}"
        raise (ReadOnlyError if _is_read_only(error) else ConfigError)(text) from error


async def connect_forever(
    dsn: str, *, name: str, statement_timeout: float = 10.0, backoff: Backoff | None = None
) -> Session:
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
            level = logging.DEBUG if _is_read_only(error) else logging.WARNING
            log.log(level, "%s: no connection, next try in %.2f s: %s", name, delay, reason(error))
            await asyncio.sleep(delay)


def pool(dsn: str, *, name: str, size: int, statement_timeout: float = 10.0) -> AsyncConnectionPool[Session]:
    """Up to `size` connections like those of `connect`; open it with `async with`.

    It reconnects on its own. A connection that broke while nobody used it is noticed by its next user: every caller is
    a loop that tries again, and a check before each use would double the round trips.
    """
    conninfo = read_dsn(dsn, name=name)
    return AsyncConnectionPool(
        conninfo,
        connection_class=Session,
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
    hosts = _count_hosts(given)
    defaults = dict(_DEFAULTS)
    if hosts > 1:
        defaults |= {"target_session_attrs": "read-write", "connect_timeout": max(2, CONNECT_TIMEOUT // hosts)}
    application = f"walclock {name}".encode()[:_NAME_BYTES].decode(errors="ignore")
    return make_conninfo("", **{**defaults, **given, "application_name": application})


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


_found: dict[str, int] = {}  # by the hosts of a DSN: which was found last, or is to be tried next; for all connections


async def _open(conninfo: str, statement_timeout: float) -> Session:
    hosts = _hosts(conninfo)
    given = conninfo_to_dict(conninfo)
    these = f"{given.get('host')} {given.get('hostaddr')} {given.get('port')}"
    first = _found.get(these, 0)
    errors: list[psycopg.OperationalError] = []
    for place in [*range(first, len(hosts)), *range(first)]:
        try:
            conn = await _open_one(hosts[place], statement_timeout)
        except psycopg.OperationalError as error:
            errors.append(error)
        except asyncio.CancelledError:
            _found[these] = (place + 1) % len(hosts)
            raise
        else:
            _found[these] = place
            return conn
    if len(errors) == 1:
        raise errors[0]
    raise psycopg.OperationalError("\n".join(reason(error) for error in errors))


async def _open_one(conninfo: str, statement_timeout: float) -> Session:
    conn = await Session.connect(conninfo, autocommit=True)
    try:
        await conn.settle(statement_timeout)
    except BaseException:
        await conn.close()
        raise
    return conn


def _configure(statement_timeout: float) -> Callable[[Session], Awaitable[None]]:
    async def configure(conn: Session) -> None:
        await conn.settle(statement_timeout)

    return configure


def _count_hosts(given: Mapping[str, Any]) -> int:
    return max(str(given.get(name) or "").count(",") + 1 for name in ("host", "hostaddr"))


def _hosts(conninfo: str) -> list[str]:
    """A DSN for each host that it names."""
    given = conninfo_to_dict(conninfo)
    count = _count_hosts(given)
    if count == 1:
        return [conninfo]
    lists = {name: str(given[name]).split(",") for name in ("host", "hostaddr", "port") if given.get(name)}
    for name, values in lists.items():
        if name == "port" and len(values) == 1:  # one port for all of them
            lists[name] = values * count
        elif len(values) != count:
            return [conninfo]  # libpq says what is wrong with it
    return [
        make_conninfo("", **{**given, **{name: values[place] or None for name, values in lists.items()}})
        for place in range(count)
    ]


def _is_read_only(error: psycopg.Error) -> bool:
    """Whether a host was reached that takes no writes: libpq has words for it and no code (nor a locale, in here)."""
    return "session is read-only" in str(error) or "server is in hot standby mode" in str(error)


def _are_ports(text: str) -> bool:
    return all(port.strip().isdigit() for port in text.split(",") if port.strip())


def _where(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo)
    database, host = given.get("dbname"), given.get("host")
    return f"{f'database {database}' if database else 'the default database'} at {host or 'the local socket'}"

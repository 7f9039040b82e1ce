"""The database that is maltreated: made for one pass, on the user's server or on an embedded one, and dropped.

Nothing is done to any other database. The embedded server is not the one that `scheduler run` shares: it is crashed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from scheduler import db, install
from scheduler.embedded import Embedded
from scheduler.embedded.supervise import living_postmaster
from scheduler.errors import ConfigError, SchedulerError
from scheduler.statements import statement as _statement

Connection = psycopg.Connection[TupleRow]
statement = partial(_statement, "verify")

_PATIENCE = 120.0  # seconds for a PostgreSQL to come back
_LOOKS = 20  # at the clock


class Scratch:
    def __init__(self, dsn: str, embedded: Embedded | None = None) -> None:
        self.dsn = dsn
        self._embedded = embedded

    def connect(self, name: str, *, timeout: float = 0.0) -> Connection:
        """An autocommit session, shown as `walclock verify <name>`. psycopg.Error when there is none to be had.

        No statement takes longer than `timeout` seconds; 0 for no limit.
        """
        conninfo = db.read_dsn(self.dsn, name=f"verify {name}")
        conn = psycopg.connect(conninfo, autocommit=True, cursor_factory=psycopg.RawCursor)
        conn.execute(statement("session"), [str(round(timeout * 1000))])
        return conn

    @property
    def can_restart(self) -> bool:
        return self._embedded is not None

    def restart(self, *, crash: bool) -> float:
        """End PostgreSQL; its supervisor starts it again. Returns when it answers, by the monotonic clock."""
        assert self._embedded is not None  # noqa: S101  see can_restart
        pgdata = self._embedded.pgdata
        owner = pgdata.stat().st_uid
        pid = living_postmaster(pgdata, owner)
        if pid is not None:
            os.kill(pid, signal.SIGQUIT if crash else signal.SIGINT)
        late = time.monotonic() + _PATIENCE
        while time.monotonic() < late:
            if living_postmaster(pgdata, owner) not in (None, pid):
                try:
                    self.connect("restart").close()
                except psycopg.Error:
                    pass
                else:
                    return time.monotonic()
            time.sleep(0.02)
        raise SchedulerError(f"PostgreSQL did not come back within {_PATIENCE:g} s")

    def offset(self) -> float:
        """What to add to the monotonic clock to have the database's; of some looks the quickest counts."""
        looks: list[tuple[float, float]] = []
        with self.connect("clock") as conn:
            for _ in range(_LOOKS):
                sent = time.monotonic()
                now = value(conn, "now")
                received = time.monotonic()
                looks.append((received - sent, now - (sent + received) / 2))
        return min(looks)[1]


def value(conn: Connection, name: str, *parameters: Any) -> Any:
    """The one value that a statement of ours answers."""
    row = conn.execute(statement(name), parameters).fetchone()
    return row[0] if row else None


@contextmanager
def scratch(dsn: str | None, mark: str, *, progress: Callable[[str], None]) -> Iterator[Scratch]:
    """A database with the schema in it, on the server of the DSN or an embedded one. Dropped whatever happens.

    ConfigError when the server cannot be reached, stands behind a pooler, or does not let this login create a database.
    """
    with _embedded(mark, progress) if dsn is None else _of_a_server(dsn, mark) as made:
        asyncio.run(_install(made.dsn))
        yield made


@contextmanager
def _embedded(mark: str, progress: Callable[[str], None]) -> Iterator[Scratch]:
    data_dir = Path(tempfile.gettempdir()) / f"walclock-{mark}"
    try:
        with Embedded(data_dir, progress=progress) as server:
            yield Scratch(server.dsn, server)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@contextmanager
def _of_a_server(dsn: str, mark: str) -> Iterator[Scratch]:
    conninfo = db.read_dsn(dsn, name="verify")
    name = Identifier(f"walclock_{mark}")
    _admin(conninfo, SQL("create database {} template template0").format(name))
    try:
        yield Scratch(make_conninfo(dsn, dbname=f"walclock_{mark}"))
    finally:
        _admin(conninfo, SQL("drop database if exists {} with (force)").format(name))


def _admin(conninfo: str, query: Any) -> None:
    try:
        with psycopg.connect(conninfo, autocommit=True) as admin:
            admin.execute(query)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            "verify works in a database of its own, and this login may not create one",
            hint="alter role … createdb, or leave the DSN away for an embedded server",
        ) from error
    except psycopg.OperationalError as error:
        raise ConfigError(f"cannot connect to the server: {db.reason(error)}") from error


async def _install(dsn: str) -> None:
    async with await db.connect(dsn, name="verify", statement_timeout=0) as conn:
        if conn.is_pooled:  # which knows no database that has just been made, and whose backends are not one process's
            raise ConfigError(
                "verify needs PostgreSQL itself, and this DSN leads through a pooler",
                hint="give it the server's own address with --dsn",
            )
        await install.migrate(conn)

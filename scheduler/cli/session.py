"""Where a command finds its database: the DSN it was given, or the embedded PostgreSQL for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg
from psycopg import AsyncConnection

from scheduler import db, install
from scheduler.cli import show
from scheduler.config import Settings, resolve_dsn
from scheduler.errors import ConfigError

Connection = AsyncConnection[Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Place:
    """A database; `data_dir` is where the embedded one keeps its files, None for one of the user's own."""

    dsn: str
    data_dir: Path | None

    @property
    def is_embedded(self) -> bool:
        return self.data_dir is not None


def named() -> str | None:
    """The DSN that the command in progress was given; None: the embedded PostgreSQL is meant."""
    return resolve_dsn(click.get_current_context().find_root().params.get("dsn"))


@contextmanager
def located(*, linger: int = 0) -> Iterator[Place]:
    """The database of the command in progress: --dsn, the environment, or the embedded one, started and then left.

    With `linger` the embedded one stays for so many seconds longer, even if nobody else uses it.
    """
    dsn = named()
    if dsn is not None:
        yield Place(dsn, None)
        return
    from scheduler.embedded import Embedded, default_data_dir  # noqa: PLC0415  an extra, and 30 ms that others save

    data_dir = default_data_dir()
    with Embedded(data_dir, progress=lambda line: click.echo(line, err=True)) as server:
        yield Place(server.dsn, data_dir)
        if linger:
            server.linger(linger)


def ask(work: Callable[[Connection], Awaitable[Answer]], *, persistent: bool = False) -> Answer:
    """Run `work` on a connection to the command's database, whose schema is known to be this program's.

    `persistent`: when the connection is lost, `work` is called again with a new one; it must know how far it came.
    """
    with located() as place:
        return asyncio.run(_ask(place, work, persistent=persistent))


async def _ask(place: Place, work: Callable[[Connection], Awaitable[Answer]], *, persistent: bool) -> Answer:
    timeout = Settings.from_env().statement_timeout
    backoff = db.Backoff()
    is_known = False
    while True:
        try:
            async with await db.connect(place.dsn, name="cli", statement_timeout=timeout) as conn:
                if not is_known:
                    await prepare(conn, place)
                    is_known = True
                return await work(conn)
        except (psycopg.OperationalError, ConfigError) as error:
            if not (persistent and is_known) or isinstance(error, psycopg.errors.QueryCanceled):
                raise
            delay = backoff.next()
            show.note(f"the connection is lost, next try in {delay:.2f} s")
            await asyncio.sleep(delay)


async def prepare(conn: Connection, place: Place, *, upgrade: bool = False) -> None:
    """SchemaError unless the schema is known. An empty embedded database gets it, an older one only with `upgrade`.

    For an older one may be in use by processes of the older program.
    """
    if place.is_embedded and (upgrade or await install.check(conn) is install.State.ABSENT):
        await install.migrate(conn)
    await install.ensure_known(conn)

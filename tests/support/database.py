"""A real PostgreSQL for the tests: one server per test run, one template with the schema, one database per test.

SCHEDULER_TEST_DSN        a superuser's DSN of a server to make databases on; without it an embedded server is started
SCHEDULER_TEST_POSTGRES   15, 16 or 18: the major version of that embedded server

All processes of a run (the workers of pytest-xdist) share the server and the template. The run has a name, which the
first process puts into the environment, so that the others find them and the last can clear them away.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from scheduler import db
from scheduler.embedded import Embedded, find_binaries
from scheduler.install import migrate

_RUN = "SCHEDULER_TEST_RUN"
_TEMPLATE_LOCK = 7_716_899
_SHARED_LOCK = 7_716_898


class Databases:
    """Makes databases on a server, and drops them."""

    def __init__(self, admin: psycopg.Connection, server: str, drops: Executor) -> None:
        self._admin = admin
        self._drops = drops
        self._server = server
        self._template = f"walclock_{run_name()}_template"
        self._is_made = False

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Databases]:
        """Starts or joins the server of this run."""
        with ExitStack() as stack:
            server = os.environ.get("SCHEDULER_TEST_DSN")
            if not server:
                server = stack.enter_context(Embedded(_directory(), binaries=find_binaries(_major()))).admin_dsn
                _make_careless(server)
            admin = stack.enter_context(psycopg.connect(server, autocommit=True))
            # Dropping makes a checkpoint and waits for sessions to end, 0.3 s that the next test need not wait for.
            drops = ThreadPoolExecutor(1)
            stack.callback(drops.shutdown, cancel_futures=True)  # clear_away sees to what is left
            yield cls(admin, server, drops)

    @property
    def server(self) -> str:
        """A superuser's DSN of the server."""
        return self._server

    @contextmanager
    def fresh(self, *, installed: bool = True) -> Iterator[str]:
        """The DSN of a database of its own, with the schema or without, dropped at the end whoever is connected."""
        if installed:
            self._make_template()
        name = f"walclock_{run_name()}_{uuid.uuid4().hex[:8]}"
        template = self._template if installed else "template0"
        self._admin.execute(SQL("create database {} template {}").format(Identifier(name), Identifier(template)))
        try:
            yield make_conninfo(self._server, dbname=name)
        finally:
            self._drops.submit(self._drop, name)

    def shared(self, name: str, fill: Callable[[str], None]) -> str:
        """The DSN of a database that the whole run shares: installed, and filled by whoever comes first."""
        self._make_template()
        database = f"walclock_{run_name()}_{name}"
        dsn = make_conninfo(self._server, dbname=database)
        self._admin.execute("select pg_advisory_lock(%s)", [_SHARED_LOCK])
        try:
            found = self._admin.execute("select from pg_database where datname = %s", [database])
            if found.rowcount == 0:
                template = Identifier(self._template)
                self._admin.execute(SQL("create database {} template {}").format(Identifier(database), template))
                try:
                    fill(dsn)
                except BaseException:
                    self._drop(database)  # or the next one would take it for a full one
                    raise
        finally:
            self._admin.execute("select pg_advisory_unlock(%s)", [_SHARED_LOCK])
        return dsn

    def _drop(self, name: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as admin:
            admin.execute(SQL("drop database {} with (force)").format(Identifier(name)))

    def _make_template(self) -> None:
        if self._is_made:
            return
        self._admin.execute("select pg_advisory_lock(%s)", [_TEMPLATE_LOCK])
        try:
            found = self._admin.execute("select from pg_database where datname = %s", [self._template])
            if found.rowcount == 0:
                with self.fresh(installed=False) as dsn:
                    asyncio.run(_install(dsn))
                    # Copied, not renamed: nobody may connect to a template, and a database appears under a name whole.
                    made = Identifier(str(conninfo_to_dict(dsn)["dbname"]))
                    self._admin.execute(SQL("create database {} template {}").format(Identifier(self._template), made))
        finally:
            self._admin.execute("select pg_advisory_unlock(%s)", [_TEMPLATE_LOCK])
        self._is_made = True


def run_name() -> str:
    """The name of this test run: the first process that asks makes it up, its children inherit it."""
    return os.environ.setdefault(_RUN, uuid.uuid4().hex[:8])


def clear_away() -> None:
    """At the very end of a run: drops its template and what killed tests left, and the embedded server's files."""
    if given := os.environ.get("SCHEDULER_TEST_DSN"):
        with psycopg.connect(given, autocommit=True) as admin:
            ours = "select datname from pg_database where starts_with(datname, %s)"
            for (name,) in admin.execute(ours, [f"walclock_{run_name()}_"]).fetchall():
                admin.execute(SQL("drop database {} with (force)").format(Identifier(name)))
    shutil.rmtree(_directory(), ignore_errors=True)


def _make_careless(server: str) -> None:
    """Let a server that is thrown away not wait for the disk, which took half the time of the tests.

    What must survive a crash is tested on servers that keep their fsync.
    """
    with psycopg.connect(server, autocommit=True) as admin:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            admin.execute(SQL("alter system set {} = off").format(Identifier(name)))
        admin.execute("select pg_reload_conf()")


async def _install(dsn: str) -> None:
    async with await db.connect(dsn, name="tests") as conn:
        await migrate(conn)


def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"walclock-test-{run_name()}"


def _major() -> int | None:
    given = os.environ.get("SCHEDULER_TEST_POSTGRES")
    return int(given) if given else None

"""One run of the benchmark: its names in the database, what it measured, and that nothing of it stays behind."""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from scheduler.bench.connection import Connection, connect, value
from scheduler.bench.meter import Meter
from scheduler.bench.options import Options
from scheduler.bench.progress import Bars
from scheduler.bench.results import Results
from scheduler.bench.statements import statement

# What a benchmark writes, in the order in which it is deleted: a job could be planned once more, and a lease reclaimed
# into run, by servers that others have here.
_OF_APPS = ("job", "lease", "run", "run_key", "fire", "history", "log")
_OF_LABELS = ("worker", "server")


class Bench:
    """Everything of it carries its token: apps `bench_<token>_…`, labels of processes, and a schema of scratch tables.

    When `started` is left, in whatever way, its processes are ended and its rows deleted.
    """

    def __init__(self, dsn: str, options: Options, bars: Bars) -> None:
        self.dsn = dsn
        self.options = options
        self.bars = bars
        self.results = Results()
        self.mark = f"bench_{secrets.token_hex(3)}"
        self.processes = ExitStack()  # whatever a scenario started, ended with the benchmark at the latest
        self._apps: list[str] = []
        self._numbers = itertools.count(1)

    @property
    def schema(self) -> str:
        """Of the scratch tables."""
        return self.mark

    @contextmanager
    def started(self) -> Iterator[None]:
        self.folder = Path(tempfile.mkdtemp(prefix=f"walclock-{self.mark}-"))
        try:
            self.conn = self.connect()
            self.meter = Meter(self.conn)
            yield
        finally:
            with self.bars.step("cleaning up"):
                self._end()

    def connect(self, *, scratch: bool = False) -> Connection:
        """Another session; with `scratch` unqualified names are the scratch tables."""
        return connect(self.dsn, mark=self.mark, schema=self.schema if scratch else None)

    def app(self, what: str) -> str:
        """The name of an app that nobody else has."""
        self._apps.append(f"{self.mark}_{next(self._numbers)}_{what}")
        return self._apps[-1]

    def label(self) -> str:
        """The name of a process that nobody else has."""
        return f"{self.mark}_{next(self._numbers)}"

    def repetitions(self, scenario: str, *, forgetting: bool = True) -> Iterator[str]:
        """Once per measurement, with the words that tell people which one it is."""
        for number in range(1, self.options.repeat + 1):
            yield f"{scenario} {number}/{self.options.repeat}"
            if forgetting:
                self.forget()
            self.bars.measured()

    def forget(self) -> None:
        """Delete what the apps hold so far, and leave the tables as tidy as they were found."""
        _forget(self.conn, self._apps)
        self._apps.clear()
        self.tidy()

    def tidy(self) -> None:
        """Clear dead rows away, so that the next measurement works neither among them nor beside an autovacuum.

        A login that may not vacuum is told so by the server in a warning, and goes on.
        """
        self.conn.execute(statement("vacuum"))

    def checkpoint(self) -> None:
        """Start from a fresh checkpoint where we may: whoever writes to a page first after one logs all of it."""
        with suppress(psycopg.errors.InsufficientPrivilege):
            self.conn.execute(statement("checkpoint"))

    def _end(self) -> None:
        """As if it had never been. On a session of its own: the others may be in the middle of anything."""
        self.processes.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with connect(self.dsn, mark=self.mark) as conn:
            # A statement of a killed client goes on in the server for a while, and must not write behind our back.
            value(conn, "end_sessions", self.mark)
            conn.execute(SQL("drop schema if exists {} cascade").format(Identifier(self.schema)).as_bytes())
            _forget(conn, self._apps)
            for table in _OF_LABELS:
                conn.execute(statement(f"forget_{table}"), [self.mark])


def _forget(conn: Connection, apps: list[str]) -> None:
    for table in _OF_APPS:
        conn.execute(statement(f"forget_{table}"), [apps])

"""The scenarios that were asked for, one after the other."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any

from scheduler.bench.bench import Bench
from scheduler.bench.connection import Connection
from scheduler.bench.options import Options
from scheduler.bench.progress import Bars
from scheduler.bench.results import document
from scheduler.bench.statements import statement
from scheduler.errors import ConflictError


def run(dsn: str, scenarios: Sequence[str], options: Options) -> dict[str, Any]:
    """The document of results. Whatever happens, Ctrl-C and TERM included, nothing stays behind in the database.

    ConflictError when somebody else's worker would take the benchmark's runs; SchedulerError when one of ours dies.
    """
    signal.signal(signal.SIGTERM, _leave)
    with Bars(len(scenarios) * options.repeat) as bars:
        bench = Bench(dsn, options, bars)
        with bench.started():
            _refuse_company(bench.conn)
            for name in scenarios:
                import_module(f"scheduler.bench.{name}").measure(bench)
            return document(bench.results, options, scenarios, bench.conn, is_local=bench.meter.is_local)


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _refuse_company(conn: Connection) -> None:
    other = conn.execute(statement("others")).fetchone()
    if other is not None:
        raise ConflictError(
            f"worker {other[0]} on {other[1]} serves every app, and would take the benchmark's runs",
            hint="stop it, give it its apps with --app, or point the benchmark at a database of its own",
        )

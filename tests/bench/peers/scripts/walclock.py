"""Walclock: rows by plain SQL, the way its README shows them. Its worker is the command line: see walclock_tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.bench.peers.scripts.protocol import drive, payload

DSN = os.environ["BENCH_DSN"]
INSERT = "insert into scheduler.run (app, executor, spec) values ('bench', 'python', %s)"
COPY = "copy scheduler.run (app, executor, spec) from stdin"
COPY_LATER = "copy scheduler.run (app, executor, spec, run_at) from stdin"


def spec(number: int) -> str:
    return json.dumps({"task": "t", "args": payload(number)})


class Walclock:
    batch = 20_000
    connection: psycopg.Connection[Any]

    async def setup(self) -> None:
        subprocess.run([sys.executable, "-m", "scheduler.cli", "--dsn", DSN, "migrate"], check=True)  # noqa: ASYNC221  nothing else runs

    async def open(self) -> None:
        self.connection = psycopg.connect(DSN, autocommit=True)

    async def one(self, number: int) -> None:
        self.connection.execute(INSERT, [spec(number)])

    async def many(self, numbers: range) -> None:
        with self.connection.cursor().copy(COPY) as copy:
            copy.write("".join([f"bench\tpython\t{spec(number)}\n" for number in numbers]))

    async def later(self, dues: list[tuple[int, float]]) -> None:
        rows = [f"bench\tpython\t{spec(number)}\t{datetime.fromtimestamp(due, UTC)}\n" for number, due in dues]
        with self.connection.cursor().copy(COPY_LATER) as copy:
            copy.write("".join(rows))

    def work(self, mode: str, size: int) -> None:
        raise NotImplementedError


if __name__ == "__main__":
    drive(Walclock())

"""PgQ: one consumer by its SQL functions, ticks of 5,000 events, a ticker that looks each 50 ms.

An event stream and no job queue: one acknowledgement per batch, no state per event, no delays.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.bench.peers.scripts.protocol import drive, payload, ready

DSN = os.environ["BENCH_DSN"]
TICK = 0.05  # seconds; its default of 1 makes the latency half a second and more
TICKER = """[pgqd]
base_connstr={base}
database_list={database}
initial_database={database}
check_period=1
ticker_period={tick}
"""


def connect() -> Any:
    return psycopg.connect(DSN, autocommit=True)


def encoded(number: int) -> str:
    return json.dumps(payload(number))


class Pgq:
    batch = 5000
    connection: Any

    async def setup(self) -> None:
        with connect() as connection:
            connection.execute("create extension pgq")
            connection.execute("select pgq.create_queue('q'), pgq.register_consumer('q', 'c')")
            for setting, value in (("max_lag", "50 ms"), ("idle_period", "1 s"), ("max_count", self.batch)):
                connection.execute("select pgq.set_queue_config('q', %s, %s)", [f"ticker_{setting}", str(value)])

    async def open(self) -> None:
        self.connection = connect()

    async def one(self, number: int) -> None:
        self.connection.execute("select pgq.insert_event('q', 't', %s)", [encoded(number)], prepare=True)

    async def many(self, numbers: range) -> None:
        """What Skytools' bulk_insert_events does, and the ticker after it."""
        (table,) = self.connection.execute("select pgq.current_event_table('q')").fetchone()
        now = datetime.now(UTC)
        with self.connection.cursor().copy(f"copy {table} (ev_time, ev_type, ev_data) from stdin") as copy:
            for number in numbers:
                copy.write_row((now, "t", encoded(number)))
        self.connection.execute("select pgq.ticker('q')")

    async def later(self, dues: list[tuple[int, float]]) -> None:
        raise NotImplementedError

    def work(self, mode: str, size: int) -> None:
        connection = connect()
        ticker = self.ticker()
        recorder = ready(mode, size)
        while ticker.poll() is None:
            (batch,) = connection.execute("select pgq.next_batch('q', 'c')", prepare=True).fetchone()
            if batch is None:
                time.sleep(0.002 if mode == "trickle" else 0.01)
                continue
            for (data,) in connection.execute("select ev_data from pgq.get_batch_events(%s)", [batch], prepare=True):
                recorder.hit(json.loads(data)["i"])
            connection.execute("select pgq.finish_batch(%s)", [batch], prepare=True)

    def ticker(self) -> subprocess.Popen[bytes]:
        """A child of the worker, which is ended and counted with it."""
        given = conninfo_to_dict(DSN)
        database = given.pop("dbname")
        settings = Path(tempfile.mkdtemp()) / "pgqd.ini"
        settings.touch(mode=0o600)  # it holds a password
        settings.write_text(TICKER.format(base=make_conninfo("", **given), database=database, tick=TICK))
        return subprocess.Popen(["pgqd", "-q", settings])


if __name__ == "__main__":
    drive(Pgq())

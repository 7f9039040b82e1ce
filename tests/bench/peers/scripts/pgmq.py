"""pgmq: its SQL as the Python client brings it; reads and deletes 2,000 messages at a time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from pgmq import PGMQueue
from pgmq.install import get_embedded_install_sql
from psycopg.conninfo import conninfo_to_dict

from tests.bench.peers.scripts.protocol import drive, payload, ready

DSN = os.environ["BENCH_DSN"]
BATCH = {"drain": 2000, "trickle": 50}
INVISIBLE = 30  # seconds


def connect() -> Any:
    given = conninfo_to_dict(DSN)
    return PGMQueue(
        host=given["host"],
        port=str(given["port"]),
        username=given["user"],
        password=given["password"],
        database=given["dbname"],
        pool_size=2,
        init_extension=False,
    )


class Pgmq:
    batch = 10_000
    queue: Any

    async def setup(self) -> None:
        with psycopg.connect(DSN, autocommit=True) as connection:
            connection.execute("create schema if not exists pgmq")
            connection.execute(get_embedded_install_sql())
            connection.execute("select pgmq.create('q')")

    async def open(self) -> None:
        self.queue = connect()

    async def one(self, number: int) -> None:
        self.queue.send("q", payload(number))

    async def many(self, numbers: range) -> None:
        self.queue.send_batch("q", [*map(payload, numbers)])

    async def later(self, dues: list[tuple[int, float]]) -> None:
        for number, due in dues:
            self.queue.send("q", payload(number), tz=datetime.fromtimestamp(due, UTC))

    def work(self, mode: str, size: int) -> None:
        queue = connect()
        recorder = ready(mode, size)
        while True:
            if mode == "drain":
                messages = queue.read_batch("q", vt=INVISIBLE, batch_size=BATCH[mode])
            else:  # polls inside the server; the default is each 100 ms
                messages = queue.read_with_poll(
                    "q", vt=INVISIBLE, qty=BATCH[mode], max_poll_seconds=5, poll_interval_ms=10
                )
            if not messages:
                time.sleep(0.01)
                continue
            for message in messages:
                recorder.hit(message.message["i"])
            queue.delete_batch("q", [message.msg_id for message in messages])


if __name__ == "__main__":
    drive(Pgmq())

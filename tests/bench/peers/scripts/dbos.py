"""dbos: a durable queue, polled each 50 ms (its default is 1 s), 200 workflows at a time per process."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient

from tests.bench.peers.scripts.protocol import drive, payload, ready

DSN = os.environ["BENCH_DSN"]
POLL = 0.05
CONCURRENCY = 200
OPTIONS = {"workflow_name": "t", "queue_name": "q", "app_version": "1"}


def launch(handler: Any) -> None:
    settings = {
        "name": "bench",
        "system_database_url": DSN,
        "log_level": "CRITICAL",
        "run_admin_server": False,
        "sys_db_pool_size": 20,
        "max_executor_threads": 32,
        "application_version": "1",
        "executor_id": f"e{os.getpid()}",
    }
    DBOS(config=settings)
    DBOS.workflow(name="t")(handler)
    DBOS.launch()
    DBOS.register_queue("q", worker_concurrency=CONCURRENCY, polling_interval_sec=POLL)


class Dbos:
    batch = 1000
    client: Any
    engine: Any

    async def setup(self) -> None:
        launch(lambda p: None)

    async def open(self) -> None:
        self.client = DBOSClient(system_database_url=DSN)
        self.engine = sqlalchemy.create_engine(DSN.replace("postgresql://", "postgresql+psycopg://"))

    async def one(self, number: int) -> None:
        self.client.enqueue(OPTIONS, payload(number))

    async def many(self, numbers: range) -> None:
        """There is no bulk call: many in one transaction of the caller."""
        with self.engine.begin() as connection:
            for number in numbers:
                self.client.enqueue_in_transaction(connection, OPTIONS, payload(number))

    async def later(self, dues: list[tuple[int, float]]) -> None:
        for number, due in dues:
            self.client.enqueue({**OPTIONS, "delay_seconds": due - time.time()}, payload(number))

    def work(self, mode: str, size: int) -> None:
        recorder = ready(mode, size)

        def handler(p: dict[str, Any]) -> None:
            recorder.hit(p["i"])

        launch(handler)
        threading.Event().wait()


if __name__ == "__main__":
    drive(Dbos(), blocking=True)

"""procrastinate: an asyncio worker with LISTEN/NOTIFY that deletes finished jobs."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import procrastinate

from tests.bench.peers.scripts.protocol import Recorder, drive, payload, ready

DSN = os.environ["BENCH_DSN"]
CONCURRENCY = 10


class Procrastinate:
    batch = 10_000
    recorder: Recorder
    task: Any

    def app(self, connector: Any) -> Any:
        async def handler(i: int, k: str) -> None:
            self.recorder.hit(i)

        app = procrastinate.App(connector=connector)
        self.task = app.task(name="t", queue="q")(handler)
        return app

    async def setup(self) -> None:
        with self.app(procrastinate.SyncPsycopgConnector(conninfo=DSN)).open() as app:
            app.schema_manager.apply_schema()

    async def open(self) -> None:
        self.app(procrastinate.SyncPsycopgConnector(conninfo=DSN, min_size=1, max_size=2)).open()

    async def one(self, number: int) -> None:
        self.task.defer(**payload(number))

    async def many(self, numbers: range) -> None:
        self.task.batch_defer(*map(payload, numbers))

    async def later(self, dues: list[tuple[int, float]]) -> None:
        for number, due in dues:
            self.task.configure(schedule_at=datetime.fromtimestamp(due, UTC)).defer(**payload(number))

    async def work(self, mode: str, size: int) -> None:
        app = self.app(procrastinate.PsycopgConnector(conninfo=DSN, min_size=1, max_size=CONCURRENCY + 4))
        async with app.open_async():
            self.recorder = await asyncio.to_thread(ready, mode, size)
            await app.run_worker_async(
                queues=["q"], concurrency=CONCURRENCY, delete_jobs="always", install_signal_handlers=False
            )


if __name__ == "__main__":
    drive(Procrastinate())

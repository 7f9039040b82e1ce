"""chancy: its async executor, concurrency 2,000, eager polling, and its shortest polling interval of 1 s."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime
from typing import Any

from chancy import Chancy, Queue, Worker, job

from tests.bench.peers.scripts.protocol import Recorder, drive, payload, ready

DSN = os.environ["BENCH_DSN"]
CONCURRENCY = 2000
_recorders: list[Recorder] = []


async def _handler(*, i: int, k: str) -> None:
    _recorders[0].hit(i)


# Its worker imports the handler by name, so this module must not be __main__ when the job is made.
handler = job(queue="q")(_handler) if __name__ != "__main__" else None


class ChancyPeer:
    batch = 5000
    client: Any

    def made(self) -> Any:
        silent = logging.getLogger("silent")
        silent.disabled = True
        return Chancy(DSN, log=silent, max_connection_pool_size=20)

    def job(self, number: int) -> Any:
        return handler.job.with_kwargs(**payload(number))  # type: ignore[union-attr]  # made on import

    async def setup(self) -> None:
        async with self.made() as client:
            await client.migrate()
            executor = Chancy.Executor.Async
            queue = Queue("q", concurrency=CONCURRENCY, executor=executor, polling_interval=1, eager_polling=True)
            await client.declare(queue, upsert=True)

    async def open(self) -> None:
        self.client = await self.made().__aenter__()
        await self.client.pool.wait()

    async def one(self, number: int) -> None:
        await self.client.push(self.job(number))

    async def many(self, numbers: range) -> None:
        async for _ in self.client.push_many([*map(self.job, numbers)], batch_size=self.batch):
            pass

    async def later(self, dues: list[tuple[int, float]]) -> None:
        jobs = [self.job(number).with_scheduled_at(datetime.fromtimestamp(due, UTC)) for number, due in dues]
        async for _ in self.client.push_many(jobs):
            pass

    async def work(self, mode: str, size: int) -> None:
        async with self.made() as client:
            _recorders.append(await asyncio.to_thread(ready, mode, size))
            async with Worker(client, register_signal_handlers=False) as worker:
                await worker.wait_for_shutdown()


if __name__ == "__main__":
    from tests.bench.peers.scripts import chancy

    drive(chancy.ChancyPeer())

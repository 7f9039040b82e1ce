"""awa: the Rust runtime with Python handlers, COPY into its queue storage."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import awa

from tests.bench.peers.scripts.protocol import drive, payload, ready

DSN = os.environ["BENCH_DSN"]
# Two claimers drain faster, 8,000/s to 6,700, and one picks up sooner, 6 ms to 17.
QUEUES: dict[str, dict[str, Any]] = {
    "drain": {"name": "q", "max_workers": 500, "claimers": 2, "claim_batch_size": 500},
    "trickle": {"name": "q", "max_workers": 50, "claimers": 1, "claim_batch_size": 64},
}
PROMOTE_MS = 20  # its default of 250 makes delayed jobs that late


@dataclass
class Bench:
    i: int
    k: str


def job(number: int) -> Bench:
    return Bench(**payload(number))


class Awa:
    batch = 10_000
    client: Any

    async def setup(self) -> None:
        client = awa.AsyncClient(DSN)
        await client.migrate()
        await client.install_queue_storage(schema="awa")  # its faster engine, which COPY needs

    async def open(self) -> None:
        self.client = awa.AsyncClient(DSN)

    async def one(self, number: int) -> None:
        await self.client.insert(job(number), queue="q")

    async def many(self, numbers: range) -> None:
        await self.client.enqueue_many_copy([*map(job, numbers)], queue="q")

    async def later(self, dues: list[tuple[int, float]]) -> None:
        for number, due in dues:
            await self.client.insert(job(number), queue="q", run_at=datetime.fromtimestamp(due, UTC))

    async def work(self, mode: str, size: int) -> None:
        client = awa.AsyncClient(DSN, max_connections=20)
        recorder = await asyncio.to_thread(ready, mode, size)

        async def handler(job: Any) -> None:
            recorder.hit(job.args.i)

        client.task(Bench, queue="q")(handler)
        await client.start([QUEUES[mode]], promote_interval_ms=PROMOTE_MS)
        await asyncio.Event().wait()


if __name__ == "__main__":
    drive(Awa())

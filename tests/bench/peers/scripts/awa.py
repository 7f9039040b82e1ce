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
WORKERS = int(os.environ.get("AWA_WORKERS", "500"))
CLAIMERS = int(os.environ.get("AWA_CLAIMERS", "2"))
CLAIM = int(os.environ.get("AWA_CLAIM", "500"))


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
        queue = {"name": "q", "max_workers": WORKERS, "claimers": CLAIMERS, "claim_batch_size": CLAIM}
        await client.start([queue], poll_interval_ms=int(os.environ.get("AWA_POLL", "50")), promote_interval_ms=20)
        await asyncio.Event().wait()


if __name__ == "__main__":
    drive(Awa())

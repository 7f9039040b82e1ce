"""PgQueuer: asyncpg and uvloop, as in its own benchmark, with two dequeuers of 1,000 per process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from datetime import timedelta
from time import time
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from tests.bench.peers.scripts.protocol import drive, payload, ready

DSN = os.environ["BENCH_DSN"]
BATCH = {"drain": 1000, "trickle": 10}
DEQUEUERS = {"drain": 2, "trickle": 1}


async def driver() -> Any:
    return AsyncpgDriver(await asyncpg.connect(dsn=DSN))


def encoded(number: int) -> bytes:
    return json.dumps(payload(number)).encode()


class Pgqueuer:
    batch = 10_000
    queries: Any

    async def setup(self) -> None:
        await Queries(await driver()).install()

    async def open(self) -> None:
        self.queries = Queries(await driver())

    async def one(self, number: int) -> None:
        await self.queries.enqueue("t", encoded(number))

    async def many(self, numbers: range) -> None:
        await self.queries.enqueue(["t"] * len(numbers), [*map(encoded, numbers)], [0] * len(numbers))

    async def later(self, dues: list[tuple[int, float]]) -> None:
        """It takes delays, counted from the moment of the insert."""
        size, now = len(dues), time()
        delays = [timedelta(seconds=due - now) for _, due in dues]
        await self.queries.enqueue(["t"] * size, [encoded(number) for number, _ in dues], [0] * size, delays)

    async def work(self, mode: str, size: int) -> None:
        logging.disable(logging.CRITICAL)
        dequeuers = [PgQueuer(await driver()) for _ in range(DEQUEUERS[mode])]
        recorder = await asyncio.to_thread(ready, mode, size)

        async def handler(job: Any) -> None:
            recorder.hit(json.loads(job.payload)["i"])

        for dequeuer in dequeuers:
            dequeuer.entrypoint("t")(handler)
        await asyncio.gather(*(dequeuer.run(batch_size=BATCH[mode]) for dequeuer in dequeuers))


if __name__ == "__main__":
    drive(Pgqueuer())

"""celery on Redis: two prefork children per worker, a prefetch of 256 each, no results, no events."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

import redis
from celery import Celery

from tests.bench.peers.scripts.protocol import Recorder, drive, payload, ready

REDIS = os.environ["BENCH_REDIS"]
_recorders: list[Recorder] = []

app = Celery("bench", broker=REDIS)
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=256,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_pool_limit=1,
)


def _handler(i: int, k: str) -> None:
    _recorders[0].hit(i)


handler = app.task(name="t", ignore_result=True)(_handler)


class CeleryPeer:
    batch = 1000

    async def setup(self) -> None:
        redis.Redis.from_url(REDIS).flushall()

    async def open(self) -> None:
        return

    async def one(self, number: int) -> None:
        handler.apply_async(kwargs=payload(number))

    async def many(self, numbers: range) -> None:
        """There is no bulk call."""
        for number in numbers:
            handler.apply_async(kwargs=payload(number))

    async def later(self, dues: list[tuple[int, float]]) -> None:
        for number, due in dues:
            handler.apply_async(kwargs=payload(number), eta=datetime.fromtimestamp(due, UTC))

    def work(self, mode: str, size: int) -> None:
        _recorders.append(ready(mode, size))
        logging.disable(logging.CRITICAL)
        quiet = ["--loglevel=CRITICAL", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["--quiet", "worker", "-P", "prefork", "-c", "2", "-n", f"w{os.getpid()}@bench", *quiet])


if __name__ == "__main__":
    drive(CeleryPeer())

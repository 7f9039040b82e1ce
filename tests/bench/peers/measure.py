"""The measures. Each starts from a new database (or an emptied Redis), and returns plain numbers for the report.

enqueue     calls of the peer's normal enqueue, one after the other             jobs/s
drain       a bulk insert, then workers until all of it is durably finished     jobs/s, and what it cost
pinned      the same, while a repeatable-read snapshot is held open
pick-up     commit of one job to start of its handler, on an idle worker        ms
delayed     instant to start of its handler                                     ms
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from tests.bench.peers import cache
from tests.bench.peers.catalogue import Measure, Peer, Size
from tests.bench.peers.process import Worker, cpu, resident, say
from tests.bench.peers.servers import Postgres, Redis

Numbers = dict[str, float]
LONGEST = 90.0  # seconds: a drain that takes longer is reported as far as it got
SETTLE = 2.0  # seconds that an idle worker has, to be idle
LOOK = 0.003  # seconds between two looks at a drain
STRAGGLERS = 15.0  # seconds after the last instant


@dataclass(frozen=True, slots=True)
class Bench:
    """One peer on its servers."""

    peer: Peer
    size: Size
    postgres: Postgres
    redis: Redis | None
    log: Path
    """Where workers write their complaints."""
    database: str = "bench"
    """Made for each measure, and dropped after it."""

    def run(self, measure: Measure) -> Numbers:
        measures: dict[Measure, Callable[[], Numbers]] = {
            "enqueue": self._enqueue,
            "drain 1": lambda: self._drain(1),
            "drain 2": lambda: self._drain(2),
            "pinned": lambda: self._drain(1, pinned=True),
            "pick-up": self._pick_up,
            "delayed": self._delayed,
        }
        with self._fresh():
            return measures[measure]()

    def _enqueue(self) -> Numbers:
        return {"rate": self.size.enqueue / self._say("enqueue", self.size.enqueue)["seconds"]}

    def _drain(self, processes: int, *, pinned: bool = False) -> Numbers:
        size = self.size.drain
        before = self._costs()
        seconds = self._say("bulk", size)["seconds"]
        bulk = self._costs()
        self._sql("analyze")
        with ExitStack() as stack:
            if pinned:
                stack.enter_context(self._snapshot())
            workers = [stack.enter_context(self._worker("drain", size)) for _ in range(processes)]
            pids = [worker.pid for worker in workers]
            start, own = self._costs(), cpu(pids)
            began = time.monotonic_ns()
            for worker in workers:
                worker.go()
            ended = self._wait(workers, size)
            end, own = self._costs(), cpu(pids) - own
            memory = max(map(resident, pids))
            first = min((worker.first for worker in workers if worker.first), default=began)
            done = min(size, sum(worker.count for worker in workers))
        if not done:
            raise RuntimeError(f"nothing was handled: {self._complaints()}")
        return {
            "rate": done / (ended - first) * 1e9,
            "jobs": size,
            "done": done,
            "bulk": size / seconds,
            "resident": memory,
            "worker_cpu": own / done * 1e4,
            "server_cpu": (end.cpu - start.cpu) / done * 1e4,
            "server_cpu_bulk": (bulk.cpu - before.cpu) / size * 1e4,
            "wal": (end.wal - start.wal) / done,
            "wal_bulk": (bulk.wal - before.wal) / size,
        }

    def _pick_up(self) -> Numbers:
        size = self.size.pick_up
        with self._worker("trickle", size) as worker:
            worker.go()
            time.sleep(SETTLE)
            sent: list[tuple[int, int]] = self._say("pick-up", size, self.size.gap)["sent"]
            _until(lambda: worker.count >= size, STRAGGLERS)
            worker.stop()
            waits = [(worker.times[number] - at) / 1e6 for number, at in sent if number in worker.times]
        return _spread(waits, size)

    def _delayed(self) -> Numbers:
        size = self.size.delayed
        with self._worker("trickle", size) as worker:
            worker.go()
            time.sleep(SETTLE)
            due: list[tuple[int, float]] = self._say("delayed", size, self.size.span)["due"]
            offset = time.time_ns() - time.monotonic_ns()
            _until(lambda: worker.count >= size, due[-1][1] - time.time() + STRAGGLERS)
            worker.stop()
            late = [(worker.times[number] + offset) / 1e6 - at * 1e3 for number, at in due if number in worker.times]
        return _spread(late, size)

    def _wait(self, workers: list[Worker], size: int) -> int:
        """Until everything was handled and is durably finished; when that was, or the last start if it never was."""
        deadline = time.monotonic() + LONGEST
        with self._counting(size) as left:
            while time.monotonic() < deadline:
                if sum(worker.count for worker in workers) >= size and left() <= 0:
                    return time.monotonic_ns()
                if not all(worker.is_alive for worker in workers):
                    raise RuntimeError(f"a worker ended by itself: {self._complaints()}")
                time.sleep(LOOK)
        return max(worker.last for worker in workers) or time.monotonic_ns()

    @contextmanager
    def _counting(self, size: int) -> Iterator[Callable[[], int]]:
        if isinstance(self.peer.left, tuple):
            redis, commands = self.redis, self.peer.left
            yield lambda: sum(redis.numbers(commands)) if redis else 0
            return
        query = self.peer.left.encode()
        with self.postgres.connect(self.database) as connection:
            yield lambda: (connection.execute(query, {"jobs": size}).fetchone() or (0,))[0]

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        name = Identifier(self.database)
        with self.postgres.connect() as admin:
            admin.execute(SQL("drop database if exists {} with (force)").format(name))
            admin.execute(SQL("create database {}").format(name))
            self._say("setup")
            admin.execute("checkpoint")
            try:
                yield
            finally:
                admin.execute(SQL("drop database {} with (force)").format(name))

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        with self.postgres.connect(self.database) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                connection.execute("select count(*) from pg_class")
                yield

    def _costs(self) -> Costs:
        if self.redis and self.peer.on_redis:
            return Costs(cpu([self.redis.process]), 0)
        with self.postgres.connect() as admin:
            found = admin.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
        return Costs(cpu([self.postgres.pid()]), int(found[0]) if found else 0)

    def _complaints(self) -> str:
        return self.log.read_text()[-2000:]

    def _sql(self, statement: str) -> None:
        with self.postgres.connect(self.database) as connection:
            connection.execute(statement.encode())

    def _worker(self, mode: str, size: int) -> Worker:
        command = self.peer.worker or (*self._script(), "work", mode, str(size))
        return Worker(command, {**self._environment(), "BENCH_MODE": mode, "BENCH_COUNT": str(size)}, self.log)

    def _say(self, *words: object) -> dict[str, Any]:
        return say([*self._script(), *map(str, words)], self._environment())

    def _script(self) -> list[str]:
        if self.peer.in_node:
            return [cache.node(), str(cache.SCRIPTS / self.peer.script)]
        interpreter = self.peer.worker[0] if self.peer.worker else cache.python()
        return [interpreter, "-m", f"tests.bench.peers.scripts.{self.peer.script}"]

    def _environment(self) -> Mapping[str, str]:
        dsn = self.postgres.dsn(self.database)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCHEDULER_")},
            "BENCH_DSN": dsn,
            "BENCH_REDIS": self.redis.url if self.redis else "",
            "BENCH_NODE": str(cache.node_modules()),
            "BENCH_VARIANT": self.peer.variant,
            "SCHEDULER_DSN": dsn,
        }


@dataclass(frozen=True, slots=True)
class Costs:
    """Of the server, since its start: CPU seconds and bytes of WAL."""

    cpu: float
    wal: int


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _spread(values: list[float], expected: int) -> Numbers:
    """Percentiles in milliseconds; of nothing there are none."""
    ordered = sorted(values)
    if not ordered:
        raise RuntimeError("nothing was handled")

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    spread = {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "least": ordered[0], "most": ordered[-1]}
    return {**spread, "jobs": expected, "done": len(ordered)}

"""Ticks end to end: posted over HTTP, fired at their instants, read from the topic by aiokafka.

    python -m tests.bench.ticks [--ticks 60000] [--seconds 10] [--repeat 3]

One server with the API, one worker, PostgreSQL with its durable defaults, librdkafka's mock cluster and the client, all
on this machine. Prints a JSON document: how many a second, posted in batches for now, from the first post until the
last one was confirmed; what each part took of it, in microseconds of CPU a tick; and how late 1,000 a second are on the
topic: as the brokers confirmed it (from history), and as a consumer sees it that follows, which asks the stand-in every
2 ms, since that answers no sooner when something comes.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from scheduler.bench.proc import cpu_of_tree, parent
from tests.support.fleet import ROOT, wait_until
from tests.support.kafka import PARTITIONS, cluster
from tests.support.ports import free_port

BATCH = 2_000
CLIENTS = 2
RATE = 1_000
AHEAD = 4.0  # seconds from the posts until the first instant


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--ticks", type=int, default=60_000)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--repeat", type=int, default=3)
    asked = options.parse_args()
    rates, posts, p50, p99, confirmed = [], [], [], [], []
    for turn in range(asked.repeat):
        with _system() as (dsn, port, kafka, pids):
            late = asyncio.run(_lateness(port, kafka, asked.seconds * RATE))
            confirmed.append(_confirmed(dsn))
            before = _cpu(pids)
            p50.append(statistics.quantiles(late, n=100)[49])
            p99.append(statistics.quantiles(late, n=100)[98])
            rate, post = _throughput(dsn, port, asked.ticks)
            cpu = {name: (now - before[name]) / asked.ticks * 1e6 for name, now in _cpu(pids).items()}
            rates.append(rate)
            posts.append(post)
            found = asyncio.run(_on_topic(kafka, asked.ticks + len(late) + 1))
            assert len(found) == asked.ticks + len(late) + 1
        said = f"{turn + 1}: {rate:,.0f}/s, posted {post:,.0f}/s, late {p50[-1]:.1f} ms, p99 {p99[-1]:.1f} ms"
        said += f", confirmed p99 {confirmed[-1]:.1f} ms"
        parts = ", ".join(f"{name} {spent:.0f}" for name, spent in cpu.items())
        sys.stderr.write(f"{said}; CPU a tick in us: {parts}\n")
    figures = {
        "ticks_per_second": rates,
        "posts_per_second": posts,
        "late_ms_p50": p50,
        "late_ms_p99": p99,
        "confirmed_ms_p99": confirmed,
    }
    medians = {name: statistics.median(values) for name, values in figures.items()}
    sys.stdout.write(json.dumps({"medians": medians, "repetitions": figures}, indent=2) + "\n")


@contextmanager
def _system() -> Iterator[tuple[str, int, str, dict[str, int]]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        kafka = stack.enter_context(cluster())
        env = {**os.environ, "SCHEDULER_DATA_DIR": str(folder / "data"), "SCHEDULER_KAFKA_BROKERS": kafka.brokers}
        port = free_port()
        command = [sys.executable, "-m", "scheduler.cli"]
        started = []
        for words in (
            ["run", "--no-worker", "--http", f"127.0.0.1:{port}", "--http-no-auth"],
            [
                "worker",
                "--app",
                "ticks",
                "--executors",
                "kafka",
                "--concurrency",
                os.environ.get("TICKS_CONCURRENCY", "2000"),
            ],
        ):
            log = folder / f"{words[0]}.log"
            with log.open("wb") as file:
                process = subprocess.Popen([*command, *words], env=env, cwd=ROOT, stdout=file, stderr=file)
            started.append(process)
            stack.callback(_end, process)
            _wait_for(" is ready: " if words[0] == "worker" else " started server=", log, process)
        dsn = subprocess.check_output([*command, "dsn"], env=env, text=True).strip()
        with psycopg.connect(dsn) as conn:
            postmaster = parent(conn.info.backend_pid) or 0
        pids = {"server": started[0].pid, "worker": started[1].pid, "postgres": postmaster, "client": os.getpid()}
        yield dsn, port, kafka.brokers, pids


def _wait_for(word: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: word in log.read_text() or process.poll() is not None, 60, log.read_text)
    assert process.poll() is None, log.read_text()
    time.sleep(1)  # and is idle


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    found = {name: cpu_of_tree(pid) or 0.0 for name, pid in pids.items()}
    return {**found, "client": time.process_time()}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _post(port: int, ticks: list[dict[str, Any]]) -> None:
    conn = http.client.HTTPConnection("127.0.0.1", port)
    for start in range(0, len(ticks), BATCH):
        conn.request("POST", "/ticks", "\n".join(json.dumps(one) for one in ticks[start : start + BATCH]))
        answer = conn.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    conn.close()


def _throughput(dsn: str, port: int, count: int) -> tuple[float, float]:
    """Ticks a second from the first post until the last was confirmed, and until the last was posted."""
    now = int(time.time() * 1000)
    ticks = [{"item": f"throughput {number}", "at": now} for number in range(count)]
    with psycopg.connect(dsn, autocommit=True) as conn, ThreadPoolExecutor(CLIENTS) as clients:
        begun = time.monotonic()
        list(clients.map(lambda part: _post(port, ticks[part::CLIENTS]), range(CLIENTS)))
        posted = time.monotonic()
        while _has_more(conn):
            time.sleep(0.05)
        return count / (time.monotonic() - begun), count / (posted - begun)


def _has_more(conn: psycopg.Connection) -> bool:
    # Counting them every 50 ms took a third of what the database did.
    row = conn.execute("""
        select exists (select from scheduler.run r where r.app = 'ticks' and r.queue = 'default' and r.priority = 0)
            or exists (select from scheduler.lease l where l.app = 'ticks')
    """).fetchone()
    return row == (True,)


def _confirmed(dsn: str) -> float:
    """Milliseconds from an instant until the brokers had confirmed its tick, p99 of those that ended so far."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute("""
            select percentile_cont(0.99) within group (order by extract(epoch from h.finished_at - h.run_at) * 1000)
            from scheduler.history h where h.app = 'ticks' and h.spec ->> 'key' like 'late %'
        """).fetchone()
    return float(row[0]) if row else 0.0


async def _lateness(port: int, brokers: str, count: int) -> list[float]:
    """Milliseconds from each tick's instant until a consumer had it that was waiting for it."""
    import aiokafka  # noqa: PLC0415  not needed to post

    partitions = [aiokafka.TopicPartition("ticks", number) for number in range(PARTITIONS)]
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", fetch_max_wait_ms=2)
    await consumer.start()
    consumer.assign(partitions)
    await asyncio.to_thread(_post, port, [{"item": "first", "at": time.time()}])  # opens the producer, makes the topic
    while not await consumer.getmany(timeout_ms=1_000):
        pass
    begun = time.time() + AHEAD
    ticks = [{"item": f"late {number}", "at": (begun + number / RATE) * 1000} for number in range(count)]
    await asyncio.to_thread(_post, port, ticks)
    assert time.time() < begun - 1, "the posts took too long"
    late: list[float] = []
    while len(late) < count:
        records = await consumer.getmany(timeout_ms=20_000)
        now = time.time() * 1000
        late += [now - json.loads(record.value)["at"] for some in records.values() for record in some]
    await consumer.stop()
    assert min(late) > -1, f"{-min(late):.1f} ms early"
    return late


async def _on_topic(brokers: str, count: int) -> set[bytes]:
    """The keys of all messages."""
    import aiokafka  # noqa: PLC0415

    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([aiokafka.TopicPartition("ticks", number) for number in range(PARTITIONS)])
    keys: list[bytes] = []
    while len(keys) < count:
        for records in (await consumer.getmany(timeout_ms=20_000)).values():
            keys += [record.key for record in records if record.key]
    await consumer.stop()
    return set(keys)


if __name__ == "__main__":
    main()

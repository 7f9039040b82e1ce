"""What being looked at costs: how late runs start in a stream of 50,000 a second, with scrapes and without.

    python -m tests.bench.scraping [--rate 50000] [--seconds 15] [--every 5] [--repeat 3] [--pending 0]

One server and one worker with `--metrics`, PostgreSQL with its durable defaults and one client that inserts by COPY,
all on this machine. In turns: nobody looks, and both are scraped every so many seconds; 5 are what is delivered in
`deploy/prometheus`. (Dashboards ask Prometheus, and nothing of us.) A ratio is of turns that follow one another.
`--pending`: so many runs of another app wait meanwhile, due in a year.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import psycopg

from tests.support.fleet import ROOT
from tests.support.ports import free_port

PIECE = 0.01  # seconds between two COPYs
Turn = tuple[float, float, float]
"""Runs a second, and by how many milliseconds they started late: median and 99th percentile."""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rate", type=int, default=50_000)
    options.add_argument("--seconds", type=float, default=15)
    options.add_argument("--every", type=float, default=5)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--pending", type=int, default=0)
    asked = options.parse_args()
    if asked.every >= asked.seconds:
        options.error("--every must be less than --seconds, or nothing is scraped")
    with _system() as (dsn, urls), psycopg.connect(dsn, autocommit=True) as conn:
        if asked.pending:
            conn.execute(
                "insert into scheduler.run (app, executor, run_at)"
                " select 'later', 'python', now() + interval '1 year' from generate_series(1, %s)",
                [asked.pending],
            )
        _stream(conn, asked.rate, 2.0)
        alone, watched, scrapes = list[Turn](), list[Turn](), list[float]()
        for turn in range(asked.repeat):
            # A turn may depend on what the one before left to be vacuumed and written: each comes first in its turn.
            for is_watched in (turn % 2 == 1, turn % 2 == 0):
                with _looking(urls, asked.every, scrapes) if is_watched else nullcontext():
                    (watched if is_watched else alone).append(_stream(conn, asked.rate, asked.seconds))
        figures = {
            "runs_per_second": [rate for rate, _, _ in alone + watched],
            "p50_ms": [p50 for _, p50, _ in alone],
            "p50_ms_watched": [p50 for _, p50, _ in watched],
            "p50_ratio": [seen[1] / unseen[1] for seen, unseen in zip(watched, alone, strict=True)],
            "p99_ratio": [seen[2] / unseen[2] for seen, unseen in zip(watched, alone, strict=True)],
            "scrape_ms": scrapes,
        }
    medians = {name: round(statistics.median(values), 3) for name, values in figures.items()}
    sys.stdout.write(json.dumps({"medians": medians, "scrape_ms_most": round(max(scrapes), 1)}, indent=2) + "\n")


@contextmanager
def _system() -> Iterator[tuple[str, list[str]]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)  # root's PostgreSQL runs as another user
        env = {**os.environ, "SCHEDULER_DATA_DIR": str(folder / "data")}
        command = [sys.executable, "-m", "scheduler.cli"]
        urls = []
        working = ["worker", "--app", "shop", "--import", "worker.bench", "--concurrency", "500"]
        for words in (["run", "--no-worker"], working):
            address = f"127.0.0.1:{free_port()}"
            log = stack.enter_context((folder / f"{words[0]}.log").open("wb"))
            process = subprocess.Popen(
                [*command, *words, "--metrics", address], env=env, cwd=ROOT, stdout=log, stderr=log
            )
            stack.callback(_end, process)
            urls.append(f"http://{address}/metrics")
            _wait_for(urls[-1])
        yield subprocess.check_output([*command, "dsn"], env=env, text=True).strip(), urls


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _wait_for(url: str) -> None:
    late = time.monotonic() + 60
    while True:
        try:
            _scrape(url)
        except OSError:
            if time.monotonic() > late:
                raise
            time.sleep(0.1)
        else:
            return


def _scrape(url: str) -> float:
    """Milliseconds that it took."""
    begun = time.monotonic()
    with urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()
    return (time.monotonic() - begun) * 1e3


def _stream(conn: psycopg.Connection, rate: int, seconds: float) -> Turn:
    conn.execute("truncate scheduler.history")
    piece = "\n".join(['shop\tpython\t{"task": "bench_async"}'] * round(rate * PIECE)) + "\n"
    begun = time.monotonic()
    number = 0
    while (now := time.monotonic()) < begun + seconds:
        if now < begun + number * PIECE:
            time.sleep(begun + number * PIECE - now)
        with conn.cursor().copy("copy scheduler.run (app, executor, spec) from stdin") as copy:
            copy.write(piece)
        number += 1
    while conn.execute("select from scheduler.run where app = 'shop' and queue = 'default' limit 1").rowcount:
        time.sleep(0.05)
    time.sleep(1)
    ((count, p50, p99),) = conn.execute(
        "select count(*), percentile_cont(0.5) within group (order by h.late), percentile_cont(0.99) within group"
        " (order by h.late) from (select extract(epoch from started_at - run_at)::float8 * 1000 as late"
        " from scheduler.history where app = 'shop') h"
    ).fetchall()
    return count / seconds, p50, p99


@contextmanager
def _looking(urls: list[str], every: float, scrapes: list[float]) -> Iterator[None]:
    done = threading.Event()

    def look() -> None:
        while not done.wait(every):
            scrapes.extend(_scrape(url) for url in urls)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()

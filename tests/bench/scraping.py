"""What being looked at costs: how late runs start in a stream of 50,000 a second, soon after a scrape and otherwise.

    python -m tests.bench.scraping [--rate 50000] [--seconds 60] [--every 5] [--after 1] [--repeat 3] [--pending 0]

One server and one worker with `--metrics`, PostgreSQL with its durable defaults and one client that inserts by COPY,
all on this machine. Both are scraped every so many seconds; 5 are what is delivered in `deploy/prometheus`. (Dashboards
ask Prometheus, and nothing of us.) Runs that came within so many seconds after a scrape began are set beside the others
of the same stream, `near`; and all of them beside those others, `all`, which is what a scrape every so often costs.
(Streams with scrapes and streams without, in turns, differed by 2 at this rate, in either direction.)
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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.support.fleet import ROOT
from tests.support.ports import free_port

PIECE = 0.01  # seconds between two COPYs
LATE = """
    with late as (
        select extract(epoch from h.run_at)::float8 as at, extract(epoch from h.started_at - h.run_at)::float8 as late
        from scheduler.history h where h.app = 'shop'
    ), grouped as (
        select l.late, exists (select from unnest(%s::float8[]) s where l.at between s and s + %s) as is_near
        from late l
    )
    select percentile_cont(array[0.5, 0.99]) within group (order by g.late) filter (where not g.is_near),
        percentile_cont(array[0.5, 0.99]) within group (order by g.late) filter (where g.is_near),
        percentile_cont(array[0.5, 0.99]) within group (order by g.late)
    from grouped g
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rate", type=int, default=50_000)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--every", type=float, default=5)
    options.add_argument("--after", type=float, default=1)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--pending", type=int, default=0)
    asked = options.parse_args()
    if not asked.after < asked.every < asked.seconds:
        options.error("--after must be less than --every, and that less than --seconds")
    with _system() as (dsn, urls), psycopg.connect(dsn, autocommit=True) as conn:
        if asked.pending:
            conn.execute(
                "insert into scheduler.run (app, executor, run_at)"
                " select 'later', 'python', now() + interval '1 year' from generate_series(1, %s)",
                [asked.pending],
            )
        _stream(conn, asked.rate, 2.0)
        figures: dict[str, list[float]] = {}
        for _ in range(asked.repeat):
            with _looking(urls, asked.every) as scrapes:
                rate = _stream(conn, asked.rate, asked.seconds)
            ((others, near, whole),) = conn.execute(LATE, [[at for at, _ in scrapes], asked.after]).fetchall()
            for name, value in (
                ("runs_per_second", rate),
                ("p50_ms", others[0] * 1e3),
                ("p99_ms", others[1] * 1e3),
                *((f"p50_ratio_{which}", late[0] / others[0]) for which, late in (("near", near), ("all", whole))),
                *((f"p99_ratio_{which}", late[1] / others[1]) for which, late in (("near", near), ("all", whole))),
                *(("scrape_ms", took) for _, took in scrapes),
            ):
                figures.setdefault(name, []).append(value)
    medians = {name: round(statistics.median(values), 3) for name, values in figures.items()}
    most = round(max(figures.pop("scrape_ms")), 1)
    sys.stdout.write(json.dumps({"medians": medians, "scrape_ms_most": most, "repetitions": figures}, indent=2) + "\n")


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


def _stream(conn: psycopg.Connection, rate: int, seconds: float) -> float:
    """Runs a second that ended."""
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
    ((count,),) = conn.execute("select count(*) from scheduler.history where app = 'shop'").fetchall()
    return float(count / seconds)


@contextmanager
def _looking(urls: list[str], every: float) -> Iterator[list[tuple[float, float]]]:
    """Scrapes meanwhile: the instant at which each began, and the milliseconds that it took."""
    scrapes: list[tuple[float, float]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(every):
            scrapes.extend((time.time(), _scrape(url)) for url in urls)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield scrapes
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()

"""What the HTTP API does, beside what bounds it: `python tests/bench/http_api.py`. Needs wrk and curl, 4 minutes.

single posts       beside empty posts to the same server, with the same token, at 64 connections (wrk)
a stream of lines  beside COPY of the same rows by psycopg (curl sends the file)
a flood            of single posts, beside which a worker of another process picks up runs of another app

Everything is durable, on one machine, and in turns: the figures are medians, so that a slow minute hits both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
CONNECTIONS = 64
SPEC = {"task": "send_email", "args": {"to": "somebody@example.org", "number": 123456}}
# The server as users have it, with one operation more: what an empty post costs that was admitted, and nothing else.
SERVER = """
import sys
from scheduler.api import application
from scheduler.api.gate import read
from scheduler.api.operation import Operation
from scheduler.cli import main

async def nothing(ask):
    await read(ask)
    return {}

application.OPERATIONS += (Operation(
    method="POST", path="/api/v1/apps/{app}/nothing", handle=nothing, scope="write", summary="", tag="", media=()),)
sys.argv = ["scheduler", "run", "--no-worker", *sys.argv[1:]]
main()
"""
POST = """
wrk.method = "POST"
wrk.body = %s
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
"""


class Bench:
    def __init__(self, directory: Path, dsn: str, seconds: float, repeat: int, rate: str) -> None:
        self.directory = directory
        self.dsn = dsn
        self.seconds = seconds
        self.repeat = repeat
        self.rate = rate
        self.url = ""
        self.token = ""
        self.db = psycopg.connect(dsn, autocommit=True)

    @contextmanager
    def server(self) -> Iterator[None]:
        """`scheduler run`, without a worker of its own."""
        with self.process([sys.executable, "-c", SERVER, "--http", "127.0.0.1:18123"], "server.log") as log:
            self.url = "http://127.0.0.1:18123/api/v1"
            _until(lambda: "Started server process" in log.read_text())
            self.token = self._token()
            yield

    def _token(self) -> str:
        command = [
            sys.executable,
            "-m",
            "scheduler.cli",
            "token",
            "create",
            f"bench {os.getpid()}",
            "--scope",
            "write",
            "--json",
        ]
        made = subprocess.run(command, env=self._env(), cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return str(json.loads(made)["token"])

    @contextmanager
    def process(self, command: list[str], log: str) -> Iterator[Path]:
        path = self.directory / log
        with path.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=self._env(), cwd=ROOT)
        try:
            yield path
        finally:
            process.terminate()
            process.wait(30)

    def _env(self) -> dict[str, str]:
        return {**os.environ, "SCHEDULER_DSN": self.dsn, "SCHEDULER_HTTP_RATE": self.rate}

    def posts(self, what: str, body: str, seconds: float | None = None) -> tuple[float, float]:
        """Posts a second, and their 99th percentile in ms."""
        script = self.directory / "post.lua"
        script.write_text(POST % (json.dumps(body), self.token))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds or self.seconds:g}s", "--latency", "-s", str(script)]
        said = subprocess.run(
            [*command, f"{self.url}/apps/shop/{what}"], check=True, capture_output=True, text=True
        ).stdout
        if "Non-2xx" in said:
            raise SystemExit(said)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        late = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
        assert rate, said
        assert late, said
        return float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1, "s": 1000}[late[2]]

    def singles(self) -> None:
        body = json.dumps({"executor": "python", "spec": SPEC})
        empty, real, lates = [], [], []
        for _ in range(self.repeat):
            empty.append(self.posts("nothing", "")[0])
            rate, late = self.posts("runs", body)
            real.append(rate)
            lates.append(late)
            self.forget()
        ratio = statistics.median(one / other for one, other in zip(real, empty, strict=True))
        print(  # noqa: T201
            f"single posts: {_m(real):,.0f}/s, p99 {_m(lates):.1f} ms; empty: {_m(empty):,.0f}/s; ratio {ratio:.2f}"
        )

    def lines(self, count: int) -> None:
        spec = json.dumps(SPEC)
        file = self.directory / "runs.ndjson"
        file.write_text(f'{{"executor":"python","spec":{spec}}}\n' * count)
        columns = f"shop\tpython\t{spec}\n" * count
        streamed, copied = [], []
        for _ in range(self.repeat):
            copied.append(count / _timed(lambda: self._copy(columns)))
            self.forget()
            streamed.append(count / _timed(lambda: self._curl(file)))
            self.forget()
        ratio = statistics.median(one / other for one, other in zip(streamed, copied, strict=True))
        print(  # noqa: T201
            f"NDJSON: {_m(streamed):,.0f} runs/s; COPY of the same rows: {_m(copied):,.0f}/s; ratio {ratio:.2f}"
        )

    def _copy(self, columns: str) -> None:
        with self.db.cursor() as cursor, cursor.copy("copy scheduler.run (app, executor, spec) from stdin") as copy:
            for start in range(0, len(columns), 1 << 20):
                copy.write(columns[start : start + (1 << 20)])

    def _curl(self, file: Path) -> None:
        headers = [f"Authorization: Bearer {self.token}", "Content-Type: application/x-ndjson"]
        command = ["curl", "-sS", "--fail-with-body", "-X", "POST", "-T", str(file)]
        command += [word for header in headers for word in ("-H", header)]
        subprocess.run([*command, f"{self.url}/apps/shop/runs"], check=True, capture_output=True)

    def flood(self) -> None:
        body = json.dumps({"executor": "python", "spec": SPEC})
        worker = [sys.executable, "-m", "scheduler.cli", "worker", "--app", "calm", "--import", "worker.bench"]
        with self.process(worker, "worker.log") as log:
            _until(lambda: " is ready: " in log.read_text())
            calm, flooded = [], []
            self.pick_up()
            for _ in range(self.repeat):
                calm.append(self.pick_up())
                script = self.directory / "post.lua"
                script.write_text(POST % (json.dumps(body), self.token))
                command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{2 * self.seconds + 4:g}s", "-s", str(script)]
                with subprocess.Popen([*command, f"{self.url}/apps/shop/runs"], stdout=subprocess.DEVNULL) as wrk:
                    time.sleep(1)
                    flooded.append(self.pick_up())
                    wrk.terminate()
                self.forget()
        for name, place in (("p50", 0), ("p99", 1)):
            before, under = [one[place] for one in calm], [one[place] for one in flooded]
            print(  # noqa: T201
                f"pick-up {name}: {_m(before):.2f} ms; in a flood {_m(under):.2f} ms: {_m(under) / _m(before):.2f}"
            )

    def pick_up(self) -> tuple[float, float]:
        """Milliseconds from an insert until the run starts: median and 99th percentile."""
        until = time.monotonic() + 2 * self.seconds
        first = self.db.execute("select coalesce(max(id), 0) from scheduler.history where app = 'calm'").fetchall()[0]
        while time.monotonic() < until:
            self.db.execute(
                "insert into scheduler.run (app, executor, spec, run_at)"
                """ values ('calm', 'python', '{"task": "bench_async"}', clock_timestamp())"""
            )
            time.sleep(0.01)
        _until(lambda: self.db.execute("select from scheduler.run where app = 'calm' limit 1").rowcount == 0)
        time.sleep(0.5)
        return self.db.execute(
            "select 1000 * percentile_cont(0.5) within group (order by extract(epoch from h.started_at - h.run_at)),"
            " 1000 * percentile_cont(0.99) within group (order by extract(epoch from h.started_at - h.run_at))"
            " from scheduler.history h where h.app = 'calm' and h.id > %s",
            first,
        ).fetchall()[0]

    def forget(self) -> None:
        self.db.execute("truncate scheduler.run")


def _m(values: list[float]) -> float:
    return statistics.median(values)


def _timed(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _until(condition: Callable[[], Any]) -> None:
    late = time.monotonic() + 60
    while not condition():
        if time.monotonic() > late:
            raise SystemExit("it did not happen within 60 s")
        time.sleep(0.05)


@contextmanager
def _place(dsn: str | None, directory: Path) -> Iterator[str]:
    if dsn:
        yield dsn
        return
    from scheduler.embedded import Embedded  # noqa: PLC0415  an extra

    directory.chmod(0o755)  # PostgreSQL runs as somebody else than root
    with Embedded(directory / "postgresql") as server:
        subprocess.run(
            [sys.executable, "-m", "scheduler.cli", "migrate"],
            env={**os.environ, "SCHEDULER_DSN": server.dsn}, cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        yield server.dsn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a scratch database with the schema, of a superuser; default: an embedded one")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--rate", default="0", help="SCHEDULER_HTTP_RATE of the server")
    parser.add_argument("what", nargs="*", default=["singles", "lines", "flood"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _place(given.dsn, Path(name)) as dsn:
        bench = Bench(Path(name), dsn, given.seconds, given.repeat, given.rate)
        with bench.server():
            for what in given.what:
                {"singles": bench.singles, "lines": lambda: bench.lines(given.lines), "flood": bench.flood}[what]()


if __name__ == "__main__":
    main()

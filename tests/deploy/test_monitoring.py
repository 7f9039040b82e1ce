"""What is delivered for Prometheus and Grafana, beside a server and a worker that really run: every query answers, and
alerts fire when the thing is broken, and are over when it is mended.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.support.fleet import QUICK, ROOT, Process, wait_until
from tests.support.prometheus import DELIVERED, Prometheus, prometheus
from tests.support.proxy import Proxy

DEMO = ROOT / "deploy" / "demo"
BOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
VARIABLES = {  # what a user would choose
    "$__rate_interval": "10s",
    "$app": "shop",
    "$queue": ".*",
    "$job": "clean-carts",
    "$instance": ".*",
}
# What only a fault brings about. Their metrics must exist, or be promised by the program.
FAULTS = ("scheduler_runs_poisoned_total", "scheduler_runs_reclaimed_total", "scheduler_alarms_firing")
# What it reads for /metrics of a database that has little in it, it may read more often than of a large one.
SERVER = """
from scheduler import gauger
gauger.EVERY, gauger.RESTS, gauger.JOBS_REST = 0.5, 1.0, 1.0
from scheduler.cli import main
main()
"""


class Cluster:
    """A server, a worker and a shop with orders, as in the compose file."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.dsn = dsn
        self.server_at = free_address()
        self.worker_at = free_address()
        self._directory = directory
        self._started: list[Process] = []

    def server(self, *words: str) -> Process:
        return self._start(["-c", SERVER, "run", "--no-worker", "--http", self.server_at, "--http-no-auth", *words])

    def worker(self) -> Process:
        words = ["--app", "shop", "billing", "--import", "shop", "--executors", "python"]
        return self._start(["-m", "scheduler.cli", "worker", *words, "--metrics", self.worker_at])

    def load(self) -> Process:
        return self._start(["-m", "shop", "10"])

    def targets(self) -> dict[str, list[str]]:
        return {"walclock-servers": [self.server_at], "walclock-workers": [self.worker_at]}

    def end(self) -> None:
        for process in self._started:
            process.end()
            print(f"--- {process.pid}, status {process.returncode}\n{process.log[-3000:]}")  # noqa: T201

    def _start(self, words: list[str]) -> Process:
        log = self._directory / f"process{len(self._started)}.log"
        # Jobs of a second are planned by rows, so that each instant is in the ledger when it comes, and not 5 s later.
        ours = {"SCHEDULER_DSN": self.dsn, "PYTHONPATH": f"{ROOT}:{DEMO}", "SCHEDULER_PULSE_BELOW": "0"}
        env = {**os.environ, **QUICK, **ours}
        with log.open("wb") as file:
            popen = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env
            )
        self._started.append(Process(popen, log))
        return self._started[-1]


@contextmanager
def cluster(dsn: str, directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(dsn, directory)
    try:
        yield cluster
    finally:
        cluster.end()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def queries() -> dict[str, str]:
    """Where it stands to what is asked there: panels, annotations, variables and rules."""
    found = {}
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                found[f"{board['uid']}: {panel['title']} {target['refId']}"] = chosen(target["expr"])
        for one in board["annotations"]["list"]:
            found[f"{board['uid']}: {one['name']}"] = chosen(one["expr"])
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
                found[f"{board['uid']}: ${variable['name']}"] = f"count by ({label}) ({chosen(series)})"
    return found


def chosen(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def metrics(expr: str) -> set[str]:
    """The names of ours in a query, as a histogram or counter is called as a whole."""
    return {name.removesuffix("_bucket") for name in re.findall(r"\b(?:scheduler|process)_\w+", expr)}


def test_every_query_of_dashboards_and_alerts_is_answered(dsn: str, db: psycopg.Connection, tmp_path: Path) -> None:
    groups = yaml.safe_load((DELIVERED / "rules.yml").read_text())["groups"]
    conditions = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    with cluster(dsn, tmp_path) as here, prometheus(tmp_path, here.targets()) as prom:
        here.server()
        here.worker()
        here.load()
        fail_some(db)
        waiting = queries()

        def all_answered() -> bool:
            for where, expr in list(waiting.items()):
                if prom.query(expr):
                    del waiting[where]
            return not {where for where, expr in waiting.items() if not metrics(expr) & set(FAULTS)}

        wait_until(all_answered, 60, saying=lambda: f"no answer to {json.dumps(waiting, indent=1)}")
        there = {name.removesuffix("_bucket") for name in prom.names()}
        for where, expr in [*waiting.items(), *conditions.items()]:
            prom.query(expr)
            assert metrics(expr) - there <= set(FAULTS), where


def test_alerts_fire_when_it_is_broken_and_resolve_when_it_is_mended(
    dsn: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(Proxy(dsn))
        here = stack.enter_context(cluster(dsn, tmp_path))
        prom = stack.enter_context(prometheus(tmp_path, here.targets()))
        server, worker = here.server("--listen-dsn", listening.dsn), here.worker()
        wait_until(lambda: prom.targets_up() == 2)
        wait_until(lambda: prom.query("scheduler_servers_alive == 1") and prom.query("scheduler_workers_alive == 1"))
        wait_until(lambda: not firing(prom), saying=lambda: str(prom.firing()))

        # A job whose task there is not: it fails until somebody corrects it.
        db.execute(
            "insert into scheduler.job (app, name, schedule, executor, spec, max_attempts)"
            """ values ('shop', 'mails', '@every 1s', 'python', '{"task": "send_mails"}', 1)"""
        )
        wait_until(lambda: fires(prom, "WalclockJobWithoutSuccess", app="shop"), saying=lambda: str(prom.firing()))
        assert "1 jobs of shop" in prom.annotations("WalclockJobWithoutSuccess")["summary"]
        db.execute("""update scheduler.job set spec = '{"task": "recommend"}'""")
        wait_until(lambda: not fires(prom, "WalclockJobWithoutSuccess"), saying=lambda: str(prom.firing()))

        # Notifications that do not come: the listener's way to the database is cut, and stays so.
        listening.go_silent()
        listening.cut()
        wait_until(lambda: fires(prom, "WalclockListenerDown", instance=here.server_at))
        assert not fires(prom, "WalclockListenerDown", instance=here.worker_at)
        listening.flow()
        wait_until(lambda: not fires(prom, "WalclockListenerDown"))

        # Work that nobody does: the worker is gone, and what is due was so two minutes ago.
        worker.kill()
        db.execute(
            "insert into scheduler.run (app, executor, spec, run_at)"
            """ values ('shop', 'python', '{"task": "recommend"}', now() - interval '2 min')"""
        )
        for name in ("WalclockDueTooOld", "WalclockTargetDown", "WalclockNoWorker"):
            wait_until(lambda name=name: fires(prom, name), saying=lambda: str(prom.firing()))  # type: ignore[misc]
        here.worker()
        for name in ("WalclockDueTooOld", "WalclockTargetDown", "WalclockNoWorker"):
            wait_until(lambda name=name: not fires(prom, name), saying=lambda: str(prom.firing()))  # type: ignore[misc]

        # Nobody who plans.
        server.kill()
        wait_until(lambda: fires(prom, "WalclockNoServer"), saying=lambda: str(prom.firing()))
        here.server()
        wait_until(lambda: not fires(prom, "WalclockNoServer"), saying=lambda: str(prom.firing()))


def fail_some(db: psycopg.Connection[Any]) -> None:
    """Runs of a task that there is not."""
    db.execute(
        "insert into scheduler.run (app, executor, spec, max_attempts, run_at)"
        """ select 'shop', 'python', '{"task": "nobody_knows"}', 1, now() + n * interval '1 s'"""
        " from generate_series(1, 60) as n"
    )


def firing(prom: Prometheus) -> set[str]:
    return {labels["alertname"] for labels in prom.firing()}


def fires(prom: Prometheus, name: str, **labels: str) -> bool:
    return any({"alertname": name, **labels}.items() <= one.items() for one in prom.firing())

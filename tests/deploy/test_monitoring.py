"""What is delivered for Prometheus and Grafana, beside a server and a worker that really run: every query answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.support.fleet import ROOT, wait_until
from tests.support.monitored import cluster
from tests.support.prometheus import DELIVERED, prometheus

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


def fail_some(db: psycopg.Connection[Any]) -> None:
    """Runs of a task that there is not."""
    db.execute(
        "insert into scheduler.run (app, executor, spec, max_attempts, run_at)"
        """ select 'shop', 'python', '{"task": "nobody_knows"}', 1, now() + n * interval '1 s'"""
        " from generate_series(1, 60) as n"
    )

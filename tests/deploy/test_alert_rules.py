"""Each alert, by Prometheus' own tool: silent while all is well, firing during what it is for, and silent again."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fleet import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CONFIGURATION = RULES.with_name("prometheus.yml")
PAGE = ROOT / "docs" / "monitoring.md"
SERVER = 'job="walclock-servers",instance="a:8080"'
WELL, ILL, DAY = 60, 60, 24 * 60  # minutes
Moments = tuple[tuple[int, bool], ...]  # minutes, and whether the alert fires then
GiB = 1024**3


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@dataclass(frozen=True, slots=True)
class Case:
    """`series` are what the alert looks at: how they go while all is well, during what it is for, and afterwards.

    A minute is one value: `0` stays, `+5` grows by five a minute, `_` is not scraped. `labels`: of the alert, besides
    its severity. `days`: the parts last a day each, and not an hour.
    """

    series: dict[str, tuple[str, str, str]]
    labels: dict[str, str] = field(default_factory=dict)
    days: bool = False


def gauge(series: str, well: float, ill: float, **labels: str) -> Case:
    return Case({series: (f"{well:g}", f"{ill:g}", f"{well:g}")}, labels)


def counter(series: str, well: float, ill: float, **labels: str) -> Case:
    """How much it grows in a minute."""
    return Case({series: (f"+{well:g}", f"+{ill:g}", f"+{well:g}")}, labels)


CASES = {
    "WalclockNoServer": Case({'scheduler_info{role="server"}': ("1", "_", "1")}, {"role": "server"}),
    "WalclockTargetDown": gauge(f"up{{{SERVER}}}", 1, 0, job="walclock-servers", instance="a:8080"),
    "WalclockNoWorker": gauge("scheduler_workers_alive", 2, 0),
    "WalclockAppsUnowned": gauge("scheduler_apps_unowned", 0, 3),
    "WalclockLoopStuck": Case(
        {'scheduler_loop_last_success_timestamp_seconds{loop="planner",instance="a:8080"}': ("+60", "0", "now")},
        {"loop": "planner", "instance": "a:8080"},
    ),
    "WalclockListenerDown": gauge('scheduler_listener_connected{instance="a:8080"}', 1, 0, instance="a:8080"),
    "WalclockClockSkewed": gauge('scheduler_db_clock_offset_seconds{instance="a:8080"}', 0.1, -3, instance="a:8080"),
    "WalclockDueTooOld": gauge(
        'scheduler_oldest_due_seconds{app="shop",queue="mail"}', 2, 120, app="shop", queue="mail"
    ),
    "WalclockStartsLate": Case(
        {
            'scheduler_run_lateness_seconds_bucket{app="shop",le="1.0"}': ("+60", "0", "+60"),
            'scheduler_run_lateness_seconds_bucket{app="shop",le="30.0"}': ("+60", "+60", "+60"),
            'scheduler_run_lateness_seconds_bucket{app="shop",le="+Inf"}': ("+60", "+60", "+60"),
        },
        {"app": "shop"},
    ),
    "WalclockFiresMissed": counter('scheduler_fires_total{app="shop",outcome="missed"}', 0, 1, app="shop"),
    "WalclockJobWithoutSuccess": gauge('scheduler_jobs_overdue{app="shop"}', 0, 1, app="shop"),
    "WalclockFailureRate": Case(
        {
            'scheduler_runs_finished_total{app="shop",outcome="succeeded"}': ("+95", "+50", "+95"),
            'scheduler_runs_finished_total{app="shop",outcome="failed"}': ("+5", "+50", "+5"),
        },
        {"app": "shop"},
    ),
    "WalclockPoisonRuns": counter('scheduler_runs_poisoned_total{app="shop"}', 0, 0.1, app="shop"),
    "WalclockWorkersLost": counter('scheduler_runs_reclaimed_total{app="shop"}', 0.1, 20, app="shop"),
    "WalclockInvalidJobs": gauge('scheduler_jobs_invalid{app="shop"}', 0, 1, app="shop"),
    "WalclockSnapshotHeld": gauge("scheduler_db_snapshot_age_seconds", 2, 4000),
    "WalclockDatabaseGrows": Case(
        {"scheduler_db_size_bytes": (f"{10 * GiB}", f"{20 * GiB}", f"{20 * GiB}")}, days=True
    ),
    "WalclockWalGrows": counter("scheduler_db_wal_bytes_total", 60 * 1024**2, 60 * 80 * 1024**2),
    "WalclockDeadRows": gauge('scheduler_db_dead_rows{table="run"}', 1000, 5e6, table="run"),
    "WalclockConnectionsUsedUp": Case(
        {"scheduler_db_connections": ("20", "99", "20"), "scheduler_db_connections_most": ("100", "100", "100")}
    ),
    "WalclockNotifyQueueFills": gauge("scheduler_db_notify_queue_ratio", 0, 0.8),
}


def values(parts: tuple[str, str, str], minutes: tuple[int, int, int], step: int) -> str:
    """In the notation of promtool: a counter goes on from where it was."""
    said, at, passed = [], 0.0, 0
    for part, length in zip(parts, minutes, strict=True):
        if part == "_":
            said.append(f"_x{length // step}")
        elif part.startswith("+") or part == "now":
            grows = 60.0 if part == "now" else float(part[1:])
            at = passed * 60.0 if part == "now" else at
            said.append(f"{at:.6g}+{grows * step:.6g}x{length // step - 1}")
            at += grows * length
        else:
            at = at if part == "0" and parts[0].startswith("+") else float(part)
            said.append(f"{at:.12g}+0x{length // step - 1}")
        passed += length
    return " ".join(said)


def test_every_alert_has_a_case_and_no_other() -> None:
    assert set(CASES) == set(alerts())


def write(folder: Path, name: str, interval: str, series: dict[str, str], moments: Moments) -> Path:
    """A file for promtool: this alert, alone and without its texts, which it would compare word by word; these series;
    and the alerts that are expected at these minutes.
    """
    rule = {key: value for key, value in alerts()[name].items() if key != "annotations"}
    rules = folder / f"{name}.rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": [rule]}]}))
    fires = {"exp_labels": {**CASES[name].labels, "severity": rule["labels"]["severity"]}}
    expected = [
        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [fires] if does else []}
        for minute, does in moments
    ]
    test = {
        "name": name,
        "interval": interval,
        "input_series": [{"series": one, "values": said} for one, said in series.items()],
        "alert_rule_test": expected,
    }
    file = folder / f"{name}.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": interval, "tests": [test]}))
    return file


def promtool(*words: str | Path) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_rules() -> None:
    assert "SUCCESS: 21 rules found" in promtool("check", "rules", "--lint-fatal", RULES)


def test_prometheus_reads_the_configuration_that_is_delivered() -> None:
    """Its syntax, and the rules beside it: the token is made when everything starts."""
    assert "is valid prometheus config file syntax" in promtool("check", "config", "--syntax-only", CONFIGURATION)


def test_each_alert_fires_and_resolves(tmp_path: Path) -> None:
    """All in one call of promtool, which names those that do not."""
    files = []
    for name, case in CASES.items():
        step = 5 if case.days else 1
        minutes = (DAY, DAY, 2 * DAY) if case.days else (WELL, ILL, 3 * 60)
        series = {one: values(parts, minutes, step) for one, parts in case.series.items()}
        moments = ((minutes[0] - step, False), (minutes[0] + ILL - step, True), (sum(minutes) - step, False))
        files.append(write(tmp_path, name, f"{step}m", series, moments))
    promtool("test", "rules", *files)


def test_the_first_missed_fire_of_a_new_series_is_not_overlooked(tmp_path: Path) -> None:
    """It appears with the value 1, which is no increase."""
    series = {'scheduler_fires_total{app="shop",outcome="missed"}': "_x20 1+0x60"}
    moments = ((19, False), (25, True), (40, False))
    promtool("test", "rules", write(tmp_path, "WalclockFiresMissed", "1m", series, moments))


def test_one_failure_of_two_attempts_is_no_rate(tmp_path: Path) -> None:
    ended = 'scheduler_runs_finished_total{app="shop",outcome='
    series = {f'{ended}"{outcome}"}}': "0+0x30 1+0x60" for outcome in ("failed", "succeeded")}
    moments = tuple((minute, False) for minute in range(30, 60, 3))
    promtool("test", "rules", write(tmp_path, "WalclockFailureRate", "1m", series, moments))


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_says_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.search(rf"^\| `{name}` \|", PAGE.read_text(), re.MULTILINE), f"{PAGE.name} has no row for it"

"""Draws the dashboards: `python deploy/grafana/draw.py` writes dashboards/*.json anew, or into another folder.

Grafana's JSON repeats forty lines for each panel. Here a panel is a few, so all of them have one style, and what they
show can be read. Who changes one in Grafana saves it there under another name, and keeps that.

Series of an app are said by the server that owns it, and by two while it moves: gauges are joined by `max`, counters of
all processes are summed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from panels import RATE, Json, dashboard, graph, heat, quantiles, stat, table, variable

APP = 'app=~"$app"'
LANE = 'app=~"$app",queue=~"$queue"'
# Our label `job` is `exported_job` there: Prometheus has a label of that name itself.
JOB = 'app="$app",exported_job="$job"'
PROCESS = 'instance=~"$instance"'
EACH_APP = "{{app}}"
OUTCOME = "{{outcome}}"
FAILED = 'outcome=~"failed|lost"'
ALIVE = "Alive, as the database sees it."
INVALID = "With a schedule or a zone that nobody can read."
DUE = "For how long the run that has waited longest has been due."
PICK_APPS = variable("app", "label_values(scheduler_jobs, app)")
PICK_APP = variable("app", "label_values(scheduler_jobs, app)", many=False)
PICK_QUEUES = variable("queue", 'label_values(scheduler_runs_pending{app=~"$app"}, queue)')
PICK_JOB = variable(
    "job", 'label_values(scheduler_job_next_due_timestamp_seconds{app="$app"}, exported_job)', many=False
)
PICK_PROCESSES = variable("instance", "label_values(scheduler_info, instance)")


def overview() -> Json:
    finished = f"scheduler_runs_finished_total{{{APP}}}{RATE}"
    return dashboard(
        "walclock-overview",
        [PICK_APPS],
        [
            (
                4,
                [
                    stat("Servers", "max(scheduler_servers_alive)", "short", ALIVE, least=1),
                    stat("Workers", "max(scheduler_workers_alive)", "short", ALIVE, least=1),
                    stat("Apps without a server", "max(scheduler_apps_unowned)", "short", "Nobody plans them.", red=1),
                    stat(
                        "Oldest due",
                        f"max(scheduler_oldest_due_seconds{{{APP}}})",
                        "s",
                        DUE,
                        red=60,
                    ),
                    stat(
                        "Jobs without success",
                        f"sum(max by (app) (scheduler_jobs_overdue{{{APP}}}))",
                        "short",
                        "For more than three of their periods.",
                        red=1,
                    ),
                    stat(
                        "Invalid jobs",
                        f"sum(max by (app) (scheduler_jobs_invalid{{{APP}}}))",
                        "short",
                        INVALID,
                        red=1,
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Attempts that ended",
                        [(f"sum by (outcome) (rate({finished}))", OUTCOME)],
                        "ops",
                        "A second, by outcome. A failed attempt may be followed by another.",
                        stacked=True,
                    ),
                    graph(
                        "Lateness",
                        quantiles("scheduler_run_lateness_seconds", APP),
                        "s",
                        "From the instant at which a run may start to its start.",
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Pending runs",
                        [
                            (
                                f"topk(10, sum by (app) (max by (app, queue) (scheduler_runs_pending{{{APP}}})))",
                                EACH_APP,
                            )
                        ],
                        "short",
                        "Due, and planned for later; the ten apps with the most.",
                    ),
                    graph(
                        "Oldest due",
                        [(f"topk(10, max by (app) (scheduler_oldest_due_seconds{{{APP}}}))", EACH_APP)],
                        "s",
                        "The ten apps whose due runs have waited longest.",
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Slots of workers",
                        [("sum(scheduler_worker_slots)", "there"), ("sum(scheduler_worker_slots_used)", "used")],
                        "short",
                        "How many runs may be executed at a time, and how many are.",
                    ),
                    graph(
                        "Failing apps",
                        [
                            (
                                f"topk(10, sum by (app) (rate(scheduler_runs_finished_total{{{APP},{FAILED}}}{RATE})))",
                                EACH_APP,
                            )
                        ],
                        "ops",
                        "Attempts that failed or were lost, a second; the ten apps with the most.",
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Fires",
                        [(f"sum by (outcome) (rate(scheduler_fires_total{{{APP}}}{RATE}))", OUTCOME)],
                        "ops",
                        "Instants of schedules, a second, and what became of them.",
                        stacked=True,
                    ),
                    graph(
                        "Lost and poisonous runs",
                        [
                            (f"sum(rate(scheduler_runs_reclaimed_total{{{APP}}}{RATE}))", "taken back"),
                            (f"sum(rate(scheduler_runs_poisoned_total{{{APP}}}{RATE}))", "given up as poison"),
                        ],
                        "ops",
                        "A second: runs of workers that died, and those that were lost three times.",
                    ),
                ],
            ),
        ],
    )


def one_app() -> Json:
    failed = f"sum by (executor) (rate(scheduler_runs_finished_total{{{LANE},{FAILED}}}{RATE}))"
    ended = f"sum by (executor) (rate(scheduler_runs_finished_total{{{LANE}}}{RATE}))"
    to_job = {
        "title": "this job",
        "url": "/d/walclock-job?var-datasource=${datasource}&var-app=${__data.fields.app}&var-job=${__value.raw}",
        "column": "job",
    }
    return dashboard(
        "walclock-app",
        [PICK_APP, PICK_QUEUES],
        [
            (
                4,
                [
                    stat("Jobs", f"max(scheduler_jobs{{{APP}}})", "short", "Definitions of this app."),
                    stat(
                        "Pending",
                        f"sum(max by (queue) (scheduler_runs_pending{{{LANE}}}))",
                        "short",
                        "Due, and planned for later.",
                    ),
                    stat("Running", f"sum(scheduler_runs_running{{{LANE}}})", "short", "On all workers."),
                    stat(
                        "Oldest due",
                        f"max(scheduler_oldest_due_seconds{{{LANE}}})",
                        "s",
                        DUE,
                        red=60,
                    ),
                    stat("Alarms", f"max(scheduler_alarms_firing{{{APP}}})", "short", "Of this app, firing.", red=1),
                    stat(
                        "Invalid jobs",
                        f"max(scheduler_jobs_invalid{{{APP}}})",
                        "short",
                        INVALID,
                        red=1,
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Attempts that ended",
                        [(f"sum by (outcome) (rate(scheduler_runs_finished_total{{{LANE}}}{RATE}))", OUTCOME)],
                        "ops",
                        "A second, by outcome. A failed attempt may be followed by another.",
                        stacked=True,
                    ),
                    graph(
                        "Started, by executor",
                        [(f"sum by (executor) (rate(scheduler_runs_started_total{{{LANE}}}{RATE}))", "{{executor}}")],
                        "ops",
                        "Attempts that were begun, a second.",
                        stacked=True,
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Pending runs",
                        [(f"max by (queue) (scheduler_runs_pending{{{LANE}}})", "{{queue}}")],
                        "short",
                        "Due, and planned for later, by queue.",
                    ),
                    graph(
                        "Oldest due",
                        [(f"max by (queue) (scheduler_oldest_due_seconds{{{LANE}}})", "{{queue}}")],
                        "s",
                        "By queue.",
                    ),
                    graph(
                        "Running",
                        [(f"sum by (queue) (scheduler_runs_running{{{LANE}}})", "{{queue}}")],
                        "short",
                        "By queue, on all workers.",
                    ),
                ],
            ),
            (
                8,
                [
                    heat(
                        "Lateness",
                        f"sum by (le) (increase(scheduler_run_lateness_seconds_bucket{{{LANE}}}{RATE}))",
                        "s",
                        "How many runs started how late.",
                    ),
                    graph(
                        "Duration",
                        quantiles("scheduler_run_duration_seconds", LANE, "executor"),
                        "s",
                        "Of an attempt, by executor.",
                    ),
                    graph(
                        "Share that fails",
                        [
                            (
                                f"{failed} / {ended}",
                                "{{executor}}",
                            )
                        ],
                        "percentunit",
                        "Attempts that failed or were lost, of all that ended, by executor.",
                    ),
                ],
            ),
            (
                9,
                [
                    table(
                        "Jobs longest without success",
                        "sort_desc(time() - max by (app, exported_job)"
                        f" (scheduler_job_last_success_timestamp_seconds{{{APP}}}))",
                        "s",
                        "Those that are farthest behind their period; at most 100 of each server.",
                        names={"app": "app", "exported_job": "job", "Value": "since its last success"},
                        link=to_job,
                    ),
                    graph(
                        "Fires",
                        [(f"sum by (outcome) (rate(scheduler_fires_total{{{APP}}}{RATE}))", OUTCOME)],
                        "ops",
                        "Instants of this app's schedules, a second, and what became of them.",
                        stacked=True,
                    ),
                ],
            ),
        ],
    )


def one_job() -> Json:
    success = f"max(scheduler_job_last_success_timestamp_seconds{{{JOB}}} > 0)"
    due = f"max(scheduler_job_next_due_timestamp_seconds{{{JOB}}})"
    return dashboard(
        "walclock-job",
        [PICK_APP, PICK_JOB],
        [
            (
                5,
                [
                    stat("Since its last success", f"time() - {success}", "s", "Nothing: it never had one."),
                    stat("Last success", f"{success} * 1000", "dateTimeAsIso", "When its last run succeeded."),
                    stat("Due in", f"{due} - time()", "s", "Below zero it is overdue.", least=-60),
                    stat("Next due", f"{due} * 1000", "dateTimeAsIso", "The next instant of its schedule."),
                ],
            ),
            (
                9,
                [
                    graph(
                        "Time since its last success",
                        [(f"time() - {success}", "since its last success")],
                        "s",
                        "A saw whose teeth are as high as its period. A job is here while it is one of the 100 farthest"
                        " behind: one that runs well in a large installation may have gaps.",
                    ),
                    graph(
                        "Successes",
                        [(f"max(changes(scheduler_job_last_success_timestamp_seconds{{{JOB}}}{RATE}))", "successes")],
                        "short",
                        "Scrapes that saw a new success; a job of a short period has more.",
                    ),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Its app: attempts that ended",
                        [
                            (
                                f'sum by (outcome) (rate(scheduler_runs_finished_total{{app="$app"}}{RATE}))',
                                OUTCOME,
                            )
                        ],
                        "ops",
                        "A second, of all jobs of the app. Runs of a job: scheduler runs list --app APP --job JOB.",
                        stacked=True,
                    ),
                    graph(
                        "Its app: lateness",
                        quantiles("scheduler_run_lateness_seconds", 'app="$app"'),
                        "s",
                        "From the instant at which a run may start to its start, of all jobs of the app.",
                    ),
                ],
            ),
        ],
    )


def servers() -> Json:
    where = "{" + PROCESS + "}"
    return dashboard(
        "walclock-servers",
        [PICK_PROCESSES],
        [
            (
                7,
                [
                    table(
                        "Processes",
                        f"time() - max by (instance, job) (process_start_time_seconds{where})"
                        f" * on (instance) group_right () max by (instance, role, version) (scheduler_info{where})",
                        "s",
                        "Who is scraped, and since when it runs.",
                        names={"instance": "instance", "role": "role", "version": "version", "Value": "up for"},
                    ),
                    graph(
                        "Since a loop succeeded",
                        [
                            (
                                f'time() - scheduler_loop_last_success_timestamp_seconds{{{PROCESS},loop!="janitor"}}',
                                "{{instance}} {{loop}}",
                            )
                        ],
                        "s",
                        "Beyond some 15 s something is wrong. The janitor, which comes every ten minutes, is left out.",
                    ),
                    graph(
                        "Loops that fail",
                        [
                            (
                                f"sum by (instance, loop) (rate(scheduler_loop_failures_total{where}{RATE}))",
                                "{{instance}} {{loop}}",
                            )
                        ],
                        "ops",
                        "Steps that failed, a second.",
                    ),
                ],
            ),
            (
                7,
                [
                    graph(
                        "Hears notifications",
                        [(f"scheduler_listener_connected{where}", "{{instance}}")],
                        "short",
                        "1: at once. 0: it polls.",
                    ),
                    graph(
                        "Clock beside the database's",
                        [(f"abs(scheduler_db_clock_offset_seconds{where})", "{{instance}}")],
                        "s",
                        "By how much they differ.",
                    ),
                    graph(
                        "A planner's step",
                        quantiles("scheduler_planning_seconds", PROCESS),
                        "s",
                        "How long a look at what is due and its plans take.",
                    ),
                    graph(
                        "Apps owned",
                        [(f"scheduler_apps_owned{where}", "{{instance}}")],
                        "short",
                        "Each app with jobs is planned by one server.",
                        stacked=True,
                    ),
                ],
            ),
            (
                7,
                [
                    graph(
                        "CPU",
                        [(f"rate(process_cpu_seconds_total{where}{RATE})", "{{instance}}")],
                        "percentunit",
                        "Of one core.",
                    ),
                    graph("Memory", [(f"process_resident_memory_bytes{where}", "{{instance}}")], "bytes", "Resident."),
                    graph("Open files", [(f"process_open_fds{where}", "{{instance}}")], "short", "Sockets included."),
                ],
            ),
            (
                4,
                [
                    stat(
                        "Oldest snapshot",
                        "max(scheduler_db_snapshot_age_seconds)",
                        "s",
                        "Nothing that was deleted since can be vacuumed.",
                        red=1800,
                    ),
                    stat(
                        "Connections",
                        "max(scheduler_db_connections / scheduler_db_connections_most)",
                        "percentunit",
                        "Of those that PostgreSQL allows.",
                        red=0.9,
                    ),
                    stat(
                        "Notification queue",
                        "max(scheduler_db_notify_queue_ratio)",
                        "percentunit",
                        "When it is full, commits that notify fail.",
                        red=0.5,
                    ),
                    stat("Size", "max(scheduler_db_size_bytes)", "bytes", "Of the database."),
                ],
            ),
            (
                8,
                [
                    graph(
                        "Size",
                        [("max(scheduler_db_size_bytes)", "size")],
                        "bytes",
                        "Of the database, indexes included.",
                    ),
                    graph(
                        "WAL",
                        [(f"max(rate(scheduler_db_wal_bytes_total{RATE}))", "WAL")],
                        "Bps",
                        "Written a second, by everybody on this PostgreSQL.",
                    ),
                    graph(
                        "Dead rows",
                        [("topk(10, max by (table) (scheduler_db_dead_rows))", "{{table}}")],
                        "short",
                        "What vacuum has not removed yet; the ten tables with the most.",
                    ),
                    graph(
                        "Oldest snapshot",
                        [("max(scheduler_db_snapshot_age_seconds)", "age")],
                        "s",
                        "Of a transaction, a prepared one, or a replication slot.",
                    ),
                ],
            ),
        ],
    )


def all_of_them() -> dict[str, str]:
    """The files, by name."""
    boards = (overview(), one_app(), one_job(), servers())
    return {f"{one['uid']}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for one in boards}


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards"
    for name, text in all_of_them().items():
        (folder / name).write_text(text, encoding="utf-8")

"""Every metric there is: its name, kind, labels and meaning. No other module writes a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import add
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]

# A worker that is idle starts a run 1 ms after its commit, and no run waits unnoticed for a minute. Three to a decade
# where most values are, fewer above.
LATENESS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0)
# From tasks that do nothing to an hour, the default of a timeout.
DURATION = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 3_600.0)
PLANNING = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`name` is the whole name, as it is asked for. `joined`: what a process says in which two parts have it."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    joined: Callable[[float, float], float]

    def __hash__(self) -> int:
        return hash(self.name)


FAMILIES: dict[str, Family] = {}
_LANE = ("app", "queue", "executor")


def _family(
    name: str,
    kind: Kind,
    meaning: str,
    *labels: str,
    bounds: tuple[float, ...] = (),
    joined: Callable[[float, float], float] | None = None,
) -> Family:
    joined = joined or (add if kind == "counter" else max)
    family = Family(name=name, kind=kind, meaning=meaning, labels=labels, bounds=bounds, joined=joined)
    FAMILIES[name] = family
    return family


def _further(one: float, other: float) -> float:
    return one if abs(one) >= abs(other) else other


# Of every process.
INFO = _family("scheduler_info", "info", "One for each role of this process.", "version", "role")
LISTENER = _family(
    "scheduler_listener_connected", "gauge", "Whether notifications are heard; without, work is polled for.", joined=min
)
LOOP_SUCCESS = _family(
    "scheduler_loop_last_success_timestamp_seconds",
    "gauge",
    "When a loop last made a step, by the database's clock; its start, until then.",
    "loop",
)
LOOP_FAILURES = _family("scheduler_loop_failures_total", "counter", "Steps of a loop that failed.", "loop")
CLOCK_OFFSET = _family(
    "scheduler_db_clock_offset_seconds",
    "gauge",
    "How far this machine's wall clock is ahead of the database's.",
    joined=_further,
)

# Of a worker.
STARTED = _family("scheduler_runs_started_total", "counter", "Attempts that were started here.", *_LANE)
FINISHED = _family("scheduler_runs_finished_total", "counter", "Attempts that ended here.", *_LANE, "outcome")
RUN_LATENESS = _family(
    "scheduler_run_lateness_seconds",
    "histogram",
    "Start of an attempt minus the instant at which it was due.",
    *_LANE,
    bounds=LATENESS,
)
RUN_DURATION = _family(
    "scheduler_run_duration_seconds", "histogram", "From the start of an attempt to its end.", *_LANE, bounds=DURATION
)
RUNNING = _family("scheduler_runs_running", "gauge", "Runs that are executed here now.", "app", "queue")
SLOTS = _family("scheduler_worker_slots", "gauge", "Runs that this worker executes at a time.")
SLOTS_USED = _family("scheduler_worker_slots_used", "gauge", "Slots that are taken now.")
LOST = _family(
    "scheduler_runs_lost_total", "counter", "Runs that were in hand when this worker's leases were lost to others."
)

# Of a server.
PENDING = _family("scheduler_runs_pending", "gauge", "Runs that wait, due or not.", "app", "queue")
OLDEST_DUE = _family(
    "scheduler_oldest_due_seconds", "gauge", "How long the oldest due run has been waiting; 0: none is.", "app", "queue"
)
FIRES = _family("scheduler_fires_total", "counter", "Instants of jobs, by what was decided.", "app", "outcome")
RECLAIMED = _family("scheduler_runs_reclaimed_total", "counter", "Runs that were taken back from dead workers.", "app")
POISONED = _family(
    "scheduler_runs_poisoned_total", "counter", "Runs that failed because each attempt killed what ran it.", "app"
)
JOBS = _family("scheduler_jobs", "gauge", "Definitions of jobs.", "app")
JOBS_INVALID = _family("scheduler_jobs_invalid", "gauge", "Jobs whose schedule cannot be followed.", "app")
JOBS_OVERDUE = _family(
    "scheduler_jobs_overdue", "gauge", "Jobs of which more than three instants passed since a success.", "app"
)
JOB_SUCCESS = _family(
    "scheduler_job_last_success_timestamp_seconds",
    "gauge",
    "When a job last succeeded, 0: never; of the jobs that are longest without.",
    "app",
    "job",
)
JOB_NEXT = _family(
    "scheduler_job_next_due_timestamp_seconds",
    "gauge",
    "The next instant of those jobs, if they have one.",
    "app",
    "job",
)
APPS_OWNED = _family("scheduler_apps_owned", "gauge", "Apps that this server plans.")
APPS_UNOWNED = _family("scheduler_apps_unowned", "gauge", "Apps with jobs that no living server plans.")
SERVERS_ALIVE = _family("scheduler_servers_alive", "gauge", "Servers that send heartbeats.")
WORKERS_ALIVE = _family("scheduler_workers_alive", "gauge", "Workers that send heartbeats.")
ALARMS_FIRING = _family(
    "scheduler_alarms_firing", "gauge", "Alarms that fire; every server tells it of all apps.", "app"
)
PLANNING_TIME = _family("scheduler_planning_seconds", "histogram", "What a step of the planner took.", bounds=PLANNING)

# Of the database, by each server.
DB_SNAPSHOT = _family(
    "scheduler_db_snapshot_age_seconds", "gauge", "How long the oldest transaction with a snapshot has been open."
)
DB_SIZE = _family("scheduler_db_size_bytes", "gauge", "The size of the database.")
DB_WAL = _family("scheduler_db_wal_bytes_total", "counter", "The position in the write-ahead log of the whole server.")
DB_NOTIFY = _family("scheduler_db_notify_queue_ratio", "gauge", "How full the queue of notifications is, 0 to 1.")
DB_DEAD = _family("scheduler_db_dead_rows", "gauge", "Dead rows, as PostgreSQL estimates them.", "table")
DB_CONNECTIONS = _family("scheduler_db_connections", "gauge", "Connections of clients to the whole server.")
DB_CONNECTIONS_MOST = _family("scheduler_db_connections_most", "gauge", "How many there may be.")

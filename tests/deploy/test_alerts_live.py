"""Each alert beside processes that really run: it fires when the thing is broken, and is over when it is mended.

Its window and its `for` are seconds here, and a few thresholds are lower; `test_alert_rules` has them as they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import yaml

from scheduler.embedded import Embedded
from scheduler.verify import skewed
from tests.support.command import Scheduler
from tests.support.fleet import wait_until
from tests.support.monitored import Cluster, cluster
from tests.support.prometheus import DELIVERED, Prometheus, prometheus
from tests.support.proxy import Proxy

ASSIGNING = 7_716_804  # the lock of whoever gives apps to servers
WORK = (
    "WalclockDueTooOld",
    "WalclockFailureRate",
    "WalclockInvalidJobs",
    "WalclockJobWithoutSuccess",
    "WalclockNoWorker",
    "WalclockPoisonRuns",
    "WalclockStartsLate",
    "WalclockTargetDown",
    "WalclockWorkersLost",
)
PROCESSES = (
    "WalclockAppsUnowned",
    "WalclockClockSkewed",
    "WalclockFiresMissed",
    "WalclockListenerDown",
    "WalclockLoopStuck",
    "WalclockNoServer",
)
DATABASE = (
    "WalclockConnectionsUsedUp",
    "WalclockDatabaseGrows",
    "WalclockDeadRows",
    "WalclockNotifyQueueFills",
    "WalclockSnapshotHeld",
    "WalclockWalGrows",
)


class Watch:
    """What Prometheus says of alerts."""

    def __init__(self, prom: Prometheus) -> None:
        self._prom = prom

    def fires(self, name: str, **labels: str) -> bool:
        return any({"alertname": name, **labels}.items() <= one.items() for one in self._prom.firing())

    def wait(self, *names: str, **labels: str) -> None:
        """Until each of them has fired: some do so for seconds only."""
        missing = set(names)

        def have_fired() -> bool:
            missing.difference_update([name for name in missing if self.fires(name, **labels)])
            return not missing

        wait_until(have_fired, 60, saying=lambda: self._says(tuple(missing)))

    def wait_for_end(self, *names: str) -> None:
        """Until none of them fires any more."""
        wait_until(lambda: not any(map(self.fires, names)), 60, saying=lambda: self._says(names))

    def _says(self, names: tuple[str, ...]) -> str:
        return f"of {names} these fire: {self._prom.firing()}"


@contextmanager
def watched(
    here: Cluster, directory: Path, lowered: dict[str, str] | None = None
) -> Iterator[tuple[Watch, Prometheus]]:
    with prometheus(directory, here.targets(), lowered) as prom:
        yield Watch(prom), prom


def test_every_alert_is_brought_about_here() -> None:
    groups = yaml.safe_load((DELIVERED / "rules.yml").read_text())["groups"]
    assert sorted(WORK + PROCESSES + DATABASE) == sorted(rule["alert"] for group in groups for rule in group["rules"])


def add_job(db: psycopg.Connection, name: str, task: str, schedule: str = "@every 1s", **columns: str) -> None:
    spec = json.dumps({"task": task, "args": {}})
    named = {"app": "shop", "name": name, "schedule": schedule, "executor": "python", "spec": spec, **columns}
    db.execute(
        f"insert into scheduler.job ({', '.join(named)}) values ({', '.join(['%s'] * len(named))})",
        list(named.values()),
    )


def add_runs(
    db: psycopg.Connection, task: str, count: int = 1, *, attempts: int = 1, since: str = "0 s", **args: float
) -> None:
    db.execute(
        "insert into scheduler.run (app, executor, spec, max_attempts, run_at)"
        " select 'shop', 'python', %s, %s, now() - %s::interval from generate_series(1, %s)",
        [json.dumps({"task": task, "args": args}), attempts, since, count],
    )


@pytest.mark.timeout(300)
def test_alerts_about_work_fire_and_resolve(dsn: str, db: psycopg.Connection, tmp_path: Path) -> None:
    with ExitStack() as stack:
        here = stack.enter_context(cluster(dsn, tmp_path))
        watch, prom = stack.enter_context(watched(here, tmp_path))
        here.server(), here.other_server()
        worker = here.worker()
        wait_until(lambda: prom.targets_up() == 3)
        wait_until(lambda: prom.query("scheduler_servers_alive == 2") and prom.query("scheduler_workers_alive == 1"))
        watch.wait_for_end(*WORK)

        # Jobs of a task that there is not fail until somebody corrects them, and one has a schedule that is none.
        for number in range(3):
            add_job(db, f"mails {number}", "send_mails", max_attempts="1")
        add_job(db, "audit", "recommend", "every other tuesday")
        watch.wait("WalclockFailureRate", "WalclockInvalidJobs", "WalclockJobWithoutSuccess", app="shop")
        wait_until(lambda: "1 jobs of shop" in prom.summary("WalclockInvalidJobs"))
        db.execute("""update scheduler.job set spec = '{"task": "recommend"}', schedule = '@every 1s'""")
        watch.wait_for_end("WalclockFailureRate", "WalclockInvalidJobs", "WalclockJobWithoutSuccess")

        # The worker dies with what it had in hand, and something waits that has been due for two minutes.
        add_runs(db, "nap", 30, seconds=600)
        began = tmp_path / "effects"
        wait_until(lambda: began.read_text().count("began") == 30)
        worker.kill()
        add_runs(db, "recommend", since="2 min")
        watch.wait("WalclockDueTooOld", "WalclockNoWorker", "WalclockTargetDown", "WalclockWorkersLost")
        worker = here.worker()
        watch.wait_for_end("WalclockDueTooOld", "WalclockNoWorker", "WalclockTargetDown", "WalclockWorkersLost")

        # What comes has been due for long already.
        def is_late() -> bool:
            add_runs(db, "recommend", since="2 min")
            return watch.fires("WalclockStartsLate", app="shop")

        wait_until(is_late, 60)
        watch.wait_for_end("WalclockStartsLate")

        # A run kills each worker that takes it up.
        add_runs(db, "poison", attempts=10)

        def is_given_up() -> bool:
            nonlocal worker
            if worker.returncode is not None:
                worker = here.worker()
            return watch.fires("WalclockPoisonRuns", app="shop")

        wait_until(is_given_up, 60)
        watch.wait_for_end("WalclockPoisonRuns")


@pytest.mark.timeout(300)
def test_alerts_about_processes_fire_and_resolve(
    dsn: str, db: psycopg.Connection, connect: Callable[[], psycopg.Connection], tmp_path: Path
) -> None:
    skew = tmp_path / "skew"
    skewed.write(skew, 0)
    with ExitStack() as stack:
        listening = stack.enter_context(Proxy(dsn))
        here = stack.enter_context(cluster(dsn, tmp_path))
        watch, prom = stack.enter_context(watched(here, tmp_path, {'"janitor"} > 60': '"janitor"} > 3'}))
        servers = {"s1": here.server("--name", "s1", "--listen-dsn", listening.dsn), "other": here.other_server()}
        here.worker(skew=skew)
        wait_until(lambda: prom.targets_up() == 3)
        wait_until(lambda: prom.query("scheduler_servers_alive == 2") and prom.query("scheduler_workers_alive == 1"))
        add_job(db, "recommend", "recommend", misfire_grace="1 s")
        watch.wait_for_end(*PROCESSES)

        # The way of one listener to the database is cut, and stays so; and the clock of the worker's machine is wrong.
        listening.go_silent()
        listening.cut()
        skewed.write(skew, -5)
        watch.wait("WalclockListenerDown", instance=here.server_at)
        watch.wait("WalclockClockSkewed", instance=here.worker_at)
        assert not watch.fires("WalclockListenerDown", instance=here.worker_at)
        listening.flow()
        skewed.write(skew, 0)
        watch.wait_for_end("WalclockListenerDown", "WalclockClockSkewed")

        # Somebody holds the lock of those who give apps to servers, when one of these dies; and the lock of the jobs.
        holder = connect()
        holder.execute("select pg_advisory_lock(%s)", [ASSIGNING])
        owner = the_owner(db)
        servers.pop(owner).kill()
        watch.wait("WalclockAppsUnowned")
        holder.execute("select pg_advisory_unlock(%s)", [ASSIGNING])
        watch.wait_for_end("WalclockAppsUnowned")
        holder.execute("begin")
        holder.execute("lock table scheduler.job_schedule in exclusive mode")
        watch.wait("WalclockLoopStuck", loop="planner")
        holder.execute("rollback")
        watch.wait_for_end("WalclockLoopStuck")

        # Nobody who plans, for longer than the instants of a job may be late.
        for server in servers.values():
            server.kill()
        watch.wait("WalclockNoServer")
        last_planned = "select max(scheduled_at) < now() - interval '8 s' from scheduler.fire"
        wait_until(lambda: db.execute(last_planned).fetchall() == [(True,)])
        here.server("--name", "s1")
        watch.wait("WalclockFiresMissed", app="shop")
        watch.wait_for_end("WalclockNoServer", "WalclockFiresMissed")


def the_owner(db: psycopg.Connection) -> str:
    """The server of the shop."""
    found = db.execute("select s.label from scheduler.owner o join scheduler.server s on s.id = o.server").fetchall()
    ((name,),) = found
    return str(name)


@pytest.mark.timeout(300)
def test_alerts_about_the_database_fire_and_resolve(tmp_path: Path) -> None:
    """On a PostgreSQL of its own, since most of it concerns all databases there."""
    lowered = {
        "scheduler_db_snapshot_age_seconds) > 1800": "scheduler_db_snapshot_age_seconds) > 3",
        "offset 6s) > 1e9": "offset 6s) > 2e7",
        "scheduler_db_dead_rows) > 1e6": "scheduler_db_dead_rows) > 2e4",
        "> 64 * 1024 * 1024": "> 16 * 1024 * 1024",  # a slow disk writes no more
        "scheduler_db_notify_queue_ratio) > 0.5": "scheduler_db_notify_queue_ratio) > 0.0002",  # of 8 GB
    }
    with ExitStack() as stack:
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="walclock-test-")))
        server = stack.enter_context(Embedded(data_dir))
        here = stack.enter_context(cluster(server.dsn, tmp_path))
        watch, prom = stack.enter_context(watched(here, tmp_path, lowered))
        Scheduler(server.dsn).says("migrate")
        here.server()
        wait_until(lambda: prom.query("scheduler_servers_alive == 1"))

        def connect(options: str = "") -> psycopg.Connection:
            return stack.enter_context(psycopg.connect(server.dsn, autocommit=True, options=options))

        db = connect()
        wait_until(lambda: prom.query("scheduler_db_connections > 0"))
        watch.wait_for_end(*DATABASE)

        # Somebody forgot to commit what he reads, and what he has heard.
        holder = connect()
        holder.execute("listen anything")
        holder.execute("begin isolation level repeatable read")
        holder.execute("select count(*) from scheduler.run")
        db.execute("select pg_notify('anything', n || repeat('x', 7900)) from generate_series(1, 1000) n")
        watch.wait("WalclockSnapshotHeld", "WalclockNotifyQueueFills")

        # Rows that were deleted, and nobody clears away.
        add_runs(db, "recommend", 30_000)
        db.execute("delete from scheduler.run")
        watch.wait("WalclockDeadRows", table="run")
        holder.execute("rollback")
        db.execute("vacuum scheduler.run")
        watch.wait_for_end("WalclockSnapshotHeld", "WalclockNotifyQueueFills", "WalclockDeadRows")

        # Much is written: until the alert fires, and no more.
        db.execute("create table ballast (filling text)")
        db.execute("alter table ballast alter filling set storage external")

        seen: set[str] = set()

        def grows() -> bool:
            db.execute("insert into ballast select repeat('x', 1000000) from generate_series(1, 30)")
            seen.update(filter(watch.fires, ("WalclockWalGrows", "WalclockDatabaseGrows")))
            return len(seen) == 2

        wait_until(grows, 60)
        db.execute("drop table ballast")
        watch.wait_for_end("WalclockWalGrows", "WalclockDatabaseGrows")

        # Nearly all connections are taken.
        most = int(db.execute("show max_connections").fetchall()[0][0])
        with ExitStack() as idle:
            for _ in range(int(most * 0.92) - 8):
                idle.enter_context(psycopg.connect(server.dsn))
            watch.wait("WalclockConnectionsUsedUp")
        watch.wait_for_end("WalclockConnectionsUsedUp")

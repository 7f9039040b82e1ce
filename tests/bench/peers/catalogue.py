"""Who is measured, at which settings, and how much. Settings were chosen by tuning runs, for each peer's own best."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Literal

Measure = Literal["enqueue", "drain 1", "drain 2", "pinned", "pick-up", "delayed"]
MEASURES: tuple[Measure, ...] = ("enqueue", "drain 1", "drain 2", "pinned", "pick-up", "delayed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured. `enqueue` and the drains count jobs; pick-up and delayed are about time."""

    enqueue: int = 2000
    drain: int
    pick_up: int = 200
    gap: float = 0.05
    delayed: int = 1000
    span: float = 10.0

    def small(self) -> Size:
        """A fifth of it or so: shows that all of it works."""
        return replace(
            self,
            enqueue=self.enqueue // 4,
            drain=max(self.drain // 5, 1000),
            pick_up=self.pick_up // 2,
            delayed=self.delayed // 4,
            span=self.span / 4,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    title: str
    package: str
    """Whose version is reported; in the cache's environments, except for Walclock's own."""
    script: str
    settings: str
    keeps: str
    """What is left of a job when it is done."""
    left: str | tuple[str, ...]
    """What of %(jobs)s is not durably finished: a query that counts it, or for Redis the commands that do."""
    size: Size
    measures: tuple[Measure, ...] = MEASURES
    kind: Literal["queue", "stream"] = "queue"
    on_redis: bool = False
    packages: tuple[str, ...] = ()
    """Of Debian, beyond PostgreSQL itself."""
    is_main: bool = True
    """Repeated as often as asked for; the others once: they are minutes long, and far from the front."""
    variant: str = ""
    worker: tuple[str, ...] = field(default=())
    """A worker's command line, where it is not the script's `work`."""

    @property
    def in_node(self) -> bool:
        return self.script.endswith(".mjs")


NO_PINNED: tuple[Measure, ...] = ("enqueue", "drain 1", "drain 2", "pick-up", "delayed")
WALCLOCK = "walclock"
WALCLOCK_CONCURRENCY = 1000

PEERS = (
    Peer(
        name=WALCLOCK,
        title="**Walclock**",
        package="walclock",
        script="walclock",
        settings=f"`scheduler worker --concurrency {WALCLOCK_CONCURRENCY}`, async tasks, everything else default",
        keeps="full history: every attempt with times, worker, result, error",
        left="select (select count(*) from scheduler.run) + (select count(*) from scheduler.lease)",
        size=Size(drain=500_000),
        worker=(
            *(sys.executable, "-m", "scheduler.cli", "worker", "--app", "bench"),
            *("--concurrency", str(WALCLOCK_CONCURRENCY), "--import", "tests.bench.peers.scripts.walclock_tasks"),
        ),
    ),
    Peer(
        name="graphile",
        title="graphile-worker, batched",
        package="graphile-worker",
        script="graphile.mjs",
        variant="batched",
        settings="local queue of 2,000, batched completion, 24 jobs at a time",
        keeps="nothing: finished jobs are deleted",
        left="select count(*) from graphile_worker._private_jobs",
        size=Size(drain=200_000),
    ),
    Peer(
        name="graphile-default",
        title="graphile-worker, default",
        package="graphile-worker",
        script="graphile.mjs",
        variant="default",
        settings="24 jobs at a time",
        keeps="nothing: finished jobs are deleted",
        left="select count(*) from graphile_worker._private_jobs",
        size=Size(drain=20_000),
        measures=NO_PINNED,
        is_main=False,
    ),
    Peer(
        name="pgboss",
        title="pg-boss",
        package="pg-boss",
        script="pgboss.mjs",
        settings="batches of 2 times 5,000 in bursts (4 times 100 for latency), LISTEN/NOTIFY, polling each 0.5 s",
        keeps="finished jobs, in the same table, for a week",
        left="select count(*) from pgboss.job where state < 'completed'",
        size=Size(drain=100_000),
    ),
    Peer(
        name="pgqueuer",
        title="PgQueuer",
        package="pgqueuer",
        script="pgqueuer",
        settings="asyncpg, uvloop, batches of 2 times 1,000 (10 for latency)",
        keeps="a log row per job and change of state",
        left="select count(*) from pgqueuer where status in ('queued', 'picked')",
        size=Size(drain=60_000),
    ),
    Peer(
        name="pgmq",
        title="pgmq",
        package="pgmq",
        script="pgmq",
        settings="its SQL, reads and deletes 2,000 at a time (50 for latency), polling each 10 ms in the server",
        keeps="nothing: a message queue, finished messages are deleted",
        left="select count(*) from pgmq.q_q",
        size=Size(drain=150_000),
        is_main=False,
    ),
    Peer(
        name="awa",
        title="awa, Python handlers",
        package="awa-pg",
        script="awa",
        settings="queue storage, 500 workers, 2 claimers of 500 (50, 1 of 64 for latency), promotion each 20 ms",
        keeps="how many there were: rows of finished jobs go within seconds, with their slot of the ring",
        # Its view of jobs took minutes to count. What finished is in batches first, and in a sum when those are pruned.
        left="select %(jobs)s - (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)"
        " - (select coalesce(sum(pruned_completed_count), 0) from awa.queue_terminal_rollups)",
        size=Size(drain=30_000),
        is_main=False,
    ),
    Peer(
        name="chancy",
        title="chancy",
        package="chancy",
        script="chancy",
        settings="async executor, concurrency 2,000, eager polling, polling each 1 s (its shortest)",
        keeps="finished jobs, in the same table",
        left="select count(*) from chancy_jobs where state in ('pending', 'running', 'retrying')",
        size=Size(drain=20_000),
        measures=NO_PINNED,
        is_main=False,
    ),
    Peer(
        name="procrastinate",
        title="procrastinate",
        package="procrastinate",
        script="procrastinate",
        settings="concurrency 10, LISTEN/NOTIFY, polling each 5 s (default)",
        keeps="nothing here: `delete_jobs=always`",
        left="select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        size=Size(drain=5000),
        measures=NO_PINNED,
        is_main=False,
    ),
    Peer(
        name="dbos",
        title="dbos",
        package="dbos",
        script="dbos",
        settings="queue polled each 50 ms (default 1 s), 200 workflows at a time",
        keeps="every workflow",
        left="select count(*) from dbos.workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')",
        size=Size(enqueue=1000, drain=5000),
        measures=NO_PINNED,
        is_main=False,
    ),
    Peer(
        name="pgq",
        title="PgQ",
        package="postgresql-15-pgq3",
        script="pgq",
        settings="one consumer, ticks of 5,000 events, ticker each 50 ms",
        keeps="events until their table is rotated; no state per event, no retries or delays of its own",
        # The consumer's position is one row; its last batch is durable when every event was handled and acknowledged.
        left="select count(*) from pgq.subscription where sub_batch is not null",
        size=Size(enqueue=3000, drain=1_000_000),
        measures=("enqueue", "drain 1", "pick-up"),
        kind="stream",
        packages=("postgresql-15-pgq3", "pgqd"),
    ),
    Peer(
        name="celery",
        title="celery on Redis",
        package="celery",
        script="celery",
        settings="2 prefork children per worker, prefetch 256",
        keeps="nothing, and acknowledges before it runs; Redis without an append-only file",
        left=("LLEN celery", "HLEN unacked"),
        size=Size(drain=10_000),
        measures=NO_PINNED,
        on_redis=True,
        packages=("redis-server",),
        is_main=False,
    ),
    Peer(
        name="bullmq",
        title="bullmq on Redis",
        package="bullmq",
        script="bullmq.mjs",
        settings="concurrency 100",
        keeps="nothing here: `removeOnComplete`; Redis without an append-only file",
        left=("LLEN bull:q:wait", "LLEN bull:q:active"),
        size=Size(enqueue=5000, drain=80_000),
        measures=NO_PINNED,
        on_redis=True,
        packages=("redis-server",),
        is_main=False,
    ),
)


def chosen(names: str) -> list[Peer]:
    """The peers of a list of names, all for an empty one, in the order of the catalogue. KeyError: unknown."""
    known = {peer.name: peer for peer in PEERS}
    wanted = {known[name].name for name in names.split()} or set(known)
    return [peer for peer in PEERS if peer.name in wanted]

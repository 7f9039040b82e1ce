"""What a worker does when the way to its database breaks, falls silent or comes back; and when it blocks itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scheduler import db as scheduler_db
from scheduler.embedded import Embedded
from scheduler.install import migrate
from tests.support.embedded import data_directory
from tests.support.fleet import QUICK, Fleet, all_dead, wait_until
from tests.support.proxy import Proxy

DEAD_AFTER = float(QUICK["SCHEDULER_DEAD_AFTER"])
LISTENERS = (
    "select count(*) from pg_stat_activity"
    " where datname = current_database() and application_name = 'walclock worker listener w1'"
)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    with Proxy(dsn) as proxy:
        yield proxy


def test_a_worker_whose_listener_was_ended_polls_and_listens_again(fleet: Fleet) -> None:
    fleet.start()
    for _ in range(3):
        wait_until(lambda: fleet.terminate("worker listener") == 1)
        fleet.wait_for(fleet.insert("note"))
    wait_until(lambda: fleet.scalar(LISTENERS) == 1)


@pytest.mark.direct("ends the backend of each connection")
@pytest.mark.parametrize("connection", ["claims", "reports", "heartbeat", "worker listener"])
def test_a_connection_that_is_ended_under_load_loses_and_doubles_nothing(fleet: Fleet, connection: str) -> None:
    worker = fleet.start()
    runs = fleet.insert("note", count=4_000) + fleet.insert("nap", {"seconds": 0.1}, count=100)
    ended = 0
    late = time.monotonic() + 60
    while fleet.states(runs) != {"succeeded": len(runs)}:
        if ended < 6:
            ended += fleet.terminate(connection)
        fleet.reclaim()
        time.sleep(0.3)
        assert time.monotonic() < late, f"{fleet.states(runs)} after {ended} times"
    assert ended > 0
    assert fleet.scalar("select count(*) from scheduler.history where outcome = 'succeeded'") == len(runs)
    assert fleet.scalar("select count(*) from scheduler.history") == len(runs)
    wait_until(lambda: fleet.leases() == 0)
    assert worker.returncode is None


def test_the_lost_answer_to_a_claim_is_noticed_and_its_runs_are_executed(fleet: Fleet, proxy: Proxy) -> None:
    fleet.start(dsn=proxy.dsn)
    proxy.cut_answer_to(b"scheduler.claim(")
    runs = fleet.insert("note", count=10)
    wait_until(lambda: proxy.cuts == 1)
    fleet.wait_for(runs)
    assert [fleet.attempts(run) for run in runs] == [["succeeded"]] * 10
    assert len(fleet.effects("ran")) == 10


def test_the_lost_answer_to_a_report_costs_nothing(fleet: Fleet, proxy: Proxy) -> None:
    fleet.start(dsn=proxy.dsn)
    proxy.cut_answer_to(b"scheduler.finish(")
    runs = fleet.insert("note", count=10)
    wait_until(lambda: proxy.cuts == 1)
    fleet.wait_for(runs)
    fleet.wait_for(fleet.insert("note", count=10))
    assert [fleet.attempts(run) for run in runs] == [["succeeded"]] * 10
    assert len(fleet.effects("ran")) == 20


def test_runs_whose_report_is_on_its_way_are_not_given_back(fleet: Fleet, proxy: Proxy) -> None:
    fleet.start(dsn=proxy.dsn)
    proxy.hold(b"scheduler.finish(")
    runs = fleet.insert("note", count=10)
    fleet.wait_for_effect("ran", runs)
    asked = len(proxy.asked)
    wait_until(lambda: sum(b"scheduler.leases_of(" in data for data in proxy.asked[asked:]) >= 2)
    proxy.flow()
    fleet.wait_for(runs)
    assert len(fleet.effects("ran")) == 10


def test_a_worker_in_a_black_hole_stops_in_time_and_comes_back(fleet: Fleet, proxy: Proxy) -> None:
    worker = fleet.start(dsn=proxy.dsn)
    first = fleet.worker(worker)["id"]
    ticking = fleet.insert("tick", {"seconds": 600}, max_attempts=10)
    child = fleet.insert("process_nap", {"seconds": 600}, max_attempts=10)
    fleet.wait_for_effect("tick", ticking)
    (began,) = fleet.wait_for_effect("began", child)
    proxy.go_silent()
    wait_until(lambda: (fleet.reclaim(), fleet.states(ticking + child) == {"pending": 2})[1])
    row = fleet.worker(worker)
    assert fleet.effects("tick", ticking)[-1].at < row["seen_at"].timestamp() + DEAD_AFTER
    wait_until(lambda: all_dead([began.pid, began.value]))
    fleet.insert("note")
    time.sleep(4)  # longer in the hole than any wait of its own
    ticks = len(fleet.effects("tick", ticking))
    proxy.flow()
    wait_until(lambda: fleet.worker(worker)["id"] > first)
    wait_until(lambda: len(fleet.effects("tick", ticking)) > ticks)
    assert fleet.effects("tick", ticking)[-1].attempt == 2
    assert worker.returncode is None


def test_a_worker_whose_connections_are_swallowed_makes_new_ones_before_it_is_declared_dead(
    fleet: Fleet, proxy: Proxy
) -> None:
    worker = fleet.start(dsn=proxy.dsn, env={"SCHEDULER_STATEMENT_TIMEOUT": "1", "SCHEDULER_DEAD_AFTER": "6"})
    naps = fleet.insert("nap", {"seconds": 3}, count=3)
    fleet.wait_for_effect("began", naps)
    proxy.swallow()
    later = fleet.insert("note", count=10)
    wait_until(lambda: (fleet.reclaim("6"), fleet.states(naps + later) == {"succeeded": 13})[1])
    assert {run: fleet.attempts(run) for run in naps + later} == {run: ["succeeded"] for run in naps + later}
    assert fleet.scalar("select count(*) from scheduler.worker") == 1
    assert worker.returncode is None


def test_a_worker_in_a_black_hole_can_be_told_to_stop(fleet: Fleet, proxy: Proxy) -> None:
    worker = fleet.start(dsn=proxy.dsn)
    fleet.wait_for_effect("began", fleet.insert("nap", {"seconds": 600}))
    proxy.go_silent()
    worker.term()
    worker.wait(30)
    assert worker.returncode == 0


def test_a_blocked_event_loop_is_not_taken_for_a_death(fleet: Fleet) -> None:
    worker = fleet.start(env={"SCHEDULER_DEAD_AFTER": "4"})
    run = fleet.insert("block", {"seconds": 10})
    wait_until(lambda: (fleet.reclaim("4"), fleet.states(run) == {"succeeded": 1})[1])
    assert fleet.attempts(run[0]) == ["succeeded"]
    assert fleet.scalar("select count(*) from scheduler.worker") == 1
    assert worker.returncode is None


def test_a_blocked_event_loop_without_heartbeats_ends_its_process(fleet: Fleet, proxy: Proxy) -> None:
    worker = fleet.start(dsn=proxy.dsn)
    fleet.wait_for_effect("began", fleet.insert("block", {"seconds": 600}))
    proxy.go_silent()
    assert worker.wait() == 70


def test_a_coroutine_that_cannot_be_stopped_ends_a_process_without_heartbeats(fleet: Fleet, proxy: Proxy) -> None:
    worker = fleet.start(dsn=proxy.dsn)
    fleet.wait_for_effect("began", fleet.insert("deaf"))
    proxy.go_silent()
    assert worker.wait() == 70


@pytest.mark.chaos
def test_a_restart_of_postgresql_under_load_loses_nothing(tmp_path: Path) -> None:
    with data_directory() as data_dir, Embedded(data_dir) as server:
        asyncio.run(_install(server.dsn))
        with psycopg.connect(server.dsn, autocommit=True) as session:
            fleet = Fleet(server.dsn, session, tmp_path)
            worker = fleet.start()
            runs = fleet.insert("nap", {"seconds": 0.05}, count=2_000)
            fleet.wait_for_effect("ended", runs, 200)
        server.stop()
        server.start()
        with psycopg.connect(server.dsn, autocommit=True) as session:
            fleet.db = session
            fleet.wait_for(runs, seconds=60, reclaim=True)
            assert fleet.scalar("select count(*) from scheduler.history where outcome = 'succeeded'") == len(runs)
            assert worker.returncode is None
            worker.term()
            assert worker.wait() == 0
            assert fleet.leases() == 0


async def _install(dsn: str) -> None:
    async with await scheduler_db.connect(dsn, name="tests") as conn:
        await migrate(conn)

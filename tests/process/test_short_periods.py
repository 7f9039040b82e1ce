"""Jobs of a short period, fired by real workers from timers: punctual, once, and by somebody else when one is gone."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.fleet import QUICK, ROOT, Effect, Fleet, Process, wait_until

FAST, SLOW = "@every 10ms", "@every 200ms"
SOON = 5.0  # seconds: a loaded machine is slow; the design says 1
HARD = {"SCHEDULER_DEAD_AFTER": "4", "SCHEDULER_HEARTBEAT": "1"}
"""For tests in which nobody may be taken for dead: a loaded machine is slow."""


@pytest.fixture
def server(dsn: str, tmp_path: Path) -> Iterator[Process]:
    """A server with the times of the fleet."""
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "scheduler.cli", "--dsn", dsn, "run", "--no-worker"]
        environment = {**os.environ, **QUICK, "SCHEDULER_DEAD_AFTER": "3"}
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, env=environment)
    process = Process(popen, log)
    yield process
    process.end()
    print(process.log[-3000:])  # noqa: T201  seen when the test fails


def add(db: psycopg.Connection, name: str, schedule: str, task: str = "note", **more: Any) -> None:
    spec = json.dumps({"task": task, "args": more.pop("args", {})})
    columns = {"app": "shop", "name": name, "schedule": schedule, "executor": "python", "spec": spec, **more}
    db.execute(
        f"insert into scheduler.job ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})",
        list(columns.values()),
    )


def fired(fleet: Fleet, name: str) -> list[Effect]:
    """The fires of a job that says its name, in the order in which they were."""
    return fleet.effects(f"at-{name}")


def instants(fires: list[Effect]) -> list[int]:
    """Their nominal instants in microseconds, which are what the effects say."""
    return [fire.value for fire in fires]


def wait_for_fires(fleet: Fleet, name: str, count: int, *, since: float = 0.0) -> list[Effect]:
    def found() -> list[Effect]:
        return [fire for fire in fired(fleet, name) if fire.at >= since]

    wait_until(lambda: len(found()) >= count, saying=lambda: f"{name} fired {len(found())} of {count} times")
    return found()


def summed(fleet: Fleet, name: str, what: str) -> int:
    query = "select coalesce(sum(instants), 0) from scheduler.fire where job = %s and outcome = %s"
    return int(fleet.scalar(query, [name, what]))


def holder(fleet: Fleet, name: str) -> int | None:
    """The pid of the process that fires a job."""
    row = fleet.db.execute(
        "select w.pid from scheduler.pulse p join scheduler.worker w on w.id = p.worker where p.job = %s", [name]
    ).fetchone()
    return None if row is None else int(row[0])


def by_pid(fleet: Fleet, pid: int | None) -> tuple[Process, Process]:
    """Of two workers the one with this pid, and the other one."""
    one, other = fleet.processes
    return (one, other) if one.pid == pid else (other, one)


def test_short_periods_keep_time_to_within_a_hundredth_and_write_few_rows(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "fast", FAST, "say", args={"name": "fast"})
    add(fleet.db, "slow", SLOW, "say", args={"name": "slow"})
    begun = wait_for_fires(fleet, "fast", 1)[0].at
    wait_until(lambda: fired(fleet, "fast")[-1].at - begun > 11, 30)
    fleet.db.execute("select scheduler.pause('shop')")
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.pulse") == 0)
    for name, period in (("fast", 0.01), ("slow", 0.2)):
        fires = fired(fleet, name)
        assert all((one.value - fires[0].value) % round(period * 1e6) == 0 for one in fires)
        assert all(one.value < other.value for one, other in pairwise(fires))
        late = [one.at - one.value / 1e6 for one in fires]
        # Nothing accumulates: the last are no later than the first. Several of them, as any one may be late.
        drift = statistics.median(late[-20:]) - statistics.median(late[:20])
        assert abs(drift) < 0.01 * (fires[-1].at - fires[0].at), f"{name}: {len(fires)} fires, {drift * 1e3:.1f} ms"
        assert sorted(late)[len(late) // 2] < 0.1
        # Never early; the wall clock here and the database's are the same.
        assert min(late) > -0.0005
        assert summed(fleet, name, "fired") == len(fires)
        assert summed(fleet, name, "fired") + summed(fleet, name, "skipped") == instants_between(fires, period)
    assert fleet.scalar("select count(*) from scheduler.history") < 15
    assert fleet.scalar("select sum((result->>'fires')::int) from scheduler.history where job = 'fast'") == len(
        fired(fleet, "fast")
    )


def instants_between(fires: list[Effect], period: float) -> int:
    return round((fires[-1].value - fires[0].value) / 1e6 / period) + 1


def test_a_job_whose_worker_is_killed_is_fired_by_another_and_never_twice(fleet: Fleet, server: Process) -> None:
    fleet.start()
    fleet.start()
    add(fleet.db, "fast", "@every 20ms", "say", args={"name": "fast"})
    wait_for_fires(fleet, "fast", 50)
    victim, other = by_pid(fleet, holder(fleet, "fast"))
    victim.kill()
    killed = time.time()
    after = wait_for_fires(fleet, "fast", 50, since=killed + 0.1)
    # Dead after 3 s. The first may have been what killed the worker: a child process executes it, and has to start.
    assert after[0].at - killed < 3 + 20
    assert {fire.pid for fire in after[1:]} == {other.pid}
    before = [fire for fire in fired(fleet, "fast") if fire.pid == victim.pid]
    assert before[-1].at < after[0].at
    assert before[-1].fence < after[0].fence
    fires = instants(fired(fleet, "fast"))
    assert len(set(fires)) == len(fires)
    gap = (
        "select from scheduler.fire where outcome = 'missed'"
        " and reason like '%was lost; what it fired since its last report is not known'"
    )
    wait_until(lambda: fleet.db.execute(gap).rowcount)
    assert fleet.scalar("select count(*) from scheduler.history where error like %s", ["%was lost%"]) == 1


@pytest.mark.parametrize("end", ["pause", "remove", "edit"])
def test_a_job_stops_soon_after_it_is_ended(fleet: Fleet, server: Process, end: str) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "fast", FAST, "say", args={"name": "fast"})
    wait_for_fires(fleet, "fast", 20)
    if end == "pause":
        fleet.db.execute("select scheduler.pause('shop', 'fast')")
    elif end == "remove":
        fleet.db.execute("delete from scheduler.job")
    else:
        spec = json.dumps({"task": "say", "args": {"name": "other"}})
        fleet.db.execute("update scheduler.job set spec = %s", [spec])
    ended = time.time()
    if end == "edit":
        wait_for_fires(fleet, "other", 20)
    else:
        wait_until(lambda: fleet.scalar("select count(*) from scheduler.pulse") == 0)
        assert summed(fleet, "fast", "fired") == len(fired(fleet, "fast"))
    assert fired(fleet, "fast")[-1].at < ended + SOON


def test_a_worker_that_does_not_hear_that_a_job_was_paused_sees_it_soon(fleet: Fleet, server: Process) -> None:
    worker = fleet.start(env=HARD)
    add(fleet.db, "fast", FAST, "say", args={"name": "fast"})
    wait_for_fires(fleet, "fast", 20)
    # The same, and nobody is told.
    fleet.db.execute("update scheduler.pulse set revision = null, revoked_at = now()")
    ended = time.time()
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.pulse") == 0)
    assert fired(fleet, "fast")[-1].at < ended + SOON
    assert worker.returncode is None


def test_two_workers_share_the_jobs_and_none_is_fired_by_both(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    fleet.start(env=HARD)
    # So many that a worker which hears of them a quarter of a second later still finds some.
    names = [f"j{number}" for number in range(60)]
    for name in names:
        add(fleet.db, name, SLOW, "say", args={"name": name})
    for name in names:
        wait_for_fires(fleet, name, 5)
    holders = fleet.db.execute("select worker, count(*) from scheduler.pulse group by worker").fetchall()
    assert len(holders) == 2
    assert min(count for _, count in holders) >= 3
    for name in names:
        fires = fired(fleet, name)
        assert len({fire.pid for fire in fires}) == 1
        assert len(set(instants(fires))) == len(fires)


def test_a_worker_told_to_stop_hands_its_jobs_on_without_a_gap(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "slow", SLOW, "say", args={"name": "slow"})
    add(fleet.db, "long", "@after 100ms", "nap", args={"seconds": 1.5})
    wait_for_fires(fleet, "slow", 5)
    (began,) = fleet.wait_for_effect("began", [run_of(fleet, "long")], 1)[:1]
    fleet.start(env=HARD)
    first, second = fleet.processes
    first.term()
    left = time.time()
    assert first.wait() == 0
    assert "was lost" not in first.log
    after = wait_for_fires(fleet, "slow", 10, since=left + 2)
    assert {fire.pid for fire in after} == {second.pid}
    # Two workers pass it on in milliseconds; on a machine that is slower than a period, what passed is accounted for.
    fleet.db.execute("select scheduler.pause('shop')")
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.pulse") == 0)
    fires = instants(fired(fleet, "slow"))
    assert len(set(fires)) == len(fires) == summed(fleet, "slow", "fired")
    assert len(fires) + summed(fleet, "slow", "missed") == (fires[-1] - fires[0]) // 200_000 + 1
    assert fleet.effects("ended", [began.run])


def run_of(fleet: Fleet, name: str) -> int:
    """The run id under which a job is fired now."""
    query = "select max(run_id) from scheduler.pulse where job = %s"
    wait_until(lambda: fleet.scalar(query, [name]) is not None)
    return int(fleet.scalar(query, [name]))


def test_a_worker_that_slept_while_another_took_over_fires_nothing_and_its_report_is_refused(
    fleet: Fleet, server: Process
) -> None:
    fleet.start()
    fleet.start()
    add(fleet.db, "fast", "@every 20ms", "say", args={"name": "fast"})
    wait_for_fires(fleet, "fast", 20)
    sleeper, other = by_pid(fleet, holder(fleet, "fast"))
    sleeper.suspend()
    slept = time.time()
    taken = wait_for_fires(fleet, "fast", 20, since=slept + 0.2)
    assert {fire.pid for fire in taken[1:]} == {other.pid}
    stale = [fire for fire in fired(fleet, "fast") if fire.pid == sleeper.pid]
    sleeper.resume()
    wait_until(lambda: sleeper.log.count(" is ready: ") == 2, saying=lambda: sleeper.log)
    time.sleep(1)
    assert [fire for fire in fired(fleet, "fast") if fire.pid == sleeper.pid] == stale
    fleet.db.execute("select scheduler.pause('shop')")
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.pulse") == 0)
    # What the sleeper had not reported when it fell asleep is in no row but the one that says so.
    counted = fleet.scalar("select sum(instants) from scheduler.fire where outcome = 'fired'")
    reported = fleet.scalar(
        "select coalesce(sum(instants), 0) from scheduler.fire f join scheduler.history h on h.id = f.run_id"
        " where f.outcome = 'fired' and h.worker = %s",
        [fleet.worker(other)["id"]],
    )
    assert reported == len([fire for fire in fired(fleet, "fast") if fire.pid != sleeper.pid])
    assert counted - reported <= len(stale)


def test_an_instant_that_comes_while_its_job_still_runs_is_skipped_and_counted(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "napping", "@every 200ms", "nap", args={"seconds": 0.5})
    wait_until(lambda: summed(fleet, "napping", "skipped") > 0)
    began, ended = fleet.effects("began"), fleet.effects("ended")
    assert all(end.at <= start.at for end, start in zip(ended, began[1:], strict=False))
    fires, skipped = summed(fleet, "napping", "fired"), summed(fleet, "napping", "skipped")
    assert skipped == pytest.approx(2 * fires, abs=4)


def test_a_fire_that_fails_is_counted_and_the_next_one_comes(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "failing", SLOW, "raises", args={"how": "nul"}, max_attempts=5)
    add(fleet.db, "slow", SLOW, "nap", args={"seconds": 30}, timeout="150 ms")

    def failures(name: str) -> dict[str, Any]:
        row = fleet.db.execute(
            "select outcome, error, result from scheduler.history where job = %s order by id limit 1", [name]
        ).fetchone()
        return {} if row is None else {"outcome": row[0], "error": row[1], **row[2]}

    wait_until(lambda: failures("failing") and failures("slow"))
    assert failures("failing")["outcome"] == "failed"
    assert "ValueError" in failures("failing")["error"]
    assert failures("failing")["failures"] == failures("failing")["fires"] > 5
    assert failures("slow")["error"] == "timed out after 0.15 s"
    assert failures("slow")["failures"] > 5
    assert fleet.scalar("select count(*) from scheduler.run") == 0


def test_a_fire_that_kills_its_worker_is_isolated_with_the_next_one(fleet: Fleet, server: Process) -> None:
    fleet.start()
    second = fleet.start()
    add(fleet.db, "poison", "@every 500ms", "poison")
    wait_until(lambda: any(process.returncode is not None for process in fleet.processes), 30)
    survivor = next(process for process in fleet.processes if process.returncode is None)
    query = "select coalesce(sum((result->>'failures')::int), 0) from scheduler.history where job = 'poison'"
    wait_until(lambda: fleet.scalar(query) > 1, 40)
    assert survivor.returncode is None
    assert second.pid


def test_a_command_line_tells_who_fires_a_job_and_how_it_goes(fleet: Fleet, server: Process) -> None:
    add(fleet.db, "fast", FAST, "say", args={"name": "fast"})
    listed = told(fleet, "job", "list")
    wait_until(lambda: "waits for a worker" in listed(), 20, listed)
    worker = fleet.start(env=HARD)
    number = fleet.worker(worker)["id"]
    wait_until(lambda: f"on worker {number}" in listed(), 20, listed)
    shown = told(fleet, "job", "show", "shop", "fast", "--json")
    wait_until(lambda: json.loads(shown())["last_result"], 30, shown)
    row = json.loads(shown())
    assert row["pulse"]["worker"] == number
    assert row["pulse"]["fence"] > 0
    assert row["last_result"]["fires"] > 100
    assert datetime.fromisoformat(row["last_result"]["last"]) > datetime.fromisoformat(row["last_result"]["first"])
    assert row["last_result"]["lateness"].keys() == {"p50", "p99", "max"}


def told(fleet: Fleet, *words: str) -> Callable[[], str]:
    def ask() -> str:
        command = [sys.executable, "-m", "scheduler.cli", "--dsn", fleet.dsn, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    return ask


def test_a_job_that_a_worker_never_heard_it_was_given_is_let_go_and_taken(fleet: Fleet, server: Process) -> None:
    worker = fleet.start(env=HARD)
    add(fleet.db, "known", SLOW, "say", args={"name": "known"})
    wait_for_fires(fleet, "known", 1)
    later = fleet.scalar("select now() + interval '1 hour'")
    add(fleet.db, "unknown", SLOW, "say", args={"name": "unknown"}, starts_at=later)
    # As after a take whose answer was lost.
    fleet.db.execute(
        "insert into scheduler.pulse (app, job, revision, period, from_end, anchor_at, worker, lease, taken_at)"
        " values ('shop', 'unknown', 1, '1 s', false, now(), %s, nextval('scheduler.lease_id'), now())",
        [fleet.worker(worker)["id"]],
    )
    wait_for_fires(fleet, "unknown", 2)


def test_lines_that_fires_write_stay_in_order_and_all_are_kept(fleet: Fleet, server: Process) -> None:
    fleet.start(env=HARD)
    add(fleet.db, "talking", SLOW, "talk", args={"lines": 3})
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.history") > 1)
    first = fleet.scalar("select min(id) from scheduler.history")
    lines = fleet.db.execute("select line, text from scheduler.log where run_id = %s order by line", [first]).fetchall()
    assert [number for number, _ in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > 30
    assert {text for _, text in lines} == {"line 0", "line 1", "line 2"}

"""How worker processes end, are killed or fall silent, and what becomes of the work in their hands."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.fleet import QUICK, Fleet, Process, all_dead, wait_until
from tests.support.pids import pids_in, written

DEAD_AFTER = float(QUICK["SCHEDULER_DEAD_AFTER"])
HOLDS_AHEAD = {"SCHEDULER_HORIZON": "60"}


def in_a_minute(fleet: Fleet, count: int) -> list[int]:
    """Runs that a worker which claims a minute ahead holds for their instant."""
    return fleet.insert("note", count=count, run_at=fleet.scalar("select now() + interval '50 s'"))


def wait_until_held(fleet: Fleet, runs: list[int]) -> None:
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.run where id = any (%s)", [runs]) == 0)


def start_now(fleet: Fleet, runs: list[int]) -> None:
    fleet.db.execute("update scheduler.run set run_at = now() where id = any (%s)", [runs])


def test_a_worker_told_to_stop_ends_what_runs_and_gives_back_the_rest_unharmed(fleet: Fleet) -> None:
    worker = fleet.start(concurrency=2, env=HOLDS_AHEAD)
    ahead = in_a_minute(fleet, 5)
    wait_until_held(fleet, ahead)
    running = fleet.insert("nap", {"seconds": 3}, count=2)
    fleet.wait_for_effect("began", running)
    behind = fleet.insert("note", count=100)
    worker.term()
    assert worker.wait() == 0
    assert fleet.states(running) == {"succeeded": 2}
    assert fleet.states(behind + ahead) == {"pending": 105}
    assert fleet.scalar("select max(attempt) from scheduler.run") == 0
    row = fleet.worker(worker)
    assert row["stopped_at"] is not None
    assert row["dead_at"] is None
    assert fleet.leases() == 0
    assert not fleet.reclaim()
    start_now(fleet, ahead)
    fleet.start()
    fleet.wait_for(behind + ahead)
    assert {effect.attempt for effect in fleet.effects("ran")} == {1}


def test_what_outlasts_the_grace_is_given_back_and_runs_elsewhere(fleet: Fleet) -> None:
    worker = fleet.start(executors=["python", "shell"], env={"SCHEDULER_GRACE": "0.5"})
    child = fleet.insert("process_nap", {"seconds": 600})
    once = fleet.insert("nap", {"seconds": 600}, max_attempts=1) + fleet.insert("nap_once", {"seconds": 600})
    (began,) = fleet.wait_for_effect("began", child)
    fleet.wait_for_effect("began", once)
    again = fleet.insert("tick", {"seconds": 2})  # last: it is to be running when the grace is over
    fleet.wait_for_effect("tick", again)
    worker.term()
    assert worker.wait() == 0
    wait_until(lambda: all_dead([began.pid, began.value]))
    assert fleet.states(again + child) == {"pending": 2}
    assert [fleet.row(run)["attempt"] for run in again + child] == [0, 0]
    assert fleet.states(once) == {"failed": 2}
    assert {fleet.row(run)["error"] for run in once} == {"broken off when its worker stopped"}
    assert fleet.leases() == 0
    fleet.db.execute("select scheduler.cancel('default', %s)", child)
    second = fleet.start()
    fleet.wait_for(again)
    (ended,) = fleet.effects("ended", again)
    assert (ended.pid, ended.attempt) == (second.pid, 1)
    assert ended.fence > fleet.effects("tick", again)[0].fence


def test_a_second_signal_ends_the_draining(fleet: Fleet) -> None:
    worker = fleet.start(env={"SCHEDULER_GRACE": "600"})
    runs = fleet.insert("nap", {"seconds": 600}) + fleet.insert("process_nap", {"seconds": 600})
    began = fleet.wait_for_effect("began", runs)
    worker.term()
    wait_until(lambda: "draining" in worker.log)
    worker.term()
    assert worker.wait(15) == 0
    wait_until(lambda: all_dead([effect.pid for effect in began]))
    assert fleet.states(runs) == {"pending": 2}
    assert fleet.leases() == 0


def test_a_coroutine_that_cannot_be_stopped_does_not_keep_its_worker_from_leaving(fleet: Fleet) -> None:
    worker = fleet.start(env={"SCHEDULER_GRACE": "600"})
    deaf = fleet.insert("deaf")
    fleet.wait_for_effect("began", deaf)
    worker.term()
    wait_until(lambda: "draining" in worker.log)
    worker.term()
    assert worker.wait(15) == 70
    assert fleet.worker(worker)["stopped_at"] is not None
    fleet.reclaim()
    assert fleet.attempts(deaf[0]) == ["lost"]


def test_the_runs_of_a_killed_worker_come_back_and_its_children_die(fleet: Fleet, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    worker = fleet.start(concurrency=4, executors=["python", "shell"], env=HOLDS_AHEAD)
    ahead = in_a_minute(fleet, 5)
    wait_until_held(fleet, ahead)
    process = fleet.insert("process_nap", {"seconds": 600})
    shell = fleet.insert_run("shell", json.dumps({"command": f"sleep 600 & echo $$ $! . > {pids}; wait"}))
    coroutine = fleet.insert("nap", {"seconds": 600}, count=2)
    (began,) = fleet.wait_for_effect("began", process)
    fleet.wait_for_effect("began", coroutine)
    wait_until(lambda: written(pids).endswith(" .\n"))
    worker.kill()
    killed = time.monotonic()
    wait_until(lambda: all_dead([began.pid, began.value, *pids_in(written(pids))]))
    begun = process + shell + coroutine
    wait_until(lambda: (fleet.reclaim(), fleet.states(begun) == {"pending": 4})[1])
    assert time.monotonic() - killed >= DEAD_AFTER - 1
    assert [fleet.attempts(run) for run in begun] == [["lost"]] * 4
    assert fleet.states(ahead) == {"pending": 5}
    assert [fleet.attempts(run) for run in ahead] == [[]] * 5
    assert fleet.leases() == 0
    start_now(fleet, ahead)
    second = fleet.start(executors=["python"])
    fleet.wait_for(ahead)
    wait_until(lambda: [effect for effect in fleet.effects("began", coroutine) if effect.attempt == 2])
    assert {effect.attempt for effect in fleet.effects("ran", ahead)} == {1}
    assert {effect.pid for effect in fleet.effects("ran", ahead)} == {second.pid}


def test_a_worker_that_slept_while_others_took_over_changes_nothing_and_begins_anew(fleet: Fleet) -> None:
    sleeper = fleet.start(env=HOLDS_AHEAD)
    first = fleet.worker(sleeper)["id"]
    ahead = fleet.insert("note", count=5, run_at=fleet.scalar("select now() + interval '12 s'"))
    wait_until_held(fleet, ahead)  # before the others, so that these are not claimed together
    runs = fleet.insert("nap", {"seconds": 1}, count=5)
    thread = fleet.insert("thread_nap", {"seconds": 1})
    fleet.wait_for_effect("began", runs + thread)
    sleeper.suspend()
    suspended = time.monotonic()
    wait_until(fleet.reclaim)
    second = fleet.start()
    fleet.wait_for(runs + thread + ahead, reclaim=True)
    wait_until(lambda: time.monotonic() > suspended + 3 * DEAD_AFTER)
    resumed = time.time()
    sleeper.resume()
    wait_until(lambda: fleet.worker(sleeper)["id"] > first)
    second.kill()
    fleet.wait_for(fleet.insert("note", count=20), reclaim=True)
    assert fleet.row(runs[0])["worker"] == fleet.worker(second)["id"]
    assert {tuple(fleet.attempts(run)) for run in runs + thread} == {("lost", "succeeded")}
    assert {tuple(fleet.attempts(run)) for run in ahead} == {("succeeded",)}
    late = [effect for effect in fleet.effects() if effect.pid == sleeper.pid and effect.at > resumed]
    assert not [effect for effect in late if effect.what in ("began", "ran") and effect.run in runs + thread + ahead]
    for run in runs + thread + ahead:
        assert fleet.row(run)["fence"] == max(effect.fence for effect in fleet.effects(runs=[run]))
    assert sleeper.returncode is None


@pytest.mark.parametrize(("attempts", "kills"), [(10, 2), (3, 2), (2, 1)])
def test_a_task_that_kills_its_worker_fails_as_poison_and_its_neighbours_are_unharmed(
    fleet: Fleet, attempts: int, kills: int
) -> None:
    neighbours = fleet.insert("nap", {"seconds": 0.1}, count=50, max_attempts=attempts)
    poison = fleet.insert("poison", max_attempts=attempts)
    for _ in range(kills):
        dies = fleet.start(concurrency=60)
        wait_until(lambda: (fleet.reclaim(), dies.returncode is not None)[1], 30)  # noqa: B023  it ends in this turn
    survives = fleet.start(concurrency=60)
    fleet.wait_for(poison, "failed", 60, reclaim=True)
    fleet.wait_for(neighbours, "succeeded", 60, reclaim=True)
    assert survives.returncode is None
    assert fleet.attempts(poison[0]) == ["lost"] * kills + ["failed"]
    assert len(fleet.effects("poison")) == kills + 1
    if kills == 2:
        assert fleet.row(poison[0])["error"].startswith("poison: lost 3 times in a row")
    assert all(fleet.attempts(run)[-1] == "succeeded" for run in neighbours)


@pytest.mark.chaos
def test_under_a_storm_of_signals_every_run_is_accepted_once(fleet: Fleet, test_seconds: float) -> None:
    """Workers are killed, suspended and drained at random moments while work comes in; then all of it has one end."""
    runs: list[int] = []
    until = time.monotonic() + test_seconds
    suspended: list[Process] = []
    turn = 0
    while time.monotonic() < until:
        living = [process for process in fleet.processes if process.returncode is None and process not in suspended]
        while len(living) < 2:
            living.append(fleet.start(concurrency=10))
        runs += fleet.insert("nap", {"seconds": 0.2}, count=30, max_attempts=20)
        runs += fleet.insert("note", count=300, max_attempts=20)
        fleet.reclaim()
        if turn % 3 == 0:
            living[0].kill()
        elif turn % 3 == 1:
            living[0].term()
        else:
            living[0].suspend()
            suspended.append(living[0])
        if len(suspended) > 1:
            suspended.pop(0).resume()
        turn += 1
        time.sleep(1)
    for process in suspended:
        process.resume()
    fleet.start(concurrency=20)
    wait_until(lambda: (fleet.reclaim(), not {"pending", "running"} & set(fleet.states(runs)))[1], 60)
    unlucky = fleet.db.execute("select error from scheduler.runs where state = 'failed'").fetchall()
    assert all(error.startswith("poison: lost 3 times") for (error,) in unlucky)
    ends = "select count(*) from scheduler.history where retry_at is null"
    assert fleet.scalar(ends) == len(runs) == fleet.states(runs)["succeeded"] + len(unlucky)
    fences: dict[int, int] = dict(fleet.db.execute("select id, fence from scheduler.runs").fetchall())
    for effect in fleet.effects():
        assert effect.fence <= fences[effect.run]
    wait_until(lambda: fleet.leases() == 0)

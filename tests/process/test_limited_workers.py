"""Limits and turns, with real workers: what was executed when is read from a file outside the database."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.fleet import Effect, Fleet, wait_until

LIMIT = 2


def most_at_once(effects: Sequence[Effect], keys: Mapping[int, str], killed: Mapping[int, float]) -> dict[str, int]:
    """Of each key, how many runs were executed at a time; what a killed process ran has ended with it."""
    steps = [(one.at, one.what == "began", one.run, one.pid) for one in effects if one.what in {"began", "ended"}]
    steps += [(at, False, -1, pid) for pid, at in killed.items()]
    running: dict[str, set[tuple[int, int]]] = defaultdict(set)
    most: dict[str, int] = defaultdict(int)
    for _, began, run, pid in sorted(steps):
        if run < 0:
            for each in running.values():
                each -= {one for one in each if one[1] == pid}
        elif began:
            running[keys[run]].add((run, pid))
            most[keys[run]] = max(most[keys[run]], len(running[keys[run]]))
        else:
            running[keys[run]].discard((run, pid))
    return most


def test_whoever_is_killed_no_key_has_more_runs_at_once_than_its_limit(fleet: Fleet) -> None:
    keys: dict[int, str] = {}
    for number in range(12):
        key = f"key {number}"
        runs = fleet.insert(
            "nap", {"seconds": 0.1}, count=40, concurrency_key=key, concurrency_limit=LIMIT, max_attempts=20
        )
        keys |= dict.fromkeys(runs, key)
    workers = [fleet.start(concurrency=8) for _ in range(3)]
    killed: dict[int, float] = {}
    for victim, share in zip(workers[:2], (len(keys) // 4, len(keys) // 2), strict=True):
        wait_until(lambda share=share: len(fleet.effects("began")) > share)  # type: ignore[misc]
        victim.kill()
        killed[victim.pid] = time.time()
    assert any(one.pid in killed for one in fleet.effects("began"))
    fleet.wait_for(list(keys), reclaim=True, seconds=60)
    most = most_at_once(fleet.effects(), keys, killed)
    assert set(most) == set(keys.values())
    assert max(most.values()) == LIMIT
    wait_until(lambda: fleet.leases() == 0)
    assert fleet.scalar("select count(*) from scheduler.slot") == 0


def test_runs_of_one_key_follow_each_other_without_waiting_for_the_poll_floor(fleet: Fleet) -> None:
    fleet.start(env={"SCHEDULER_POLL": "60"})
    runs = fleet.insert("nap", {"seconds": 0}, count=20, concurrency_key="k")
    fleet.wait_for(runs)


def test_another_worker_takes_the_slot_that_one_frees(fleet: Fleet) -> None:
    busy = fleet.start(concurrency=1, env={"SCHEDULER_POLL": "30"})
    (first,) = fleet.insert("nap", {"seconds": 12}, concurrency_key="k")
    fleet.wait_for_effect("began", [first])
    fleet.start(env={"SCHEDULER_POLL": "30"})
    (second,) = fleet.insert("nap", {"seconds": 0}, concurrency_key="k")
    time.sleep(1.5)
    busy.term()  # it claims nothing more, and lets its run end
    (began,) = fleet.wait_for_effect("began", [second])
    (ended,) = fleet.wait_for_effect("ended", [first])
    assert 0 < began.at - ended.at < 10
    assert began.pid != busy.pid


def test_a_run_with_a_key_starts_at_its_instant_and_not_before(fleet: Fleet) -> None:
    fleet.start(env={"SCHEDULER_POLL": "30"})
    time.sleep(2)
    due = int(time.time()) + 2
    runs = fleet.insert("note", concurrency_key="k", run_at=time.strftime("%FT%TZ", time.gmtime(due)))
    (ran,) = fleet.wait_for_effect("ran", runs)
    assert 0 <= ran.at - due < 10


def test_a_rate_is_kept_by_all_workers_together(fleet: Fleet) -> None:
    rate = 20
    fleet.db.execute("select scheduler.limit_queue('default', 'default', p_rate_limit => %s)", [rate])
    for _ in range(2):
        fleet.start()
    runs = fleet.insert("note", count=5 * rate)
    fleet.wait_for(runs)
    at = [row[0] for row in fleet.db.execute("select extract(epoch from started_at)::float8 from scheduler.history")]
    at.sort()
    assert len(at) == 5 * rate
    late = 0.5  # seconds from the claim to the start, at most
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= rate * (1 + at[last] - at[first] + late)
    assert at[-1] - at[0] < 4 + 3, "a bucket at once, and the others as the tokens come"


def test_the_light_traffic_of_an_app_does_not_wait_behind_the_backlog_of_another(fleet: Fleet) -> None:
    with fleet.db.cursor().copy("copy scheduler.run (app, executor, spec) from stdin") as copy:
        copy.write(f"default\tpython\t{json.dumps({'task': 'note'})}\n" * 60_000)
    fleet.start(concurrency=100)
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.history") > 5_000)
    inserted: dict[int, float] = {}
    while fleet.scalar("select exists (select from scheduler.run where app = 'default')") and len(inserted) < 100:
        (run,) = fleet.insert("note", app="shop")
        inserted[run] = time.time()
        time.sleep(0.02)
    assert len(inserted) > 10, "the backlog was gone too soon for a measurement"
    ran = {one.run: one.at for one in fleet.wait_for_effect("ran", list(inserted))}
    waits = sorted(ran[run] - at for run, at in inserted.items())
    assert waits[len(waits) // 2] < 0.5
    assert waits[-1] < 3


def test_what_has_a_key_does_not_wait_behind_a_backlog_without_keys_in_its_own_queue(fleet: Fleet) -> None:
    fleet.insert("nap", {"seconds": 0.05}, count=2_000)
    fleet.start(concurrency=10)
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.history") > 50)
    inserted = time.time()
    runs = fleet.insert("note", concurrency_key="k", count=3)
    ran = fleet.wait_for_effect("ran", runs)
    assert max(one.at for one in ran) - inserted < 5
    assert fleet.scalar("select count(*) from scheduler.run") > 500


def test_a_worker_whose_slots_are_taken_for_long_sleeps(fleet: Fleet) -> None:
    process = fleet.start(concurrency=3)
    fleet.insert("nap", {"seconds": 20}, count=30)
    fleet.insert("nap", {"seconds": 20}, count=30, concurrency_key="k", concurrency_limit=50)
    wait_until(lambda: len(fleet.effects("began")) == 3)
    time.sleep(1.5)
    before = cpu_seconds(process.pid)
    time.sleep(2)
    assert cpu_seconds(process.pid) - before < 1


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

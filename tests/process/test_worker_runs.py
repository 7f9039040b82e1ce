"""What a worker process does with the runs that others write into the table."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.support.fleet import Fleet, wait_until

COPIED = 100_000


def test_a_hundred_thousand_rows_of_one_copy_are_executed_once_each(fleet: Fleet) -> None:
    fleet.start(concurrency=100, env={"SCHEDULER_DEAD_AFTER": "20"})
    with fleet.db.cursor().copy("copy scheduler.run (app, executor, spec) from stdin") as copy:
        row = f"shop\tpython\t{json.dumps({'task': 'note'})}\n"
        copy.write(row * COPIED)
    wait_until(
        lambda: fleet.scalar("select count(*) from scheduler.history") >= COPIED,
        90,
        lambda: f"{fleet.scalar('select count(*) from scheduler.history')} have ended",
    )
    assert dict(fleet.db.execute("select state, count(*) from scheduler.runs group by 1").fetchall()) == {
        "succeeded": COPIED
    }
    times = Counter(effect.run for effect in fleet.effects("ran"))
    assert len(times) == COPIED
    assert set(times.values()) == {1}
    assert fleet.leases() == 0


def test_an_insert_wakes_an_idle_worker_long_before_the_poll_floor(fleet: Fleet) -> None:
    fleet.start(env={"SCHEDULER_POLL": "30"})
    fleet.wait_for(fleet.insert("note"))  # the time right after work, in which it polls quickly, begins
    time.sleep(2)  # it has ended when this is over, and the worker sleeps for as long as the poll floor lets it
    inserted = time.time()
    runs = fleet.insert("note")
    (ran,) = fleet.wait_for_effect("ran", runs)
    assert ran.at - inserted < 10


AWAITING = """
    select count(*) from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'advisory' and l.classid = 7716801
"""


@pytest.mark.listens("sees whether hints are awaited")
@pytest.mark.parametrize("executor", ["python", "unknown"])
def test_a_worker_declines_hints_in_a_stream_and_awaits_them_again_after_it(fleet: Fleet, executor: str) -> None:
    # Each hint costs those who insert a lock of the database, also when this worker cannot execute what they write.
    fleet.start(env={"SCHEDULER_POLL": "30"})
    wait_until(lambda: fleet.scalar(AWAITING) > 0)

    def streams() -> bool:
        for _ in range(20):
            fleet.insert_run(executor, json.dumps({"task": "note"}))
        return bool(fleet.scalar(AWAITING) == 0)

    wait_until(streams)
    wait_until(lambda: fleet.scalar(AWAITING) > 0)
    time.sleep(2)  # it sleeps for as long as the poll floor lets it, as above
    inserted = time.time()
    (ran,) = fleet.wait_for_effect("ran", fleet.insert("note"))
    assert ran.at - inserted < 10


@pytest.mark.listens("sees whether hints are awaited")
def test_a_worker_whose_wish_for_hints_was_lost_finds_its_runs_by_polling(fleet: Fleet) -> None:
    fleet.start()
    for _ in range(3):
        wait_until(lambda: fleet.scalar(AWAITING) > 0)
        wait_until(lambda: fleet.terminate("worker listener") == 1)  # the wish goes with the connection that hears
        fleet.wait_for(fleet.insert("note"))


def test_a_delayed_run_starts_at_its_instant_and_never_before(fleet: Fleet) -> None:
    fleet.start(env={"SCHEDULER_POLL": "30"})
    runs = [
        run
        for after in ("0.2 s", "0.7 s", "1.1 s", "2.3 s", "2.3 s", "2.9 s")
        for run in fleet.insert("note", run_at=fleet.scalar("select now() + %s::interval", [after]))
    ]
    started = {effect.run: effect.at for effect in fleet.wait_for_effect("ran", runs)}
    due: dict[int, float] = dict(
        fleet.db.execute("select id, extract(epoch from run_at)::float8 from scheduler.runs").fetchall()
    )
    lateness = {run: started[run] - due[run] for run in runs}
    assert min(lateness.values()) >= -0.001, lateness  # a millisecond: the error of the measured offset
    assert max(lateness.values()) < 5, lateness


def test_a_future_run_that_arrives_while_the_worker_sleeps_is_punctual(fleet: Fleet) -> None:
    fleet.start(env={"SCHEDULER_POLL": "2"})
    time.sleep(1.5)  # asleep, as above
    late = []
    for _ in range(3):  # the best of three: the machine may be busy with other things for a moment
        (run,) = fleet.insert("note", run_at=fleet.scalar("select now() + interval '3.1 s'"))
        (ran,) = fleet.wait_for_effect("ran", [run])
        late.append(ran.at - fleet.row(run)["run_at"].timestamp())
        if late[-1] < 0.2:
            break
    assert min(late) < 0.2, late


def test_ends_that_come_in_a_stream_are_written_together_with_the_end_of_their_lease(fleet: Fleet) -> None:
    # In parts a finish costs twice. The ends come over 180 ms, and reports wait 50 ms where no stream of them comes.
    fleet.start(concurrency=200)
    fleet.db.execute(
        """
        insert into scheduler.run (app, executor, spec)
        select 'shop', 'python', jsonb_build_object('task', 'nap', 'args', jsonb_build_object('seconds', i * 0.0012))
        from generate_series(1, 150) i
        """
    )
    wait_until(lambda: fleet.scalar("select count(*) from scheduler.history") == 150)
    leases, parts = fleet.db.execute(
        "select count(distinct fence), count(distinct xmin::text) from scheduler.history"
    ).fetchone() or (0, 0)
    assert leases == 1
    assert parts < 4  # the second and third, where a busy machine stretches the stream; 4 without the wait


def test_the_slots_of_a_queue_and_of_the_worker_are_kept(fleet: Fleet) -> None:
    narrow = fleet.insert("count", {"kind": "narrow", "seconds": 0.02}, count=30, queue="narrow")
    wide = fleet.insert("count", {"kind": "wide", "seconds": 0.02}, count=200, queue="wide")
    fleet.start(concurrency=8, queues=["narrow=2", "wide"])
    fleet.wait_for(narrow + wide)
    assert max(effect.value for effect in fleet.effects("narrow")) == 2
    assert 2 < max(effect.value for effect in fleet.effects("wide")) <= 8


def test_a_long_run_holds_no_other_hostage(fleet: Fleet) -> None:
    fleet.start(concurrency=2)
    fleet.wait_for(fleet.insert("note", count=2_000))  # so that it prefetches
    long = fleet.insert("nap", {"seconds": 600}, count=2)
    fleet.wait_for_effect("began", long)
    late = fleet.insert("note", count=20)
    fleet.start(concurrency=2)
    fleet.wait_for(late, seconds=10)


def test_neighbours_that_were_prefetched_behind_long_runs_come_back_for_others(fleet: Fleet) -> None:
    fleet.start(concurrency=2)
    fleet.wait_for(fleet.insert("note", count=3_000))
    mixed = fleet.insert("note", count=600) + (long := fleet.insert("nap", {"seconds": 600}, count=2))
    behind = fleet.insert("note", count=600)
    fleet.wait_for_effect("began", long)
    fleet.start(concurrency=2)
    fleet.wait_for([run for run in mixed + behind if run not in long], seconds=15)


def test_what_a_task_logs_arrives_in_its_order_and_before_its_end(fleet: Fleet) -> None:
    fleet.start(executors=["python", "shell"])
    (run,) = fleet.insert("talk", {"lines": 3_000})
    (shell,) = fleet.insert_run("shell", json.dumps({"command": "printf 'one\\0two\\n'"}))
    fleet.wait_for([run])
    texts = fleet.db.execute("select text from scheduler.log where run_id = %s order by line", [run]).fetchall()
    assert [text for (text,) in texts] == [f"line {number}" for number in range(3_000)]
    fleet.wait_for([shell])
    assert fleet.scalar("select text from scheduler.log where run_id = %s", [shell]) == "one\ufffdtwo"


def test_what_cannot_be_done_or_stored_fails_in_words_and_harms_no_neighbour(fleet: Fleet) -> None:
    columns: dict[str, Any] = {"max_attempts": 1}
    returned = {how: fleet.insert("returns", {"how": how}, **columns)[0] for how in ("nan", "huge", "object")}
    kept = {how: fleet.insert("returns", {"how": how}, **columns)[0] for how in ("nul", "surrogate")}
    raised = {how: fleet.insert("raises", {"how": how}, **columns)[0] for how in ("nul", "text", "exit", "long")}
    (unknown,) = fleet.insert("no_such_task", **columns)
    (misfit,) = fleet.insert("note", {"colour": "red"}, **columns)
    neighbours = fleet.insert("note", count=50)
    fleet.start()
    fleet.wait_for([*returned.values(), *raised.values(), unknown, misfit], "failed")
    fleet.wait_for([*neighbours, *kept.values()])
    errors = {how: fleet.row(run)["error"] for how, run in {**returned, **raised}.items()}
    assert errors["nan"].startswith("result is not JSON")
    assert errors["huge"].startswith("result is too large: 2,000,002 bytes")
    assert errors["object"].startswith("result is not JSON")
    assert errors["text"].startswith("_WithoutTextError: (its text cannot be made")
    assert errors["exit"] == "the task called sys.exit(3)"
    assert "bytes cut" in errors["long"]
    assert "unknown task 'no_such_task'" in fleet.row(unknown)["error"]
    assert "colour" in fleet.row(misfit)["error"]
    assert fleet.row(kept["nul"])["result"] == "a\ufffdb"


def test_rows_that_python_cannot_hold_fail_alone_and_do_not_stop_their_queue(fleet: Fleet) -> None:
    number = fleet.insert_run("python", '{"task": "note", "args": {"n": 1' + "0" * 5_000 + "}}", max_attempts=1)
    nested = fleet.insert_run("python", '{"task": "note", "args": ' + "[" * 3_000 + "]" * 3_000 + "}", max_attempts=1)
    never = fleet.insert("note", scheduled_at="infinity", max_attempts=1)
    ancient = fleet.insert("note", run_at="0044-03-15 BC", max_attempts=1)
    patient = fleet.insert("note", timeout="100000 years", max_attempts=1)
    neighbours = fleet.insert("note", count=50)
    fleet.start()
    fleet.wait_for(neighbours + patient + never + ancient)  # which nobody asked for their instants
    fleet.wait_for(number + nested, "failed")
    error = fleet.scalar("select error from scheduler.runs where id = %s", number)
    assert error.startswith("spec cannot be read")


def test_runs_that_end_at_once_do_not_see_what_others_left_in_the_context(fleet: Fleet) -> None:
    # Such runs share a task of the event loop, one after the other.
    runs = fleet.insert("leave_a_trace", count=200)
    fleet.start()
    fleet.wait_for(runs)
    assert {fleet.row(run)["result"] for run in runs} == {"nothing"}


def test_runs_that_wait_have_a_task_of_their_own(fleet: Fleet) -> None:
    runs = fleet.insert("cancel_who_was_here_before", count=100)
    fleet.start()
    fleet.wait_for(runs)


def test_a_run_of_an_executor_that_no_worker_has_waits_for_one_that_has_it(fleet: Fleet) -> None:
    fleet.start()
    (shell,) = fleet.insert_run("shell", json.dumps({"command": ["echo", "hi"]}))
    fleet.wait_for(fleet.insert("note", count=20))
    assert fleet.row(shell)["state"] == "pending"
    fleet.start(executors=["shell"])
    fleet.wait_for([shell])
    assert fleet.row(shell)["result"]["stdout"] == "hi\n"


@pytest.mark.parametrize("ending", ["cancel", "timeout"])
def test_whatever_runs_can_be_ended(fleet: Fleet, ending: str) -> None:
    columns: dict[str, Any] = {"timeout": "1 s", "max_attempts": 1} if ending == "timeout" else {}
    coroutine = fleet.insert("nap", {"seconds": 600}, **columns)
    thread = fleet.insert("thread_nap", {"seconds": 600}, **columns)
    process = fleet.insert("process_nap", {"seconds": 600}, **columns)
    shell = fleet.insert_run("shell", json.dumps({"command": "sleep 600 & wait"}), **columns)
    held = fleet.insert("note", run_at=fleet.scalar("select now() + interval '300 s'"))
    worker = fleet.start(executors=["python", "shell"], env={"SCHEDULER_HORIZON": "60"})
    runs = coroutine + thread + process + shell
    if ending == "cancel":
        fleet.wait_for_effect("began", coroutine + thread + process)
        wait_until(lambda: fleet.states(shell) == {"running": 1})
        for run in runs + held:
            assert fleet.scalar("select scheduler.cancel('default', %s)", [run])
        fleet.wait_for(runs + held, "cancelled")
    else:
        fleet.wait_for(runs, "failed")
        assert {fleet.row(run)["error"] for run in runs} == {"timed out after 1 s"}
    fleet.wait_for_effect("noticed", thread)
    assert not fleet.effects("ended")
    assert fleet.leases() == 0
    assert worker.returncode is None


def test_a_coroutine_that_does_not_hear_its_timeout_does_not_hold_its_slot_for_ever(fleet: Fleet) -> None:
    worker = fleet.start(concurrency=1)
    deaf = fleet.insert("deaf", timeout="0.5 s", max_attempts=1)
    fleet.wait_for(deaf, "failed")
    fleet.wait_for(fleet.insert("note"))
    assert worker.returncode is None

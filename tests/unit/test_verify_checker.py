"""Histories made by hand: what the checker lets pass, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.verify.evidence import Attempt, Evidence, Fire, Open, Window, Worker, due
from scheduler.verify.faults import Done
from scheduler.verify.figures import judge
from scheduler.verify.fleet import Exit
from scheduler.verify.load import Sent
from scheduler.verify.programme import Job
from scheduler.verify.recorder import Execution, Record, read

OFFSET = 1_000_000.0  # the database's clock is so far ahead of the monotonic one
WORKER, OTHER = Worker(1, 101, OFFSET), Worker(2, 102, OFFSET)
KILL = Done("kill", 10.0, 10.0, WORKER.pid)
SENT = Sent("k", once=False, at=8.0, acknowledged=True)
ONCE = replace(SENT, once=True)
FIRST = Execution("k", 7, 1, 50, WORKER.pid, None, began=9.0, ended=9.5)
BROKEN_OFF = replace(FIRST, ended=None)
AGAIN = replace(FIRST, attempt=2, fence=60, pid=OTHER.pid, began=16.0, ended=16.5)
SUCCEEDED = Attempt(7, 1, "succeeded", True, OFFSET + 9.6, WORKER.id, 50, None, "k", None, False)
LOST = SUCCEEDED._replace(outcome="lost", is_end=False, finished=OFFSET + 15, error="worker 1 (w on box) was lost")
THEN = SUCCEEDED._replace(attempt=2, finished=OFFSET + 17, worker=OTHER.id, fence=60)
POISON = "poison: lost 3 times in a row with the process that ran it; worker 1 (w on box) was lost"


def found(
    executions: Sequence[Execution] = (),
    attempts: Sequence[Attempt] = (),
    sent: Sequence[Sent] = (SENT,),
    **other: object,
) -> dict[str, int]:
    """What the checker finds of each kind."""
    return dict(judge(evidence(executions, attempts, sent, **other)).found)


def evidence(
    executions: Sequence[Execution] = (),
    attempts: Sequence[Attempt] = (),
    sent: Sequence[Sent] = (SENT,),
    **other: object,
) -> Evidence:
    made = Evidence(
        offset=OFFSET, window=Window(began=0, faults=5, ended=20), late=30.0, workers=[WORKER, OTHER], sent=sent,
        attempts=attempts, record=Record(list(executions)),
    )  # fmt: skip
    return replace(made, **other)  # type: ignore[arg-type]


def test_a_run_that_was_executed_and_ended_is_fine() -> None:
    assert found([FIRST], [SUCCEEDED]) == {}


def test_an_acknowledged_run_of_which_nobody_knows_is_lost() -> None:
    assert found() == {"lost": 1}


def test_one_whose_answer_was_lost_may_be_there_or_not() -> None:
    unknown = replace(SENT, acknowledged=False)
    assert found(sent=[unknown]) == {}
    assert found([FIRST], [SUCCEEDED], sent=[unknown]) == {}


def test_a_run_that_does_not_end_is_lost() -> None:
    assert found([BROKEN_OFF], open=[Open(7, "k", None, "held by worker 1")]) == {"lost": 1}


def test_an_execution_that_is_not_complete_does_not_count_as_one() -> None:
    assert found([BROKEN_OFF], [SUCCEEDED]) == {"lost": 1}


def test_a_success_that_nobody_saw_executed_is_lost() -> None:
    assert found([], [SUCCEEDED]) == {"lost": 1}


def test_a_run_that_failed_without_a_reason_is_lost() -> None:
    assert found([FIRST], [SUCCEEDED._replace(outcome="failed", error="ValueError")]) == {"lost": 1}


def test_a_run_whose_only_attempts_are_not_ends_is_lost() -> None:
    assert found([BROKEN_OFF], [LOST], done=[KILL]) == {"lost": 1}


@pytest.mark.parametrize("first", [FIRST, BROKEN_OFF])
def test_a_second_execution_is_a_re_run_when_a_fault_hit_the_first_before_it_was_reported(first: Execution) -> None:
    verdict = judge(evidence([first, AGAIN], [LOST, THEN], done=[KILL]))
    assert verdict.passed
    assert (verdict.figures["re_runs"], verdict.figures["in_flight_at_kills"]) == (1, 1)
    assert verdict.figures["again_after_kill_seconds"]["max"] == 6.0


def test_how_long_it_took_to_run_again_is_counted_from_the_last_kill() -> None:
    """The second worker was killed as well, before it had begun the run."""
    third = Worker(3, 103, OFFSET)
    again = LOST._replace(attempt=2, worker=OTHER.id, fence=60, finished=OFFSET + 20)
    then = THEN._replace(attempt=3, worker=third.id, fence=70, finished=OFFSET + 24)
    executions = [BROKEN_OFF, replace(AGAIN, attempt=3, fence=70, pid=third.pid, began=22.0, ended=23.0)]
    kills = [KILL, replace(KILL, at=16.0, pid=OTHER.pid)]
    verdict = judge(evidence(executions, [LOST, again, then], done=kills, workers=[WORKER, OTHER, third]))
    assert verdict.passed
    assert verdict.figures["again_after_kill_seconds"] == {"p50": 6.0, "p99": 6.0, "max": 6.0}
    assert (verdict.figures["re_runs"], verdict.figures["lost_attempts"]) == (1, 2)


def test_a_second_execution_without_a_fault_is_not_explained() -> None:
    assert found([BROKEN_OFF, AGAIN], [LOST, THEN]) == {"unexplained": 1}


@pytest.mark.parametrize(
    "fault",
    [
        replace(KILL, pid=OTHER.pid),
        replace(KILL, at=30.0),  # afterwards
        replace(KILL, kind="clock"),
    ],
)
def test_a_fault_explains_only_what_it_hit(fault: Done) -> None:
    assert found([BROKEN_OFF, AGAIN], [LOST, THEN], done=[fault]) == {"unexplained": 1}


def test_a_fault_of_the_database_explains_the_loss_of_any_worker() -> None:
    assert found([BROKEN_OFF, AGAIN], [LOST, THEN], done=[Done("restart", 10.0, 12.0)]) == {}


def test_an_earlier_life_of_the_process_explains_nothing() -> None:
    reborn = WORKER._replace(started=OFFSET + 12)
    assert found([BROKEN_OFF, AGAIN], [LOST, THEN], workers=[reborn, OTHER], done=[KILL]) == {"unexplained": 1}


def test_an_execution_that_history_does_not_know_is_a_double() -> None:
    assert found([FIRST, AGAIN], [SUCCEEDED._replace(fence=60)]) == {"doubled": 1}


def test_two_runs_of_one_key_are_a_double() -> None:
    other = replace(FIRST, run=8, fence=51)
    assert found([FIRST, other], [SUCCEEDED, SUCCEEDED._replace(run=8, fence=51)]) == {"doubled": 1}


def test_two_ends_of_one_run_are_a_double() -> None:
    assert found([FIRST, AGAIN], [SUCCEEDED, THEN])["doubled"] == 1


def test_a_run_that_began_twice_under_one_fence_is_a_double() -> None:
    record = Record([FIRST], twice=[FIRST])
    assert found([], [SUCCEEDED], record=record) == {"doubled": 1}


def test_a_run_that_may_start_once_and_started_again_is_a_double() -> None:
    once = [LOST._replace(once=True), THEN._replace(once=True)]
    assert found([BROKEN_OFF, AGAIN], once, [ONCE], done=[KILL]) == {"doubled": 1}


@pytest.mark.parametrize("execution", [FIRST, BROKEN_OFF])
def test_a_run_that_may_start_once_may_be_broken_off_by_a_fault(execution: Execution) -> None:
    end = LOST._replace(outcome="failed", is_end=True, once=True)
    verdict = judge(evidence([execution], [end], [ONCE], done=[KILL]))
    assert verdict.passed
    assert verdict.figures["broken_off"] == 1
    assert found([execution], [end], [ONCE]) == {"unexplained": 1}


def test_an_end_under_a_fence_that_was_taken_away_is_stale() -> None:
    """Lost under fence 50, taken by 60, and then 50 is believed after all."""
    late = THEN._replace(worker=WORKER.id, fence=50)
    assert found([FIRST, AGAIN], [LOST, late], done=[KILL])["stale"] == 2


def test_an_end_by_an_earlier_fence_than_one_that_executed_it_is_stale() -> None:
    assert found([FIRST, AGAIN], [SUCCEEDED])["stale"] == 1


def test_what_a_straggler_was_told_counts_is_stale() -> None:
    assert found([FIRST], [SUCCEEDED], accepted=["finish of lease 50 counted"]) == {"stale": 1}


def test_poison_may_fail_as_such_and_nothing_else_may() -> None:
    end = LOST._replace(attempt=3, outcome="failed", is_end=True, error=POISON, fence=70)
    attempts = [LOST, LOST._replace(attempt=2, fence=60), end]
    executions = [replace(BROKEN_OFF, fence=fence) for fence in (50, 60, 70)]
    assert found(executions, attempts, [replace(SENT, poison=True)]) == {}
    assert found(executions, attempts)["lost"] == 1


def test_three_kills_in_a_row_make_a_run_look_like_poison_which_is_said_apart() -> None:
    end = LOST._replace(attempt=3, outcome="failed", is_end=True, error=POISON, fence=70)
    attempts = [LOST, LOST._replace(attempt=2, fence=60), end]
    executions = [replace(BROKEN_OFF, fence=fence) for fence in (50, 60, 70)]
    verdict = judge(evidence(executions, attempts, done=[KILL]))
    assert verdict.passed
    assert verdict.figures["quarantined"] == 1


def test_a_run_that_began_too_late_is_late() -> None:
    assert found([replace(FIRST, began=40.0, ended=41.0)], [SUCCEEDED]) == {"late": 1}


JOB = Job("j", (0, 10, 20, 30, 40, 50), 0.1, once=False)
INSTANT = OFFSET + 20  # 1,000,020 s is a minute's start: 20 is not, and 10 is none either


def of_a_job(instant: float, run: int = 7, began: float | None = None) -> tuple[Execution, Attempt, Fire]:
    start = instant - OFFSET if began is None else began
    execution = replace(FIRST, key="j", run=run, fence=run, scheduled=instant, began=start, ended=start + 0.1)
    attempt = SUCCEEDED._replace(run=run, fence=run, key="j", scheduled=instant)
    return execution, attempt, Fire("j", instant, "planned", None, run)


def found_of_a_job(rows: Sequence[tuple[Execution, Attempt, Fire]], instants: Sequence[float]) -> dict[str, int]:
    return found(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [],
        fires=[row[2] for row in rows],
        due={"j": list(instants)},
    )


def test_due_instants_are_counted_out_without_reading_a_schedule() -> None:
    assert due([JOB], 59.5, 81.0) == {"j": [60.0, 70.0, 80.0]}


def test_an_instant_that_became_a_run_in_time_is_fine() -> None:
    assert found_of_a_job([of_a_job(INSTANT)], [INSTANT]) == {}


def test_an_instant_without_anything_is_lost() -> None:
    assert found_of_a_job([], [INSTANT]) == {"lost": 2, "late": 1}


def test_an_instant_with_two_runs_is_a_double() -> None:
    assert found_of_a_job([of_a_job(INSTANT), of_a_job(INSTANT, run=8)], [INSTANT])["doubled"] == 2


def test_an_instant_that_was_never_due_is_a_double() -> None:
    assert found_of_a_job([of_a_job(INSTANT), of_a_job(INSTANT + 3, run=8)], [INSTANT])["doubled"] == 2


def test_an_instant_that_the_ledger_calls_missed_is_lost() -> None:
    execution, attempt, fire = of_a_job(INSTANT)
    assert found_of_a_job([(execution, attempt, fire._replace(outcome="missed"))], [INSTANT]) == {"lost": 1}


def test_an_instant_whose_one_attempt_was_lost_before_its_first_step_needs_no_start() -> None:
    """And no later start is taken for its own, or the last instant of the job would look missed."""
    _, _, fire = of_a_job(INSTANT)
    end = LOST._replace(outcome="failed", is_end=True, once=True, key="j", scheduled=INSTANT)
    later = of_a_job(INSTANT + 10, run=8)
    accounts: dict[str, Any] = {
        "executions": [later[0]],
        "sent": [],
        "fires": [fire, later[2]],
        "due": {"j": [INSTANT, INSTANT + 10]},
        "done": [KILL],
    }
    assert found(attempts=[end, later[1]], **accounts) == {}
    assert found(attempts=[end._replace(error="it raised"), later[1]], **accounts) == {"lost": 1, "late": 1}


@pytest.mark.parametrize("began", [19.0, 60.0])
def test_a_fire_before_its_instant_or_long_after_is_late(began: float) -> None:
    assert found_of_a_job([of_a_job(INSTANT, began=began)], [INSTANT]) == {"late": 2}


def exited(status: int, started: float = 0.0, at: float = 50.0, pid: int = WORKER.pid) -> Exit:
    return Exit("worker", "w", pid, status, started, at, "said")


def test_a_process_that_ends_by_itself_is_not_explained() -> None:
    assert found(sent=[], exits=[exited(1)]) == {"unexplained": 1}
    assert found(sent=[], exits=[exited(-9)], done=[KILL]) == {}
    assert found(sent=[], exits=[exited(-9)], record=Record(poisoned=[(WORKER.pid, 3.0)])) == {}


def test_a_process_may_give_up_its_start_while_the_database_is_away() -> None:
    away = [Done("restart", 45.0, 48.0)]
    assert found(sent=[], exits=[exited(1, started=46.0)], done=away) == {}
    assert found(sent=[], exits=[exited(1, started=10.0)], done=away) == {"unexplained": 1}


def test_the_record_is_read_as_tasks_write_it_and_a_torn_last_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(
        "B k 7 1 50 101 9000000000 -\nE k 7 1 50 101 9500000000 -\n"
        "B j 8 1 51 102 9000000000 1000020.500000\nP p 9 1 52 103 9000000000 -\nB k 7 1 50 101 9900000000 -\nB k 7"
    )
    record = read(path)
    assert record.executions == [
        FIRST,
        Execution("j", 8, 1, 51, 102, 1_000_020.5, began=9.0),
    ]
    assert record.poisoned == [(103, 9.0)]
    assert [one.began for one in record.twice] == [9.9]

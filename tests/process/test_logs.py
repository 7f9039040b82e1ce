"""What runs write, on its way from a real process to whoever reads it."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.command import Scheduler
from tests.support.fleet import Fleet, wait_until
from tests.support.serving import serving

WITHIN = 1.0  # seconds from a line's writing to its reading; 0.06 where the machine has nothing else to do


def texts(fleet: Fleet, run: int, stream: str | None = None) -> list[str]:
    cursor = fleet.db.execute(
        "select text from scheduler.log where run_id = %s and stream = coalesce(%s, stream) order by attempt, line",
        [run, stream],
    )
    return [text for (text,) in cursor.fetchall()]


def shell(fleet: Fleet, command: str, **columns: Any) -> int:
    (run,) = fleet.insert_run("shell", json.dumps({"command": command}), **columns)
    return run


@contextlib.contextmanager
def following(dsn: str, run: int, *words: str) -> Iterator[Any]:
    process = Scheduler(dsn).start("logs", str(run), "--follow", *words)
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_output_is_read_line_by_line_while_its_run_goes_on(fleet: Fleet) -> None:
    """Each line is the instant of its writing; whoever follows the log reads it and compares."""
    fleet.start(executors=["shell"])
    run = shell(fleet, "for i in $(seq 40); do date +%s.%N; sleep 0.13; done; echo over")
    late: list[float] = []
    first = None
    with following(fleet.dsn, run) as process:
        for line in process.stdout:
            if line == "over\n":
                break
            if first is None:
                first = time.time()  # what was written before came with the first look
            elif float(line) > first:
                late.append(time.time() - float(line))
        assert process.wait(10) == 0
    late.sort()
    p50, p99 = statistics.median(late), late[-1]
    print(f"lines were read {p50 * 1000:.0f} ms after their writing (p50), {p99 * 1000:.0f} at most")  # noqa: T201
    assert p50 < WITHIN


@pytest.mark.direct("ends its backend")
def test_a_follower_goes_on_where_it_was_when_its_connection_is_lost(fleet: Fleet) -> None:
    run = shell(fleet, "for i in $(seq 60); do echo $i; sleep 0.05; done")
    with following(fleet.dsn, run, "--json") as process:
        fleet.start(executors=["shell"])
        found = [json.loads(process.stdout.readline()) for _ in range(5)]
        assert fleet.terminate("cli") == 1
        found += [json.loads(line) for line in process.stdout]  # communicate() would lose what readline() has in store
        errors = process.stderr.read()
        assert process.wait(30) == 0
    assert [one["text"] for one in found] == [str(n) for n in range(1, 61)]
    assert found[0].keys() == {"attempt", "line", "at", "stream", "text"}
    assert "the connection is lost" in errors


def test_a_follower_of_a_run_that_vanishes_is_told(fleet: Fleet, db: psycopg.Connection) -> None:
    run = shell(fleet, "true", run_at="2100-01-01T00:00:00Z")
    db.execute("insert into scheduler.log values ('default', %s, 1, 1, now(), 'stdout', 'ready')", [run])
    with following(fleet.dsn, run) as process:
        assert process.stdout.readline() == "ready\n"  # it has looked: it is not told that there never was one
        db.execute("delete from scheduler.run where id = %s", [run])
        assert process.wait(20) == 1
        assert process.stderr.read() == f"error: run {run} of app default is not there any more\n"


def test_the_command_line_and_the_api_read_the_same(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start(executors=["shell"])
    run = shell(fleet, "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.3; done")
    with serving(fleet.dsn, tmp_path) as serve:
        _, url = serve()
        with urllib.request.urlopen(f"{url}/api/v1/apps/default/runs/{run}/logs?follow=true", timeout=30) as answer:
            streamed = [json.loads(line) for line in answer]
    said = Scheduler(fleet.dsn).says("logs", str(run), "--json").splitlines()
    assert streamed == [json.loads(line) for line in said]
    assert len(streamed) == 6


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ('for n in 10 50 100; do printf "\\r$n %%"; done; echo', ["100 %"]),
        ("printf 'half '; sleep 0.3; echo whole; printf 'no end'", ["half whole", "no end"]),
        ("printf 'a\\000b\\377c\\r\\n'", ["a\ufffdb\ufffdc"]),
        ("head -c 20000 /dev/zero | tr '\\0' x; echo", ["x" * 8192 + "… 11,808 more characters"]),
    ],
)
def test_output_becomes_lines_that_a_person_can_read(fleet: Fleet, command: str, lines: list[str]) -> None:
    fleet.start(executors=["shell"])
    run = shell(fleet, command)
    fleet.wait_for([run])
    assert texts(fleet, run) == lines


def test_a_command_that_writes_without_end_harms_no_neighbour_and_keeps_its_last_words(fleet: Fleet) -> None:
    fleet.start(executors=["shell", "python"])
    loud = shell(fleet, "yes | head -c 300000000; echo the end >&2; echo last", timeout="60 s")
    fleet.wait_for(fleet.insert("note", count=200), seconds=10)
    fleet.wait_for([loud], seconds=60)
    said = texts(fleet, loud)
    assert len(said) < 21_000
    assert said[:2] == ["y", "y"]
    assert sum("the log is full" in text for text in said) == 1
    assert sum("lines were left out" in text for text in said) == 1
    assert {"the end", "last"} <= set(said[-150:])


def test_a_process_task_prints_into_its_log_and_its_worker_keeps_its_own(fleet: Fleet) -> None:
    worker = fleet.start()
    runs = fleet.insert("prints", {"text": "one\ntwo"}, count=3)
    fleet.wait_for(runs)
    for run in runs:
        assert texts(fleet, run, "stdout") == ["one", "two", "by itself", "bytes \ufffd"]
        assert texts(fleet, run, "stderr") == ["careful", "aside"]
    assert "careful" not in worker.log


def test_a_secret_is_in_no_line_also_where_it_came_in_two_pieces(fleet: Fleet) -> None:
    fleet.start(executors=["shell"], env={"SCHEDULER_SECRET_DOOR": "open-sesame"})
    command = 'printf "it is ${DOOR%same}"; sleep 0.3; echo same; echo "$DOOR" >&2; printf "$DOOR"'
    spec = {"command": command, "environment": {"DOOR": "${secret:door}"}}
    (run,) = fleet.insert_run("shell", json.dumps(spec))
    fleet.wait_for([run])
    assert sorted(texts(fleet, run)) == ["***", "***", "it is ***"]


def test_lines_are_kept_while_the_database_is_away(fleet: Fleet) -> None:
    fleet.start(executors=["shell"])
    run = shell(fleet, "for i in $(seq 40); do echo $i; sleep 0.05; done")
    wait_until(lambda: len(texts(fleet, run)) > 3)
    for _ in range(3):
        fleet.terminate("reports")
        time.sleep(0.2)
    fleet.wait_for([run])
    # If the last of them failed with its connection, they come a moment after the end.
    wait_until(lambda: texts(fleet, run) == [str(n) for n in range(1, 41)])


def test_lines_of_a_job_of_a_short_period_are_there_within_the_same_time(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start()
    fleet.db.execute(
        "insert into scheduler.job (app, name, schedule, executor, spec) values"
        " ('shop', 'often', '@every 50ms', 'python', '{\"task\": \"stamp\"}')"
    )
    late: list[float] = []

    def look() -> bool:
        found = fleet.db.execute("select text from scheduler.log where stream = 'task'").fetchall()
        now = time.time()
        late.extend(now - float(text) for (text,) in found[len(late) :])
        return len(late) > 60

    with serving(fleet.dsn, tmp_path) as serve:
        serve()
        wait_until(look)
    assert statistics.median(late[5:]) < WITHIN, late

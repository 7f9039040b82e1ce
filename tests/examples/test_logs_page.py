"""The examples of docs/logs.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scheduler.records import _FIELDS
from tests.support.command import Scheduler
from tests.support.fleet import Fleet
from worker import journal
from worker.lines import LONGEST, shown

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
COMMANDS, OUTPUT, LINE, RECORD = re.findall(r"^```\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def fleet(dsn: str, db: psycopg.Connection, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(dsn, db, tmp_path)
    yield fleet
    fleet.end()


def test_a_run_is_followed_as_the_page_shows_it(fleet: Fleet) -> None:
    fleet.start(executors=["shell"])
    scheduler = Scheduler(fleet.dsn)
    env = {**scheduler.env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", "-c", COMMANDS]
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert (said.stdout, said.stderr) == (OUTPUT, "")
    run = fleet.scalar("select max(id) from scheduler.history")
    first = scheduler.says("logs", str(run), "--json").splitlines()[0]
    example = json.loads(LINE)
    assert json.loads(first) == {**example, "at": json.loads(first)["at"]}
    assert re.sub(r'"at":"[^"]+"', "", first) == re.sub(r'"at":"[^"]+"', "", LINE.strip())


def test_a_task_that_uses_logging_says_what_the_page_shows(fleet: Fleet) -> None:
    process = fleet.start(env={"SCHEDULER_LOG_FORMAT": "json"})
    fleet.wait_for(fleet.insert("speak", app="shop", job="charge"))
    said = next(json.loads(line) for line in process.log.splitlines() if '"shop.orders"' in line)
    example = json.loads(RECORD)
    assert list(said) == list(example)
    assert {name: type(value) for name, value in said.items()} == {name: type(value) for name, value in example.items()}
    assert not example.keys() & _FIELDS - {"message"}


def test_the_bounds_are_those_of_the_page() -> None:
    bounds = re.findall(r"^\| ([\d,]+)[^|\d]*([\d,]*)", PAGE.split("**How much.**")[1], flags=re.MULTILINE)
    numbers = [tuple(int(text.replace(",", "") or 0) for text in pair) for pair in bounds]
    mib = 1024 * 1024
    assert numbers == [
        (LONGEST, 0),
        (journal.RUN_LINES, journal.RUN_BYTES // mib),
        (journal.HELD, journal.HELD_BYTES // mib),
    ]
    assert f"the last {journal.LAST} lines of each stream, {journal.TAIL // 1024} KiB at most" in PAGE
    assert shown("", 1_234) in PAGE

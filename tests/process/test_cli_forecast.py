"""`forecast` by command: its chart, its tables, what is only supposed, and the picture."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import psycopg
import pytest

from scheduler.cli.blocks import chart
from tests.support.builders import add_job
from tests.support.clock import Clock
from tests.support.command import Scheduler, clean_environment
from tests.support.jobs import schedule

NOWHERE = "postgresql://127.0.0.1:1/nowhere"


@pytest.fixture
def scheduler(dsn: str, clock: Clock) -> Scheduler:
    clock.set("2026-03-01T12:00:30Z")
    return Scheduler(dsn, PYTHONUTF8="1", COLUMNS="60")


def test_a_forecast_shows_a_chart_as_wide_as_the_terminal_and_what_makes_the_peaks(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    schedule(db, "minutely")
    schedule(db, "nightly", "0 3 * * *", timezone="Asia/Kathmandu")
    schedule(db, "tail", "@after 7h")
    schedule(db, "bad", "99 * * * *")
    add_job(db, "by hand")
    add_job(db, "elsewhere", app="mail", schedule="* * * * *")
    done = scheduler("forecast", "shop")
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "1,443 fires of 3 jobs from 2026-03-01T12:00:30Z to 2026-03-02T12:00:00Z (1 on demand, 1 with a bad schedule)"
    )
    blocks = lines[1:9]
    assert max(map(len, blocks)) <= 60
    assert all("█" in line for line in blocks[4:])
    assert lines[9].split() == ["0", "12:00", "16:00", "20:00", "00:00", "04:00", "08:00"]
    assert re.search(r"^2026-03-01T21:15:00Z +2 +2 +shop/minutely, shop/nightly$", done.stdout, re.MULTILINE)
    assert "note: 1 jobs are @after" in done.stderr
    assert "note: job bad of app shop is not planned: schedule '99 * * * *'" in done.stderr
    assert "shop  default  0 " in done.stdout, "no worker is alive, so whatever runs is more than may"


def test_days_and_hours_say_how_far_and_the_document_has_each_minute(
    scheduler: Scheduler, db: psycopg.Connection
) -> None:
    schedule(db, "hourly", "0 * * * *")
    told = scheduler.json("forecast", "--hours", "2")
    assert (told["fires"], told["start"], told["end"]) == (1, "2026-03-01T12:00:00Z", "2026-03-01T14:00:00Z")
    assert [minute for minute, count in enumerate(told["per_minute"]) if count] == [60]
    month = scheduler.json("forecast", "shop", "--days", "30", "--peaks", "2")
    assert (month["fires"], len(month["per_minute"]), len(month["peaks"])) == (30 * 24 - 1, 43_200, 2)


def test_a_supposition_is_shown_beside_what_is(scheduler: Scheduler, db: psycopg.Connection) -> None:
    schedule(db, "nightly", "0 3 * * *")
    schedule(db, "hello", "*/10 * * * *")
    words = ["--if", "nightly=0 */6 * * *", "--if", "shop/hello=", "--if", "shop/new=CRON_TZ=Asia/Kathmandu 0 1 * * *"]
    said = scheduler.says("forecast", "shop", *words)
    shown = [line.split()[-3:] for line in said.splitlines()[1:5]]
    assert shown == [
        ["shop/nightly", "1", "3"], ["shop/hello", "143", "-"], ["shop/new", "-", "1"], ["all", "144", "4"],
    ]  # fmt: skip
    told = scheduler.json("forecast", "shop", *words)
    assert (told["before"]["fires"], told["after"]["fires"]) == (144, 4)
    assert db.execute("select count(*) from scheduler.job where schedule like '%/10%'").fetchone() == (1,)
    assert "schedule '* * *'" in scheduler.refuses("forecast", "--if", "shop/nightly=* * *")
    assert "no job ghost of app shop" in scheduler.refuses("forecast", "--if", "shop/ghost=", status=1)
    assert "app 'ghost' has no jobs" in scheduler.refuses("forecast", "ghost", status=1)


@pytest.mark.parametrize(
    "words",
    [
        ["--hours", "3", "--days", "1"],
        ["--days", "31"],
        ["--hours", "0"],
        ["--if", "nightly=@daily"],
        ["--if", "shop/nightly"],
        ["--svg", "there/is/no/such.svg"],
        ["--svg", "forecast.png"],
    ],
)
def test_what_cannot_be_meant_is_bad_usage(words: list[str]) -> None:
    assert "error: " in Scheduler(NOWHERE).refuses("forecast", *words)


def test_a_forecast_is_drawn(scheduler: Scheduler, db: psycopg.Connection, tmp_path: Path) -> None:
    schedule(db, "nightly", "0 3 * * *")
    path = tmp_path / "forecast.svg"
    scheduler.says("forecast", "--svg", str(path), "--if", "shop/nightly=0 4 * * *")
    root = ET.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "before" in path.read_text(encoding="utf-8")


def test_without_its_extra_a_drawing_is_refused_with_the_name_of_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['matplotlib'] = None; from scheduler.cli import main; main()"
    words = ["forecast", "--svg", str(tmp_path / "forecast.svg")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1, "error: --svg needs an optional dependency (pip install 'walclock[bench]')\n",
    )  # fmt: skip


def test_a_chart_shows_every_minute_that_is_not_empty() -> None:
    counts = [0] * 600
    counts[300], counts[599] = 1, 1_000
    *blocks, axis = chart(counts, datetime(2026, 3, 1, 12, tzinfo=UTC), 45)
    assert blocks[0].startswith("1,000 ")
    assert blocks[-1].count("▁") + blocks[-1].count("█") == 2
    assert "12:00" in axis

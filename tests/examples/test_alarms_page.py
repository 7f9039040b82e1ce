"""The examples of docs/alarms.md, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.support.command import Scheduler, clean_environment
from worker.notice import wording

PAGE = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()


def test_the_examples_of_the_page_work_from_its_first_to_its_last(
    dsn: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), "SCHEDULER_DSN": dsn, "PATH": path}
    said: list[str] = []
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        if language == "sql":
            db.execute(text.encode())
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        said.append(done.stdout)
    assert [line.split()[1] for line in said[0].splitlines()[-4:]] == [
        "flaky", "nightly-failed", "no-success", "nobody-works",
    ]  # fmt: skip
    rows = Scheduler(dsn).json("alarm", "list")["alarms"]
    assert [row["name"] for row in rows] == ["late", "nightly-failed", "no-success", "nobody-works"]


def test_the_channels_of_the_page_are_taken_by_the_table(db: psycopg.Connection) -> None:
    channels = re.findall(r"^\| `--\w+ .*?` \| `(\{.*?\})` \|", PAGE, flags=re.MULTILINE)
    assert len(channels) == 4
    db.execute(
        "insert into scheduler.alarm (name, kind, channels) values ('a', 'failed', %s)", [f"[{', '.join(channels)}]"]
    )


def test_the_notice_of_the_page_is_what_is_written() -> None:
    notice = {
        "app": "shop", "alarm": "nightly-failed", "kind": "failed", "job": "nightly", "times": 1, "within": 600.0,
        "state": "firing", "at": "2026-11-01T05:30:12+00:00", "since_at": "2026-11-01T05:30:02+00:00", "count": 1000,
        "latest": {"run": 4711, "job": "nightly", "at": "2026-11-01T05:30:09+00:00", "error": "ValueError: no rows"},
    }  # fmt: skip
    assert wording.text(json.loads(json.dumps(notice))) in PAGE

"""What docs/audit.md says is what happens when it is typed in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.support.command import clean_environment

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_work_from_its_first_to_its_last(
    dsn: str, db: psycopg.Connection, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**clean_environment(), "SCHEDULER_DSN": dsn, "PATH": path}
    said: list[str] = []
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        if language == "sql":
            for statement in filter(None, map(str.strip, text.split(";\n"))):
                db.execute(statement.encode())
            continue
        words = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*words, text], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        said.append(done.stdout)
    assert "job nightly" in said[0]
    assert said[-1] == "4 entries are as they were\n"
    assert db.execute("select actor, action, object from scheduler.audit where n = 3").fetchall() == [
        ("ada@example.org", "pause", "app")
    ]

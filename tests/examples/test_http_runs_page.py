"""What docs/http-runs.md says to type, typed."""

from __future__ import annotations

import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import psycopg

from tests.support.api import make_token, served

PAGE = (Path(__file__).parents[2] / "docs" / "http-runs.md").read_text(encoding="utf-8")


def test_the_commands_are_answered_as_the_page_says(dsn: str, db: psycopg.Connection) -> None:
    token = make_token(db, "site", ["write"], ["shop"])
    blocks = re.findall(r"^```(sh|json)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    typed = [(script, answer) for (_, script), (kind, answer) in pairwise(blocks) if kind == "json"]
    assert len(typed) == 4
    with served(dsn) as client:
        env = {"PATH": os.environ["PATH"], "URL": f"http://127.0.0.1:{client.port}", "TOKEN": token}
        for script, answer in typed:
            done = subprocess.run(["sh", "-ec", script], env=env, capture_output=True, text=True, check=False)
            assert done.stdout.strip() == answer.strip(), done.stderr
    assert db.execute("select count(*) from scheduler.run").fetchone() == (10_004,)

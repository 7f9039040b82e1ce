"""What docs/access.md says to type, typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from scheduler.tokens import PATTERN, looks_right
from tests.support.command import Scheduler

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def typed(dsn: str, script: str) -> str:
    """What a shell prints that has the page's lines before it."""
    env = {**Scheduler(dsn).env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-e"], input=script, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_for_tokens_do_what_the_page_says(dsn: str) -> None:
    tokens, _ = blocks("sh")
    printed = typed(dsn, tokens)
    first, second = re.findall(PATTERN, printed)
    assert looks_right(first)
    assert looks_right(second)
    assert [row["name"] for row in Scheduler(dsn).json("token", "list")["tokens"]] == ["laptop"]
    assert blocks("") == [f"{PATTERN}\n"]


@pytest.mark.direct("takes another role within a session")
def test_the_statements_for_roles_do_what_the_page_says(dsn: str, db: psycopg.Connection) -> None:
    _, roles = blocks("sh")
    typed(dsn, roles)
    db.execute("insert into scheduler.run (app, executor) values ('billing', 'python')")
    login = f"shop_site_{os.getpid()}"
    make, restrict, use = (block.replace("shop_site", login) for block in blocks("sql"))
    try:
        db.execute(make.encode())
        db.execute(restrict.encode())
        answers = []
        for statement in re.sub(r"--.*", "", use).strip().rstrip(";").split(";"):
            cursor = db.execute(statement.encode())
            answers += cursor.fetchall() if cursor.description else []
        assert answers == [("shop", "pending"), (["shop"],)]
    finally:
        db.execute(f"reset role; drop owned by {login}; drop role {login}".encode())

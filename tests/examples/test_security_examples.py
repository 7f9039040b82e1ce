"""The examples of docs/secrets.md and docs/security.md, as they stand there."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.support.calls import call
from tests.support.command import Scheduler
from tests.support.database import Databases
from tests.support.logins import login
from worker.addresses import Allowed
from worker.executors.shell import ShellExecutor, inherited
from worker.secrets import Hidden

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(r"^```\w*\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_a_job_names_a_secret_and_shows_the_name(dsn: str) -> None:
    command, worker, _ = blocks("secrets.md")
    scheduler = Scheduler(dsn)
    program, *words = shlex.split(command)
    assert program == "scheduler"
    scheduler.says(*words)
    shown = scheduler.json("job", "show", "shop", "report")
    assert shown["spec"]["headers"]["Authorization"] == "Bearer ${secret:report-token}"
    assert "spec" not in scheduler.json("job", "list")["jobs"][0]
    assert worker.startswith("SCHEDULER_SECRET_REPORT_TOKEN=… scheduler worker --app shop")


def test_a_command_gets_a_secret_by_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_SECRET_REPORT_TOKEN", "hush-hush")
    spec = json.loads(blocks("secrets.md")[2])
    filled = Hidden().filled(call(spec), ShellExecutor.secret_places).spec
    assert filled == {"command": spec["command"], "stdin": 'header = "Authorization: Bearer hush-hush"'}


def test_the_settings_open_what_the_page_says() -> None:
    allow, passed, *_ = blocks("security.md")
    name, _, entries = allow.strip().partition("=")
    assert name == "SCHEDULER_HTTP_ALLOW"
    allowed = Allowed(entries.split(","))
    assert allowed.permits(ipaddress.ip_address("10.1.2.3"), 80)
    assert not allowed.permits(ipaddress.ip_address("10.2.2.3"), 80)
    assert allowed.permits(ipaddress.ip_address("::1"), 8080)
    name, _, names = passed.strip().partition("=")
    assert name == "SCHEDULER_SHELL_ENV"
    worker = {"JAVA_HOME": "/j", "APP_ONE": "1", "APPLE": "x", "PGHOST": "h"}
    assert inherited(worker, names.split(",")) == {"JAVA_HOME": "/j", "APP_ONE": "1"}


def test_a_login_for_statements_can_be_made_as_the_page_says(databases: Databases, db: psycopg.Connection) -> None:
    statements = blocks("security.md")[2]
    db.execute("create schema shop; create table shop.item (id int)")
    with login(databases.server, "shop_jobs", password="hush-hush") as dsn:
        *_, grants = statements.partition(";\n")  # the role itself is there
        assert statements.startswith("create role shop_jobs login noinherit password")
        db.execute(grants.encode())
        with psycopg.connect(make_conninfo(dsn, dbname=db.info.dbname)) as shop:
            shop.execute("insert into shop.item values (1)")
            assert shop.execute("show lock_timeout").fetchone() == ("5s",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                shop.execute("select from scheduler.run")
        db.execute("drop owned by shop_jobs")

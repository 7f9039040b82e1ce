"""How commands fail: one line, the right status, no traceback and no password."""

from __future__ import annotations

import os
import pty
import signal
import subprocess

import psycopg
import pytest

from tests.support.command import COMMAND, Scheduler, clean_environment

UNREACHABLE = "postgresql://someone:secret@127.0.0.1:1/shop"


def test_a_database_that_cannot_be_reached_is_one_line_without_the_password() -> None:
    for dsn in (
        UNREACHABLE,
        "host=127.0.0.1 port=1 password=secret dbname=shop",
        "postgresql://someone:secret@host:port/shop",
        "postgresql://someone:sec@secret@127.0.0.1:1/shop",
        "password='secret",
        "secret",
    ):
        assert "secret" not in Scheduler(dsn).refuses("apps", status=1)
    for words in (["run", "--no-worker"], ["migrate"]):
        assert "secret" not in Scheduler(UNREACHABLE).refuses(*words, status=1)


def test_the_option_beats_the_environment(dsn: str) -> None:
    scheduler = Scheduler(UNREACHABLE, DATABASE_URL=UNREACHABLE)
    assert scheduler.says("--dsn", dsn, "dsn") == f"{dsn}\n"
    assert scheduler.json("--dsn", dsn, "apps") == {"apps": []}


def test_an_empty_database_is_refused_until_it_is_migrated(empty_dsn: str) -> None:
    scheduler = Scheduler(empty_dsn)
    for words in (["apps"], ["run", "--no-worker"], ["enqueue", "a", "shell", '{"command": "x"}']):
        assert "run `scheduler migrate`" in scheduler.refuses(*words, status=1)
    assert scheduler("migrate", "--check").returncode == 1
    assert "applied functions" in scheduler.says("migrate")
    assert scheduler.says("migrate") == "up to date\n"
    assert scheduler.says("migrate", "--check") == "schema: current\n"


def test_a_newer_schema_is_refused(dsn: str, db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.migration (version, name, checksum) values (9999, '9999_later', '')")
    for words in (["apps"], ["migrate"], ["run", "--no-worker"]):
        assert "newer than this program" in Scheduler(dsn).refuses(*words, status=1)
    assert Scheduler(dsn).says("--dsn", dsn, "dsn") == f"{dsn}\n"


def test_bad_usage_is_one_line_that_points_to_the_help() -> None:
    scheduler = Scheduler(UNREACHABLE)
    assert "scheduler --help" in scheduler.refuses("nope")
    assert "scheduler runs list --help" in scheduler.refuses("runs", "list", "--limit", "0")
    assert "scheduler worker --help" in scheduler.refuses("worker")
    assert "JSON" in scheduler.refuses("job", "trigger", "a", "b", "x")
    scheduler.env["SCHEDULER_HEARTBEAT"] = "often"
    assert "SCHEDULER_HEARTBEAT" in scheduler.refuses("apps", status=1)


@pytest.mark.parametrize("words", [("run", "--no-worker"), ("worker", "--app", "shop")])
def test_a_listen_dsn_that_cannot_be_read_is_refused_before_anything_starts(dsn: str, words: tuple[str, ...]) -> None:
    scheduler = Scheduler(dsn, SCHEDULER_LISTEN_DSN="garbage@@")
    assert "the DSN cannot be read" in scheduler.refuses(*words, status=1)


def test_a_statement_that_takes_too_long_says_what_to_do(dsn: str, db: psycopg.Connection) -> None:
    scheduler = Scheduler(dsn, SCHEDULER_STATEMENT_TIMEOUT="3")
    with db.transaction():
        db.execute("lock table scheduler.job in access exclusive mode")
        assert "SCHEDULER_STATEMENT_TIMEOUT" in scheduler.refuses("job", "list", status=1)


@pytest.mark.direct("takes a role by a start-up option, which PgBouncer refuses")
def test_a_login_without_rights_is_told_so(dsn: str, db: psycopg.Connection) -> None:
    role = "walclock_test_stranger_" + str(os.getpid())
    db.execute(f"create role {role}")
    try:
        db.execute(f"set role {role}")
        stranger = Scheduler(f"{dsn} options='-c role={role}'")
        assert "denied" in stranger.refuses("apps", status=1)
    finally:
        db.execute("reset role")
        db.execute(f"drop role {role}")


def test_a_reader_that_has_seen_enough_ends_a_command_quietly(dsn: str, db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.run (app, executor) select 'shop', repeat('x', 90) from generate_series(1, 5000)")
    listing = Scheduler(dsn).start("runs", "list", "--limit", "5000")
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.readline()
    listing.stdout.close()
    assert listing.stderr.read() == ""
    listing.stderr.close()
    assert listing.wait(30) == 141


def test_ctrl_c_ends_a_command_quietly(dsn: str, db: psycopg.Connection) -> None:
    db.execute(
        "insert into scheduler.run (app, id, executor, run_at) values ('shop', 7, 'x', now() + interval '1 hour')"
    )
    db.execute("insert into scheduler.log values ('shop', 7, 1, 1, now(), 'stdout', 'ready')")
    following = Scheduler(dsn).start("logs", "7", "--follow")
    assert following.stdout is not None
    assert following.stdout.readline() == "ready\n"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=30) == ("", "")
    assert following.returncode == 130


@pytest.mark.parametrize(("no_color", "is_coloured"), [(None, True), ("1", False)])
def test_a_terminal_gets_colours_unless_it_says_no(
    dsn: str, db: psycopg.Connection, no_color: str | None, is_coloured: bool
) -> None:
    db.execute("select scheduler.cancel('shop', scheduler.enqueue('shop', 'x'))")
    main, terminal = pty.openpty()
    env = {**clean_environment(), "SCHEDULER_DSN": dsn, "TERM": "xterm", "COLUMNS": "150"}
    env |= {"NO_COLOR": no_color} if no_color else {}
    subprocess.run([*COMMAND, "runs", "list"], env=env, stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    shown = os.read(main, 65536).decode()
    os.close(main)
    assert "cancelled" in shown
    assert ("\x1b[33m" in shown) is is_coloured


def test_a_bug_is_one_line_and_its_traceback_is_shown_on_demand(dsn: str) -> None:
    broken = "import scheduler.store.watch as w; w.apps = None; from scheduler.cli import main; main()"
    command = [COMMAND[0], "-c", broken, "apps"]
    env = {**clean_environment(), "SCHEDULER_DSN": dsn}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: TypeError")
    assert done.stderr.count("\n") == 1
    assert "SCHEDULER_DEBUG=1" in done.stderr
    env["SCHEDULER_DEBUG"] = "1"
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" in done.stderr


def test_the_version_and_the_help_need_no_database() -> None:
    scheduler = Scheduler(UNREACHABLE)
    assert scheduler.says("--version").startswith("walclock ")
    assert "Usage: scheduler [OPTIONS] COMMAND" in scheduler.says("--help")
    assert "Usage: scheduler job add [OPTIONS] APP NAME EXECUTOR SPEC_JSON" in scheduler.says("job", "add", "-h")

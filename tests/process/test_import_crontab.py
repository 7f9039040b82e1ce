"""`import crontab`: a process of its own on a real database."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.command import Scheduler

FILES = Path(__file__).parent.parent / "data" / "crontab"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=2"
ZONE = ("--timezone", "Europe/Paris")
TAB = "HOME=/srv\n0 1 * * * first\n0 2 * * * second\n"


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


@pytest.fixture
def tab(tmp_path: Path) -> Path:
    file = tmp_path / "night"
    file.write_text(TAB)
    return file


def states(scheduler: Scheduler, tab: Path, *options: str) -> list[tuple[int, str]]:
    done = scheduler("import", "crontab", str(tab), *ZONE, "--json", *options)
    return [(row["line"], row["state"]) for row in json.loads(done.stdout)["lines"]]


def stored(db: psycopg.Connection) -> dict[str, Any]:
    return dict(db.execute("select name, to_jsonb(j) from scheduler.job j").fetchall())


def imported(scheduler: Scheduler, tab: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return scheduler("import", "crontab", str(tab), *ZONE, *options)


def test_a_crontab_becomes_jobs_that_behave_as_under_cron(
    scheduler: Scheduler, db: psycopg.Connection, tab: Path
) -> None:
    done = imported(scheduler, tab, "--app", "ops")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["LINE", "STATE", "JOB", "SCHEDULE", "ZONE", "NEXT"]
    assert lines[1].split()[:2] == ["2", "added"]
    assert lines[1].count(" 01:00 CE") == 3
    assert lines[-1] == "2 added"
    jobs = stored(db)
    assert sorted(jobs) == [line.split()[2] for line in lines[1:3]]
    job = next(job for name, job in jobs.items() if "-first-" in name)
    expected = {
        "app": "ops",
        "schedule": "0 1 * * *",
        "timezone": "Europe/Paris",
        "executor": "shell",
        "spec": {
            "command": "first",
            "cwd": "/srv",
            "environment": {"HOME": "/srv", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
        },
        "max_attempts": 1,
        "timeout": "7 days",
        "overlap": "allow",
        "misfire": "skip",
        "dst_gap": "after",
        "dst_fold": "first",
        "tags": [f"crontab:{tab}"],
    }
    assert {name: job[name] for name in expected} == expected


def test_importing_the_same_file_again_changes_nothing(scheduler: Scheduler, db: psycopg.Connection, tab: Path) -> None:
    assert states(scheduler, tab) == [(2, "added"), (3, "added")]
    before = stored(db)
    assert states(scheduler, tab) == [(2, "unchanged"), (3, "unchanged")]
    assert stored(db) == before


def test_a_changed_setting_updates_the_jobs_below_it_and_leaves_a_pause_alone(
    scheduler: Scheduler, db: psycopg.Connection, tab: Path
) -> None:
    states(scheduler, tab)
    first = next(name for name in stored(db) if "-first-" in name)
    scheduler.says("job", "pause", "default", first)
    tab.write_text(TAB.replace("HOME=/srv\n", "HOME=/srv\nX=1\n").replace("0 2", "HOME=/srv\n0 2"))
    assert states(scheduler, tab) == [(3, "changed"), (5, "changed")]
    jobs = stored(db)
    assert len(jobs) == 2
    assert jobs[first]["spec"]["environment"]["X"] == "1"
    assert jobs[first]["paused_at"] is not None


def test_a_refused_line_is_named_and_the_others_are_imported(
    scheduler: Scheduler, db: psycopg.Connection, tab: Path
) -> None:
    tab.write_text(TAB + "@reboot third\n0~9 3 * * * fourth\n")
    done = imported(scheduler, tab)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 added, 2 refused"
    refused = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
    assert [line.split(":")[1].strip() for line in refused] == ["line 4", "line 5"]
    assert "@reboot names no instant" in refused[0]
    assert len(stored(db)) == 2


def test_lines_that_are_gone_are_reported_and_removed_only_when_asked(
    scheduler: Scheduler, db: psycopg.Connection, tab: Path
) -> None:
    scheduler.says("job", "add", "default", "mine", "shell", '{"command": "x"}')
    states(scheduler, tab)
    second = next(name for name in stored(db) if "-second-" in name)
    tab.write_text("HOME=/srv\n0 1 * * * first\nbad\n")
    assert f"no longer in the file: {second} " in imported(scheduler, tab).stderr
    assert f"no longer in the file: {second} " in imported(scheduler, tab, "--prune").stderr  # a line is refused
    assert second in stored(db)
    tab.write_text("HOME=/srv\n0 1 * * * first\n")
    done = imported(scheduler, tab, "--prune")
    assert f"note: removed, for they are no longer in the file: {second}\n" in done.stderr
    assert sorted(name.partition("-")[0] for name in stored(db)) == ["mine", "night"]


def test_a_dry_run_needs_no_database() -> None:
    scheduler = Scheduler(NOWHERE)
    done = scheduler("import", "crontab", str(FILES / "crontab"), *ZONE, "--system", "--ignore-user", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 accepted"
    document = scheduler.json(
        "import", "crontab", str(FILES / "sysstat"), *ZONE, "--system", "--ignore-user", "--dry-run"
    )
    assert [(row["line"], row["state"], len(row["next"])) for row in document["lines"]] == [
        (6, "accepted", 3),
        (9, "accepted", 3),
    ]
    assert document["timezone"] == "Europe/Paris"
    scheduler.refuses("import", "crontab", str(FILES / "sysstat"), "--system", *ZONE, status=1)


def test_a_crontab_is_read_from_stdin(scheduler: Scheduler, db: psycopg.Connection) -> None:
    assert "2 added" in scheduler.says("import", "crontab", "-", *ZONE, stdin=TAB)
    assert sorted(name.rpartition("-")[0] for name in stored(db)) == ["crontab-first", "crontab-second"]


def test_a_user_column_is_asked_about_where_the_path_does_not_say(scheduler: Scheduler, tmp_path: Path) -> None:
    packaged = str(FILES / "certbot")
    assert "say --system" in scheduler.refuses("import", "crontab", packaged, *ZONE)
    tab = tmp_path / "tab"
    tab.write_text(f"0 1 * * * {pwd.getpwuid(os.geteuid()).pw_name} x\n0 1 * * * no-such-user y\n")
    assert states(scheduler, tab, "--system") == [(1, "added"), (2, "refused")]
    assert states(scheduler, tab, "--system", "--ignore-user") == [(1, "unchanged"), (2, "added")]
    assert states(scheduler, tab, "--no-system") == [(1, "added"), (2, "added")]


def test_what_is_no_crontab_is_refused_in_one_line(scheduler: Scheduler, tmp_path: Path) -> None:
    def refusal(data: bytes) -> str:
        (tmp_path / "tab").write_bytes(data)
        return scheduler.refuses("import", "crontab", str(tmp_path / "tab"), *ZONE, status=1)

    assert "line 2: a NUL character" in refusal(b"0 1 * * * a\n\0\n")
    assert "line 1: byte 0xe9 is not UTF-8" in refusal(b"# caf\xe9\n")
    assert "too long" in refusal(b"0 1 * * * a\n" * 900_000)
    assert "is a directory" in scheduler.refuses("import", "crontab", str(tmp_path), *ZONE, status=1)
    assert "No such file" in scheduler.refuses("import", "crontab", str(tmp_path / "none"), *ZONE, status=1)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in scheduler.refuses("import", "crontab", str(tmp_path / "pipe"), *ZONE, status=1)
    assert "anacron" in scheduler.refuses("import", "crontab", _anacrontab(tmp_path), *ZONE, status=1)
    (tmp_path / "tab").write_text(TAB)
    tab = str(tmp_path / "tab")
    assert "'Mars'" in scheduler.refuses("import", "crontab", tab, "--timezone", "Mars")
    assert "exclude" in scheduler.refuses("import", "crontab", tab, *ZONE, "--prune", "--dry-run")


def _anacrontab(directory: Path) -> str:
    (directory / "anacrontab").write_text("@monthly 15 cron.monthly run-parts /etc/cron.monthly\n")
    return str(directory / "anacrontab")


def test_an_imported_command_runs_as_cron_would_run_it(scheduler: Scheduler, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tab = tmp_path / "tab"
    tab.write_text(f'HOME={home}\nX="a  b"\n0 1 1 1 * pwd; echo "$X" "$PATH"; date +\\%\\%; cat % one%two \n')
    row = scheduler.json("import", "crontab", str(tab), *ZONE)["lines"][0]
    with scheduler.start("worker", "--app", "default", "--executors", "shell") as worker:
        try:
            run = scheduler.says("job", "trigger", "default", row["job"]).strip()
            deadline = time.monotonic() + 30
            while (shown := scheduler.json("runs", "show", run))["finished_at"] is None:
                assert time.monotonic() < deadline, shown
                time.sleep(0.1)
        finally:
            worker.terminate()
            worker.communicate(timeout=30)
    assert shown["state"] == "succeeded"
    assert shown["result"]["stdout"] == f"{home}\na  b /usr/bin:/bin\n%\n one\ntwo \n"

"""The audit by command: what each command leaves there, how it is listed, exported and verified."""

from __future__ import annotations

import hashlib
import json

import psycopg
import pytest

from tests.support.command import Scheduler
from tests.support.database import Databases

HELLO = '{"command": "echo hello"}'


@pytest.fixture
def scheduler(dsn: str) -> Scheduler:
    return Scheduler(dsn)


def test_every_command_that_changes_something_leaves_an_entry(scheduler: Scheduler) -> None:
    scheduler.says("job", "add", "shop", "nightly", "shell", HELLO)
    scheduler.says("job", "add", "shop", "nightly", "shell", HELLO, "--priority", "5", "--replace")
    for words in (["shop", "nightly"], ["shop"]):
        scheduler.says("job", "pause", *words)
        scheduler.says("job", "resume", *words)
    run = scheduler.says("job", "trigger", "shop", "nightly").strip()
    scheduler.says("runs", "cancel", run)
    again = scheduler.says("runs", "retry", run).strip()
    scheduler.says("limit", "shop", "mail", "--concurrency", "3")
    scheduler.says("enqueue", "shop", "shell", HELLO)
    scheduler.says("job", "remove", "shop", "nightly")
    entries = scheduler.json("audit", "list", "--app", "shop")["entries"]
    assert [(each["n"], each["action"], each["object"]) for each in reversed(entries)] == [
        (1, "add", "job nightly"), (2, "edit", "job nightly"),
        (3, "pause", "job nightly"), (4, "resume", "job nightly"),
        (5, "pause", "app"), (6, "resume", "app"), (7, "trigger", "job nightly"), (8, "cancel", f"run {run}"),
        (9, "retry", f"run {run}"), (10, "limit", "queue mail"), (11, "remove", "job nightly"),
    ]  # fmt: skip
    assert (entries[-2]["before"], entries[-2]["after"]) == ({"priority": 0}, {"priority": 5})
    assert entries[2]["after"] == {"run": int(again)}


def test_a_list_is_narrowed_by_app_object_and_instant_and_goes_on_where_it_ended(scheduler: Scheduler) -> None:
    for name in ("a", "b", "c"):
        scheduler.says("job", "add", "shop", name, "shell", HELLO)
    scheduler.says("job", "add", "other", "a", "shell", HELLO)

    def listed(*words: str) -> list[str]:
        entries = scheduler.json("audit", "list", *words)["entries"]
        return [f"{each['app']} {each['object']}" for each in entries]

    assert listed() == ["other job a", "shop job c", "shop job b", "shop job a"]
    assert listed("--app", "shop", "--object", "job b") == ["shop job b"]
    assert listed("--limit", "2", "--before", "shop", "3") == ["shop job b", "shop job a"]
    assert listed("--app", "shop", "--before", "shop", "2") == ["shop job a"]
    second = scheduler.json("audit", "list", "--app", "shop")["entries"][1]["at"]
    assert listed("--since", second) == ["other job a", "shop job c", "shop job b"]
    assert listed("--app", "shop", "--since", second) == ["shop job c", "shop job b"]
    assert listed("--app", "shop", "--object", "job a", "--since", second) == []
    assert "--object needs --app" in scheduler.refuses("audit", "list", "--object", "job a")
    shown = scheduler("audit", "list", "--limit", "1")
    assert "note: there may be more: --before other 1" in shown.stderr
    assert "add" in shown.stdout


def test_an_export_is_checked_with_nothing_but_sha256(scheduler: Scheduler) -> None:
    scheduler.says("job", "add", "shop", "nächtlich", "shell", HELLO, "--tag", 'a "quoted" \\ tag')
    scheduler.says("job", "pause", "shop")
    scheduler.says("job", "add", "other", "a", "shell", HELLO)
    ascii_only = Scheduler(scheduler.env["SCHEDULER_DSN"], PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    text = ascii_only.says("audit", "export")
    heads = {}
    previous = "0" * 64
    for line in text.splitlines():
        entry = json.loads(line)
        if "head" in entry:
            assert entry["head"] == previous
            heads[entry["app"]] = entry["entries"], previous
            previous = "0" * 64
        else:
            assert entry["previous"] == previous
            previous = hashlib.sha256(line.encode()).hexdigest()
    assert {app: count for app, (count, _) in heads.items()} == {"other": 1, "shop": 2}
    verified = scheduler.json("audit", "verify")
    assert verified["ok"]
    assert {each["app"]: (each["entries"], each["head"]) for each in verified["heads"]} == heads
    assert scheduler.says("audit", "export", "--app", "shop").count("\n") == 3
    assert "nothing was ever changed" in scheduler.refuses("audit", "export", "--app", "nobody", status=1)


def test_verify_says_in_a_line_each_what_was_done_to_it_and_fails(scheduler: Scheduler, db: psycopg.Connection) -> None:
    for number in range(1, 7):
        scheduler.says("job", "add", "shop", f"job {number}", "shell", HELLO)
    head = scheduler.json("audit", "verify")["heads"][0]["head"]
    assert head in scheduler.says("audit", "verify", "--app", "shop", "--head", head)
    with db.transaction():
        db.execute("set local session_replication_role = replica")
        db.execute("update scheduler.audit set role = 'nobody' where n = 2")
        db.execute("delete from scheduler.audit where n = 4 or n > 5")
    done = scheduler("audit", "verify", "--app", "shop", "--head", head)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "app shop: entry 2 was edited",
        "app shop: entry 4 was deleted",
        "app shop: entry 6 was cut off the end",
        "app shop: no entry has the head that was kept, so the chain was written anew",
    ]
    done = scheduler("audit", "verify", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert [each["finding"] for each in found["findings"]] == ["edited", "deleted", "truncated"]


@pytest.mark.parametrize(
    "words", [["--head", "00"], ["--app", "shop", "--head", "xyz"], ["--app", "shop", "--head", "ab"]]
)
def test_a_head_that_is_none_is_bad_usage(words: list[str]) -> None:
    assert "error: " in Scheduler("postgresql://127.0.0.1:1/nowhere").refuses("audit", "verify", *words)


def test_a_canary_in_a_spec_is_in_no_dump_but_where_it_stands(
    scheduler: Scheduler, db: psycopg.Connection, databases: Databases
) -> None:
    canary = "canary-41c7"
    spec = json.dumps({"command": f"curl --password={canary} http://host", "environment": {"API_KEY": canary}})
    scheduler.says("job", "add", "shop", "nightly", "shell", spec)
    scheduler.says("job", "add", "shop", "nightly", "shell", HELLO, "--replace")
    tables = db.execute("""
        select c.oid::regclass::text from pg_class c
        where c.relnamespace = 'scheduler'::regnamespace and c.relkind = 'r' order by 1
    """)
    for (table,) in tables.fetchall():
        found = db.execute(f"select count(*) from {table} t where t::text like %s", [f"%{canary}%"])
        assert found.fetchone() == (0,), table
    assert canary not in scheduler.says("audit", "export") + scheduler.says("audit", "list")

"""A canary: a secret in each place where one may stand, looked for in all others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.command import Scheduler
from tests.support.fleet import QUICK, ROOT, wait_until

PASSWORD = "canary-of-the-dsn-1f8b"
NAMED = "canary-of-a-named-dsn-77c0"
HELD = "canary/of&the+worker-93ae"  # a secret that specs name
WRITTEN = "canary-written-into-a-spec-5d21"  # where it should not be: it stays there, and comes nowhere else
ANY = "canary"
PAYLOADS: list[str] = json.loads((ROOT / "tests" / "data" / "shell-payloads.json").read_text(encoding="utf-8"))

NAME = "${secret:held}"
PUT = f"Bearer {WRITTEN}"
BY_LETTER = 'for c in $(echo "$X" | sed "s/./& /g"); do printf %s $c; sleep 0.01; done'
SPECS: list[tuple[str, dict[str, Any]]] = [
    # by name: the value reaches whoever is called, and is answered, printed, raised
    ("http", {"url": "{echo}/x", "headers": {"Authorization": f"Bearer {NAME}"}, "body": NAME}),
    ("http", {"url": f"{{echo}}/{NAME}?q={NAME}", "expect_status": 404}),
    ("http", {"url": f"http://127.0.0.1:1/{NAME}"}),
    ("http", {"url": f"http://10.0.0.1/{NAME}"}),
    ("http", {"url": "{echo}/x", "headers": {"A": f"{NAME}\n"}}),
    ("shell", {"command": 'echo "$X"; echo "$X" >&2; exit 3', "environment": {"X": NAME}}),
    ("shell", {"command": BY_LETTER, "environment": {"X": NAME}}),
    ("shell", {"command": ["cat"], "stdin": f"{NAME}\n" * 50}),
    ("shell", {"command": ["cat", NAME]}),
    ("sql", {"dsn": "named", "sql": "select %s::text as t", "params": [NAME]}),
    ("sql", {"dsn": "named", "sql": "select %s::int", "params": [NAME]}),
    ("sql", {"dsn": "gone", "sql": "select 1"}),
    ("sql", {"dsn": "unreadable", "sql": "select 1"}),
    ("python", {"task": "say", "args": {"name": NAME}}),
    ("python", {"task": "returns", "args": {"how": NAME}}),  # a KeyError, with a traceback
    ("python", {"task": NAME}),
    # written out, in specs that are in order and in such that are not
    ("http", {"url": "{echo}/quiet", "headers": {"Authorization": PUT}}),
    ("http", {"url": "http://10.0.0.1/", "headers": {"Authorization": PUT}}),
    ("http", {"url": f"http://u:{WRITTEN}@[::1/?q={WRITTEN}"}),
    ("http", {"url": "{echo}/x", "headers": [PUT]}),
    ("http", {"url": "{echo}/x", "headers": {"Authorization": [PUT]}}),
    ("http", {"url": "{echo}/x", "headers": {"Authorization": f"{PUT}\n"}}),
    ("http", {"url": "{echo}/x", "body": {"x": PUT}}),
    ("shell", {"command": ["false"], "environment": {"X": WRITTEN}}),
    ("shell", {"command": ["true"], "environment": [WRITTEN]}),
    ("shell", {"command": ["true"], "environment": {"X": [WRITTEN]}}),
    ("shell", {"command": ["true"], "stdin": [WRITTEN]}),
]  # fmt: skip


class Echo(BaseHTTPRequestHandler):
    """Answers with all that it was sent, with 404 unless the path is /x."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        quiet = self.path == "/quiet"
        text = b"" if quiet else f"{self.path}\n{self.headers}\n".encode() + body
        self.send_response(200 if self.path in {"/x", "/quiet"} else 404)
        if not quiet:
            self.send_header("X-Echo", self.headers.get("Authorization", ""))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.server.heard.append(text)  # type: ignore[attr-defined]

    do_POST = do_GET  # noqa: N815  as http.server calls it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.heard = []  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.direct("a password of its own in the DSN, and PostgreSQL's view of all sessions")
def test_the_canary_is_nowhere_but_where_it_was_put(
    direct_dsn: str, empty_dsn: str, db: psycopg.Connection, echo: ThreadingHTTPServer, tmp_path: Path
) -> None:
    given = conninfo_to_dict(direct_dsn).get("password")  # on the embedded server any will do
    password = str(given or PASSWORD)
    service = make_conninfo(direct_dsn, password=password)
    environment = {
        **QUICK,
        "FLEET_EFFECTS": str(tmp_path / "effects"),
        "SCHEDULER_LOG": "DEBUG",
        "SCHEDULER_DEBUG": "1",
        "SCHEDULER_HTTP_ALLOW": "127.0.0.1",
        "SCHEDULER_SECRET_HELD": HELD,
        "SCHEDULER_SQL_DSN_NAMED": make_conninfo(empty_dsn, password=str(given or NAMED)),
        "SCHEDULER_SQL_DSN_GONE": f"host=127.0.0.1 port=1 user=u password={NAMED}",
        "SCHEDULER_SQL_DSN_UNREADABLE": f"postgresq://u:{NAMED}@h/d",
    }
    (tmp_path / "effects").touch()
    scheduler = Scheduler(service, **environment)
    url = f"http://127.0.0.1:{echo.server_address[1]}"
    runs = []
    for number, (executor, spec) in enumerate(SPECS):
        text = json.dumps(spec).replace("{echo}", url)
        db.execute(
            "insert into scheduler.job (app, name, executor, spec, max_attempts) values ('shop', %s, %s, %s, 1)",
            [f"job {number}", executor, text],
        )
        runs.append(db.execute("select scheduler.trigger('shop', %s)", [f"job {number}"]).fetchone()[0])  # type: ignore[index]
    nap = '{"task": "process_nap", "args": {"seconds": 600}}'
    db.execute("insert into scheduler.run (app, executor, spec) values ('shop', 'python', %s)", [nap])
    log = tmp_path / "log"
    words = ["--dsn", service, "run", "--executors", "python,http,shell,sql", "--import", "tests.support.fleet_tasks"]
    with log.open("w") as file:
        process = scheduler.start(*words, stdout=file, stderr=file, cwd=ROOT)
    try:
        seen: set[str] = set()
        ours = [str(conninfo_to_dict(one)["dbname"]) for one in (direct_dsn, empty_dsn)]

        def all_have_ended() -> bool:
            seen.update(sessions(db, ours))
            left = db.execute("select count(*) from scheduler.runs where id = any(%s) and finished_at is null", [runs])
            return left.fetchone() == (0,)

        wait_until(all_have_ended, saying=log.read_text)
        wait_until(lambda: len(descendants(process.pid)) >= 2)  # the guard, and the child that naps
        for child in descendants(process.pid):
            assert ANY not in Path(f"/proc/{child}/cmdline").read_text(), "a child process"
        time.sleep(0.5)  # the journal's last lines
        outputs = {
            " ".join(one): scheduler.says(*one)
            for one in (
                ("job", "list", "--json"), ("runs", "list", "--json"), ("job", "list"), ("runs", "list"),
                ("apps", "--json"), ("queues", "--json"), ("servers", "--json"), ("workers", "--json"),
            )
        }  # fmt: skip
        outputs |= {f"logs {run}": scheduler.says("logs", str(run)) for run in (runs[5], runs[6], runs[7])}
        # One definition, and one run, are shown as they were written: by name, and not by value.
        shown = scheduler.says("job", "show", "shop", "job 0", "--json")
    finally:
        process.kill()
        process.wait(60)
    ends = db.execute("select id, outcome, error, result::text from scheduler.history where id = any(%s)", [runs])
    by_run = {run: (outcome, error or "", result or "") for run, outcome, error, result in ends.fetchall()}
    assert len(by_run) == len(SPECS)

    # The test would find it: who was called has heard it, and the runs came so far.
    heard = b"".join(echo.heard).decode()  # type: ignore[attr-defined]
    assert f"Bearer {HELD}" in heard
    assert by_run[runs[0]][0] == by_run[runs[1]][0] == by_run[runs[7]][0] == by_run[runs[9]][0] == "succeeded"
    assert "***" in by_run[runs[0]][2]
    assert by_run[runs[5]][1] == "command ended with exit code 3: ***"
    assert outputs[f"logs {runs[6]}"].count("***") == 1
    assert NAME in shown
    assert ANY not in shown

    for where, text in {**outputs, "the log": log.read_text()}.items():
        assert ANY not in text, where
    assert not [one for one in seen if ANY in one]
    # The audit keeps definitions as they were written, but for what looks like a secret.
    assert places(db) == {("job", "spec"), ("history", "spec"), ("audit", "after")}
    values = {row[0] for row in db.execute("select spec::text from scheduler.history").fetchall()}
    assert not [one for one in values if HELD in one or PASSWORD in one or NAMED in one]


@pytest.mark.direct("many apps")
def test_names_that_a_shell_would_act_on_are_names(dsn: str, db: psycopg.Connection, tmp_path: Path) -> None:
    """Payloads as arguments, tags, keys and names of jobs, apps and queues, through the whole of it."""
    canary = tmp_path / "canary" / "sang"
    canary.parent.mkdir()
    wanted: dict[int, str] = {}
    for number, text in enumerate(PAYLOADS):
        payload = text.replace("{canary}", str(canary))
        spec = json.dumps({"command": ["printf", "%s", payload], "environment": {"X": payload}})
        app, queue = (payload, payload) if number % 10 == 0 else ("shop", "default")
        columns = [app, queue, spec, payload, [payload], f"{number} {payload}"]
        try:
            ((run,),) = db.execute(
                "insert into scheduler.run (app, queue, executor, spec, job, tags, unique_key)"
                " values (%s, %s, 'shell', %s, %s, %s, %s) returning id",
                columns,
            ).fetchall()
        except (psycopg.errors.DataError, psycopg.errors.IntegrityError):
            continue  # a rule of the table: a NUL, an empty name, one that is too long
        wanted[run] = payload
    assert len(wanted) > 200
    log = tmp_path / "log"
    with log.open("w") as file:
        process = Scheduler(dsn, **QUICK).start("run", "--executors", "shell", stdout=file, stderr=file)
    try:
        left = "select count(*) from scheduler.runs where finished_at is null"
        wait_until(lambda: db.execute(left).fetchone() == (0,), 60, log.read_text)
    finally:
        process.terminate()
        process.wait(60)
    ended = db.execute("select id, outcome, result ->> 'stdout' from scheduler.history").fetchall()
    assert {run: stdout for run, outcome, stdout in ended if outcome == "succeeded"} == wanted
    assert not list(canary.parent.iterdir())


def sessions(db: psycopg.Connection, databases: list[str]) -> list[str]:
    """What others see of every session but this one's; other tests have databases of theirs."""
    found = db.execute(
        "select coalesce(query, '') || ' ' || coalesce(application_name, '') from pg_stat_activity"
        " where pid <> pg_backend_pid() and datname = any (%s)",
        [databases],
    )
    return [text for (text,) in found.fetchall()]


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def places(db: psycopg.Connection) -> set[tuple[str, str]]:
    """The tables and columns of the whole database that hold the canary."""
    tables = db.execute(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and not c.relispartition"
        " and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
    ).fetchall()
    found = set()
    for schema, table in tables:
        query = SQL(
            "select distinct e.key from {} t, jsonb_each_text(to_jsonb(t)) e where e.value like '%canary%'"
        ).format(Identifier(schema, table))
        found |= {(table, column) for (column,) in db.execute(query).fetchall()}
    assert len(tables) > 10
    return found

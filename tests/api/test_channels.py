"""Channels, used by programs that are not ours, on real servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.fleet import wait_until
from tests.support.serving import Serve, serving

CLIENT = Path(__file__).with_name("distribuerad.mjs")


@pytest.fixture
def serve(dsn: str, tmp_path: Path) -> Iterator[Serve]:
    with serving(dsn, tmp_path) as serve:
        yield serve


def call(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    """Status and answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def publish(url: str, data: str = "x", **more: str) -> str:
    status, event = call("POST", f"{url}/orders/events", {"data": data, **more})
    assert status == 201
    return str(event["eventID"])


def listed(url: str, channel: str = "orders") -> list[dict[str, Any]]:
    status, found = call("GET", f"{url}/{channel}/events")
    assert (status, found["count"]) == (200, len(found["events"]))
    return list(found["events"])


def test_a_node_program_written_from_the_readme_lives_through_the_life_of_events_and_jobs(serve: Serve) -> None:
    _, url = serve()
    node = shutil.which("node") or str(Path(sys.executable).with_name("node"))
    done = subprocess.run([node, CLIENT, url], check=False, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_curl_publishes_locks_and_deletes_with_no_content_type_of_json(serve: Serve) -> None:
    _, url = serve()

    def curl(*words: str) -> tuple[str, str]:
        command = ["curl", "-sS", "-w", "\n%{http_code}", *words]
        body, _, status = subprocess.check_output(command, text=True, timeout=30).rpartition("\n")
        return status, body

    status, body = curl("-d", '{"data": "hello"}', f"{url}/orders/events")
    event = json.loads(body)["eventID"]
    assert status == "201"
    assert curl("-X", "PATCH", "-d", "{}", f"{url}/orders/events/{event}") == ("202", "")
    assert curl("-X", "PATCH", "-d", "{}", f"{url}/orders/events/{event}/")[0] == "410"
    assert curl("-X", "DELETE", f"{url}/orders/events/{event}") == ("202", "")
    assert json.loads(curl(f"{url}/orders/events/")[1]) == {"channelName": "orders", "count": 0, "events": []}
    assert curl("-d", '{"data": ', f"{url}/orders/events")[0] == "400"


def test_of_fifty_who_lock_an_event_on_two_servers_one_gets_it_and_its_lock_outlives_the_server(
    serve: Serve, db: psycopg.Connection
) -> None:
    servers = [serve(), serve()]
    event = publish(servers[0][1])

    def lock(place: int) -> tuple[int, int]:
        return place, call("PUT", f"{servers[place][1]}/orders/events/{event}", {"action": "LOCK", "ttl": "1h"})[0]

    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lock, [0, 1] * 25))
    assert sorted(status for _, status in answers) == [202, *[410] * 49]
    ((winner, _),) = [one for one in answers if one[1] == 202]
    servers[winner][0].kill()
    other = servers[1 - winner][1]
    assert call("PATCH", f"{other}/orders/events/{event}", {})[0] == 410
    assert [one["isLocked"] for one in listed(other)] == [True]
    db.execute("update scheduler.event_lock set expires_at = now()")
    assert [one["isLocked"] for one in listed(other)] == [False]
    assert call("PATCH", f"{other}/orders/events/{event}", {})[0] == 202
    assert call("DELETE", f"{other}/orders/events/{event}")[0] == 202


def test_history_says_who_ended_an_event_and_what_expired_without_a_client(
    serve: Serve, db: psycopg.Connection
) -> None:
    _, url = serve()
    ended, unlocked, expired = publish(url), publish(url), publish(url, ttl="100ms")
    assert call("PUT", f"{url}/orders/events/{ended}", {})[0] == 202
    for event in (ended, unlocked):
        assert call("DELETE", f"{url}/orders/events/{event}")[0] == 202

    def states() -> dict[str, Any]:
        rows = db.execute("select id::text, state, error, fence from scheduler.runs").fetchall()
        return {run: tuple(rest) for run, *rest in rows}

    wait_until(lambda: states()[expired][0] == "cancelled")
    found = states()
    assert found[expired][1].startswith("expired: ")
    assert found[unlocked] == ("succeeded", None, None)
    assert found[ended][:2] == ("succeeded", None)
    assert found[ended][2] > 0
    assert db.execute("select count(*) from scheduler.event_lock").fetchone() == (0,)


def test_a_plain_insert_is_an_event_of_its_apps_channel_and_no_worker_takes_it(
    serve: Serve, db: psycopg.Connection
) -> None:
    _, url = serve("--executors", "shell", env={"SCHEDULER_DEAD_AFTER": "60"})  # the one by SQL has no heartbeat
    insert = "insert into scheduler.run (app, executor, spec) values ('orders', %s, %s)"
    db.execute(insert, ["event", json.dumps({"data": "by SQL", "ttl": "90s"})])
    db.execute(insert, ["event", json.dumps({"data": {"a": 1}, "ttl": "soon"})])
    db.execute(insert, ["shell", json.dumps({"command": ["true"]})])
    wait_until(lambda: db.execute("select count(*) from scheduler.history").fetchone() == (1,))
    first, second = listed(url)
    assert (first["data"], second["data"]) == ("by SQL", '{"a": 1}')
    worker = db.execute("select scheduler.register_worker('by SQL', p_executors => '{event}')").fetchone()
    for executors in (None, ["event"], ["event", "shell"]):
        for priority in (None, 0):
            taken = db.execute(
                "select from scheduler.claim('orders', %s, p_executors => %s, p_priority => %s::smallint)",
                [worker and worker[0], executors, priority],
            )
            assert taken.fetchall() == [], (executors, priority)
        waiting = db.execute("select from scheduler.next_due(p_executors => %s)", [executors])
        assert waiting.fetchall() == [], executors


def test_a_list_is_cut_where_it_says_so_and_goes_on_there(serve: Serve, db: psycopg.Connection) -> None:
    _, url = serve()
    db.execute("""
        insert into scheduler.run (app, executor, spec)
        select 'orders', 'event', jsonb_build_object('data', 'n' || g) from generate_series(1, 10003) g
    """)
    status, whole = call("GET", f"{url}/orders/events")
    assert (status, whole["count"], len(whole["events"])) == (200, 10_000, 10_000)
    _, rest = call("GET", f"{url}/orders/events?after={whole['next']}")
    assert [one["data"] for one in rest["events"]] == ["n10001", "n10002", "n10003"]
    assert "next" not in rest
    db.execute("delete from scheduler.run")
    for _ in range(20):
        publish(url, "x" * 1_000_000)
    _, whole = call("GET", f"{url}/orders/events")
    assert whole["count"] == 17
    _, rest = call("GET", f"{url}/orders/events?after={whole['next']}&limit=2")
    assert (rest["count"], "next" in rest) == (2, True)


@pytest.mark.parametrize(("schedule", "overlap"), [("@every 200ms", "allow"), ("@every 200ms", "skip")])
def test_a_job_of_events_with_a_short_period_goes_by_rows(
    serve: Serve, db: psycopg.Connection, schedule: str, overlap: str
) -> None:
    _, url = serve()
    db.execute(
        "insert into scheduler.job (app, name, schedule, executor, spec, overlap)"
        """ values ('orders', 'often', %s, 'event', '{"data": "x"}', %s)""",
        [schedule, overlap],
    )
    if overlap == "allow":
        wait_until(lambda: len(listed(url)) >= 3)
    else:  # one waits, and while it does the others are skipped
        wait_until(lambda: len(listed(url)) == 1)
        event = listed(url)[0]["eventID"]
        assert call("DELETE", f"{url}/orders/events/{event}")[0] == 202
        wait_until(lambda: [one["eventID"] for one in listed(url)] not in ([], [event]))
    assert db.execute("select count(*) from scheduler.pulse").fetchone() == (0,)

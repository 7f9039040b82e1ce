"""Apps, queues, servers, workers over HTTP: what the command line says, a page at a time."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.api import Client, served
from tests.support.builders import add_job, add_run, add_server, add_worker, claim, one, own
from tests.support.command import Scheduler


@pytest.fixture
def full(db: psycopg.Connection) -> None:
    """Five apps with jobs, runs and queues; two servers and three workers, one of them gone."""
    for app in ("a", "b", "b c", "shop", "z"):
        for name in ("one", "two", "three"):
            add_job(db, name, app=app, queue=name, schedule="@daily")
        for queue in ("default", "mail"):
            add_run(db, app=app, queue=queue)
    own(db)
    add_server(db, "second", "http://second:8080")
    for label in ("w1", "w2", "w3"):
        add_worker(db, label)
    db.execute("update scheduler.worker set stopped_at = now() where label = 'w2'")


def still(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Without what is another number at each look."""
    return [{key: value for key, value in row.items() if key not in {"late", "silent_for", "state"}} for row in rows]


@pytest.mark.parametrize("name", ["apps", "queues", "servers", "workers", "runs"])
def test_a_list_is_that_of_the_command_line(api: Client, full: None, dsn: str, name: str) -> None:
    words = ["runs", "list"] if name == "runs" else [name]
    expected = Scheduler(dsn).json(*words)[name]
    found = api.read(f"/api/v1/{name}")
    assert (still(found[name]), found["next"]) == (still(expected), None)
    assert expected, "there is something to compare"


@pytest.mark.parametrize(
    "path",
    ["apps", "queues", "jobs", "runs", "workers?all=true", "apps/shop/queues", "apps/shop/jobs", "apps/shop/runs"],
)
@pytest.mark.parametrize("limit", [1, 2])
def test_pages_hold_every_row_once_and_in_order(api: Client, full: None, path: str, limit: int) -> None:
    name = path.partition("?")[0].rpartition("/")[2]
    whole = api.read(f"/api/v1/{path}")[name]
    joint = "&" if "?" in path else "?"
    paged = api.pages(f"/api/v1/{path}{joint}limit={limit}", name)
    assert still(paged) == still(whole)
    assert len(whole) > 1


def test_rows_that_come_and_go_between_two_pages_move_no_other(api: Client, full: None, db: psycopg.Connection) -> None:
    first = api.read("/api/v1/apps/shop/jobs?limit=2")
    db.execute("delete from scheduler.job where app = 'shop' and name = %s", [first["jobs"][0]["name"]])
    add_job(db, "aaa", app="shop")
    second = api.read(first["next"])
    assert [row["name"] for row in first["jobs"] + second["jobs"]] == ["one", "three", "two"]


def test_an_app_is_shown_with_its_owner(api: Client, full: None, dsn: str) -> None:
    row = api.read("/api/v1/apps/b%20c")
    assert row == next(one for one in Scheduler(dsn).json("apps")["apps"] if one["app"] == "b c")
    assert (row["jobs"], row["pending"], row["server"] is not None) == (3, 2, True)
    assert api.get("/api/v1/apps/none").detail == "there is no app none"


def test_an_app_is_located(api: Client, full: None, dsn: str) -> None:
    assert api.read("/api/v1/locate/shop") == Scheduler(dsn).json("locate", "shop")
    assert api.get("/api/v1/locate/none").status == 404


def test_an_app_is_paused_and_resumed_if_there_is_one(api: Client, full: None) -> None:
    said = [api("POST", f"/api/v1/apps/shop/{verb}").json["changed"] for verb in ("pause", "pause", "resume", "resume")]
    assert said == [True, False, True, False]
    assert [api("POST", f"/api/v1/apps/none/{verb}").status for verb in ("pause", "resume")] == [404, 404]
    assert "none" not in {row["app"] for row in api.read("/api/v1/apps")["apps"]}


def test_a_queue_is_limited_as_a_whole_and_freed(api: Client, full: None) -> None:
    path = "/api/v1/apps/shop/queues/mail/limits"

    def limits() -> list[object]:
        row = next(one for one in api.read("/api/v1/apps/shop/queues")["queues"] if one["queue"] == "mail")
        return [row[name] for name in ("concurrency_limit", "rate_limit", "rate_interval")]

    assert api("PUT", path, {"concurrency_limit": 3, "rate_limit": 100, "rate_interval": 60}).status == 200
    assert limits() == [3, 100, 60.0]
    assert api("PUT", path, {"rate_limit": 5}).json == {
        "concurrency_limit": None,
        "rate_limit": 5,
        "rate_interval": 1.0,
    }
    assert limits() == [None, 5, 1.0]
    for body in ({}, {"concurrency_limit": -1}, {"rate_limit": 0}, {"rate_limit": 1, "rate_interval": 0}, {"rate": 1}):
        assert api("PUT", path, body).status == 400, body
    assert api("DELETE", path).status == 200
    assert limits() == [None, None, None]


def test_counts_stop_at_a_bound_and_say_so(api: Client, db: psycopg.Connection) -> None:
    db.execute("insert into scheduler.run (app, executor) select 'many', 'x' from generate_series(1, 1001)")
    db.execute("insert into scheduler.run (app, executor) select 'some', 'x' from generate_series(1, 1000)")
    rows = {row["app"]: (row["pending"], row["pending_is_at_least"]) for row in api.read("/api/v1/apps")["apps"]}
    assert rows == {"many": (1000, True), "some": (1000, False)}


def test_those_who_are_gone_are_listed_when_asked_for(api: Client, full: None) -> None:
    alive = [row["label"] for row in api.read("/api/v1/workers")["workers"]]
    ever = [row["label"] for row in api.read("/api/v1/workers?all=true")["workers"]]
    assert (alive, ever) == (["w3", "w1"], ["w3", "w2", "w1"])


def test_a_process_that_does_not_do_its_work_is_not_ready_and_lives(dsn: str) -> None:
    complaint: list[str | None] = ["the planner has not succeeded for 40 s"]
    with served(dsn, complaint=lambda: complaint[0]) as client:
        answer = client.get("/readyz")
        assert (answer.status, answer.detail, answer.headers["retry-after"]) == (503, complaint[0], "1")
        assert client.get("/healthz").status == 200
        complaint[0] = None
        assert client.get("/readyz").status == 200


def test_a_database_without_the_schema_is_not_ready(empty_dsn: str) -> None:
    with served(empty_dsn) as client:
        assert (client.get("/readyz").status, "no scheduler schema" in client.get("/readyz").detail) == (503, True)
        assert client.get("/healthy").json == {"status": "ok"}


def test_a_run_that_is_running_is_counted(api: Client, db: psycopg.Connection) -> None:
    add_run(db)
    claim(db, add_worker(db))
    assert api.read("/api/v1/apps/shop")["running"] == one(db, "select count(*) from scheduler.lease") == 1

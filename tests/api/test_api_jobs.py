"""Definitions over HTTP: added, replaced, removed, paused, triggered, foreseen; and never over somebody else's edit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.support.api import Client
from tests.support.builders import add_job, one
from tests.support.command import Scheduler

JOBS = "/api/v1/apps/shop/jobs"
NIGHTLY = f"{JOBS}/nightly"
HELLO: dict[str, Any] = {"executor": "shell", "spec": {"command": ["echo", "hi"]}, "schedule": "0 3 * * *"}


def test_a_job_that_is_posted_is_the_one_that_the_command_line_shows(api: Client, dsn: str) -> None:
    body = HELLO | {"timezone": "Europe/Berlin", "timeout": 90, "jitter": 1.5, "tags": ["a", "b"], "priority": -3}
    answer = api("POST", JOBS, body | {"name": "nightly"})
    assert (answer.status, answer.headers["location"]) == (201, NIGHTLY)
    shown = Scheduler(dsn).json("job", "show", "shop", "nightly")
    assert answer.json == shown
    assert api.read(NIGHTLY) == shown
    assert api.read(JOBS)["jobs"] == Scheduler(dsn).json("job", "list")["jobs"]
    assert {name: shown[name] for name in body} == body


def test_a_name_that_is_taken_is_a_conflict_and_changes_nothing(api: Client) -> None:
    api("POST", JOBS, HELLO | {"name": "nightly"})
    answer = api("POST", JOBS, HELLO | {"name": "nightly", "priority": 9})
    assert (answer.status, "already" in answer.detail) == (409, True)
    assert api.read(NIGHTLY)["priority"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": "61 * * * *"}, "minute"),
        ({"timezone": "Europe/Berlln"}, "Europe/Berlin"),
        ({"spec": {}}, "command"),
        ({"spec": []}, "spec"),
        ({"priority": 40_000}, "priority"),
        ({"timeout": "1h"}, "timeout"),
        ({"overlap": "perhaps"}, "overlap"),
        ({"sched": "typing error"}, "sched"),
        ({"starts_at": "2026-01-01T00:00:00"}, "starts_at"),
        ({"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "before"),
        ({"concurrency_limit": 3}, "concurrency_key"),
        ({"queue": "a\0b"}, "NUL"),
        ({"spec": {"command": "a\0b"}}, "NUL"),
        ({"spec": {"command": "x" * 1024 * 1024}}, "1,048,576"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_with_what_is_wrong(
    api: Client, change: dict[str, Any], words: str
) -> None:
    for answer in (api("PUT", NIGHTLY, HELLO | change), api("POST", JOBS, HELLO | {"name": "nightly"} | change)):
        assert answer.status == 400
        assert words in answer.detail + answer.json.get("hint", "")
    assert api.get(NIGHTLY).status == 404


def test_put_adds_a_job_once_and_replaces_it_then(api: Client) -> None:
    added, replaced = api("PUT", NIGHTLY, HELLO), api("PUT", NIGHTLY, HELLO | {"priority": 5})
    assert [(one.status, one.json["priority"]) for one in (added, replaced)] == [(201, 0), (200, 5)]
    assert added.headers["location"] == NIGHTLY
    assert "location" not in replaced.headers


def test_put_with_if_none_match_only_adds(api: Client) -> None:
    assert api("PUT", NIGHTLY, HELLO, If_None_Match="*").status == 201
    assert api("PUT", NIGHTLY, HELLO | {"priority": 5}, If_None_Match="*").status == 412
    assert api.read(NIGHTLY)["priority"] == 0


def test_an_edit_goes_by_the_version_that_was_read_and_not_over_another_one(api: Client) -> None:
    mine = api("PUT", NIGHTLY, HELLO).headers["etag"]
    assert api("PUT", NIGHTLY, HELLO | {"priority": 1}, If_Match=mine).status == 200
    for refused in (api("PUT", NIGHTLY, HELLO, If_Match=mine), api("DELETE", NIGHTLY, If_Match=mine)):
        assert refused.status == 412
    assert api.read(NIGHTLY)["priority"] == 1
    assert api("DELETE", NIGHTLY, If_Match=api.get(NIGHTLY).headers["etag"]).status == 204
    assert api("PUT", NIGHTLY, HELLO, If_Match="*").status == 412, "there is none to be replaced"
    assert api.get(NIGHTLY).status == 404


def test_a_weak_version_matches_for_reading_only(api: Client) -> None:
    weak = f"W/{api('PUT', NIGHTLY, HELLO).headers['etag']}"
    assert api.get(NIGHTLY, If_None_Match=f'"other", {weak}').status == 304
    assert api("DELETE", NIGHTLY, If_Match=weak).status == 412


def test_what_is_known_is_not_sent_again_and_only_an_edit_makes_it_unknown(api: Client, db: psycopg.Connection) -> None:
    known = api("PUT", NIGHTLY, HELLO).headers["etag"]
    api("POST", f"{NIGHTLY}/trigger")
    again = api("PUT", NIGHTLY, HELLO).headers["etag"]
    answer = api.get(NIGHTLY, If_None_Match=known)
    assert (again, answer.status, answer.body, answer.headers["etag"]) == (known, 304, b"", known)
    db.execute("update scheduler.job set priority = 1")
    assert api.get(NIGHTLY, If_None_Match=known).status == 200
    edited = api.get(NIGHTLY).headers["etag"]
    api("POST", f"{NIGHTLY}/pause")
    assert api.get(NIGHTLY, If_None_Match=edited).status == 200


def test_a_removed_job_that_was_added_again_is_another_version(api: Client) -> None:
    before = api("PUT", NIGHTLY, HELLO).headers["etag"]
    assert api("DELETE", NIGHTLY).status == 204
    assert api("PUT", NIGHTLY, HELLO).headers["etag"] != before


def test_a_job_is_paused_and_resumed_and_says_whether_that_changed_anything(api: Client) -> None:
    api("PUT", NIGHTLY, HELLO)
    said = [api("POST", f"{NIGHTLY}/{verb}").json["changed"] for verb in ("pause", "pause", "resume", "resume")]
    assert said == [True, False, True, False]
    api("POST", f"{NIGHTLY}/pause")
    assert api("PUT", NIGHTLY, HELLO).json["state"] == "paused", "who replaces a paused job does not start it"


def test_a_triggered_run_has_the_spec_laid_over_the_jobs(api: Client, db: psycopg.Connection) -> None:
    api("PUT", NIGHTLY, HELLO)
    answers = [
        api("POST", f"{NIGHTLY}/trigger"),
        api("POST", f"{NIGHTLY}/trigger", {}),
        api("POST", f"{NIGHTLY}/trigger", {"spec": {"command": ["there"], "environment": {"A": "1"}}}),
    ]
    assert [answer.status for answer in answers] == [201, 201, 201]
    specs = [api.read(answer.headers["location"])["spec"] for answer in answers]
    assert specs[0] == specs[1] == HELLO["spec"]
    assert specs[2] == {"command": ["echo", "hi", "there"], "environment": {"A": "1"}}
    assert [answer.json["id"] for answer in answers] == [
        row[0] for row in db.execute("select id from scheduler.run order by id").fetchall()
    ]


def test_a_preview_is_that_of_the_command_line(api: Client, dsn: str) -> None:
    api("PUT", NIGHTLY, HELLO | {"timezone": "America/New_York", "schedule": "30 1 * * *"})
    start = "2026-10-31T00:00:00Z"
    words = ["--from", start, "-n", "3"]
    expected = Scheduler(dsn).json("job", "preview", "shop", "nightly", *words)
    assert api.read(f"{NIGHTLY}/preview?count=3&from={start}") == expected
    zone = "timezone=America%2FNew_York&dst_fold=both"
    both = api.read(f"/api/v1/preview?schedule=30+1+*+*+*&{zone}&count=3&from={start}")["instants"]
    assert both == ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"]


@pytest.mark.parametrize(
    "query",
    ["", "schedule=never", "schedule=@daily&timezone=Nowhere", "schedule=@daily&from=2026-01-01T00:00:00",
     "schedule=@daily&count=0", "schedule=@daily&count=100000", "schedule=@daily&from=null"],
)  # fmt: skip
def test_a_preview_of_what_makes_no_sense_is_refused(api: Client, query: str) -> None:
    answer = api.get(f"/api/v1/preview?{query}")
    assert (answer.status, bool(answer.detail)) == (400, True)


def test_a_job_without_a_schedule_that_can_be_followed_has_no_preview(api: Client, db: psycopg.Connection) -> None:
    add_job(db, "on demand")
    add_job(db, "bad", schedule="every now and then")
    for name in ("on%20demand", "bad"):
        assert api.get(f"{JOBS}/{name}/preview").status == 409
    assert [job["name"] for job in api.read(JOBS)["jobs"]] == ["bad", "on demand"], "and spoils no list"


def test_a_spec_that_no_program_wrote_is_shown_all_the_same(api: Client, db: psycopg.Connection) -> None:
    specs = ['{"n": 123456789012345678901234567890}', '{"n": 1e400}', '{"n": ' + "[" * 985 + "]" * 985 + "}"]
    for place, spec in enumerate(specs):
        db.execute("insert into scheduler.job (app, name, executor, spec) values ('shop', %s, 'x', %s)", [place, spec])
        assert api.get(f"{JOBS}/{place}").status == 200
    assert len(api.read(JOBS)["jobs"]) == len(specs)
    assert api.read(f"{JOBS}/0")["spec"] == {"n": 123456789012345678901234567890}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/preview"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/trigger")],
)
def test_a_job_that_is_not_there_is_not_found(api: Client, method: str, path: str) -> None:
    answer = api(method, f"{NIGHTLY}{path}")
    assert (answer.status, "nightly" in answer.detail) == (404, True)


def test_two_who_edit_the_version_that_both_read_do_not_both_succeed(api: Client, db: psycopg.Connection) -> None:
    """The second waits for the first and is refused: the row is locked before its version is looked at."""
    known = api("PUT", NIGHTLY, HELLO).headers["etag"]
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda n: api("PUT", NIGHTLY, HELLO | {"priority": n}, If_Match=known).status, range(1, 9))
        )
    assert sorted(answers) == [200] + [412] * 7
    assert one(db, "select priority from scheduler.job") in range(1, 9)


def test_who_adds_a_job_at_the_same_moment_replaces_it_or_is_told(api: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        put = list(threads.map(lambda n: api("PUT", f"{JOBS}/a", HELLO | {"priority": n}).status, range(8)))
        only = list(threads.map(lambda _: api("PUT", f"{JOBS}/b", HELLO, If_None_Match="*").status, range(8)))
    assert sorted(put) == [200] * 7 + [201]
    assert sorted(only) == [201] + [412] * 7

"""What docs/http-api.md says to type, typed, against a server with a worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.api.openapi import document
from scheduler.api.routes import OPERATIONS
from tests.support.api import Client
from tests.support.command import Scheduler
from tests.support.fleet import wait_until
from tests.support.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
BIND = "127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def bind(dsn: str, tmp_path: Path) -> Iterator[str]:
    """Where a server listens that was started as the page says."""
    port = free_port()
    (words,) = re.findall(r"^```\nscheduler (.*)\n```", PAGE, flags=re.MULTILINE)
    with (tmp_path / "log").open("w") as log:
        server = Scheduler(dsn).start(
            *words.replace(BIND, f"127.0.0.1:{port}").split(), "--executors", "shell", stdout=log, stderr=log
        )
    try:
        wait_until(lambda: server.poll() is not None or _is_ready(port))
        assert server.poll() is None, (tmp_path / "log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _is_ready(port: int) -> bool:
    try:
        return Client(port).get("/readyz").status == 200
    except OSError:
        return False


def documents(text: str) -> list[Any]:
    """The JSON documents that follow each other."""
    found, decoder, place = [], json.JSONDecoder(), 0
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        found.append(value)
        while place < len(text) and text[place].isspace():
            place += 1
    return found


def test_the_tour_does_what_the_page_says(dsn: str, bind: str) -> None:
    script = "\n".join(blocks("sh")).replace(BIND, bind)
    env = {**Scheduler(dsn).env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-eu"], input=script, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    said = documents(done.stdout)
    job, coming, imagined, line, run, found, retried, edited, paused = said[:9]
    assert (job["name"], job["timezone"], job["timeout"]) == ("nightly", "Europe/Berlin", 90)
    assert [len(one["instants"]) for one in (coming, imagined)] == [3, 3]
    assert line["text"] == "closed"
    assert (run["state"], run["spec"]["environment"]) == ("succeeded", {"WHY": "by hand"})
    assert [one["id"] for one in found["runs"]] == [run["id"]]
    assert retried["id"] > run["id"]
    assert (edited["schedule"], edited["timezone"]) == ("30 3 * * *", "UTC")
    assert paused == {"changed": True}
    alarm, sent, silenced, speaking, firing, outlook, compared, report = said[9:17]
    assert (alarm["name"], alarm["times"], alarm["within"]) == ("closing", 3, 3600)
    assert [one["channel"] for one in sent["notices"]] == ["slack", "email"]
    assert (silenced["state"], speaking["state"], firing["alarms"]) == ("silenced", "quiet", [])
    assert (len(outlook["per_minute"]), outlook["fires"]) == (48 * 60, 0)
    hourly, report_of_day = (one["after"] for one in compared["changes"])
    assert (hourly, report_of_day in {3, 4}) == (23, True)
    assert len(report["checks"]) > 20
    apps, *_, servers, workers, token, tokens = said[17:]
    assert [one["app"] for one in apps["apps"]] == ["_alarms", "shop"]
    assert (len(servers["servers"]), len(workers["workers"])) == (1, 1)
    assert (token["name"], [one["name"] for one in tokens["tokens"]]) == ("ci", ["ci", "laptop", "admin"])


def test_a_problem_looks_as_the_page_says(bind: str, dsn: str) -> None:
    (expected,) = blocks("json")
    token = Scheduler(dsn).json("token", "create", "t", "--scope", "read")["token"]
    client = Client(int(bind.rpartition(":")[2])).bearing(token)
    assert client.get("/api/v1/apps/shop/jobs/nightly").json == json.loads(expected)


def test_the_page_names_every_status_that_the_document_does() -> None:
    errors = {
        int(status)
        for methods in document(OPERATIONS)["paths"].values()
        for one in methods.values()
        for status in one["responses"]
        if int(status) >= 400
    }
    named = {
        int(status) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, flags=re.MULTILINE) for status in row.split(",")
    }
    assert errors <= named

"""Things are broken for real, and who is told is told, once; and told again when they are whole."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.support.command import Scheduler
from tests.support.fleet import ROOT, wait_until
from tests.support.receivers import Hooks, Mails, hooks, mails

QUICK = {
    "SCHEDULER_HEARTBEAT": "0.3",
    "SCHEDULER_DEAD_AFTER": "3",
    "SCHEDULER_POLL": "0.3",
    "SCHEDULER_ALARM_EVERY": "0.2",
    "SCHEDULER_PULSE_BELOW": "0",
    "SCHEDULER_PLAN_AHEAD": "0",
    "SCHEDULER_HTTP_ALLOW": "127.0.0.1",
}
SOON = {"gather": "0", "pause": "0"}
TOLD = ("firing", "resolved")


class System:
    """Real servers and workers on one database, and real receivers."""

    def __init__(self, dsn: str, directory: Path, hook: Hooks, mail: Mails) -> None:
        self.hook, self.mail = hook, mail
        self._directory = directory
        self._processes: list[subprocess.Popen[str]] = []
        (directory / "effects").touch()
        self.scheduler = Scheduler(
            dsn,
            **QUICK,
            FLEET_EFFECTS=str(directory / "effects"),
            SCHEDULER_SMTP_URL=f"smtp://127.0.0.1:{mail.port}",
            SCHEDULER_SMTP_FROM="scheduler@example.com",
            SCHEDULER_SECRET_SLACK_URL=hook.url("/slack/T0/B0/XyZ"),
            SCHEDULER_SECRET_DING_URL=hook.url("/ding?access_token=tok123"),
            SCHEDULER_SECRET_DING_KEY="SECabcdef",
            SCHEDULER_SECRET_HOOK_TOKEN="hunter22",
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        with (self._directory / f"{len(self._processes)}.log").open("w") as log:
            self._processes.append(self.scheduler.start(*words, stdout=log, stderr=log, cwd=ROOT))
        return self._processes[-1]

    def run(self) -> subprocess.Popen[str]:
        return self.start("run", "--executors", "python,http,alarm", "--import", "tests.support.fleet_tasks")

    def alarm(self, name: str, kind: str, within: str, **columns: Any) -> None:
        """Of the app shop, to the hook, at once."""
        hook = json.dumps([{"channel": "webhook", "url": self.hook.url("/hook")}])
        values = {"app": "shop", "name": name, "kind": kind, "within": within, "channels": hook, **SOON, **columns}
        with psycopg.connect(self.scheduler.env["SCHEDULER_DSN"], autocommit=True) as conn:
            names, places = ", ".join(values), ", ".join(["%s"] * len(values))
            query = f"insert into scheduler.alarm ({names}) values ({places})"
            conn.execute(query.encode(), list(values.values()))

    def told(self, name: str) -> list[str]:
        """What was said of an alarm so far, in its order."""
        return [body["state"] for body in self.hook.bodies(alarm=name)]

    def wait_for(self, state: str, *names: str, seconds: float = 30) -> None:
        wait_until(
            lambda: all(state in self.told(name) for name in names),
            seconds,
            lambda: f"{state}: { ({name: self.told(name) for name in names}) }\n{self.log()}",
        )

    def log(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self._directory.glob("*.log"))

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        print(self.log())  # noqa: T201


@pytest.fixture
def system(dsn: str, tmp_path: Path) -> Iterator[System]:
    with hooks() as hook, mails() as mail:
        system = System(dsn, tmp_path, hook, mail)
        yield system
        system.end()


def test_a_job_that_fails_is_told_by_each_of_its_alarms_until_it_succeeds(system: System) -> None:
    system.hook.broken = {"/job"}
    spec = json.dumps({"url": system.hook.url("/job"), "method": "POST", "json": {}})
    system.scheduler.says(
        "job", "add", "shop", "nightly", "http", spec, "--schedule", "@every 500ms", "--max-attempts", "1"
    )
    system.alarm("once", "failed", "2s")
    system.alarm("thrice", "failing", "4s", times=3, job="nightly")
    system.alarm("silent", "no_success", "6s")
    system.alarm("other", "failed", "2s", job="other")
    system.run()
    system.wait_for("firing", "once", "thrice", "silent")
    assert system.scheduler.json("alarm", "list", "--firing")["alarms"][0]["app"] == "shop"
    system.hook.broken = set()
    system.wait_for("resolved", "once", "thrice", "silent")
    for name in ("once", "thrice", "silent"):
        assert system.told(name) == [*TOLD], "each is told once"
    assert system.told("other") == []
    first = system.hook.bodies(alarm="once")[0]
    assert (
        first["text"].splitlines()[0]
        == f"FIRING shop/once: {first['count']} run{'s' * (first['count'] > 1)} failed for good"
    )
    assert "answered 500" in first["text"]
    assert first["look"] == f"scheduler why {first['latest']['run']}"
    assert system.hook.bodies(alarm="thrice")[0]["count"] >= 3
    assert "1 job had no success within 6 s" in system.hook.bodies(alarm="silent")[0]["text"]
    assert system.scheduler.json("alarm", "list", "--firing") == {"alarms": []}


def test_what_nobody_takes_is_told_until_a_worker_comes_and_missed_fires_when_a_server_does(
    system: System, db: psycopg.Connection
) -> None:
    # Of another app than the job: what a server plans after its death is late once more.
    system.alarm("nobody", "no_worker", "1s", app="still")
    system.alarm("late", "late", "1s", app="still")
    system.alarm("missed", "missed", "2s")
    server = system.run()
    run = system.scheduler.says("enqueue", "still", "shell", '{"command": "true"}').strip()
    system.scheduler.says(
        "job", "add", "shop", "tick", "http", json.dumps({"url": system.hook.url("/job"), "json": {}}),
        "--schedule", "* * * * * *", "--misfire-grace", "1s", "--overlap", "allow",
    )  # fmt: skip
    system.wait_for("firing", "nobody", "late")
    assert "waiting longest: run " + run in system.hook.bodies(alarm="late")[0]["text"]
    assert "shell in queue default" in system.hook.bodies(alarm="nobody")[0]["text"]
    wait_until(lambda: db.execute("select count(*) from scheduler.fire").fetchone() != (0,))
    reported = "select count(*) from scheduler.history where app = '_alarms' and outcome = 'succeeded'"
    wait_until(lambda: db.execute(reported).fetchone() == (2,))  # or both would be told again by the next one
    server.kill()
    server.wait()
    seen = db.execute("select max(scheduled_at) from scheduler.fire").fetchone()
    wait_until(lambda: db.execute("select scheduler.clock() > %s + interval '8 s'", seen).fetchone() == (True,))
    system.run()
    system.start("worker", "--app", "still", "--executors", "shell")
    system.wait_for("firing", "missed")
    assert system.hook.bodies(alarm="missed")[0]["latest"]["job"] == "tick"
    system.wait_for("resolved", "nobody", "late", "missed")
    for name in ("nobody", "late", "missed"):
        assert system.told(name) == [*TOLD]


def test_a_run_that_kills_its_workers_is_told_as_poison(system: System) -> None:
    system.alarm("poison", "poison", "2s")
    system.start("run", "--executors", "alarm")
    system.scheduler.says("enqueue", "shop", "python", '{"task": "poison"}')
    worker = ["worker", "--app", "shop", "--executors", "python", "--import", "tests.support.fleet_tasks"]
    for _ in range(2):
        system.start(*worker).wait(30)
    system.start(*worker)
    system.wait_for("resolved", "poison")
    assert system.told("poison") == [*TOLD]
    assert "three times in a row" in system.hook.bodies(alarm="poison")[0]["text"]


def test_a_storm_of_a_thousand_failures_is_one_notice_that_counts_them_on_every_channel(
    system: System, db: psycopg.Connection
) -> None:
    system.scheduler.says(
        "alarm", "add", "shop", "storm", "failed", "--within", "5s", "--gather", "4s",
        "--webhook", system.hook.url("/hook"), "--slack", "${secret:slack-url}",
        "--dingtalk", "${secret:ding-url}", "--dingtalk-key", "${secret:ding-key}",
        "--email", "ops@example.com", "--email", "ada@example.com",
    )  # fmt: skip
    db.execute(
        "insert into scheduler.run (app, executor, spec, max_attempts)"
        ' select \'shop\', \'python\', \'{"task": "raises", "args": {"how": "no such way"}}\', 1'
        " from generate_series(1, 1000)"
    )
    system.run()
    system.wait_for("firing", "storm")
    wait_until(lambda: len(system.hook.got) >= 3 and system.mail.got, saying=system.log)
    system.wait_for("resolved", "storm")
    told = [(body["state"], body["count"]) for body in system.hook.bodies(alarm="storm")]
    # All thousand, unless the machine takes longer for them than was gathered; the last notice has them in any case.
    assert [state for state, _ in told] == [*TOLD]
    assert 0 < told[0][1] <= told[1][1] == 1000
    wait_until(lambda: len(system.hook.got) == 6 and len(system.mail.got) == 2, saying=lambda: str(system.hook.got))
    subject = f"FIRING shop/storm: {told[0][1]:,} runs failed for good"
    (slack, *_) = [body for path, body, _ in system.hook.got if path == "/slack/T0/B0/XyZ"]
    assert slack["text"].startswith(subject)
    (query, ding) = next((parse_qs(urlsplit(path).query), body) for path, body, _ in system.hook.got if "/ding" in path)
    assert query["access_token"] == ["tok123"]
    text = f"{query['timestamp'][0]}\nSECabcdef".encode()
    assert base64.b64decode(query["sign"][0]) == hmac.digest(b"SECabcdef", text, hashlib.sha256)
    assert ding["text"]["content"].startswith(subject)
    (to, mail) = system.mail.got[0]
    assert (to, mail["From"], mail["Subject"]) == (
        ["ops@example.com", "ada@example.com"],
        "scheduler@example.com",
        subject,
    )
    assert "look: scheduler why" in mail.get_content()
    everything = str(db.execute("select array_agg(h::text) from scheduler.history h where app = '_alarms'").fetchone())
    assert not [secret for secret in ("XyZ", "tok123", "SECabcdef") if secret in everything]


def test_a_server_killed_between_the_look_and_the_delivery_loses_no_notice(
    system: System, db: psycopg.Connection
) -> None:
    system.alarm("lost", "failed", "10s")
    spec = json.dumps({"url": system.hook.url("/job"), "json": {}})
    system.hook.broken = {"/job"}
    system.scheduler.says("enqueue", "shop", "http", spec, "--max-attempts", "1")
    first = system.start("run", "--executors", "http")  # which writes the notice, and cannot send it
    notices = "select count(*) from scheduler.run where app = '_alarms'"
    wait_until(lambda: db.execute(notices).fetchone() == (1,), saying=system.log)
    first.kill()
    first.wait()
    db.execute("update scheduler.run set retry_delay = '0 s' where app = '_alarms'")  # it is told before it is over
    assert system.hook.bodies(alarm="lost") == []
    system.hook.refuses = 1  # and the first attempt finds nobody well
    system.run()
    system.wait_for("resolved", "lost")
    assert system.told("lost") == [*TOLD]
    outcomes = "select array_agg(outcome order by id, attempt) from scheduler.history where app = '_alarms'"
    wait_until(lambda: db.execute(outcomes).fetchone() == (["failed", "succeeded", "succeeded"],), saying=system.log)


def test_alarm_test_delivers_over_every_channel_and_says_what_became_of_it(system: System) -> None:
    says, refuses = system.scheduler.says, system.scheduler.refuses
    words = ["--email", "ops@example.com", "--slack", "${secret:slack-url}", "--webhook", system.hook.url("/hook")]
    says("alarm", "add", "shop", "a", "failed", *words)
    assert "there is an alarm a in app shop already" in refuses("alarm", "add", "shop", "a", "failed", *words, status=1)
    system.start("run", "--executors", "alarm")
    answer = system.scheduler.json("alarm", "test", "shop", "a")
    assert [(one["channel"], one["outcome"]) for one in answer["notices"]] == [
        ("webhook", "succeeded"), ("slack", "succeeded"), ("email", "succeeded"),
    ]  # fmt: skip
    assert system.told("a") == ["test"]
    assert system.mail.got[0][1]["Subject"] == "TEST shop/a: this is a test"
    says("alarm", "add", "shop", "a", "failed", "--email", "nobody@example.com", "--replace")
    done = system.scheduler("alarm", "test", "shop", "a")
    assert (done.returncode, "550 no such user here" in done.stdout) == (1, True)
    row = system.scheduler.json("alarm", "show", "shop", "a")
    assert (row["kind"], row["state"], row["within"]) == ("failed", "quiet", 600.0)
    says("alarm", "silence", "shop", "a", "--for", "1h")
    assert "silenced" in says("alarm", "list", "--app", "shop")
    says("alarm", "silence", "shop", "a", "--off")
    says("alarm", "remove", "shop", "a")
    assert "there is no alarm a in app shop" in refuses("alarm", "show", "shop", "a", status=1)
    assert "there is no alarm a in app shop" in refuses("alarm", "test", "shop", "a", status=1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["failed"], "tell somebody"),
        (["sad", "--email", "a@b"], "'sad' is not one of"),
        (["failed", "--slack", "https://hooks.slack.com/services/T0/B0/x"], "takes the name of a secret"),
        (["failed", "--dingtalk", "${secret:d}", "--dingtalk-key", "SEC0"], "takes the name of a secret"),
        (["failed", "--webhook", "ftp://x"], "must begin with http"),
        (["failed", "--email", "ops"], "is no address"),
        (["late", "--times", "2", "--email", "a@b"], "is a state, and not counted"),
        (["no_worker", "--job", "x", "--email", "a@b"], "about an app"),
    ],
)
def test_an_alarm_that_makes_no_sense_is_refused_in_a_line(words: list[str], why: str) -> None:
    nowhere: Any = Scheduler("postgresql://127.0.0.1:1/nowhere")
    done = nowhere("alarm", "add", "shop", "a", *words)
    assert done.returncode in {1, 2}
    assert why in done.stderr
    assert "hooks.slack.com" not in done.stderr, "what was refused may be the secret"

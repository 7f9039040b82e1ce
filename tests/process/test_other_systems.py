"""Workers whose runs end in Kafka and in Sidekiq's Redis, and services that are told where these are."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import psycopg

from tests.support.command import Scheduler
from tests.support.embedded import data_directory
from tests.support.fleet import ROOT, Fleet, wait_until
from tests.support.kafka import cluster
from tests.support.redis import redis_server, url

BOTH = ("kafka", "sidekiq")


async def test_the_examples_of_the_page_end_in_kafka_and_in_redis(fleet: Fleet) -> None:
    page = (ROOT / "docs" / "executors.md").read_text(encoding="utf-8")
    sections = dict(zip(*[iter(re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:])] * 2, strict=True))
    with cluster() as kafka, redis_server() as redis:
        env = {"SCHEDULER_KAFKA_BROKERS": kafka.brokers, "SCHEDULER_REDIS_URL": url(redis)}
        fleet.start(executors=BOTH, env=env)
        for section in ("Kafka", "Sidekiq"):
            (example,) = re.findall(r"```sql\n(.*?)```", sections[section], flags=re.DOTALL)
            fleet.db.execute(example)
        fleet.db.execute("select scheduler.trigger('shop', 'close books')")
        (message,) = await kafka.messages("orders", 1)
        assert (message.key, message.value) == (b"42", b'{"paid":true}')
        wait_until(lambda: redis.llen("queue:critical") == 1)


async def test_a_worker_posts_messages_and_enqueues_jobs(fleet: Fleet) -> None:
    with cluster() as kafka, redis_server() as redis:
        env = {"SCHEDULER_KAFKA_BROKERS": kafka.brokers, "SCHEDULER_REDIS_URL": url(redis)}
        worker = fleet.start(executors=BOTH, concurrency=200, env=env)
        posted = fleet.insert_run("kafka", '{"topic": "ticks", "key": "a", "value": {"item": "a"}}', count=2000)
        (job,) = fleet.insert_run("sidekiq", '{"class": "Sweep", "args": ["a"]}')
        fleet.wait_for([*posted, job])
        messages = await kafka.messages("ticks", 2000)
        told = {int(dict(message.headers)["Scheduler-Run-Id"]): message for message in messages}
        assert sorted(told) == sorted(posted)
        row = fleet.row(posted[0])
        message = told[posted[0]]
        assert row["result"] == {"topic": "ticks", "partition": message.partition, "offset": message.offset}
        assert dict(message.headers)["Scheduler-Fence"] == b"%d" % row["fence"]
        (text,) = redis.lrange("queue:default", 0, -1)
        assert json.loads(text)["jid"] == fleet.row(job)["result"]["jid"]
        worker.term()
        assert worker.wait() == 0
    assert "Traceback" not in worker.log


def test_brokers_that_are_away_cost_attempts_and_neither_the_worker_nor_its_end(fleet: Fleet) -> None:
    with redis_server() as redis:
        env = {"SCHEDULER_KAFKA_BROKERS": "127.0.0.1:1", "SCHEDULER_REDIS_URL": url(redis), "SCHEDULER_GRACE": "0.5"}
        worker = fleet.start(executors=BOTH, env=env)
        (away,) = fleet.insert_run("kafka", '{"topic": "ticks", "value": "x"}', timeout="1 s", max_attempts=1)
        fleet.wait_for([away], "failed")
        assert fleet.row(away)["error"] == "timed out after 1 s"
        (waiting,) = fleet.insert_run("kafka", '{"topic": "ticks", "value": "x"}')
        fleet.wait_for([waiting], "running")
        fleet.wait_for(fleet.insert_run("sidekiq", '{"class": "Sweep"}'))
        worker.term()
        assert worker.wait() == 0
        assert fleet.states([waiting]) == {"pending": 1}
    assert "Traceback" not in worker.log


def test_a_worker_that_does_not_know_where_they_are_does_not_start(dsn: str, db: psycopg.Connection) -> None:
    for name, variable in (("kafka", "SCHEDULER_KAFKA_BROKERS"), ("sidekiq", "SCHEDULER_REDIS_URL")):
        done = Scheduler(dsn)("worker", "--app", "shop", "--executors", name)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: the {name} executor does not know where")
        assert f"({variable}=" in line


def test_on_the_embedded_database_they_are_offered_where_the_environment_says_where_they_are() -> None:
    with data_directory() as folder:
        alone = Scheduler("", SCHEDULER_DATA_DIR=str(folder), SCHEDULER_KAFKA_BROKERS="127.0.0.1:1")
        running = alone.start("run", stderr=subprocess.DEVNULL)
        try:
            assert running.stdout is not None
            assert "python, shell, http, sql, kafka, alarm, on an embedded PostgreSQL" in running.stdout.readline()
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.communicate()

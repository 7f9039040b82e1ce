"""Jobs for Sidekiq, on a real Redis: what its own client would have written, key by key."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import redis

from scheduler.errors import ConfigError, MissingExtraError
from tests.support.absence import absent
from tests.support.calls import call
from tests.support.redis import port, redis_server, url
from worker.executors import ExecutionFailed, Settings, load
from worker.executors.sidekiq import SidekiqExecutor


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    with redis_server() as client:
        yield client


@pytest.fixture
def store(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    """An empty Redis, which SCHEDULER_REDIS_URL leads to."""
    server.flushall()
    monkeypatch.setenv("SCHEDULER_REDIS_URL", url(server))
    return server


@asynccontextmanager
async def executor() -> AsyncIterator[SidekiqExecutor]:
    made = SidekiqExecutor(Settings())
    try:
        yield made
    finally:
        await made.close()


async def execute(spec: dict[str, Any], **changed: Any) -> dict[str, Any]:
    async with executor() as made:
        return await made.execute(call(spec, **changed))


async def failure(spec: dict[str, Any]) -> ExecutionFailed:
    async with executor() as made:
        with pytest.raises(ExecutionFailed) as caught:
            await made.execute(call(spec))
    return caught.value


def is_final(error: ExecutionFailed) -> bool:
    return error.outcome.final  # type: ignore[union-attr]


async def test_a_job_is_in_its_queue_as_sidekiq_8_reads_it(store: redis.Redis) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    spec = {"class": "Shop::CloseBooks", "args": [2026, {"dry": True}, None], "queue": "critical", "tags": ["nightly"]}
    before = int(time.time() * 1000)
    result = await execute(spec, scheduled=at.timestamp())
    after = int(time.time() * 1000)
    assert sorted(store.keys("*")) == ["queue:critical", "queues"]
    assert store.smembers("queues") == {"critical"}
    assert store.type("queue:critical") == "list"
    (text,) = store.lrange("queue:critical", 0, -1)
    job = json.loads(text)
    assert re.fullmatch("[0-9a-f]{24}", job["jid"])
    assert result == {"jid": job["jid"], "queue": "critical"}
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", job.pop("traceparent"))
    created, enqueued = job.pop("created_at"), job.pop("enqueued_at")
    assert (type(created), type(enqueued)) == (int, int)
    assert before <= created <= enqueued <= after
    assert job == {
        "class": "Shop::CloseBooks",
        "args": [2026, {"dry": True}, None],
        "jid": result["jid"],
        "queue": "critical",
        "retry": True,
        "tags": ["nightly"],
        "scheduler_run_id": 7,
        "scheduler_attempt": 2,
        "scheduler_scheduled_at": "2026-01-02T03:04:05Z",
        "scheduler_fence": 42,
    }


async def test_what_a_spec_leaves_out_is_as_in_sidekiq(store: redis.Redis) -> None:
    await execute({"class": "Sweep"})
    job = json.loads(store.lrange("queue:default", 0, -1)[0])
    assert (job["args"], job["queue"], job["retry"]) == ([], "default", True)
    assert "tags" not in job
    assert "at" not in job


async def test_newer_jobs_are_pushed_on_the_left_from_where_sidekiq_takes_them_last(store: redis.Redis) -> None:
    for number in range(3):
        await execute({"class": "Sweep", "args": [number]})
    taken = [json.loads(str(store.rpop("queue:default")))["args"] for _ in range(3)]
    assert taken == [[0], [1], [2]]


@pytest.mark.parametrize("retry", [True, False, 0, 5])
async def test_retries_are_sidekiqs_own(store: redis.Redis, retry: bool | int) -> None:
    await execute({"class": "Sweep", "retry": retry})
    job = json.loads(store.lrange("queue:default", 0, -1)[0])
    assert (job["retry"], type(job["retry"])) == (retry, type(retry))


@pytest.mark.parametrize("at", [4102444800.5, 4102444800, "2100-01-01T00:00:00.500Z", "2100-01-01T02:00:00+02:00"])
async def test_a_later_job_is_in_the_scheduled_set_under_its_instant_and_does_not_hold_it(
    store: redis.Redis, at: float | str
) -> None:
    instant = 4102444800.5 if ".5" in str(at) else 4102444800.0
    result = await execute({"class": "Sweep", "at": at, "queue": "low"})
    assert store.keys("*") == ["schedule"]
    ((text, score),) = cast("list[tuple[str, float]]", store.zrange("schedule", 0, -1, withscores=True))
    job = json.loads(text)
    assert score == instant
    assert result == {"jid": job["jid"], "queue": "low", "at": instant}
    assert (job["class"], job["queue"], type(job["created_at"])) == ("Sweep", "low", int)
    assert job.keys().isdisjoint({"at", "enqueued_at"})


@pytest.mark.parametrize("at", [0, "2020-01-01T00:00:00Z"])
async def test_an_instant_that_has_passed_means_now(store: redis.Redis, at: float | str) -> None:
    assert "at" not in await execute({"class": "Sweep", "at": at})
    assert store.llen("queue:default") == 1
    assert not store.exists("schedule")


async def test_all_attempts_of_a_run_have_one_jid_and_no_other_run_has_it(store: redis.Redis) -> None:
    first = await execute({"class": "Sweep"}, attempt=1, fence=1)
    again = await execute({"class": "Sweep"}, attempt=2, fence=9)
    others = [await execute({"class": "Sweep"}, run_id=8), await execute({"class": "Sweep"}, app="other")]
    assert first["jid"] == again["jid"]
    assert len({one["jid"] for one in (first, *others)}) == 3


async def test_before_version_8_instants_are_seconds(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_SIDEKIQ_VERSION", "7")
    await execute({"class": "Sweep"})
    job = json.loads(store.lrange("queue:default", 0, -1)[0])
    assert (type(job["created_at"]), type(job["enqueued_at"])) == (float, float)
    assert abs(job["enqueued_at"] - time.time()) < 60
    monkeypatch.setenv("SCHEDULER_SIDEKIQ_VERSION", "eight")
    with pytest.raises(ConfigError, match="SCHEDULER_SIDEKIQ_VERSION='eight': expected the major version"):
        load(["sidekiq"])


async def test_a_queue_and_its_job_are_written_in_one_transaction(store: redis.Redis) -> None:
    with store.monitor() as monitor:  # type: ignore[no-untyped-call]
        seen = monitor.listen()
        await execute({"class": "Sweep"})
        commands: list[str] = []
        while "EXEC" not in commands:
            commands.append(next(seen)["command"].split()[0])
    assert commands[-4:] == ["MULTI", "SADD", "LPUSH", "EXEC"]


async def test_jobs_share_a_few_connections(store: redis.Redis) -> None:
    async with executor() as made:
        await asyncio.gather(*(made.execute(call({"class": "Sweep"}, run_id=number)) for number in range(500)))
        assert store.llen("queue:default") == 500
        assert len(store.client_list()) <= 12


async def test_after_a_failover_the_job_goes_to_the_new_primary_at_once(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server("--replicaof", "127.0.0.1", str(port(store))) as replica:
        ways = [port(replica), port(store), port(store)]

        async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", ways.pop(0))
            await asyncio.gather(_copy(reader, back), _copy(there, writer))

        door = await asyncio.start_server(admit, "127.0.0.1", 0)
        monkeypatch.setenv("SCHEDULER_REDIS_URL", f"redis://127.0.0.1:{door.sockets[0].getsockname()[1]}")
        await execute({"class": "Sweep"})
        assert store.llen("queue:default") == 1
        assert len(ways) == 1
        monkeypatch.setenv("SCHEDULER_REDIS_URL", url(replica))  # and where it stays a replica, the reply is shown
        error = await failure({"class": "Sweep"})
        assert str(error) == "Redis of SCHEDULER_REDIS_URL: You can't write against a read only replica."
        assert not is_final(error)
        door.close()


async def test_a_primary_that_lost_its_replicas_is_asked_once_more(store: redis.Redis) -> None:
    store.config_set("min-replicas-to-write", 1)
    try:
        with store.monitor() as monitor:  # type: ignore[no-untyped-call]
            error = await failure({"class": "Secret", "args": ["hush"]})
            store.echo("the end")
            commands = []
            for one in monitor.listen():
                commands.append(one["command"].split()[0])
                if commands[-1] == "ECHO":
                    break
    finally:
        store.config_set("min-replicas-to-write", 0)
    assert str(error) == "Redis of SCHEDULER_REDIS_URL: NOREPLICAS Not enough good replicas to write."
    assert not is_final(error)
    asked = [one for one in commands if one in {"HELLO", "MULTI"}]
    assert asked[:4] == ["HELLO", "MULTI"] * 2  # the second time on a new connection
    assert store.keys("*") == []


async def test_a_redis_that_is_away_or_refuses_says_so_in_a_line_without_the_password(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("queue:default", "of somebody else")
    error = await failure({"class": "Secret", "args": ["hush"]})
    assert str(error).startswith("Redis of SCHEDULER_REDIS_URL: WRONGTYPE Operation against a key")
    assert not is_final(error)
    with redis_server("--requirepass", "right") as guarded:
        for there, why in (
            (f"redis://:hush@127.0.0.1:{port(guarded)}", "invalid username-password pair"),
            ("redis://:hush@127.0.0.1:1/0", "127.0.0.1:1"),
            ("redis://:hush@127.0.0.1:hush/0", "is no URL of a Redis, like redis://host:6379/0"),
            ("http://:hush@127.0.0.1/0", "is no URL of a Redis"),
        ):
            monkeypatch.setenv("SCHEDULER_REDIS_URL", there)
            error = await failure({"class": "Secret", "args": ["hush"]})
            assert why in str(error)
            assert "hush" not in str(error)
            assert "\n" not in str(error)
            assert not is_final(error)


async def test_a_redis_is_chosen_by_name(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("SCHEDULER_REDIS_URL_SHOP_EU", url(store))
    await execute({"class": "Sweep", "redis": "shop-eu"})
    assert store.llen("queue:default") == 1
    error = await failure({"class": "Sweep", "redis": "other"})
    assert str(error) == "unknown redis 'other': this worker's environment has no SCHEDULER_REDIS_URL_OTHER"
    assert not is_final(error)


def test_without_a_redis_the_executor_says_which_setting_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_REDIS_URL", raising=False)
    with pytest.raises(ConfigError, match=r"does not know where Redis is .SCHEDULER_REDIS_URL=redis://"):
        load(["sidekiq"])


def test_without_its_library_the_executor_names_the_extra() -> None:
    with absent("redis", "worker.executors.sidekiq"), pytest.raises(MissingExtraError) as caught:
        load(["sidekiq"])
    assert str(caught.value) == "the sidekiq executor needs an optional dependency (pip install 'walclock[redis]')"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"class": "close_books"},
        {"class": "A; B"},
        {"class": 5},
        {"class": "Sweep", "args": {}},
        {"class": "Sweep", "queue": ""},
        {"class": "Sweep", "queue": "a b"},
        {"class": "Sweep", "retry": -1},
        {"class": "Sweep", "retry": "yes"},
        {"class": "Sweep", "tags": "nightly"},
        {"class": "Sweep", "tags": [1]},
        {"class": "Sweep", "at": "tomorrow"},
        {"class": "Sweep", "at": "2100-01-01T00:00:00"},
        {"class": "Sweep", "at": 4102444800000},
        {"class": "Sweep", "at": True},
        {"class": "Sweep", "redis": "redis://elsewhere"},
    ],
)
async def test_a_bad_spec_is_refused_for_good(spec: dict[str, Any], store: redis.Redis) -> None:
    error = await failure(spec)
    assert str(error).startswith("bad spec: ")
    assert is_final(error)
    assert store.keys("*") == []


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()

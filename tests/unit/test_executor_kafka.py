"""Messages to Kafka, on librdkafka's stand-in for brokers, read by a client of somebody else."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from scheduler.errors import ConfigError, MissingExtraError
from tests.support.absence import absent
from tests.support.calls import call
from tests.support.kafka import PARTITIONS, Cluster, cluster
from worker.executors import ExecutionFailed, Settings, load
from worker.executors.kafka import KafkaExecutor

OUT_OF_ORDER, MESSAGE_TOO_LARGE, TOPIC_FORBIDDEN, UNKNOWN_TOPIC = 45, 10, 29, 3  # errors of Kafka's protocol


@pytest.fixture(scope="module")
def brokers() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture
def kafka(brokers: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", brokers.brokers)
    return brokers


@asynccontextmanager
async def executor() -> AsyncIterator[KafkaExecutor]:
    made = KafkaExecutor(Settings())
    try:
        yield made
    finally:
        await made.close()


def configure(
    monkeypatch: pytest.MonkeyPatch, directory: Path, *lines: str, name: str = "SCHEDULER_KAFKA_CONFIG"
) -> Path:
    file = directory / "kafka.properties"
    file.write_text("\n".join(lines))
    monkeypatch.setenv(name, str(file))
    return file


async def failure(made: KafkaExecutor, spec: dict[str, Any]) -> ExecutionFailed:
    with pytest.raises(ExecutionFailed) as caught:
        await made.execute(call(spec))
    return caught.value


def is_final(error: ExecutionFailed) -> bool:
    return error.outcome.final  # type: ignore[union-attr]


async def test_a_message_arrives_with_its_key_its_headers_and_its_run(kafka: Cluster) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    spec = {
        "topic": "orders",
        "key": "ä-42",
        "value": {"paid": True, "sum": [1, 2.5, None], "big": 2**80},
        "headers": {"kind": "order", "scheduler-fence": "999"},
    }
    async with executor() as made:
        result = await made.execute(call(spec, scheduled=at.timestamp()))
    (message,) = await kafka.messages("orders", 1)
    assert result == {"topic": "orders", "partition": message.partition, "offset": message.offset}
    assert message.key == "ä-42".encode()
    assert message.value is not None
    assert json.loads(message.value) == spec["value"]
    headers = dict(message.headers)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", headers.pop("traceparent"))
    assert headers == {
        "kind": b"order",
        "Scheduler-Run-Id": b"7",
        "Scheduler-Attempt": b"2",
        "Scheduler-Scheduled-At": b"2026-01-02T03:04:05Z",
        "Scheduler-Fence": b"42",
    }


@pytest.mark.parametrize(
    ("value", "sent"),
    [("as it is", b"as it is"), ("", b""), ({"a": "ä"}, '{"a":"ä"}'.encode()), ([1], b"[1]"), (7, b"7"), (None, None)],
)
async def test_a_string_goes_as_it_is_null_as_nothing_and_all_else_as_json(
    kafka: Cluster, value: Any, sent: bytes | None, request: pytest.FixtureRequest
) -> None:
    topic = f"values-{abs(hash(request.node.name))}"
    async with executor() as made:
        await made.execute(call({"topic": topic, "value": value}))
    (message,) = await kafka.messages(topic, 1)
    assert (message.value, message.key) == (sent, None)


async def test_a_key_has_the_partition_that_other_clients_choose_and_a_spec_can_say_another(kafka: Cluster) -> None:
    keys = [f"key-{number}" for number in range(20)]
    every = list(range(PARTITIONS))
    async with executor() as made:
        for key in keys:
            result = await made.execute(call({"topic": "keyed", "key": key, "value": key}))
            assert result["partition"] == DefaultPartitioner()(key.encode(), every, every)
        for partition in every:
            spec = {"topic": "keyed", "key": "key-1", "value": "x", "partition": partition}
            assert (await made.execute(call(spec)))["partition"] == partition


async def test_a_worker_that_is_ready_for_a_second_sends_its_first_message_without_a_delay(kafka: Cluster) -> None:
    new = await first_message_after(0)
    for ready_for in (1.5, 3.0, 6.0):  # the longer ones for a machine that is slow, or was busy just then
        if await first_message_after(ready_for) < new / 2:  # 3.5 ms here; a producer that is new takes more than 500
            return
    pytest.fail("it was never ready")


async def first_message_after(seconds: float) -> float:
    """How long the first message of an executor takes that has been there for so long."""
    async with executor() as made:
        await asyncio.sleep(seconds)
        began = time.monotonic()
        await made.execute(call({"topic": "first", "value": "x"}))
        return time.monotonic() - began


async def test_thousands_of_messages_are_under_way_at_once_and_each_is_confirmed_once(kafka: Cluster) -> None:
    async with executor() as made:
        specs = [{"topic": "many", "key": str(number), "value": number} for number in range(5000)]
        results = await asyncio.gather(*(made.execute(call(spec, run_id=number)) for number, spec in enumerate(specs)))
    assert len({(result["partition"], result["offset"]) for result in results}) == 5000
    arrived = await kafka.messages("many", 5000)
    places = {(message.partition, message.offset): message for message in arrived}
    for number, result in enumerate(results):
        message = places[result["partition"], result["offset"]]
        assert (message.value, dict(message.headers)["Scheduler-Run-Id"]) == (b"%d" % number, b"%d" % number)


async def test_a_message_that_is_too_large_is_refused_for_good(kafka: Cluster) -> None:
    async with executor() as made:
        error = await failure(made, {"topic": "orders", "value": "x" * 1_000_001})
        assert (str(error), is_final(error)) == ("topic 'orders': the message is too large", True)
        kafka.tell("fail", MESSAGE_TOO_LARGE, 1)  # the brokers' own limit may be lower
        error = await failure(made, {"topic": "orders", "value": "x" * 1000})
        assert (str(error), is_final(error)) == ("topic 'orders': the message is too large", True)


async def test_a_topic_that_is_not_there_or_not_allowed_says_so_and_may_be_tried_again(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(monkeypatch, tmp_path, "topic.metadata.propagation.max.ms=100")
    kafka.tell("refuse", "nowhere", UNKNOWN_TOPIC)
    kafka.tell("refuse", "secret", TOPIC_FORBIDDEN)
    async with executor() as made:
        error = await failure(made, {"topic": "nowhere", "value": "x"})
        assert (str(error), is_final(error)) == ("topic 'nowhere': there is no such topic or partition", False)
        error = await failure(made, {"topic": "secret", "value": "x"})
        assert (str(error), is_final(error)) == ("topic 'secret': Broker: Topic authorization failed", False)
        error = await failure(made, {"topic": "orders", "value": "x", "partition": 99})
        assert (str(error), is_final(error)) == ("topic 'orders': there is no such partition", False)


async def test_brokers_that_cannot_be_reached_are_named_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", address)
        configure(monkeypatch, tmp_path, "message.timeout.ms=500")
        async with executor() as made:
            error = await failure(made, {"topic": "orders", "value": "x"})
    assert str(error).startswith("topic 'orders': the brokers did not confirm the message in time: ")
    assert f"{address} failed: Connection refused" in str(error)
    assert "\n" not in str(error)
    assert not is_final(error)


async def test_brokers_that_vanish_fail_what_waits_and_get_the_rest_when_they_are_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with cluster() as vanishing:
        monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", vanishing.brokers)
        configure(monkeypatch, tmp_path, "message.timeout.ms=3000", "reconnect.backoff.max.ms=200")
        async with executor() as made:
            await made.execute(call({"topic": "orders", "value": "before"}))
            vanishing.tell("down")
            lost = [failure(made, {"topic": "orders", "value": "lost"}) for _ in range(100)]
            for error in await asyncio.gather(*lost):
                assert str(error).startswith("topic 'orders': the brokers did not confirm the message in time")
                assert not is_final(error)
            vanishing.tell("up")
            late = time.monotonic() + 20
            while True:  # as the run would be tried again
                try:
                    await made.execute(call({"topic": "orders", "value": "after"}))
                    break
                except ExecutionFailed:
                    assert time.monotonic() < late
        values = {message.value for message in await vanishing.messages("orders", 2)}
        assert values == {b"before", b"after"}


async def test_a_producer_that_is_broken_for_good_is_replaced(kafka: Cluster) -> None:
    async with executor() as made:
        await made.execute(call({"topic": "orders", "value": "x"}))
        (first,) = made._producers.values()
        kafka.tell("fail", OUT_OF_ORDER, 1)
        assert not is_final(await failure(made, {"topic": "orders", "value": "x"}))
        assert first.is_broken
        await made.execute(call({"topic": "orders", "value": "x"}))
        assert list(made._producers.values()) != [first]


async def test_a_run_that_is_stopped_does_not_wait_and_does_not_keep_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with cluster() as slow:
        monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", slow.brokers)
        async with executor() as made:
            await made.execute(call({"topic": "orders", "value": "x"}))
            slow.tell("slow", 1500)
            stopped = asyncio.ensure_future(made.execute(call({"topic": "orders", "value": "late"})))
            await asyncio.sleep(0.1)
            stopped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopped
            slow.tell("slow", 0)
            await made.execute(call({"topic": "orders", "value": "next"}))
            slow.tell("down")
            waiting = asyncio.ensure_future(made.execute(call({"topic": "orders", "value": "never"})))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            began = time.monotonic()
        assert time.monotonic() - began < 10


async def test_brokers_are_chosen_by_name_each_with_settings_of_their_own(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS_SHOP_EU", kafka.brokers)
    configure(monkeypatch, tmp_path, "# ours", "", " linger.ms = 0 ", name="SCHEDULER_KAFKA_CONFIG_SHOP_EU")
    async with executor() as made:
        assert (await made.execute(call({"topic": "named", "value": "x", "brokers": "shop-eu"})))["topic"] == "named"
        assert made._producers["shop-eu"].settings["linger.ms"] == "0"
        assert made._producers[None].settings["linger.ms"] == 1
        error = await failure(made, {"topic": "named", "value": "x", "brokers": "other"})
    assert str(error) == "unknown brokers 'other': this worker's environment has no SCHEDULER_KAFKA_BROKERS_OTHER"
    assert not is_final(error)


async def test_secrets_of_the_settings_are_in_no_error_and_no_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", "127.0.0.1:1")
    sasl = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=u", "message.timeout.ms=300"]
    texts = []
    for lines in (
        [*sasl, "sasl.password=hush-hush"],
        [*sasl, "sasl.password=hush-hush", "no.such.setting=1"],
        ["security.protocol=SSL", "ssl.key.pem=hush-hush"],
        ["security.protocol=hush-hush", "sasl.password=hush-hush"],
    ):
        configure(monkeypatch, tmp_path, *lines)
        try:
            async with executor() as made:
                texts.append(str(await failure(made, {"topic": "orders", "value": "x"})))
        except ConfigError as error:  # refused at the start
            texts.append(str(error))
    assert 'No such configuration property: "no.such.setting"' in texts[1]
    assert "the settings of SCHEDULER_KAFKA_BROKERS cannot be used: " in texts[2]
    assert "hush" not in "".join(texts) + caplog.text
    assert len("".join(texts).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [("linger.ms=1\nhush-hush\n", "line 2: write KEY=VALUE"), ("=hush", "line 1"), (None, "cannot be read")],
)
def test_a_file_of_settings_that_cannot_be_read_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, why: str
) -> None:
    monkeypatch.setenv("SCHEDULER_KAFKA_BROKERS", "127.0.0.1:1")
    file = configure(monkeypatch, tmp_path, content or "")
    if content is None:
        file.unlink()
    with pytest.raises(ConfigError) as caught:
        load(["kafka"])
    assert why in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_without_brokers_the_executor_says_which_setting_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_KAFKA_BROKERS", raising=False)
    with pytest.raises(ConfigError, match=r"does not know where the brokers are .SCHEDULER_KAFKA_BROKERS=host:port"):
        load(["kafka"])


def test_without_its_library_the_executor_names_the_extra() -> None:
    with absent("confluent_kafka", "worker.executors.kafka"), pytest.raises(MissingExtraError) as caught:
        load(["kafka"])
    assert str(caught.value) == "the kafka executor needs an optional dependency (pip install 'walclock[kafka]')"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"topic": "orders"},
        {"topic": "", "value": "x"},
        {"topic": "..", "value": "x"},
        {"topic": "a/b", "value": "x"},
        {"topic": 5, "value": "x"},
        {"topic": "orders", "value": "x", "key": 5},
        {"topic": "orders", "value": "x", "partition": -1},
        {"topic": "orders", "value": "x", "partition": 2**31},
        {"topic": "orders", "value": "x", "partition": True},
        {"topic": "orders", "value": "x", "headers": ["a"]},
        {"topic": "orders", "value": "x", "headers": {"a": 1}},
        {"topic": "orders", "value": "x", "brokers": "127.0.0.1:9092"},
        {"topic": "orders", "value": "x", "brokers": ["a"]},
    ],
)
async def test_a_bad_spec_is_refused_for_good(spec: dict[str, Any], kafka: Cluster) -> None:
    async with executor() as made:
        error = await failure(made, spec)
    assert str(error).startswith("bad spec: ")
    assert is_final(error)

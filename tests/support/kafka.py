"""A Kafka cluster for the tests: librdkafka's own stand-in for brokers, which speaks the real protocol on the loopback.

It is part of the C library that the executor uses; `python -m tests.support.kafka` runs it in a process of its own and
obeys commands on stdin, so that brokers can be away, slow, or refuse. What arrived is read by aiokafka, which shares no
code with librdkafka.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiokafka
import confluent_kafka

PARTITIONS = 4
_PRODUCE = 0  # the number of Kafka's request to produce


class Cluster:
    """A running cluster of one broker. Topics come into being when they are first asked for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.brokers = self._answer()

    def tell(self, *words: object) -> None:
        """Carry out a command of `_Mock`; returns when it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    async def messages(self, topic: str, count: int) -> list[aiokafka.ConsumerRecord[bytes | None, bytes | None]]:
        """The first `count` messages of a topic, of all its partitions."""
        partitions = [aiokafka.TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=self.brokers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign(partitions)
            found: list[aiokafka.ConsumerRecord[bytes | None, bytes | None]] = []
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=10_000)).values():
                    found += records
            return found
        finally:
            await consumer.stop()


@contextmanager
def cluster() -> Iterator[Cluster]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.kafka"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Cluster(process)
    finally:
        process.kill()
        process.communicate()


class _Mock:
    """The C functions of librdkafka's `rdkafka_mock.h`, which confluent-kafka does not hand on."""

    def __init__(self) -> None:
        libraries = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        self._c = ctypes.CDLL(str(next(libraries.glob("librdkafka*"))))
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._c, name).restype = ctypes.c_void_p
        self._c.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        handle = self._c.rd_kafka_new(0, ctypes.c_void_p(self._c.rd_kafka_conf_new()), None, 0)
        self._cluster = ctypes.c_void_p(self._c.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), 1))

    def brokers(self) -> str:
        found: bytes = self._c.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return found.decode()

    def down(self) -> None:
        self._c.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        self._c.rd_kafka_mock_broker_set_up(self._cluster, 1)

    def slow(self, milliseconds: str) -> None:
        """Answer that late from now on."""
        self._c.rd_kafka_mock_broker_set_rtt(self._cluster, 1, int(milliseconds))

    def refuse(self, topic: str, code: str) -> None:
        """Answer questions about a topic with this error of Kafka's."""
        self._c.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), int(code))

    def fail(self, code: str, count: str) -> None:
        """Answer the next requests to produce with this error of Kafka's."""
        errors = (ctypes.c_int * int(count))(*[int(code)] * int(count))
        self._c.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(_PRODUCE), ctypes.c_size_t(int(count)), errors
        )


def _main() -> None:
    mock = _Mock()
    print(mock.brokers(), flush=True)  # noqa: T201
    for line in sys.stdin:
        command, *words = line.split()
        getattr(mock, command)(*words)
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()

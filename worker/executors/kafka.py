"""Messages to Kafka: `{"topic", "key", "value", "headers", "partition", "brokers"}`.

A string is sent as it is, null as no value at all (a tombstone), and anything else as its JSON. The partition is the
one that Kafka's own clients choose for the key, unless the spec says which. The run succeeds when the brokers have
confirmed the message, on all replicas in sync; the result is `{topic, partition, offset}`.

Where the brokers are is in the worker's environment, SCHEDULER_KAFKA_BROKERS, with further settings of librdkafka in
the file SCHEDULER_KAFKA_CONFIG; `"brokers": "<name>"` means those of SCHEDULER_KAFKA_BROKERS_<NAME>.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scheduler.errors import ConfigError, MissingExtraError
from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.headers import told
from worker.named import variable
from worker.outcome import encoded, shorten

try:
    from confluent_kafka import KafkaError, KafkaException

    from worker.producer import Headers, Producer, redacted
except ImportError:
    raise MissingExtraError("the kafka executor", "kafka") from None

_Settings = Mapping[str, str | float | bool]

BROKERS = "SCHEDULER_KAFKA_BROKERS"
CONFIG = "SCHEDULER_KAFKA_CONFIG"
# What is not in an operator's file. Of the lingers 0, 1, 2 and 5 ms, 1 had the most messages a second (80,000) and at
# 1,000/s an answer after 2.8 ms (p99), where 5 had it after 7.6.
DEFAULTS: _Settings = {
    "client.id": "walclock",
    "log_level": 2,  # what connections complain of is logged once, and not four times a second
    "enable.idempotence": True,  # implies acks=all
    "linger.ms": 1,
    "message.timeout.ms": 30_000,  # then the run fails and is tried again, with a backoff, maybe by another worker
    "topic.metadata.propagation.max.ms": 5_000,  # a topic that is unknown for so long is not there
    "partitioner": "murmur2_random",  # the same partition for a key as Kafka's Java client chooses
}
TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
SHOWN = 200  # bytes of a value in an error text

_Message = tuple[str, bytes | None, str | None, int, Headers]
_REASONS = {
    KafkaError.MSG_SIZE_TOO_LARGE: "the message is too large",
    KafkaError.RECORD_LIST_TOO_LARGE: "the message is too large for its topic",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "there is no such topic or partition",
    KafkaError._UNKNOWN_TOPIC: "there is no such topic",  # noqa: SLF001  names of its errors
    KafkaError._UNKNOWN_PARTITION: "there is no such partition",  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT: "the brokers did not confirm the message in time",  # noqa: SLF001
}
_FINAL = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.TOPIC_EXCEPTION,  # a name that no topic can have
    KafkaError.INVALID_RECORD,
}


class KafkaExecutor:
    """One producer for each name of brokers, opened when it is first used.

    That of the brokers without a name is opened at the start: an idempotent producer asks for its number in steps of
    half a second, so the first message of a new one took 517 ms, and that of one which was a second old 3.5.
    """

    def __init__(self, _: Settings) -> None:
        """On the worker's event loop. ConfigError when the environment has no brokers, or settings that are none."""
        self._settings = {name: _settings(name) for name in os.environ if name.startswith(BROKERS) and os.environ[name]}
        if not self._settings:
            raise ConfigError(
                "the kafka executor does not know where the brokers are", hint=f"{BROKERS}=host:port,host:port"
            )
        self._producers: dict[str | None, Producer] = {}
        self._broken: list[Producer] = []
        if BROKERS in self._settings:
            self._producers[None] = _producer(BROKERS, self._settings[BROKERS])

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{topic, partition, offset}` once the brokers have confirmed it; ExecutionFailed with their reason.

        A message whose run was stopped meanwhile may arrive all the same: its headers say of which attempt it is.
        """
        message = _message(call)
        producer = self._opened(call.spec.get("brokers"))
        try:
            answer = await producer.send(*message)
        except KafkaException as error:
            answer = error.args[0]
        except BufferError:
            raise ExecutionFailed(f"topic {message[0]!r}: too many messages wait for the brokers already") from None
        if isinstance(answer, KafkaError):
            raise _failure(message[0], answer, producer.trouble)
        return {"topic": message[0], "partition": answer[0], "offset": answer[1]}

    async def close(self) -> None:
        for producer in [*self._producers.values(), *self._broken]:
            await producer.close()

    def _opened(self, name: Any) -> Producer:
        try:
            producer = self._producers[name]
        except (KeyError, TypeError):  # not yet, or something that is not even a string
            return self._open(name)
        if producer.is_broken:
            self._broken.append(self._producers.pop(name))
            return self._open(name)
        return producer

    def _open(self, name: Any) -> Producer:
        where = BROKERS if name is None else variable(BROKERS, "brokers", name)
        settings = self._settings.get(where)
        if settings is None:
            whose = "" if name is None else f"unknown brokers {name!r}: "
            raise ExecutionFailed(f"{whose}this worker's environment has no {where}")
        try:
            producer = self._producers[name] = _producer(where, settings)
        except ConfigError as error:
            raise ExecutionFailed(str(error)) from None
        return producer


def _producer(where: str, settings: _Settings) -> Producer:
    try:
        return Producer(settings)
    except KafkaException as error:
        reason = redacted(error.args[0].str(), settings)
        raise ConfigError(f"the settings of {where} cannot be used: {reason}") from None


def _settings(brokers: str) -> _Settings:
    """All settings of the producer whose brokers are in this variable."""
    file = os.environ.get(CONFIG + brokers.removeprefix(BROKERS))
    return {**DEFAULTS, **(_properties(Path(file)) if file else {}), "bootstrap.servers": os.environ[brokers]}


def _properties(path: Path) -> dict[str, str]:
    """The lines KEY=VALUE of a file; ConfigError says which line is none. Values may be secrets and are not shown."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"the Kafka settings in {path} cannot be read: {reason}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{path}, line {number}: write KEY=VALUE, a setting of librdkafka to a line")
        found[key.strip()] = value.strip()
    return found


def _message(call: Call) -> _Message:
    spec = call.spec
    topic, key, partition, headers = spec.get("topic"), spec.get("key"), spec.get("partition"), spec.get("headers")
    if not isinstance(topic, str) or not TOPIC.fullmatch(topic):
        raise _bad('"topic" must be a name of letters, digits, dots, dashes and underscores', topic)
    if key is not None and not isinstance(key, str):
        raise _bad('"key" must be a string', key)
    if partition is None:
        partition = -1
    elif type(partition) is not int or not 0 <= partition < 2**31:
        raise _bad('"partition" must be a number from 0', partition)
    if "value" not in spec:
        raise ExecutionFailed('bad spec: "value" is missing: a string, or any JSON', final=True)
    return topic, _bytes(spec["value"]), key, partition, told(call, {} if headers is None else _headers(headers))


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else encoded(value)


def _headers(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise _bad('"headers" must be an object of strings', given)
    for name, value in given.items():
        if not isinstance(value, str):  # which may be a secret, and is not shown
            raise ExecutionFailed(f"bad spec: header {shorten(repr(name), SHOWN)} must be a string", final=True)
    return given


def _failure(topic: str, error: KafkaError, trouble: str) -> ExecutionFailed:
    code = error.code()
    reason = _REASONS.get(code) or error.str()
    if code == KafkaError._MSG_TIMED_OUT and trouble:  # noqa: SLF001  its name
        reason = f"{reason}: {trouble}"
    return ExecutionFailed(f"topic {topic!r}: {reason}", final=code in _FINAL)


def _bad(what: str, value: object) -> ExecutionFailed:
    return ExecutionFailed(f"bad spec: {what}, not {shorten(repr(value), SHOWN)}", final=True)

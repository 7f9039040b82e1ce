"""A Kafka producer, driven from the event loop.

librdkafka sends from threads of its own, and tells what became of a message only when it is asked. So while answers
are due the loop asks every millisecond, and takes all there are: no thread of ours, and nothing that crosses threads
for a message. A thread that waited for answers and woke the loop once for each batch cost 19 us of CPU a message where
this costs 15, as the two of them queue for the interpreter's lock: 60,000 messages/s instead of 80,000 (two cores, the
brokers on them too, 1,000 messages under way). The price: an answer is seen up to a millisecond later.

A message that was handed over cannot be taken back alone; whoever stops waiting for it may see it arrive all the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import partial

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from worker.outcome import shorten

log = logging.getLogger(__name__)

ASK = 0.001  # seconds between two looks for answers …
RARELY = 0.02  # … which grow to this while none come: brokers may be away for long
IDLE = 1.0  # seconds between two looks when none are due: complaints wait there too
AGAIN = 60.0  # seconds until a complaint is logged once more: while brokers are away there are four a second
FLUSH = 2.0  # seconds that closing waits for what is on its way

Headers = dict[str, str | bytes | None]  # as the library has it; the values are strings
Answer = asyncio.Future[tuple[int, int] | KafkaError]  # partition and offset
_SECRET = re.compile(r"password|secret|pem|jaas|oauthbearer", re.IGNORECASE)  # in names of settings
_STATE = re.compile(r" \(after \d+ms in state .*\)$")


def redacted(text: str, settings: Mapping[str, str | float | bool]) -> str:
    """A text of librdkafka's in one line, in which no secret of its settings is left."""
    for key, value in settings.items():
        if _SECRET.search(key) and value:
            text = text.replace(str(value), "***")
    return shorten(" ".join(text.split()), 400)


class Producer:
    """Made and used on one event loop. KafkaException for settings that librdkafka does not take."""

    def __init__(self, settings: Mapping[str, str | float | bool]) -> None:
        self.settings = settings
        self._kafka = confluent_kafka.Producer({**settings, "error_cb": self._troubled}, logger=log)
        self._loop = asyncio.get_running_loop()
        self._due = 0  # answers
        self._pause = IDLE
        self._timer = self._loop.call_later(IDLE, self._look)
        self._complaint = ""
        self._complained_at = self._logged_at = -AGAIN
        self.is_broken = False  # for good: an idempotent producer that lost count refuses everything from then on

    def send(self, topic: str, value: bytes | None, key: str | None, partition: int, headers: Headers) -> Answer:
        """Hand over a message, to partition -1 for the one that its key says. What becomes of it is in the future.

        KafkaException when it is refused at once, BufferError when too much waits already.
        """
        answer: Answer = self._loop.create_future()
        try:
            self._kafka.produce(
                topic, value, key, partition, headers=headers, on_delivery=partial(self._answered, answer)
            )
        except KafkaException as error:
            self._note(error.args[0])
            raise
        self._due += 1
        if self._pause > ASK:
            self._timer.cancel()
            self._pause = ASK
            self._timer = self._loop.call_later(ASK, self._look)
        return answer

    @property
    def trouble(self) -> str:
        """What connections complained of lately; empty when they did not."""
        return self._complaint if self._loop.time() < self._complained_at + AGAIN else ""

    async def close(self) -> None:
        """Drop what waits, which belongs to runs that were given up, and wait a moment for what is on its way."""
        self._timer.cancel()
        self._kafka.purge(in_flight=False)
        await asyncio.to_thread(self._kafka.flush, FLUSH)

    def _look(self) -> None:
        try:
            served = self._kafka.poll(0)
        except KafkaException as error:  # one that breaks the producer; the answers are still to come
            self._note(error.args[0])
            served = 1
        self._pause = ASK if served and self._due else min(2 * self._pause, RARELY if self._due else IDLE)
        self._timer = self._loop.call_later(self._pause, self._look)

    def _answered(self, answer: Answer, error: KafkaError | None, sent: Message) -> None:
        self._due -= 1
        if error is not None:
            self._note(error)
        if not answer.done():  # else its run was stopped
            answer.set_result((sent.partition(), sent.offset()) if error is None else error)  # type: ignore[arg-type]

    def _troubled(self, error: KafkaError) -> None:
        self._note(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  its name; it does not say why
            return
        complaint, now = redacted(_STATE.sub("", error.str()), self.settings), self._loop.time()
        if complaint != self._complaint or now >= self._logged_at + AGAIN:
            log.warning("kafka: %s", complaint)
            self._logged_at = now
        self._complaint, self._complained_at = complaint, now

    def _note(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001  its name
            self.is_broken = True

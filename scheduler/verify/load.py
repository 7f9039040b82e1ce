"""What is enqueued, tick by tick, by ordinary clients; and what they were told of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg

from scheduler.client import enqueue
from scheduler.errors import SchedulerError
from scheduler.model import encode_spec
from scheduler.verify.programme import MANY_ATTEMPTS, TICK, Order, Programme
from scheduler.verify.scratch import Connection, Scratch, statement

EFFECT, POISON = "verify_effect", "verify_poison"
_TIMEOUT = 10.0
_RETRY = 0.1  # seconds until the next try to connect
_CLIENTS = 5  # one alone waits for its commits: it made 450 runs a second of 1,000
_CLIENTS = 4  # that enqueue one at a time: one alone waits for its commits, and reached 450 runs/s of 1,000


@dataclass(slots=True)
class Sent:
    """What a client knows of a run that it enqueued."""

    key: str
    once: bool
    at: float
    """When it was sent, by the monotonic clock."""
    acknowledged: bool = False
    """False: the connection broke before the answer came. It may be there, and need not."""
    poison: bool = False


class Load:
    """Threads that enqueue until they are closed. A tick whose time has passed, with the database away, is left out."""

    def __init__(self, programme: Programme, scratch: Scratch) -> None:
        self.sent: list[Sent] = []
        self._clients = [_Client(number, programme, scratch, self.sent) for number in range(_CLIENTS)]

    def start(self) -> None:
        for client in self._clients:
            client.start()

    def close(self) -> None:
        for client in self._clients:
            client.close()


class _Client:
    """One connection. The first client copies, the others share what is enqueued in transactions of its own."""

    def __init__(self, number: int, programme: Programme, scratch: Scratch, sent: list[Sent]) -> None:
        self._number = number
        self._programme = programme
        self._scratch = scratch
        self._sent = sent
        self._conn: Connection | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client {number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._hang_up()

    def _run(self) -> None:
        began, number = time.monotonic(), 0
        while not self._closed.is_set():
            self._enqueue(self._programme.tick(number))
            number = max(number + 1, int((time.monotonic() - began) / TICK))
            self._closed.wait(began + number * TICK - time.monotonic())

    def _enqueue(self, orders: list[Order]) -> None:
        alone = [order for order in orders if order.alone]
        together = [order for order in orders if not order.alone]
        try:
            if self._number > 0:
                for order in alone[self._number - 1 :: _CLIENTS - 1]:
                    self._alone(order)
            elif together:
                self._together(together)
        except (psycopg.Error, SchedulerError):
            self._hang_up()  # the answer is lost, which `sent` says, and what was to follow is not sent

    def _alone(self, order: Order) -> None:
        conn = self._connection()
        if conn is None:
            return
        (sent,) = self._note([order])
        args = {"key": order.key, "seconds": order.takes}
        attempts = 1 if order.once else MANY_ATTEMPTS
        enqueue(conn, order.app, EFFECT, args, unique_key=order.key, max_attempts=attempts)
        sent.acknowledged = True

    def _together(self, orders: Sequence[Order]) -> None:
        conn = self._connection()
        if conn is None:
            return
        noted = self._note(orders)
        with conn.cursor() as cursor, cursor.copy(statement("copy_run")) as copy:
            for order in orders:
                attempts = 1 if order.once else MANY_ATTEMPTS
                copy.write_row((order.app, "python", spec(EFFECT, order.key, order.takes), attempts, order.key))
        for sent in noted:
            sent.acknowledged = True

    def _note(self, orders: Sequence[Order]) -> list[Sent]:
        now = time.monotonic()
        noted = [Sent(order.key, order.once, now) for order in orders]
        self._sent += noted
        return noted

    def _connection(self) -> Connection | None:
        if self._conn is None:
            try:
                self._conn = self._scratch.connect("load", timeout=_TIMEOUT)
            except psycopg.Error:
                self._closed.wait(_RETRY)
        return self._conn

    def _hang_up(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
            self._conn = None


def spec(task: str, key: str, seconds: float) -> str:
    return encode_spec({"task": task, "args": {"key": key, "seconds": seconds}}, "args")

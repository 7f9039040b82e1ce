"""Steps two sessions by hand: the second is let go only once it waits for the first, which the server itself says."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any, LiteralString

import psycopg

PATIENCE = 20.0  # seconds: a loaded machine is slow, not wrong


class Step:
    """A statement that runs in a thread of its own, because it is expected to wait for somebody."""

    def __init__(self, session: psycopg.Connection, query: LiteralString, *parameters: Any) -> None:
        self._answer: Future[list[tuple[Any, ...]]] = Future()
        self._session = session
        self._statement = query, parameters
        threading.Thread(target=self._run, daemon=True).start()

    def rows(self) -> list[tuple[Any, ...]]:
        """Its answer, or its error, once it has come through."""
        return self._answer.result(PATIENCE)

    def value(self) -> Any:
        ((value,),) = self.rows()
        return value

    @property
    def has_ended(self) -> bool:
        return self._answer.done()

    def _run(self) -> None:
        try:
            self._answer.set_result(self._session.execute(*self._statement).fetchall())
        except BaseException as error:  # noqa: BLE001  whatever it is, the test that asks for the answer gets it
            self._answer.set_exception(error)


def blocked(watch: psycopg.Connection, session: psycopg.Connection, query: LiteralString, *parameters: Any) -> Step:
    """Starts a statement and returns once it waits for another session's lock."""
    step = Step(session, query, *parameters)
    wait_until_blocked(watch, session.info.backend_pid, step)
    return step


def wait_until_blocked(watch: psycopg.Connection, pid: int, step: Step) -> None:
    """Returns once the server says that the session waits for another one. It fails if the step ends instead."""
    deadline = time.monotonic() + PATIENCE
    while not watch.execute("select from unnest(pg_blocking_pids(%s))", [pid]).rowcount:
        assert not step.has_ended, f"it did not wait for anybody: {step.rows()}"
        assert time.monotonic() < deadline, f"session {pid} was not blocked within {PATIENCE:g} s"
        time.sleep(0.005)

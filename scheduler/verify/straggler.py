"""A worker that everybody believes to be dead, and that reports all the same: what a fence is for.

It claims runs by the protocol that workers of other languages use, is silent until servers have taken them back and a
real worker executes them, and then reports, begins and gives back what it once held. Nothing of that may count.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import psycopg

from scheduler.verify.load import EFFECT, Sent, spec
from scheduler.verify.programme import APPS, MANY_ATTEMPTS
from scheduler.verify.recorder import Recorder
from scheduler.verify.scratch import Connection, Scratch, statement, value

_TAKES = 1.0  # seconds that a real worker has its runs in hand
_PATIENCE = 60.0  # seconds until they are taken over
_TIMEOUT = 10.0


class Straggler:
    """A thread. `fell_silent` is called once it holds the runs that it is going to lose."""

    def __init__(
        self, scratch: Scratch, recorder: Recorder, sent: list[Sent], number: int, fell_silent: Callable[[float], None]
    ) -> None:
        self.accepted: list[str] = []
        """What counted although it must not have."""
        self._scratch = scratch
        self._recorder = recorder
        self._sent = sent
        self._number = number
        self._fell_silent = fell_silent
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="straggler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def is_busy(self) -> bool:
        """It has not yet said what it has to say, nor waited in vain for long enough."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._scratch.connect("straggler", timeout=_TIMEOUT) as conn:
                self._straggle(conn)
        except psycopg.Error:  # another fault hit it: then it is only dead
            return

    def _straggle(self, conn: Connection) -> None:
        app = APPS[self._number % len(APPS)]
        worker = value(conn, "register", f"straggler {self._number}", os.getpid())
        again, once = (
            Sent(f"straggler-{self._number}-{what}", what == "once", time.monotonic()) for what in ("again", "once")
        )
        self._sent += (again, once)
        with conn.transaction():  # claimed before anybody else can see them
            for sent in (again, once):
                attempts = 1 if sent.once else MANY_ATTEMPTS
                text = spec(EFFECT, sent.key, _TAKES)
                conn.execute(statement("insert_straggling"), [app, text, attempts, sent.key])
            claimed = conn.execute(statement("claim"), [app, worker, 2]).fetchall()
        again.acknowledged = once.acknowledged = True
        self._fell_silent(time.monotonic())
        lease, runs = claimed[0][0], [row[1] for row in claimed]
        for sent, (_, run, attempt) in zip((again, once), claimed, strict=True):
            self._recorder.note("B", sent.key, run, attempt, lease)
        if not self._was_taken_over(conn, app, worker, runs):
            return
        for sent, (_, run, attempt) in zip((again, once), claimed, strict=True):
            self._recorder.note("E", sent.key, run, attempt, lease)
        for what, answer in (
            ("finish", value(conn, "finish", app, worker, lease, runs)),
            ("begin", value(conn, "begin", app, worker, lease)),
            ("release", value(conn, "release", app, worker, lease)),
        ):
            if answer not in (0, None):
                self.accepted.append(f"{what} of lease {lease} counted after it was taken from worker {worker}")

    def _was_taken_over(self, conn: Connection, app: str, worker: int, runs: list[int]) -> bool:
        late = time.monotonic() + _PATIENCE
        while time.monotonic() < late and not self._closed.is_set():
            if value(conn, "is_held_by_others", app, worker, runs):
                return True
            time.sleep(0.02)
        return False

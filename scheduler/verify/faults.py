"""Does what the programme says, when it says so, and notes what it did to whom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from scheduler.config import Settings
from scheduler.verify.fleet import Fleet
from scheduler.verify.load import POISON, Load, Sent, spec
from scheduler.verify.programme import APPS, FIRES, MANY_ATTEMPTS, Fault, Programme
from scheduler.verify.recorder import Recorder
from scheduler.verify.scratch import Connection, Scratch, statement, value
from scheduler.verify.straggler import Straggler

_LOOK = 0.02  # seconds between two looks at the processes and the time
_TIMEOUT = 10.0
_SNAPSHOT = 5.0, 20.0  # seconds that one is kept: at least, at most
_CRASHES = 0.5  # of the restarts


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that happened. Instants are of the monotonic clock."""

    kind: str
    at: float
    until: float
    """When it was over: a process went on, PostgreSQL answered again. As `at` where it is over at once."""
    pid: int | None = None
    """The process it was about."""


@dataclass(slots=True)
class _Open:
    """A fault that goes on until its time is over."""

    ends: float
    end: Callable[[], None]


class Faults:
    def __init__(self, programme: Programme, scratch: Scratch, fleet: Fleet, load: Load, recorder: Recorder) -> None:
        self.done: list[Done] = []
        self.failed = 0
        """Faults that could not be done, because another one was at work."""
        self.stragglers: list[Straggler] = []
        self._programme = programme
        self._scratch = scratch
        self._fleet = fleet
        self._load = load
        self._recorder = recorder
        self._dead_after = Settings.from_env().dead_after
        self._open: list[_Open] = []
        self._do = {
            "kill": self._kill,
            "pause": self._pause,
            "terminate": self._terminate,
            "notify": self._notify,
            "restart": self._restart,
            "snapshot": self._snapshot,
            "clock": self._clock,
            "poison": self._poison,
            "straggler": self._straggle,
            "replan": self._replan,
        }

    def run(self, advance: Callable[[], None] = lambda: None) -> None:
        """All faults of the programme; returns when their time is over. `advance` is called now and then."""
        began = time.monotonic()
        for fault in self._programme.faults:
            self.wait(began + fault.at, advance)
            try:
                self._do[fault.kind](fault)
            except psycopg.Error:
                self.failed += 1
        self.wait(began + self._programme.options.seconds, advance)

    def wait(self, until: float, advance: Callable[[], None] = lambda: None) -> None:
        """Keep the processes alive, and end what has gone on for long enough."""
        while (left := until - time.monotonic()) > 0:
            self._fleet.watch()
            for one in [one for one in self._open if one.ends <= time.monotonic()]:
                self._open.remove(one)
                one.end()
            advance()
            time.sleep(min(_LOOK, left))

    def recover(self) -> None:
        """End what goes on: nobody stands still any more. Stragglers may say what they have to say."""
        while self._open:
            self._open.pop().end()

    def close(self) -> None:
        self.recover()
        for straggler in self.stragglers:
            straggler.close()

    def _kill(self, fault: Fault) -> None:
        self._note(fault, self._fleet.kill(fault.place))

    def _pause(self, fault: Fault) -> None:
        stopped = time.monotonic()
        pid = self._fleet.suspend(fault.place)

        def resume() -> None:
            self._fleet.resume(fault.place)
            self.done.append(Done("pause", stopped, time.monotonic(), pid))

        self._open.append(_Open(stopped + fault.amount * self._dead_after, resume))

    def _terminate(self, fault: Fault) -> None:
        with self._connected() as conn:
            sessions = [pid for (pid,) in conn.execute(statement("sessions")).fetchall()]
            if sessions:
                value(conn, "end_session", sessions[int(fault.amount * len(sessions))])
        self._note(fault)

    def _notify(self, fault: Fault) -> None:
        with self._connected() as conn:
            value(conn, "end_listeners")
        self._note(fault)

    def _restart(self, fault: Fault) -> None:
        stopped = time.monotonic()
        self.done.append(Done("restart", stopped, self._scratch.restart(crash=fault.amount < _CRASHES)))

    def _snapshot(self, fault: Fault) -> None:
        conn = self._scratch.connect("snapshot")
        conn.execute(statement("keep_snapshot"))
        conn.execute(statement("take_snapshot"))
        least, most = _SNAPSHOT
        self._open.append(_Open(time.monotonic() + least + fault.amount * (most - least), conn.close))
        self._note(fault)

    def _clock(self, fault: Fault) -> None:
        self._note(fault, self._fleet.step(fault.place, fault.amount))

    def _poison(self, fault: Fault) -> None:
        key = f"poison-{len(self.done)}"
        sent = Sent(key, once=False, at=time.monotonic(), poison=True)
        app = APPS[fault.place % len(APPS)]
        with self._connected() as conn, conn.cursor() as cursor:
            self._load.sent.append(sent)
            with cursor.copy(statement("copy_run")) as copy:
                copy.write_row((app, "python", spec(POISON, key, 0.2), MANY_ATTEMPTS, key))
        sent.acknowledged = True
        self._note(fault)

    def _straggle(self, _: Fault) -> None:
        def fell_silent(at: float) -> None:
            self.done.append(Done("straggler", at, at, os.getpid()))

        number = len(self.stragglers)
        self.stragglers.append(Straggler(self._scratch, self._recorder, self._load.sent, number, fell_silent))

    def _replan(self, fault: Fault) -> None:
        with self._connected() as conn:
            conn.execute(statement("replan"), [FIRES])
        self._note(fault)

    def _connected(self) -> Connection:
        return self._scratch.connect("faults", timeout=_TIMEOUT)

    def _note(self, fault: Fault, pid: int | None = None) -> None:
        now = time.monotonic()
        self.done.append(Done(fault.kind, now, now, pid))

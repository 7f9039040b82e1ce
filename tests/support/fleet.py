"""Real worker processes: started, stopped, killed, suspended; and what they did, read from outside the database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support.pids import alive

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds: a loaded machine is slow, not wrong
QUICK = {  # times short enough to wait for, long enough for a loaded machine
    "SCHEDULER_HEARTBEAT": "0.4",
    "SCHEDULER_DEAD_AFTER": "2",
    "SCHEDULER_POLL": "0.5",
    "SCHEDULER_GRACE": "20",
    "SCHEDULER_STATEMENT_TIMEOUT": "5",
}


@dataclass(frozen=True, slots=True)
class Effect:
    what: str
    run: int
    attempt: int
    fence: int
    pid: int
    at: float
    value: int


class Process:
    """A worker process. Signals go to its pid and to nobody else."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log
        self.pid = popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def term(self) -> None:
        self._popen.send_signal(signal.SIGTERM)

    def suspend(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        return self._popen.wait(seconds)

    def end(self) -> None:
        if self.returncode is None:
            self.kill()


class Fleet:
    """The workers of one test, on its database."""

    def __init__(self, dsn: str, db: psycopg.Connection, directory: Path) -> None:
        self.dsn = dsn
        self.db = db
        self.processes: list[Process] = []
        self._directory = directory
        self._effects = directory / "effects"
        self._effects.touch()

    def start(
        self,
        *,
        dsn: str | None = None,
        concurrency: int = 20,
        queues: Sequence[str] = (),
        executors: Sequence[str] = ("python",),
        env: Mapping[str, str] | None = None,
        skew: Path | None = None,
    ) -> Process:
        """A worker process that is ready to work. A queue may be written NAME=SLOTS. `skew`: how far its wall clock is
        off, a file of `scheduler.verify.skewed`.
        """
        label = f"w{len(self.processes) + 1}"
        program = ["scheduler.cli"] if skew is None else ["scheduler.verify.skewed", str(skew)]
        command = [sys.executable, "-m", *program, "--dsn", dsn or self.dsn, "worker", "--name", label]
        command += ["--app", "default", "shop", "--import", "tests.support.fleet_tasks"]
        command += ["--concurrency", str(concurrency), "--executors", ",".join(executors)]
        command += [f"--queue={queue}" for queue in queues]
        log = self._directory / f"{label}.log"
        with log.open("wb") as file:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "FLEET_EFFECTS": str(self._effects), **QUICK, **(env or {})},
            )
        process = Process(popen, log)
        self.processes.append(process)
        wait_until(lambda: " is ready: " in process.log or process.returncode is not None)
        assert process.returncode is None, process.log
        return process

    def end(self) -> None:
        """Kill what is left, and show what the workers said in case the test failed."""
        for process in self.processes:
            process.end()
            print(f"--- worker {process.pid}, status {process.returncode}\n{process.log[-6000:]}")  # noqa: T201

    def insert(self, task: str, args: Mapping[str, Any] | None = None, *, count: int = 1, **columns: Any) -> list[int]:
        """Runs of a task, written by a plain insert; their ids."""
        spec = json.dumps({"task": task, "args": dict(args or {})})
        return self.insert_run("python", spec, count=count, **columns)

    def insert_run(self, executor: str, spec: str, *, count: int = 1, **columns: Any) -> list[int]:
        names = ["executor", "spec", *columns]
        cursor = self.db.execute(
            f"insert into scheduler.run ({', '.join(names)}) select {', '.join(['%s'] * len(names))}"
            " from generate_series(1, %s) returning id",
            [executor, spec, *columns.values(), count],
        )
        return [row[0] for row in cursor.fetchall()]

    def effects(self, what: str | None = None, runs: Sequence[int] | None = None) -> list[Effect]:
        """What happened so far, in the order in which it did."""
        wanted = None if runs is None else set(runs)
        found = []
        text = self._effects.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():  # not one that is being written
            kind, *numbers, at, value = line.split()
            run, attempt, fence, pid = map(int, numbers)
            if what in (None, kind) and (wanted is None or run in wanted):
                found.append(Effect(kind, run, attempt, fence, pid, float(at), int(value)))
        return found

    def reclaim(self, dead_after: str = QUICK["SCHEDULER_DEAD_AFTER"]) -> list[tuple[Any, ...]]:
        """What a server does every moment."""
        return self.db.execute(
            "select * from scheduler.reclaim(make_interval(secs => %s))", [float(dead_after)]
        ).fetchall()

    def states(self, runs: Sequence[int]) -> Counter[str]:
        cursor = self.db.execute(
            "select state, count(*) from scheduler.runs join unnest(%s::bigint[]) as wanted (id) using (id) group by 1",
            [list(runs)],
        )
        return Counter(dict(cursor.fetchall()))

    def wait_for(
        self, runs: Sequence[int], state: str = "succeeded", seconds: float = PATIENCE, *, reclaim: bool = False
    ) -> None:
        """Until all of these runs are in the state; with `reclaim`, as with a server at hand."""

        def reached() -> bool:
            if reclaim:
                self.reclaim()
            return self.states(runs) == {state: len(runs)}

        wait_until(reached, seconds, lambda: f"of {len(runs)} runs: {dict(self.states(runs))}")

    def wait_for_effect(self, what: str, runs: Sequence[int], count: int | None = None) -> list[Effect]:
        """Until as many such effects of these runs are there: one for each, unless told otherwise."""
        wanted = len(runs) if count is None else count
        wait_until(
            lambda: len(self.effects(what, runs)) >= wanted,
            saying=lambda: f"{what}: {len(self.effects(what, runs))} of {wanted}",
        )
        return self.effects(what, runs)

    def row(self, run: int) -> dict[str, Any]:
        """A run as users see it."""
        with self.db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute("select * from scheduler.runs where id = %s", [run]).fetchone()
        assert found is not None, f"run {run} is gone"
        return found

    def attempts(self, run: int) -> list[str]:
        """The outcomes of a run's attempts, in their order."""
        cursor = self.db.execute(
            "select outcome from scheduler.history where id = %s order by attempt, finished_at", [run]
        )
        return [outcome for (outcome,) in cursor.fetchall()]

    def leases(self) -> int:
        return int(self.scalar("select count(*) from scheduler.lease"))

    def worker(self, process: Process) -> dict[str, Any]:
        """The newest registration of a process."""
        with self.db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute(
                "select * from scheduler.worker where pid = %s order by id desc limit 1", [process.pid]
            ).fetchone()
        assert found is not None, f"process {process.pid} never registered"
        return found

    def terminate(self, connection: str) -> int:
        """End the database sessions whose name begins so; how many there were."""
        cursor = self.db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and starts_with(application_name, 'walclock ' || %s)",
            [connection],
        )
        return len(cursor.fetchall())

    def scalar(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        row = self.db.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]


def wait_until(
    condition: Callable[[], object], seconds: float = PATIENCE, saying: Callable[[], str] = lambda: "it did not happen"
) -> None:
    """Return once the condition holds; fail in its own words otherwise."""
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late, f"not within {seconds:g} s: {saying()}"
        time.sleep(0.02)


def all_dead(pids: Sequence[int]) -> bool:
    return not any(alive(pid) for pid in pids)

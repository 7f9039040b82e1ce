"""What systemd hears of a process: on a real socket, from real processes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from scheduler import loop as loops
from scheduler.loop import Loop
from scheduler.systemd import Notifier
from tests.support.fleet import QUICK, ROOT, Process, wait_until
from tests.support.proxy import Proxy


class Manager:
    """The socket that a service manager listens on, and what it heard."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self.heard += self._socket.recv(4096).decode().split("\n")
        return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def started(tmp_path: Path, manager: Manager) -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()
        print(process.log[-4000:])  # noqa: T201  shown when the test fails


def start(started: list[Process], tmp_path: Path, manager: Manager, dsn: str, *words: str) -> Process:
    log = tmp_path / f"{len(started)}.log"
    watched = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "400000",
        "SCHEDULER_STATEMENT_TIMEOUT": "1",  # after which a database that says nothing is given up
    }
    with log.open("wb") as file:
        popen = subprocess.Popen(
            [sys.executable, "-m", "scheduler.cli", "--dsn", dsn, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env={**os.environ, **QUICK, **watched},
        )
    started.append(Process(popen, log))
    return started[-1]


@pytest.mark.parametrize(
    ("words", "table"),
    [
        (("run", "--no-worker"), "server"),
        (("worker", "--app", "shop"), "worker"),
    ],
    ids=["server", "worker"],
)
def test_a_service_says_that_it_is_ready_that_it_lives_and_that_it_stops(  # noqa: PLR0917
    words: tuple[str, ...],
    table: str,
    dsn: str,
    db: psycopg.Connection,
    manager: Manager,
    started: list[Process],
    tmp_path: Path,
) -> None:
    process = start(started, tmp_path, manager, dsn, *words)
    wait_until(lambda: "READY=1" in manager.listen() or process.returncode is not None)
    registered = db.execute(f"select count(*) from scheduler.{table} where pid = %s", [process.pid]).fetchone()
    assert registered != (0,), "it said so before anybody could know of it"
    fed = manager.heard.count("WATCHDOG=1")
    wait_until(lambda: manager.listen().count("WATCHDOG=1") >= fed + 5)
    assert "STOPPING=1" not in manager.heard
    process.term()
    assert process.wait() == 0
    assert "STOPPING=1" in manager.listen()
    assert manager.heard.index("READY=1") < manager.heard.index("STOPPING=1")


def test_a_server_whose_database_is_away_is_not_killed_for_it(
    dsn: str, manager: Manager, started: list[Process], tmp_path: Path
) -> None:
    with Proxy(dsn) as proxy:
        process = start(started, tmp_path, manager, proxy.dsn, "run", "--no-worker")
        wait_until(lambda: "READY=1" in manager.listen())
        proxy.go_silent()
        wait_until(lambda: "next try" in process.log)
        fed = len(manager.listen())
        wait_until(lambda: manager.listen()[fed:].count("WATCHDOG=1") >= 5)
        assert process.returncode is None


def test_a_process_that_stands_still_says_nothing(
    dsn: str, manager: Manager, started: list[Process], tmp_path: Path
) -> None:
    process = start(started, tmp_path, manager, dsn, "run", "--no-worker")
    wait_until(lambda: "WATCHDOG=1" in manager.listen())
    process.suspend()
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")  # a signal arrives when it arrives
    manager.listen()
    before = len(manager.heard)
    time.sleep(1)  # five times as long as between two signs of life
    assert manager.listen()[before:] == []


async def test_a_loop_whose_step_never_ends_is_found_and_the_watchdog_is_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "SLACK", 0.1)
    goes_on = asyncio.Event()

    async def step() -> float:
        while not goes_on.is_set():
            with suppress(asyncio.CancelledError):  # what a step must not do, and what a watchdog is for
                await asyncio.sleep(0.05)
        return 0.1

    duty = Loop("planner", step, floor=0.1, timeout=0.1)

    class Service:
        is_ready = True

        def stuck(self) -> str | None:
            return duty.stuck()

    stopping = asyncio.Event()
    driven = asyncio.create_task(duty.run())
    telling = asyncio.create_task(Notifier(manager.address, watchdog=0.1).run([Service()], stopping))
    try:
        await until(lambda: any(line.startswith("STATUS=planner has made no step") for line in manager.listen()))
        before = len(manager.heard)
        await asyncio.sleep(0.3)
        assert "WATCHDOG=1" in manager.heard[:before]
        assert manager.listen()[before:] == []
        goes_on.set()
        await until(lambda: "WATCHDOG=1" in manager.listen()[before:])
        assert "STATUS=at work" in manager.heard[before:]
    finally:  # nothing else ends the step
        goes_on.set()
        duty.stop()
        stopping.set()
    await asyncio.gather(driven, telling)
    assert manager.listen()[-2] == "STOPPING=1"


def test_a_name_in_the_abstract_space_is_heard_as_well() -> None:
    manager = Manager(f"@walclock-test-{os.getpid()}")
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "PATH": "/bin"}
    notifier = Notifier.from_env(env)
    assert notifier is not None
    notifier.tell("READY=1", "STATUS=at work")
    assert manager.listen() == ["READY=1", "STATUS=at work"]
    assert env == {"PATH": "/bin"}, "a child could speak in the process's name"
    manager.close()


def test_a_manager_that_does_not_listen_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(str(tmp_path / "nobody")).tell("READY=1")
    assert "systemd does not hear READY=1: No such file or directory" in caplog.text


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_that_is_one_nobody_is_told(env: dict[str, str]) -> None:
    assert Notifier.from_env(env) is None


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the socket tells no event
            await asyncio.sleep(0.02)

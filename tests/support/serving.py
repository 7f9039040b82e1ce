"""Servers with the HTTP API, as processes, on a test's database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.fleet import QUICK, ROOT, Process, wait_until
from tests.support.ports import free_port

Serve = Callable[..., tuple[Process, str]]


@contextmanager
def serving(dsn: str, directory: Path) -> Iterator[Serve]:
    """Starts `scheduler run --http` without tokens; the process and the server's URL. Killed at the end."""
    started: list[Process] = []

    def serve(*words: str, env: Mapping[str, str] | None = None) -> tuple[Process, str]:
        port = free_port()
        bind = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "scheduler.cli", "--dsn", dsn, "run", "--http", bind, "--http-no-auth"]
        path = directory / f"api{len(started)}.log"
        with path.open("wb") as log:
            popen = subprocess.Popen(
                [*command, *(words or ("--no-worker",))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **QUICK, **(env or {})},
            )
        started.append(Process(popen, path))
        wait_until(lambda: answers(port) or popen.poll() is not None)
        assert popen.poll() is None, path.read_text()
        return started[-1], f"http://{bind}"

    yield serve
    for process in started:
        process.end()
        print(f"--- server {process.pid}\n{process.log[-4000:]}")  # noqa: T201  shown when the test fails


def answers(port: int) -> bool:
    # It listens before it answers.
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
        probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in probe.recv(100)
    return False

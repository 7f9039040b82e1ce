"""A wire of our own between workers and the database, which can go silent or be cut at a chosen answer.

It listens on a Unix socket in a directory of its own and serves each connection with two threads.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHUNK = 65_536


class Proxy:
    """Between entering and leaving it, `dsn` reaches the database through it."""

    def __init__(self, dsn: str) -> None:
        given = conninfo_to_dict(dsn)
        self._port = int(given.get("port") or 5432)
        self._host = str(given["host"])
        self._directory = Path(tempfile.mkdtemp(prefix="walclock-proxy-"))
        self._name = f".s.PGSQL.{self._port}"
        self.dsn = make_conninfo(dsn, host=str(self._directory))
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._directory / self._name))
        self._door.listen()
        self._flows = threading.Event()
        self._flows.set()
        self._all_flows = [self._flows]
        self._released = threading.Event()
        self._cut_after: bytes | None = None
        self._held: bytes | None = None
        self.asked: list[bytes] = []
        self._sockets: set[socket.socket] = set()
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._admit, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flow()
        for one in (self._door, *list(self._sockets)):
            _shut(one)
        self._door.close()
        shutil.rmtree(self._directory)

    def go_silent(self) -> None:
        """A black hole: whatever is sent, in either direction, waits. New connections are taken and never answered."""
        self._flows.clear()

    def flow(self) -> None:
        """Deliver what has waited, and go on."""
        self._held = None
        for flows in self._all_flows:
            flows.set()
        self._released.set()

    def swallow(self) -> None:
        """As `go_silent`, but only for the connections that there are, and for good. New ones work."""
        self._flows.clear()
        self._flows = threading.Event()
        self._flows.set()
        self._all_flows.append(self._flows)

    def hold(self, text: bytes) -> None:
        """Let the statements that hold this text wait, and what comes after them on their connections."""
        self._released.clear()
        self._held = text

    def cut_answer_to(self, text: bytes) -> None:
        """Let the next statement that holds this text through, and end its connection instead of giving the answer."""
        self._cut_after = text

    def cut(self) -> None:
        """End all connections."""
        for one in list(self._sockets):
            _shut(one)

    def _admit(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:  # the proxy is left
                return
            threading.Thread(target=self._serve, args=(client, self._reach()), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        doomed = threading.Event()
        flows = self._flows
        self._sockets |= {client, server}
        answers = threading.Thread(target=self._answer, args=(server, client, doomed, flows), daemon=True)
        answers.start()
        self._ask(client, server, doomed, flows)
        answers.join()
        self._sockets -= {client, server}
        client.close()
        server.close()

    def _reach(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/{self._name}")
        return server

    def _ask(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event, flows: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                flows.wait()
                if self._held is not None and self._held in data:
                    self._released.wait()
                self.asked.append(data)
                if self._cut_after is not None and self._cut_after in data:
                    self._cut_after = None
                    doomed.set()
                server.sendall(data)
        flows.wait()
        _shut(server)

    def _answer(
        self, server: socket.socket, client: socket.socket, doomed: threading.Event, flows: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                flows.wait()
                if doomed.is_set():
                    self.cuts += 1
                    break
                client.sendall(data)
        flows.wait()
        _shut(client)
        _shut(server)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)

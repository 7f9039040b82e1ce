"""`--metrics HOST:PORT`: a small HTTP server for Prometheus alone, for processes without the API, workers above all.

By the standard library's server in threads of its own, as prometheus-client has it: a scrape that is slow, or a client
that says nothing, holds up no run. Only the samples are taken on the event loop.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from scheduler.errors import ConfigError
from scheduler.loopback import asks_loopback, is_loopback
from scheduler.metrics.exposition import Exposition
from scheduler.metrics.numbers import Sample

PATH = "/metrics"
TOKEN = "SCHEDULER_METRICS_TOKEN"  # noqa: S105  a variable's name
PATIENCE = 5.0  # seconds: for the event loop to say what it has counted, and for a client to say what it wants
_CLOSING = 0.1  # seconds between two looks whether to stop; a look costs microseconds

_Answer = tuple[str, list[tuple[str, str]], bytes]
_Start = Callable[[str, list[tuple[str, str]]], Any]


class Endpoint:
    def __init__(self, host: str, port: int, exposition: Exposition, *, token: str | None, is_open: bool) -> None:
        """Binds at once. ConfigError when it cannot listen there, or when others could read it without the `token`;
        `is_open`: they may.
        """
        if token is None and not is_open and not is_loopback(host):
            raise ConfigError(
                f"--metrics {host}: others reach it, and names of apps are not for everybody",
                hint=f"set {TOKEN} to what Prometheus shows as its bearer token, or say --metrics-no-auth",
            )
        self._exposition = exposition
        self._token = token
        self._is_for_loopback = token is None and not is_open
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server = _bound(host, port)
        self._server.set_app(self._serve)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.socket.getsockname()[:2]
        return host, port

    async def run(self, stopping: asyncio.Event, _forced: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._server.serve_forever, args=[_CLOSING], name="metrics", daemon=True)
        thread.start()
        try:
            await stopping.wait()
        finally:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    def _serve(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        start(status, [*headers, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> _Answer:
        if environ.get("PATH_INFO") != PATH:
            return _said("404 Not Found", f"there is nothing at this path; the metrics are at {PATH}")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _said("405 Method Not Allowed", "GET is possible here", ("Allow", "GET, HEAD"))
        if self._is_for_loopback and not asks_loopback(environ.get("HTTP_HOST", "")):
            return _said("421 Misdirected Request", "without a token this answers for localhost, by the header Host")
        if self._token is not None and not _shows(self._token, environ.get("HTTP_AUTHORIZATION", "")):
            return _said(
                "401 Unauthorized", "a bearer token is needed", ("WWW-Authenticate", 'Bearer realm="walclock"')
            )
        try:
            samples = self._samples()
        except TimeoutError:
            return _said("503 Service Unavailable", "the process is too busy to say what it does")
        body, media = self._exposition.text(samples, environ.get("HTTP_ACCEPT", ""))
        return "200 OK", [("Content-Type", media)], body

    def _samples(self) -> list[Sample]:
        """Taken on the event loop. TimeoutError when it does not come to it."""
        found: Future[list[Sample]] = Future()

        def take() -> None:
            try:
                found.set_result(self._exposition.samples())
            except Exception as error:  # noqa: BLE001  the scrape fails with it, and nothing else
                found.set_exception(error)

        if self._loop is None or self._loop.is_closed():
            raise TimeoutError
        self._loop.call_soon_threadsafe(take)
        return found.result(PATIENCE)


def token_from_environment() -> str | None:
    return os.environ.get(TOKEN, "").strip() or None


def _shows(token: str, header: str) -> bool:
    kind, _, value = header.partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), token.encode())


def _said(status: str, text: str, *headers: tuple[str, str]) -> _Answer:
    return status, [("Content-Type", "text/plain; charset=utf-8"), *headers], f"{text}\n".encode()


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, *_: Any) -> None:
        """Scrapes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As in the standard library, but for the look-up of our own name, for which it asks a resolver."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, *_: Any) -> None:
        """A client that went away."""


def _bound(host: str, port: int) -> _Server:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        kind = type("_Server", (_Server,), {"address_family": found[0]})
        server: _Server = kind(found[4][:2], _Handler)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return server

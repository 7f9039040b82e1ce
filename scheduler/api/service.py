"""The API's server, as a part of `scheduler run`: bound before anything else starts, ended with the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import psycopg
import uvicorn

from scheduler.api.access import Access
from scheduler.api.application import Application
from scheduler.api.data import Data
from scheduler.api.operation import Complaint
from scheduler.config import Settings
from scheduler.errors import ConfigError, SchedulerError
from scheduler.loop import Loop, describe
from scheduler.metrics.exposition import Exposition
from scheduler.store import access

log = logging.getLogger(__name__)

NOTED = 20.0  # seconds between two notes of which tokens were used
_BACKLOG = 2_048
_GRACE = 5  # seconds that requests in progress have at the end


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the whole process's, and not uvicorn's."""
        yield


class Api:
    def __init__(
        self,
        dsn: str,
        settings: Settings,
        *,
        label: str,
        host: str,
        port: int,
        is_open: bool = False,
        listen_dsn: str | None = None,
        announce: Callable[[str], None],
        complaint: Complaint,
        exposition: Exposition | None = None,
    ) -> None:
        """Binds at once. `is_open`: without tokens. `announce` is given the first token, which is made on a database
        that has none. `complaint` says what keeps the process from its work, `exposition` what /metrics answers.
        ConfigError when it cannot listen there.
        """
        self._socket = _listen(host, port)
        self._data = Data(dsn, label=label, statement_timeout=settings.statement_timeout, listen_dsn=listen_dsn)
        self._access = Access(self._data, is_open=is_open, rate=settings.http_rate)
        self._is_open = is_open
        self._announce = announce
        config = uvicorn.Config(
            Application(self._access, self._data, settings, complaint, exposition),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody here asks for the address, and it took 3 % of a post
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Uvicorn(config)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def run(self, stopping: asyncio.Event, _forced: asyncio.Event) -> None:
        await self._data.open()
        noting = asyncio.create_task(Loop("tokens", self._note, floor=NOTED).run())
        serving = asyncio.create_task(self._server.serve([self._socket]))
        waiting = asyncio.create_task(stopping.wait())
        try:
            if not self._is_open:
                await self._first_token()
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            noting.cancel()
            self._data.ending.set()
            self._server.should_exit = True
            await asyncio.gather(serving, noting, return_exceptions=True)
            await self._data.close()
        if not stopping.is_set():
            raise SchedulerError("the HTTP server ended by itself")

    async def _first_token(self) -> None:
        try:
            async with self._data.reading() as conn:
                token = await access.first_token(conn)
        except (psycopg.Error, SchedulerError) as error:
            log.warning("whether there is a token was not found out: %s", describe(error))
            return
        if token is not None:
            self._announce(token)

    async def _note(self) -> float:
        await self._access.note_use()
        return NOTED


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found[4][:2], family=found[0], backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error

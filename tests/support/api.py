"""The HTTP API on a database, in a thread of this process, and a client that sends exactly what a test says."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from scheduler.api.service import Api
from scheduler.config import Settings
from scheduler.tokens import SHOWN, digest, new_token


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """What a problem says, which must be one."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        assert self.json["status"] == self.status
        return str(self.json["detail"])


@dataclass(frozen=True)
class Client:
    port: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def bearing(self, token: str) -> Client:
        return Client(self.port, {"Authorization": f"Bearer {token}"})

    def basic(self, token: str) -> Client:
        words = base64.b64encode(f"anybody:{token}".encode()).decode()
        return Client(self.port, {"Authorization": f"Basic {words}"})

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """`body`: bytes as they are, anything else as JSON; headers with `_` for `-`."""
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            sent = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, sent, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, **headers)

    def read(self, path: str) -> Any:
        """The document of a GET that must succeed."""
        answer = self.get(path)
        assert answer.status == 200, answer.body
        return answer.json

    def pages(self, path: str, name: str) -> list[Any]:
        """All rows of a list, page by page."""
        found: list[Any] = []
        following: str | None = path
        while following:
            page = self.read(following)
            found += page[name]
            following = page["next"]
        return found


def make_token(db: psycopg.Connection, name: str, scopes: Sequence[str], apps: Sequence[str] | None = None) -> str:
    """A token that is known to the database."""
    token = new_token()
    db.execute(
        "select scheduler.create_token(%s, %s, %s, %s::text[], %s::text[], null)",
        [name, digest(token), token[:SHOWN], list(scopes), apps if apps is None else list(apps)],
    )
    return token


@contextmanager
def served(dsn: str, *, is_open: bool = False, complaint: Callable[[], str | None] = lambda: None) -> Iterator[Client]:
    """A client of an API that runs until the end of the block."""
    settings = Settings()
    api = Api(
        dsn,
        settings,
        label="test",
        host="127.0.0.1",
        port=0,
        is_open=is_open,
        announce=lambda _: None,
        complaint=complaint,
    )
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[api.run(stopping, asyncio.Event())])
    thread.start()  # the socket is bound already: who connects now is answered once the server runs
    try:
        yield Client(api.address[1])
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        loop.close()

"""The engine: Docker's API on a Unix socket, which podman speaks as well. Every failure is one line, an EngineError.

Written here and not left to aiodocker (0.27), which does not close what was cancelled: a pull went on until the garbage
collector came by, and so did each wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from scheduler.errors import ConfigError, MissingExtraError, SchedulerError
from worker.outcome import clean, shorten

try:
    import aiohttp
except ImportError:
    raise MissingExtraError("the container executor", "containers") from None

ANSWER = 30.0  # seconds: what an engine does at once, it does within these, or it hangs
SHOWN = 1000  # bytes of what an engine said
ABSENT, NOT_NOW = 404, 409
UPGRADED, REFUSED = 101, 400
FRAME = struct.Struct(">BxxxL")  # stream (1: stdout, 2: stderr) and size of what follows

Read = Callable[[], Awaitable[tuple[int, bytes] | None]]  # the next (stream, data) of a container; None: no more comes


class EngineError(SchedulerError):
    """`status` is that of the engine's answer, None when there was none; `sent`: it may have done what was asked."""

    def __init__(self, message: str, status: int | None = None, *, sent: bool = True) -> None:
        super().__init__(shorten(" ".join(clean(message).split()), SHOWN))
        self.status = status
        self.sent = sent


class Engine:
    """Opened with the first request; to be closed."""

    def __init__(self, place: str) -> None:
        """`place`: the path of its socket, or that as a unix:// URL. ConfigError for anything else."""
        self._path = place.removeprefix("unix://")
        if not self._path.startswith("/"):
            raise ConfigError(f"SCHEDULER_CONTAINER_SOCKET={place!r}: expected the path of an engine's Unix socket")
        self._session: aiohttp.ClientSession | None = None
        self._version: str | None = None

    async def pull(self, image: str) -> None:
        """Takes as long as it takes; ends when it is cancelled."""
        # Without a tag the engine would pull all there are.
        tag = {} if ":" in image.rpartition("/")[2] else {"tag": "latest"}
        async with self._request("POST", "/images/create", {"fromImage": image, **tag}) as answer:
            async for line in answer.content:  # progress; 200 was said before anybody knew how it ends
                told = json.loads(line) if line.strip() else {}
                if "error" in told:
                    raise EngineError(str(told["error"]), answer.status)

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """404: the image is not there."""
        await self._at_once("POST", "/containers/create", {"name": name}, body)

    @contextlib.asynccontextmanager
    async def attached(self, name: str) -> AsyncIterator[Read]:
        """What the container writes, from its start on."""
        async with self._in_time():
            path = f"/{await self._api()}/containers/{name}/attach?stream=1&stdout=1&stderr=1"
            reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            async with self._in_time():
                writer.write(
                    f"POST {path} HTTP/1.1\r\nHost: engine\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode()
                )
                await _upgraded(reader)

            async def read() -> tuple[int, bytes] | None:
                with self._one_line():
                    try:
                        stream, size = FRAME.unpack(await reader.readexactly(FRAME.size))
                    except asyncio.IncompleteReadError:
                        return None
                    return stream, await reader.readexactly(size)

            yield read
        finally:
            writer.close()

    async def start(self, name: str) -> None:
        await self._at_once("POST", f"/containers/{name}/start")

    async def wait(self, name: str) -> int:
        """Its exit status, once it has ended."""
        async with self._request("POST", f"/containers/{name}/wait") as answer:
            told = await answer.json(content_type=None)
            if failed := (told.get("Error") or {}).get("Message"):
                raise EngineError(failed, answer.status)
            return int(told["StatusCode"])

    async def lacked_memory(self, name: str) -> bool:
        """Whether the kernel ended it, because it would have used more memory than it was given."""
        return bool((await self._at_once("GET", f"/containers/{name}/json"))["State"].get("OOMKilled"))

    async def terminate(self, name: str) -> None:
        """TERM, unless it has ended or has not begun."""
        with _fine(ABSENT, NOT_NOW):
            await self._at_once("POST", f"/containers/{name}/kill", {"signal": "SIGTERM"})

    async def remove(self, name: str) -> None:
        """With the volumes that it made for itself; KILLs it if need be. Fine when that was done, or is being done."""
        with _fine(ABSENT, NOT_NOW):
            await self._at_once("DELETE", f"/containers/{name}", {"force": "1", "v": "1"})

    async def labelled(self, labels: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
        """Id and labels of every container that has these labels, in whatever state."""
        filters = json.dumps({"label": [f"{label}={value}" for label, value in labels.items()]})
        found = await self._at_once("GET", "/containers/json", {"all": "1", "filters": filters})
        return [(one["Id"], one["Labels"] or {}) for one in found]

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _at_once(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        """The answer to what takes no time; None where there is nothing to say."""
        async with self._in_time(), self._request(method, path, params, body) as answer:
            data = await answer.read()
            return json.loads(data) if data.strip() else None

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with self._one_line():
            url = f"http://engine/{await self._api()}{path}"
            async with self._opened().request(method, url, params=params, json=body) as answer:
                if answer.status >= REFUSED:
                    raise EngineError(_message(await answer.read()), answer.status)
                yield answer

    async def _api(self) -> str:
        """The version of its API, which is part of every path: requests without one are no longer promised."""
        if self._version is None:
            with self._one_line():
                async with self._opened().get("http://engine/version") as answer:
                    self._version = f"v{(await answer.json(content_type=None))['ApiVersion']}"
        return self._version

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # As many connections as there are containers; with aiohttp's limit of 100, the 101st would wait for one.
            connector = aiohttp.UnixConnector(self._path, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout())
        return self._session

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER):
                with self._one_line():
                    yield
        except TimeoutError:
            raise EngineError(f"the container engine at {self._path} did not answer within {ANSWER:g} s") from None

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (EngineError, TimeoutError):
            raise
        except (aiohttp.ClientConnectorError, FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
            self._version = None  # another one may come
            said = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            text = f"no container engine at {self._path}: {said.strerror or said}"
            raise EngineError(text, sent=False) from error
        except (aiohttp.ClientError, OSError, EOFError, ValueError, TypeError, LookupError) as error:
            self._version = None
            raise EngineError(f"the container engine at {self._path} broke off its answer") from error


async def _upgraded(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status != UPGRADED:
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        raise EngineError(_message(await reader.readexactly(int(length[1]))) if length else "not attached", status)


def _message(data: bytes) -> str:
    """What an engine says of an error: `{"message"}`, or plain text."""
    text = data.decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        return text


@contextlib.contextmanager
def _fine(*statuses: int) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        if error.status not in statuses:
            raise

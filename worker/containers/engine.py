"""The engine: Docker's API on a Unix socket, which podman speaks as well. Every failure is one line, an EngineError."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from scheduler.errors import ConfigError, MissingExtraError, SchedulerError
from worker.outcome import clean, shorten

try:
    import aiodocker
    import aiohttp
except ImportError:
    raise MissingExtraError("the container executor", "containers") from None

ANSWER = 30.0  # seconds: what an engine does at once, it does within these, or it hangs
SHOWN = 1000  # bytes of what an engine said
ABSENT, NOT_NOW = 404, 409
UNANSWERED = 900  # aiodocker's status for no answer at all

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
        self._docker: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None

    async def pull(self, image: str) -> None:
        """Takes as long as it takes."""
        with self._one_line():
            await self._opened().images.pull(image)

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        """404: the image is not there."""
        async with self._at_once():
            await self._opened().containers.create(body, name=name)

    @contextlib.asynccontextmanager
    async def attached(self, name: str) -> AsyncIterator[Read]:
        """What the container writes, from its start on."""
        stream = self._opened().containers.container(name).attach(stdout=True, stderr=True)
        try:
            async with self._at_once():
                await stream._init()  # noqa: SLF001  `async with stream` would be it, but its end fails after a loss
            yield stream.read_out
        finally:
            with contextlib.suppress(AssertionError):  # the connection is gone already
                await stream.close()

    async def start(self, name: str) -> None:
        async with self._at_once():
            await self._opened().containers.container(name).start()

    async def wait(self, name: str) -> int:
        """Its exit status, once it has ended."""
        with self._one_line():
            answer = await self._opened().containers.container(name).wait()
            if failed := (answer.get("Error") or {}).get("Message"):
                raise EngineError(failed)
            return int(answer["StatusCode"])

    async def lacked_memory(self, name: str) -> bool:
        """Whether the kernel ended it, because it would have used more memory than it was given."""
        async with self._at_once():
            shown = await self._opened().containers.container(name).show()
            return bool(shown["State"].get("OOMKilled"))

    async def terminate(self, name: str) -> None:
        """TERM, unless it has ended or has not begun."""
        with _fine(ABSENT, NOT_NOW):
            async with self._at_once():
                await self._opened().containers.container(name).kill(signal="SIGTERM")

    async def remove(self, name: str) -> None:
        """With the volumes that it made for itself; KILLs it if need be. Fine when that was done, or is being done."""
        with _fine(ABSENT, NOT_NOW):
            async with self._at_once():
                await self._opened().containers.container(name).delete(force=True, v=True)

    async def labelled(self, label: str, value: str) -> list[tuple[str, dict[str, str]]]:
        """Id and labels of every container that has this label, in whatever state."""
        filters = json.dumps({"label": [f"{label}={value}"]})
        async with self._at_once():
            found = await self._opened().containers.list(all=True, filters=filters)
            return [(one.id, one["Labels"]) for one in found]

    async def close(self) -> None:
        if self._docker is not None and self._connector is not None:
            await self._docker.close()
            await self._connector.close()
            self._docker = None

    def _opened(self) -> aiodocker.Docker:
        if self._docker is None:
            # Each container holds two connections; with aiohttp's limit of 100, the 51st would wait for ever.
            self._connector = aiohttp.UnixConnector(self._path, limit=0)
            self._docker = aiodocker.Docker(url="unix://localhost", connector=self._connector)
        return self._docker

    @contextlib.asynccontextmanager
    async def _at_once(self) -> AsyncIterator[None]:
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
        except aiodocker.DockerError as error:
            if error.status != UNANSWERED:
                raise EngineError(error.message, error.status) from error
            raise self._lost(error.__context__) from error
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError, TypeError, LookupError) as error:  # the last: half an answer
            raise self._lost(error) from error

    def _lost(self, error: BaseException | None) -> EngineError:
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.os_error.strerror or error.os_error
            return EngineError(f"no container engine at {self._path}: {why}", sent=False)
        return EngineError(f"the container engine at {self._path} broke off its answer")


@contextlib.contextmanager
def _fine(*statuses: int) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        if error.status not in statuses:
            raise

"""A stand-in for a container engine, where none runs: the part of Docker's API 1.43 that workers use, on a Unix socket.

It answers as the engine does: paths, status codes, `{"message"}` on errors, multiplexed frames, progress lines.
A "container" is a process of this machine in a session of its own, so exit codes, signals and output are real; what
keeps a container in is not, and tests read it in the request. Stricter than the engine in one thing: a key of a request
that it does not know is refused and not passed over, so that a misspelt one is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

VERSION = "1.43"
TEXTS: Any = [str]
TABLE: Any = {str: str}
HOST: dict[str, Any] = {
    "Init": bool, "LogConfig": TABLE, "CapDrop": TEXTS, "CapAdd": TEXTS, "SecurityOpt": TEXTS, "ReadonlyRootfs": bool,
    "Tmpfs": TABLE, "PidsLimit": int, "Memory": int, "MemorySwap": int, "NanoCpus": int, "NetworkMode": str,
    "Mounts": [dict], "Privileged": bool,
}  # fmt: skip
KEYS: dict[str, Any] = {
    "Image": str, "Env": TEXTS, "Labels": TABLE, "AttachStdout": bool, "AttachStderr": bool, "Entrypoint": TEXTS,
    "Cmd": TEXTS, "WorkingDir": str, "User": str, "HostConfig": HOST,
}  # fmt: skip


@dataclass(eq=False)
class Container:
    name: str
    body: dict[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(32))
    process: asyncio.subprocess.Process | None = None
    following: asyncio.Task[None] | None = None
    started: bool = False
    killed: bool = False  # by a request
    status: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    outputs: list[asyncio.Queue[bytes]] = field(default_factory=list)  # of those who are attached

    @property
    def runs(self) -> bool:
        return self.started and not self.ended.is_set()

    @property
    def host(self) -> dict[str, Any]:
        host: dict[str, Any] = self.body["HostConfig"]
        return host

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """To its first process, which passes it on; a KILL takes all."""
        if self.process is not None and self.runs:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)


class Refused(Exception):  # noqa: N818  an answer
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """Runs in a thread of its own. Tests look at what is there, and set what it shall do wrong."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="engine")
        self.socket = f"{self._directory}/sock"  # short: such a path has 108 bytes at most
        self.images = {"tiny:1"}
        self.registry: dict[str, str] = {}  # what can be pulled, and how that ends: "" for well
        self.containers: dict[str, Container] = {}
        self.asked: list[str] = []
        self.creation = 0.0  # seconds that one takes
        self.quotes = False  # refuses each container and quotes its request
        self.made = 0
        self.begun = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Gone from one moment to the next; its containers go on."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        Path(self.socket).unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        shutil.rmtree(self._directory)

    def only(self) -> Container:
        (container,) = self.containers.values()
        return container

    def running(self) -> list[Container]:
        return [one for one in list(self.containers.values()) if one.runs]

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._answers])
        app.router.add_get("/version", self._version)
        paths: list[tuple[str, str, Any]] = [
            ("GET", "/containers/json", self._list),
            ("POST", "/containers/create", self._create),
            ("GET", "/containers/{name}/json", self._inspect),
            ("POST", "/containers/{name}/attach", self._attach),
            ("POST", "/containers/{name}/start", self._begin),
            ("POST", "/containers/{name}/wait", self._wait),
            ("POST", "/containers/{name}/kill", self._kill),
            ("DELETE", "/containers/{name}", self._delete),
            ("POST", "/images/create", self._pull),
        ]
        for method, path, handler in paths:
            app.router.add_route(method, f"/v{VERSION}{path}", handler)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, self.socket).start()

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            assert runner.server is not None
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def _end_all(self) -> None:
        for container in self.containers.values():
            await self._end(container)

    @web.middleware
    async def _answers(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(handler.__name__.removeprefix("_"))
        try:
            answer: web.StreamResponse = await handler(request)
        except Refused as refused:
            return _json({"message": str(refused)}, status=refused.status)
        except web.HTTPNotFound:
            return _json({"message": "page not found"}, status=404)
        return answer

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"ApiVersion": VERSION, "MinAPIVersion": "1.24", "Version": "24.0.0"})

    async def _create(self, request: web.Request) -> web.Response:
        body, name = await request.json(), request.query["name"]
        # Who asked may be gone: it is done nevertheless.
        return await asyncio.shield(self._loop.create_task(self._make(name, body)))

    async def _make(self, name: str, body: dict[str, Any]) -> web.Response:
        await asyncio.sleep(self.creation)
        if self.quotes:
            raise Refused(500, f"cannot make a container of {json.dumps(body)}")
        _check(body, KEYS, "")
        if body["Image"] not in self.images:
            raise Refused(404, f"No such image: {body['Image']}")
        if 0 < body["HostConfig"].get("Memory", 0) < 6 * 2**20:
            raise Refused(400, "Minimum memory limit allowed is 6MB")
        if name in self.containers:
            raise Refused(409, f'Conflict. The container name "/{name}" is already in use')
        container = self.containers[name] = Container(name, body)
        self.made += 1
        return _json({"Id": container.id, "Warnings": []}, status=201)

    async def _inspect(self, request: web.Request) -> web.Response:
        one = self._found(request)
        lacked_memory = one.status == 137 and not one.killed and "Memory" in one.host
        state = {"Running": one.runs, "ExitCode": one.status or 0, "OOMKilled": lacked_memory}
        return _json({"Id": one.id, "Config": {"Tty": False, **one.body}, "State": state})

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        one = self._found(request)
        output: asyncio.Queue[bytes] = asyncio.Queue()
        one.outputs.append(output)
        kind = "application/vnd.docker.multiplexed-stream"
        answer = web.StreamResponse(
            status=101, headers={"Content-Type": kind, "Connection": "Upgrade", "Upgrade": "tcp"}
        )
        answer.force_close()
        await answer.prepare(request)
        while frame := await output.get():
            await answer.write(frame)
        return answer

    async def _begin(self, request: web.Request) -> web.Response:
        return await asyncio.shield(self._loop.create_task(self._start_process(self._found(request))))

    async def _start_process(self, one: Container) -> web.Response:
        if one.started:
            return web.Response(status=304)
        one.started = True
        self.begun += 1
        argv = [*one.body.get("Entrypoint", ()), *one.body.get("Cmd", ("true",))]
        environment = dict(text.split("=", 1) for text in ["PATH=/usr/bin:/bin", *one.body["Env"]])
        with contextlib.ExitStack() as theirs:
            sources = [await self._source(theirs), await self._source(theirs)]
            try:
                one.process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=sources[0][1],
                    stderr=sources[1][1],
                    env=environment,
                    cwd=one.body.get("WorkingDir", self._directory),
                    start_new_session=True,
                )
            except FileNotFoundError:  # the init process is there, and says so
                self._say(one, 2, f"[FATAL tini (7)] exec {argv[0]} failed: No such file or directory\n".encode())
                self._ended(one, 127)
            else:
                one.following = self._loop.create_task(
                    self._follow(one, one.process, [reader for reader, _ in sources])
                )
        return web.Response(status=204)

    async def _source(self, theirs: contextlib.ExitStack) -> tuple[asyncio.StreamReader, int]:
        """What a process writes, and the end to write to. (With pipes of asyncio's own, a process has not ended before
        all that it left running has.)
        """
        reading, writing = os.pipe()
        theirs.callback(os.close, writing)
        reader = asyncio.StreamReader()
        file = os.fdopen(reading, "rb", buffering=0)
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        return reader, writing

    async def _follow(
        self, one: Container, process: asyncio.subprocess.Process, sources: list[asyncio.StreamReader]
    ) -> None:
        async def copy(number: int, source: asyncio.StreamReader) -> None:
            while data := await source.read(32 * 1024):
                self._say(one, number, data)

        copies = asyncio.gather(*(copy(number, source) for number, source in enumerate(sources, 1)))
        status = await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with its first process a container ends
        await copies
        self._ended(one, status if status >= 0 else 128 - status)

    def _say(self, one: Container, number: int, data: bytes) -> None:
        for output in one.outputs:
            output.put_nowait(struct.pack(">BxxxL", number, len(data)) + data)

    def _ended(self, one: Container, status: int) -> None:
        one.status = status
        one.ended.set()
        for output in one.outputs:
            output.put_nowait(b"")

    async def _wait(self, request: web.Request) -> web.StreamResponse:
        one = self._found(request)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)  # at once, as the engine does: only the body waits
        if one.started:
            await one.ended.wait()
        await answer.write(json.dumps({"StatusCode": one.status or 0}).encode())
        return answer

    async def _kill(self, request: web.Request) -> web.Response:
        one = self._found(request)
        if not one.runs:
            raise Refused(409, f"cannot kill container: {one.name}: container {one.id} is not running")
        one.killed = True
        one.signal(signal.Signals[request.query.get("signal", "SIGKILL")])
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        one = self._found(request)
        if one.runs and request.query.get("force") not in ("1", "true"):
            raise Refused(409, f'cannot remove container "/{one.name}": container is running')
        await self._end(one)
        self.containers.pop(one.name, None)
        return web.Response(status=204)

    async def _end(self, one: Container) -> None:
        one.killed = True
        while one.runs and not one.ended.is_set():  # more than once: its process group may just be about to be made
            one.signal(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(one.ended.wait(), 0.1)

    async def _list(self, request: web.Request) -> web.Response:
        wanted = dict(text.split("=", 1) for text in json.loads(request.query["filters"])["label"])
        found = [
            {"Id": one.id, "Names": [f"/{one.name}"], "Labels": one.body["Labels"]}
            for one in self.containers.values()
            if wanted.items() <= one.body["Labels"].items() and (one.runs or request.query.get("all") in ("1", "true"))
        ]
        return _json(found)

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        tag = request.query.get("tag")
        image = request.query["fromImage"] + (f":{tag}" if tag else "")
        if image not in self.registry:
            raise Refused(
                404, f"pull access denied for {image}, repository does not exist or may require 'docker login'"
            )
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        async for line in self._progress(self.registry[image]):
            await answer.write(json.dumps(line).encode() + b"\r\n")
        if not self.registry[image]:
            self.images.add(image)
        return answer

    async def _progress(self, trouble: str) -> AsyncIterator[dict[str, Any]]:
        yield {"status": "Pulling from library/x", "id": "latest"}
        while trouble == "endless":
            yield {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}}
            await asyncio.sleep(0.01)
        if trouble:
            yield {"errorDetail": {"message": trouble}, "error": trouble}

    def _found(self, request: web.Request) -> Container:
        name = request.match_info["name"]
        for one in self.containers.values():
            if name in (one.name, one.id):
                return one
        raise Refused(404, f"No such container: {name}")


def _json(value: Any, status: int = 200) -> web.Response:
    """Without a charset behind the type, as the engine has it."""
    return web.Response(body=json.dumps(value).encode(), status=status, headers={"Content-Type": "application/json"})


def _check(value: Any, kind: Any, where: str) -> None:
    """As the engine's own reading: a value of another kind is refused."""
    if isinstance(kind, list):
        fits = isinstance(value, list) and all(isinstance(one, kind[0]) for one in value)
    elif kind == TABLE:
        fits = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    elif isinstance(kind, dict):
        fits = isinstance(value, dict) and value.keys() <= kind.keys()
        for key in value if fits else ():
            _check(value[key], kind[key], f"{where}.{key}")
    else:
        fits = type(value) is kind
    if not fits:
        raise Refused(400, f"json: cannot unmarshal {json.dumps(value)} into Go struct field Config{where}")


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        engine.start()
        yield engine
    finally:
        engine.close()

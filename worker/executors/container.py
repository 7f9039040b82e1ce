"""Containers: `{"image", "command", "environment", "workdir", "user", "memory", "cpus", "network", "pull", …}`.

    pull, if need be ─▶ create ─▶ attach ─▶ start ─▶ wait ─▶ remove
                                               └─ timeout, cancel: TERM, after the grace KILL ─┘

The result is `{stdout, stderr, exit_code}`, logged, cut and told as with the shell executor. What a container may do is
decided in `worker.containers.policy`, what it is made of in `worker.containers.request`.

A container goes on when its worker dies. So each has labels that say under which lease it was begun, in which database,
and every worker looks now and then for those whose lease is gone: its holder died, or could not reach the engine at the
end. A lease that is gone never comes back, and who is alive holds its own until its containers are removed. A run that
is tried again begins by removing what is left of earlier attempts, so it does not wait for that look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from worker import output
from worker.containers.engine import ABSENT, Engine, EngineError, Read
from worker.containers.policy import Policy
from worker.containers.request import Request, requested
from worker.context import Call
from worker.executors import ExecutionFailed, Lost, Settings
from worker.output import Capture
from worker.processes import ending

DATABASE, APP, RUN, FENCE, WORKER = (f"walclock.{what}" for what in ("database", "app", "run", "fence", "worker"))
DRAIN = 5.0  # seconds for the rest of the output, once the container has ended
REMOVAL = 5.0  # seconds that a run waits until its container is removed
KILLED = 137  # the exit code after a KILL
Captures = dict[int, Capture]  # by the number of their stream

log = logging.getLogger(__name__)


class _Found(NamedTuple):
    id: str
    app: str
    run: str
    fence: int
    worker: str

    def __str__(self) -> str:
        return f"container {self.id[:12]} of run {self.run}, begun by worker {self.worker}"


class ContainerExecutor:
    secret_places = ("environment",)  # who may look at the engine sees the rest

    def __init__(self, settings: Settings) -> None:
        self._policy = Policy(settings.container_allow, settings.container_images)
        self._engine = Engine(settings.container_socket)
        self._grace = settings.grace
        self._limit = settings.output_limit
        self._database: str | None = None
        self._worker = 0
        self._removals: set[asyncio.Task[None]] = set()
        self._left: set[str] = set()  # that could not be removed

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{stdout, stderr, exit_code}`, with `truncated` when some was cut; ExecutionFailed unless it exits with 0."""
        request = requested(call, self._policy, self._labels(call))
        stdout = Capture(self._limit // 2, lambda text: call.log("stdout", text))
        stderr = Capture(self._limit // 2, lambda text: call.log("stderr", text))
        try:
            status, lacked_memory = await self._executed(call, request, {1: stdout, 2: stderr})
        except EngineError as error:
            said = request.masked(str(error))
            raise ExecutionFailed(said if error.status is None else f"container cannot be run: {said}") from error
        kept = output.result(stdout, stderr, status)
        if lacked_memory:
            raise ExecutionFailed("container ran out of memory", kept)
        if status != 0:
            raise ExecutionFailed(output.failure(f"container {ending(status)}", kept["stderr"]), kept)
        return kept

    def join(self, database: str | None, worker: int) -> None:
        self._database, self._worker = database, worker

    async def tidy(self, lost: Lost) -> None:
        for name in list(self._left):
            await self._engine.remove(name)
            self._left.discard(name)
        if self._database is None:
            return  # it does not say which it is, and leases of another may have the same numbers
        by_app: defaultdict[str, list[_Found]] = defaultdict(list)
        for one in await self._found({DATABASE: self._database}):
            by_app[one.app].append(one)
        for app, found in by_app.items():
            gone = set(await lost(app, [one.fence for one in found]))
            for one in found:
                if one.fence in gone:
                    await self._engine.remove(one.id)
                    log.info("removed %s: its lease is gone", one)

    async def close(self) -> None:
        if self._removals:
            await asyncio.wait(self._removals, timeout=REMOVAL)
        await self._engine.close()

    def _labels(self, call: Call) -> dict[str, str]:
        labels = {APP: call.app, RUN: str(call.run_id), FENCE: str(call.fence), WORKER: str(self._worker)}
        return labels if self._database is None else {DATABASE: self._database, **labels}

    async def _executed(self, call: Call, request: Request, captures: Captures) -> tuple[int, bool]:
        """Its exit status, and whether it ended for want of memory."""
        if call.attempt > 1:
            await self._clear(call)
        if request.pull == "always":
            await self._pull(call, request)
        # A name, so that a container can be removed whose creation was never answered.
        name = f"walclock-{call.run_id}-{call.attempt}-{secrets.token_hex(4)}"
        await self._create_or_pull(call, name, request)
        try:
            async with self._output(name, captures) as reading:
                return await self._ended(name, reading)
        finally:
            await self._removed(name)

    async def _clear(self, call: Call) -> None:
        """End what is left of earlier attempts, so that two of them run on one engine at no time."""
        if self._database is None:
            return
        for one in await self._found({DATABASE: self._database, APP: call.app, RUN: str(call.run_id)}):
            if one.fence < call.fence:
                await self._engine.remove(one.id)
                log.info("removed %s: the run begins anew", one)

    async def _found(self, labels: dict[str, str]) -> list[_Found]:
        """Those that workers began: with all labels that we give."""
        return [
            _Found(container, found.get(APP, ""), found.get(RUN, ""), int(found[FENCE]), found.get(WORKER, ""))
            for container, found in await self._engine.labelled(labels)
            if found.get(FENCE, "").isdecimal()
        ]

    async def _create_or_pull(self, call: Call, name: str, request: Request) -> None:
        try:
            await self._create(name, request)
        except EngineError as error:
            if error.status != ABSENT:
                raise
            if request.pull == "never":
                raise ExecutionFailed(f"image {request.image!r} is not there, and it is never pulled") from error
            await self._pull(call, request)
            await self._create(name, request)

    async def _create(self, name: str, request: Request) -> None:
        creating = asyncio.ensure_future(self._engine.create(name, request.body))
        try:
            await asyncio.shield(creating)
        except asyncio.CancelledError:
            try:  # its answer is awaited, unless told again: removed before it is there, it would stay
                with contextlib.suppress(EngineError):
                    await creating
            finally:
                await self._removed(name)
            raise
        except EngineError as error:
            if error.status is None and error.sent:
                self._left.add(name)
            raise

    async def _pull(self, call: Call, request: Request) -> None:
        began = time.monotonic()
        try:
            await self._engine.pull(request.image)
        except EngineError as error:
            if error.status is None:
                raise
            raise ExecutionFailed(f"image {request.image!r} cannot be pulled: {error}") from error
        call.log("scheduler", f"pulled {request.image} in {time.monotonic() - began:.1f} s")

    @contextlib.asynccontextmanager
    async def _output(self, name: str, captures: Captures) -> AsyncIterator[asyncio.Future[None]]:
        async with self._engine.attached(name) as read:
            reading = asyncio.ensure_future(_capture(read, captures))
            try:
                yield reading
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    async def _ended(self, name: str, reading: asyncio.Future[None]) -> tuple[int, bool]:
        try:
            await self._engine.start(name)
            status = await self._engine.wait(name)
            await asyncio.wait([reading], timeout=DRAIN)
        except asyncio.CancelledError:
            # Told again meanwhile, it is not waited for any longer: removing it is a KILL.
            with contextlib.suppress(EngineError, TimeoutError):
                await self._engine.terminate(name)
                async with asyncio.timeout(self._grace):
                    await self._engine.wait(name)
                    await asyncio.wait([reading])
            raise
        lacked_memory = False
        if status == KILLED:
            with contextlib.suppress(EngineError):
                lacked_memory = await self._engine.lacked_memory(name)
        return status, lacked_memory

    async def _removed(self, name: str) -> None:
        """Whatever happens meanwhile: who was told to stop has not before its container has."""
        removal = asyncio.ensure_future(self._remove(name))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        now = asyncio.get_running_loop().time
        until = now() + REMOVAL
        while not removal.done() and now() < until:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([removal], timeout=until - now())

    async def _remove(self, name: str) -> None:
        try:
            await self._engine.remove(name)
        except EngineError as error:
            self._left.add(name)
            log.warning("container %s cannot be removed, which is tried again: %s", name, error)


async def _capture(read: Read, captures: Captures) -> None:
    try:
        while (piece := await read()) is not None:
            stream, data = piece
            if stream in captures:
                captures[stream].feed(data)
    except Exception:
        log.debug("the output of a container broke off", exc_info=True)  # what became of it, `wait` says
    finally:
        for capture in captures.values():
            capture.end()

"""The worker protocol: thin over its SQL functions, for workers that have nothing but HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from scheduler.api.kinds import Id, Instant, Name, Seconds
from scheduler.api.operation import Ask, Operation, Reply
from scheduler.api.problem import Problem
from scheduler.store import work

FLOOR = 1.0
"""Seconds between two looks of who waits and is not told."""
_LONGEST_WAIT = 60
_NOTHING = Raw(b"null")
_Names = Annotated[list[Name], Meta(min_length=1, max_length=1_000)]


class Register(Struct, forbid_unknown_fields=True):
    """A token for some apps has to name which of them; without `apps`, all there are."""

    label: Annotated[str, Meta(min_length=1, max_length=200)]
    executors: _Names
    apps: _Names | None = None
    queues: _Names | None = None
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 1
    host: Annotated[str, Meta(max_length=200)] = ""
    pid: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    version: Annotated[str, Meta(max_length=100)] = ""


class Registered(Struct):
    worker: int


class Claim(Struct, forbid_unknown_fields=True):
    """Without `app` or `queue`: of those that the worker was registered for, the one whose run is due longest."""

    worker: Id
    app: Name | None = None
    queue: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=2_000)] = 1
    executors: _Names | None = None
    horizon: Annotated[float, Meta(ge=0, le=60, description="Seconds until which it may be due.")] = 0
    begin: Annotated[bool, Meta(description="Whether the first of the runs starts at once.")] = True
    wait: Annotated[float, Meta(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for something to be due.")] = 0


class ClaimedRun(Struct):
    id: int
    executor: str
    spec: dict[str, Any]
    attempt: int
    run_at: str
    scheduled_at: str | None
    job: str | None
    timeout: float | None
    max_attempts: int
    lost: int
    priority: int
    traceparent: str | None


class Claimed(Struct):
    """`lease` is the fence, and null when nothing was due."""

    lease: int | None = None
    runs: list[ClaimedRun] = []
    app: str | None = None
    queue: str | None = None
    limited: bool = False


class Held(Struct, forbid_unknown_fields=True):
    worker: Id
    app: Name
    lease: Id


class Begun(Struct):
    """`begun` false: none of the lease may be executed. `skip`: the runs that were cancelled or withdrawn."""

    begun: bool
    skip: list[int]


class Alone(Struct, forbid_unknown_fields=True):
    worker: Id


class Heartbeat(Struct):
    """The database's time, and the runs to be stopped."""

    now: str
    cancels: list[int]


class End(Struct, forbid_unknown_fields=True):
    run: Id
    outcome: Literal["succeeded", "failed", "cancelled", "lost"] = "succeeded"
    result: Annotated[Raw, Meta(description="Any JSON.")] = field(default_factory=lambda: _NOTHING)
    error: str | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    retry_after: Seconds | None = None
    max_attempts: Annotated[int, Meta(ge=0, le=32_767)] | None = None


class Finish(Held, forbid_unknown_fields=True):
    """Without `ends`, all that is open in the lease has succeeded."""

    ends: Annotated[list[End], Meta(min_length=1, max_length=10_000)] | None = None


class Finished(Struct):
    """How many counted: none when the lease is no longer the worker's."""

    finished: int


class Release(Held, forbid_unknown_fields=True):
    """Without `runs`, all that are open."""

    runs: Annotated[list[Id], Meta(min_length=1, max_length=10_000)] | None = None


class Released(Struct):
    released: int


class Line(Struct, forbid_unknown_fields=True):
    run: Id
    attempt: Annotated[int, Meta(ge=1, le=32_767)]
    line: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Its number. One that is sent again stays as it is.")]
    at: Instant
    text: str
    stream: Literal["stdout", "stderr", "log"] = "log"


class Log(Struct, forbid_unknown_fields=True):
    worker: Id
    app: Name
    lines: Annotated[list[Line], Meta(min_length=1, max_length=10_000)]


class Done(Struct):
    pass


class Lease(Struct):
    app: str
    lease: int


class Leases(Struct):
    leases: list[Lease]


async def register(ask: Ask) -> Registered:
    given: Register = ask.body
    if given.apps is None and ask.caller.apps is not None:
        raise Problem(403, "this token is for some apps only", hint="name them: apps")
    for app in given.apps or ():
        ask.caller.ensure_reaches(app)
    async with ask.data.reading() as conn:
        return Registered(await work.register_worker(conn, **msgspec.structs.asdict(given)))


async def claim(ask: Ask) -> Reply:
    given: Claim = ask.body
    if given.app is not None:
        ask.caller.ensure_reaches(given.app)
    async with ask.data.reading() as conn:
        known = await work.worker_of(conn, ask.caller.among, given.worker)
    apps = known.apps if given.app is None else [given.app]
    queues = known.queues if given.queue is None else [given.queue]
    until = time.monotonic() + given.wait
    while True:
        taken, pause = await _look(ask, given, apps, queues, given.executors or known.executors)
        left = until - time.monotonic()
        if taken is not None:
            return Reply(200, Raw(taken.encode()))
        if left <= 0:
            return Reply(200, Claimed())
        await ask.data.hints.wait(apps, min(left, pause))
        if await ask.request.is_disconnected():
            return Reply(200, Claimed())  # and nothing is claimed for nobody


async def _look(
    ask: Ask, given: Claim, apps: list[str] | None, queues: list[str] | None, executors: list[str]
) -> tuple[str | None, float]:
    """What was claimed; else the seconds until the next look, as far as is known now."""
    names = {"limit": given.limit, "executors": given.executors, "horizon": given.horizon, "begin": given.begin}
    pause = FLOOR
    async with ask.data.reading() as conn:
        if given.app is not None and given.queue is not None and not given.wait:
            taken = await work.claim(conn, ask.caller.among, given.worker, app=given.app, queue=given.queue, **names)
            return taken, pause
        for app, queue, due_in in await work.next_due(conn, apps, queues, executors):
            if due_in > given.horizon:
                return None, min(FLOOR, due_in - given.horizon)
            taken = await work.claim(conn, ask.caller.among, given.worker, app=app, queue=queue, **names)
            if taken is not None:
                return taken, 0
    return None, pause


async def begin(ask: Ask) -> Begun:
    skip = await _held(ask, work.begin, lease=ask.body.lease)
    return Begun(skip is not None, skip or [])


async def heartbeat(ask: Ask) -> Raw:
    async with ask.data.beating() as conn:
        return Raw((await work.heartbeat(conn, ask.caller.among, ask.body.worker)).encode())


async def finish(ask: Ask) -> Finished:
    given: Finish = ask.body
    ends = None if given.ends is None else msgspec.json.encode(given.ends).decode()
    return Finished(await _held(ask, work.finish, lease=given.lease, ends=ends))


async def release(ask: Ask) -> Released:
    return Released(await _held(ask, work.release, lease=ask.body.lease, runs=ask.body.runs))


async def append_log(ask: Ask) -> Done:
    await _held(ask, work.append_log, lines=msgspec.json.encode(ask.body.lines).decode())
    return Done()


async def list_leases(ask: Ask) -> Leases | Reply:
    async with ask.data.reading() as conn:
        leases = await work.leases_of(conn, ask.caller.among, ask.body.worker)
    return Reply(200, {"leases": Raw(leases.encode())})


async def retire(ask: Ask) -> Done:
    async with ask.data.reading() as conn:
        await work.retire_worker(conn, ask.caller.among, ask.body.worker)
    return Done()


async def _held(ask: Ask, function: Callable[..., Awaitable[Any]], **given: Any) -> Any:
    """What a function of the store says of a worker in an app, both named in the body."""
    ask.caller.ensure_reaches(ask.body.app)
    async with ask.data.reading() as conn:
        return await function(conn, ask.caller.among, ask.body.worker, app=ask.body.app, **given)


_HELD = {"worker": 7, "app": "billing", "lease": 19}


def _operation(  # noqa: PLR0917  a row of the table below
    handle: Callable[[Ask], Awaitable[Any]], summary: str, body: Any, example: Any, answer: Any, status: int = 200
) -> Operation:
    name = {"append_log": "log", "list_leases": "leases"}.get(handle.__name__, handle.__name__)
    return Operation(
        method="POST",
        path=f"/api/v1/work/{name}",
        handle=handle,
        scope="work",
        summary=summary,
        tag="work",
        body=body,
        example=example,
        answer=answer,
        status=status,
        errors=(404, 410),
    )


OPERATIONS = (
    _operation(
        register,
        "A new identity for this start of a worker.",
        Register,
        {"label": "w1", "apps": ["billing"], "executors": ["demo"]},
        Registered,
        201,
    ),
    _operation(
        claim,
        "Take due runs under a lease; may wait for some.",
        Claim,
        {"worker": 7, "limit": 10, "wait": 0.1},
        Claimed,
    ),
    _operation(begin, "Say that the first run of a lease starts that was claimed ahead.", Held, _HELD, Begun),
    _operation(heartbeat, "Say that the worker lives, once a second.", Alone, {"worker": 7}, Heartbeat),
    _operation(
        finish,
        "Report attempts that ended.",
        Finish,
        {**_HELD, "ends": [{"run": 42, "outcome": "succeeded", "result": {"sum": 3}}]},
        Finished,
    ),
    _operation(release, "Give back, unharmed, what was not started.", Release, {**_HELD, "runs": [43]}, Released),
    _operation(
        append_log,
        "Add lines to the logs of runs.",
        Log,
        {
            "worker": 7,
            "app": "billing",
            "lines": [{"run": 42, "attempt": 1, "line": 1, "at": "2030-01-31T08:00:00Z", "text": "done"}],
        },
        Done,
    ),
    _operation(list_leases, "What the worker holds: after an answer that was lost.", Alone, {"worker": 7}, Leases),
    _operation(retire, "Good-bye.", Alone, {"worker": 7}, Done),
)

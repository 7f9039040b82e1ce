"""Tasks: `{"task": NAME, "args": {…}}` (or a list of positional arguments), resolved in the registry and called.

An async task is awaited on the worker's own loop, with nothing in between: this path is driven 100,000 times a second.
A plain function runs in a thread. A thread cannot be killed: on timeout or cancel `ctx.cancelled` turns true, nobody
waits any longer and the late result is discarded. A task with `process=True`, and any task whose run was lost with a
worker before, runs in a child process, which is killed with its whole process group.
Threads and children are used again, but context variables that one task sets are not seen by the next.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any

from worker.children import Children
from worker.context import Call, Context
from worker.executors import ExecutionFailed, Settings
from worker.registry import REGISTRY, Task, unknown
from worker.threads import Threads


class PythonExecutor:
    secret_places = ("args",)

    def __init__(self, settings: Settings) -> None:
        self._threads = Threads(settings.threads)
        self._children = Children(settings.processes, settings.modules, settings.children, settings.grace)

    async def execute(self, call: Call) -> Any:
        """What the task returned; raises what it raised, or ExecutionFailed for a spec that names no such call."""
        task = resolve(call.spec)
        if call.isolate or task.kind == "process":
            return await self._children.call(call, context=task.wants_context)
        if task.kind == "thread":
            return await self._in_thread(task, call)
        if task.wants_context:
            return await _with_context(task, call)
        try:
            return await invoke(task, call.spec)
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio would let these two end the whole worker
            raise ExecutionFailed(exited(error)) from error

    async def close(self) -> None:
        self._threads.close()
        await self._children.close()

    async def _in_thread(self, task: Task, call: Call) -> Any:
        context = Context(call) if task.wants_context else None
        try:
            return await self._threads.call(partial(_called, task, call.spec, context))
        except asyncio.CancelledError:
            if context is not None:
                context.cancel()
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            raise ExecutionFailed(exited(error)) from error


def resolve(spec: dict[str, Any]) -> Task:
    """The task a spec names; ExecutionFailed with the known names for another."""
    try:
        return REGISTRY[spec["task"]]
    except (KeyError, TypeError):  # no such task, or something that is not even a string
        raise ExecutionFailed(unknown(spec.get("task"))) from None


def invoke(task: Task, spec: dict[str, Any], context: Context | None = None) -> Any:
    """Call a task with the spec's arguments; ExecutionFailed that says which argument does not fit."""
    args = spec.get("args") or {}
    try:
        if args.__class__ is dict:
            return task.function(context, **args) if task.wants_context else task.function(**args)
        if args.__class__ is list:
            return task.function(context, *args) if task.wants_context else task.function(*args)
    except TypeError as error:
        misfit = _misfit(task, args)
        if misfit is None:  # the task's own TypeError
            raise
        raise ExecutionFailed(misfit) from error
    kind = type(args).__name__
    raise ExecutionFailed(f'task {task.name!r}: "args" must be an object or an array, not {kind}', final=True)


def _called(task: Task, spec: dict[str, Any], context: Context | None) -> Any:
    result = invoke(task, spec, context)
    if inspect.iscoroutine(result):
        result.close()
        raise ExecutionFailed(f"task {task.name!r} returned a coroutine: declare it with `async def`")
    return result


async def _with_context(task: Task, call: Call) -> Any:
    context = Context(call)
    try:
        return await invoke(task, call.spec, context)
    except asyncio.CancelledError:
        context.cancel()
        raise
    except (SystemExit, KeyboardInterrupt) as error:
        raise ExecutionFailed(exited(error)) from error


def _misfit(task: Task, args: dict[str, Any] | list[Any]) -> str | None:
    """Why the arguments do not fit the signature, or None when they do."""
    first = (None,) if task.wants_context else ()
    try:
        signature = inspect.signature(task.function)
    except (TypeError, ValueError):
        return None
    try:
        if isinstance(args, dict):
            signature.bind(*first, **args)
        else:
            signature.bind(*first, *args)
    except TypeError as error:
        return f"task {task.name!r}: {error}; it takes {signature}"
    return None


def exited(error: BaseException) -> str:
    """What to say of a task that raised what would end the worker."""
    return (
        f"the task called sys.exit({error})" if isinstance(error, SystemExit) else "the task raised KeyboardInterrupt"
    )

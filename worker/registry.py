"""Names to functions. A task is registered when its module is imported; a worker imports the modules it was given."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

from scheduler.errors import ConfigError
from worker.context import Context
from worker.outcome import shorten

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = Literal["async", "thread", "process"]
LISTED = 20  # names in an "unknown task" text: enough to see a typing error, short enough for a history row


@dataclass(frozen=True, slots=True)
class Task:
    """A registered function. `timeout` (seconds) and `max_attempts` are None where the run's own apply."""

    name: str
    function: Callable[..., Any]
    kind: Kind
    timeout: float | None
    max_attempts: int | None
    wants_context: bool


REGISTRY: dict[str, Task] = {}


@overload
def task(function: Function, /) -> Function: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | timedelta | None = None,
    max_attempts: int | None = None,
    process: bool = False,
) -> Callable[[Function], Function]: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | timedelta | None = None,
    max_attempts: int | None = None,
    process: bool = False,
) -> Any:
    """Register a function under its own name or another, and return it unchanged: it can still be called directly.

    An `async def` runs on the worker's event loop, any other function in a thread, and either in a process that can
    be killed with `process=True`. A first parameter named `ctx` or annotated `Context` gets the attempt's context.
    """

    def register(function: Function) -> Function:
        _add(_made(function, name, timeout, max_attempts, process=process))
        return function

    return register if function is None else register(function)


def import_modules(names: Iterable[str]) -> None:
    """Import modules for the tasks they register; ConfigError in one line for one that cannot be imported."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # an installed command has no current directory on its path, `python -m` does
    for name in names:
        try:
            importlib.import_module(name)
        except ConfigError:
            raise
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(f"{error.name}.")):
                raise ConfigError(f"there is no module {name!r}", hint="checked the current directory too") from None
            raise ConfigError(f"cannot import {name!r}: {_one_line(error)}") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"cannot import {name!r}: {_one_line(error)}") from error


def unknown(name: object) -> str:
    """The error text for a task that this worker does not have."""
    if not isinstance(name, str):
        return f'spec has no task: {{"task": NAME, "args": {{…}}}} is needed, "task" is {shorten(repr(name), 200)}'
    known = sorted(REGISTRY)
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    return f"unknown task {shorten(name, 200)!r}: this worker has {listed or 'no tasks; --import names their module'}"


def _made(
    function: Callable[..., Any],
    name: str | None,
    timeout: float | timedelta | None,
    attempts: int | None,
    *,
    process: bool,
) -> Task:
    if not callable(function):
        raise ConfigError(f"@task expects a function, not {function!r}")
    named = name or getattr(function, "__name__", "")
    if not named or "\0" in named:
        raise ConfigError(f"a task needs a name: @task(name=…) for {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"task {named!r} is a generator: a task returns its result")
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"task {named!r}: timeout is {timeout!r}, it must be above zero (seconds or a timedelta)")
    if attempts is not None and attempts < 1:
        raise ConfigError(f"task {named!r}: max_attempts is {attempts!r}, it must be at least 1")
    kind: Kind = "process" if process else "async" if _is_async(function) else "thread"
    return Task(named, function, kind, seconds, attempts, _wants_context(function))


def _add(made: Task) -> None:
    known = REGISTRY.get(made.name)
    if known is not None and _origin(known.function) != _origin(made.function):
        raise ConfigError(
            f"two tasks are named {made.name!r}: {_place(known.function)} and {_place(made.function)}",
            hint="give one of them another name with @task(name=…)",
        )
    REGISTRY[made.name] = made


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  the method itself is looked at


def _wants_context(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return False
    if first.name == "ctx":
        return True
    if not isinstance(first.annotation, str):
        return first.annotation is Context
    try:
        return typing.get_type_hints(inspect.unwrap(function)).get(first.name) is Context
    except Exception:  # noqa: BLE001  another parameter's annotation may name what only a type checker imports
        return first.annotation.rpartition(".")[2] == "Context"


def _origin(function: Callable[..., Any]) -> object:
    """The same for two imports of one definition (a reload, or `__main__` and its module), which is no conflict."""
    code = getattr(_bare(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno, code.co_qualname) if code else function


def _place(function: Callable[..., Any]) -> str:
    code = getattr(_bare(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _bare(function: Callable[..., Any]) -> Any:
    bare = inspect.unwrap(function)
    return bare.func if isinstance(bare, functools.partial) else bare


def _one_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    return shorten(" ".join(f"{type(error).__name__}: {error}".split()), 500)

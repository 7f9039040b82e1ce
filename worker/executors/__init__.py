"""How work is done. An executor is a plug-in: a callable under the entry-point group `walclock.executors`.

The entry point is called with the worker's `Settings` and gives an `Executor`; its name is what a row carries in
`executor`. It is imported only when a worker is told to run it, so an extra that is not asked for need not be there.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from scheduler.errors import ConfigError, SchedulerError
from worker.context import Call
from worker.outcome import ExecutionFailed
from worker.processes import Processes

__all__ = ["GROUP", "ExecutionFailed", "Executor", "Lost", "Outliving", "Settings", "load"]

GROUP = "walclock.executors"
Lost = Callable[[str, Sequence[int]], Awaitable[list[int]]]  # (app, leases): those that are gone, for ever


class Executor(Protocol):
    """One that has `secret_places`, a tuple of keys, takes `${secret:NAME}` only there; see worker/secrets.py."""

    async def execute(self, call: Call) -> Any:
        """The JSON result, or an exception. When cancelled (timeout, cancel) it ends what it started and re-raises."""

    async def close(self) -> None:
        """Release what is shared between calls. Nothing is running any more."""


@runtime_checkable
class Outliving(Executor, Protocol):
    """An executor whose work is elsewhere and goes on when its worker dies: workers end what others left there."""

    def join(self, database: str | None, worker: int) -> None:
        """Who executes from now on: a worker's registration, in which database (None: it does not say which it is)."""

    async def tidy(self, lost: Lost) -> None:
        """End what was begun under leases that are gone. Called when a worker starts, and now and then."""


def _words(variable: str) -> list[str]:
    return os.environ.get(variable, "").replace(",", " ").split()


def _engine() -> str:
    """Where the container engine is: DOCKER_HOST may be on another machine, and what it says then is not for us."""
    host = os.environ.get("DOCKER_HOST", "").strip()
    default = host if host.startswith("unix://") else "/var/run/docker.sock"
    return os.environ.get("SCHEDULER_CONTAINER_SOCKET", "").strip() or default


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What executors can be told. Sizes in bytes, times in seconds."""

    modules: Sequence[str] = ()  # imported by child processes too, for their tasks
    threads: int = 32  # tasks in threads at a time
    children: int = field(default_factory=lambda: os.cpu_count() or 1)  # Python child processes at a time
    grace: float = 5.0  # between TERM and KILL
    output_limit: int = 1024 * 1024  # of a command's stdout and stderr together
    # internal addresses that may be called: CIDR, host or host:port, separated by commas or spaces in the variable
    http_allow: Sequence[str] = field(default_factory=lambda: _words("SCHEDULER_HTTP_ALLOW"))
    # variables of the worker that commands get besides the usual ones: names or patterns such as APP_*
    shell_env: Sequence[str] = field(default_factory=lambda: _words("SCHEDULER_SHELL_ENV"))
    container_socket: str = field(default_factory=_engine)
    container_allow: Sequence[str] = field(default_factory=lambda: _words("SCHEDULER_CONTAINER_ALLOW"))
    container_images: Sequence[str] = field(default_factory=lambda: _words("SCHEDULER_CONTAINER_IMAGES"))
    processes: Processes = field(default_factory=Processes)  # shared, so that a worker needs a single guard


def load(names: Sequence[str], **settings: Any) -> dict[str, Executor]:
    """The executors of these names, ready to use.

    ConfigError for a name that no installed package offers, MissingExtraError for one whose extra is not installed.
    """
    known = {point.name: point for point in entry_points(group=GROUP)}
    if strangers := [name for name in names if name not in known]:
        listed = ", ".join(sorted(known)) or f"nothing: no installed package has entry points in {GROUP}"
        raise ConfigError(f"unknown executor {strangers[0]!r}: there is {listed}")
    told = Settings(**settings)
    return {name: _made(known[name], told) for name in names}


def _made(point: EntryPoint, settings: Settings) -> Executor:
    try:
        executor: Executor = point.load()(settings)
    except SchedulerError:
        raise
    except Exception as error:
        raise ConfigError(f"executor {point.name!r} ({point.value}) cannot be loaded: {error}") from error
    return executor

"""Tasks for tests of child processes, which import this module by its name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from worker import Cancel, Context, Retry, task

SETTING: ContextVar[str] = ContextVar("SETTING", default="untouched")


@task(name="child.add", process=True)
def add(a: int, b: int) -> int:
    return a + b


@task(name="child.pid", process=True)
def pid() -> int:
    return os.getpid()


@task(name="child.later", process=True)
async def later(value: str) -> str:
    await asyncio.sleep(0)
    return value


@task(name="child.about", process=True)
def about(ctx: Context) -> dict[str, Any]:
    ctx.log("halfway")
    ctx.progress(0.5, "there")
    return {"run_id": ctx.run_id, "attempt": ctx.attempt, "fence": ctx.fence, "deadline": ctx.deadline.isoformat()}


@task(name="child.context", process=True)
def context() -> tuple[str, int]:
    """What a context variable held, and the process it was asked in; it holds something else afterwards."""
    before = SETTING.get()
    SETTING.set("mine")
    return before, os.getpid()


@task(name="child.context_later", process=True)
async def context_later() -> tuple[str, int]:
    await asyncio.sleep(0)
    return context()


@task(name="child.echo", process=True)
def echo(value: Any) -> Any:
    return value


@task(name="child.ends", process=True)
def ends(how: str) -> None:
    """Take the process down in one of the ways a task can."""
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "os._exit":
        os._exit(3)
    elif how == "sys.exit":
        sys.exit(4)
    elif how == "closes everything":
        os.closerange(3, 256)


@task(name="child.raises", process=True)
def raises(how: str) -> object:
    errors = {
        "ValueError": ValueError("no\0pe"),
        "Retry": Retry(after=30, reason="busy"),
        "Cancel": Cancel("not needed"),
    }
    if how in errors:
        raise errors[how]
    return object()


@task(name="child.sleeps", process=True)
def sleeps(pids: str, *, stubborn: bool = False) -> None:
    """Sleep, with a child of its own asleep too; both process ids go to the file."""
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["/bin/sleep", "600"])
    Path(pids).write_text(f"{os.getpid()} {child.pid} .")
    time.sleep(600)


@task(name="child.prints", process=True)
def prints() -> str:
    print("R not the protocol")  # noqa: T201  what a task may well do
    return sys.stdin.read()


@task(name="child.forks", process=True)
def forks() -> str:
    if os.fork() == 0:
        return "the copy"
    os.wait()
    return "the original"


@task(name="thread.pid")
def thread_pid() -> int:
    return os.getpid()

"""What is going on, on stderr, when that is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_REDRAW = 0.1  # seconds between two drawings

Advance = Callable[[int], None]


class Bars:
    """One bar for the whole, one for the step in progress.

    Drawn when something is reported, never by a thread: a thread that draws takes the interpreter for milliseconds, and
    that would be counted as latency of the product.
    """

    def __init__(self, measurements: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("measurements", total=measurements)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def measured(self) -> None:
        """One repetition of a scenario is done."""
        self._progress.advance(self._whole)
        self._progress.refresh()

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """Something that takes a while; call what you get with how much more of `total` is done."""
        task = self._progress.add_task(what, total=total)
        self._progress.refresh()

        def advance(more: int) -> None:
            self._progress.advance(task, more)
            if time.monotonic() - self._drawn > _REDRAW:
                self._progress.refresh()
                self._drawn = time.monotonic()

        try:
            yield advance
        finally:
            self._progress.remove_task(task)

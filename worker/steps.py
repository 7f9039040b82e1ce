"""A coroutine that was begun by hand, awaited to its end.

What ends at its first step needs no task of its own. Python 3.12 has that as eager tasks; here the first step is made
inside a task that is there already, and goes on in it if the coroutine waits for something.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Rest(Generic[T]):
    """Awaiting it makes the remaining steps of `steps`, which has just yielded `waits_for`."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        steps, waits_for = self._steps, self._waits_for
        try:
            while True:
                try:
                    answer = yield waits_for
                except GeneratorExit:
                    steps.close()
                    raise
                except BaseException as error:  # noqa: BLE001  whatever it is, it is meant for the coroutine
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

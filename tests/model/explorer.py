"""Walks through every state that a model can get into, in whatever order of steps, and says how it got to a bad one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(slots=True)
class Walk(Generic[State]):
    """What was seen. `broken` is the first promise that does not hold, and `path` the shortest way there."""

    states: int = 0
    steps: int = 0
    taken: set[str] = field(default_factory=set)
    """The names of all steps that were made."""
    broken: str | None = None
    path: list[str] = field(default_factory=list)


def explore(
    start: State,
    steps: Callable[[State], Iterable[tuple[str, State]]],
    wrong: Callable[[State], str | None],
    is_over: Callable[[State], bool],
) -> Walk[State]:
    """Breadth-first. `wrong` says what is wrong with a state; from each a way must lead to one that is over."""
    walk: Walk[State] = Walk()
    came: dict[State, tuple[State, str] | None] = {start: None}
    before: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if (why := wrong(state)) is not None:
            walk.broken, walk.path = why, _path(came, state)
            break
        for name, after in steps(state):
            walk.steps += 1
            walk.taken.add(name)
            if after not in came:
                came[after] = state, name
                before[after] = []
                queue.append(after)
            before[after].append(state)
    walk.states = len(came)
    if walk.broken is None:
        stuck = _stuck(before, is_over)
        if stuck is not None:
            walk.broken, walk.path = "there is no way to the end from here", _path(came, stuck)
    return walk


def _stuck(before: dict[State, list[State]], is_over: Callable[[State], bool]) -> State | None:
    """The first state from which none that is over can be reached."""
    good = {state for state in before if is_over(state)}
    queue = deque(good)
    while queue:
        for state in before[queue.popleft()]:
            if state not in good:
                good.add(state)
                queue.append(state)
    return next((state for state in before if state not in good), None)


def _path(came: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    names = []
    while (step := came[state]) is not None:
        state, name = step
        names.append(name)
    return names[::-1]

"""Planners that are twins: each decides from what it read a while ago, and writes in one transaction of plan_fires.

read        scheduler.due_jobs: the next instant and the revision of the job
plan        scheduler.plan_fires: void when the job moved or was edited since; an instant in the ledger is passed over
edit        scheduler.job_changed: the revision grows, and it is decided again from an earlier instant on
set back    the clock, or a restored table: the next instant is an earlier one, and the revision stays
dies        a planner forgets what it read
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

INSTANTS = 3
EDITS = 2


class Read(NamedTuple):
    next: int
    revision: int


class State(NamedTuple):
    next: int = 0
    """The earliest instant that is not decided."""
    revision: int = 0
    ledger: frozenset[int] = frozenset()
    runs: tuple[int, ...] = (0,) * INSTANTS
    """How many of each instant."""
    planners: tuple[Read | None, ...] = (None, None)


class Planning(NamedTuple):
    """Which of its checks it has."""

    ledger_has_a_key: bool = True
    compares_what_was_read: bool = True

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, read in enumerate(state.planners):
            if state.next < INSTANTS:
                yield "read", _with_planner(state, number, Read(state.next, state.revision))
            if read is not None:
                yield "dies", _with_planner(state, number, None)
                yield "plan", _with_planner(self.plan(state, read), number, None)
        if state.revision < EDITS:
            for earlier in range(state.next):
                yield "edit", state._replace(revision=state.revision + 1, next=earlier)
        for earlier in range(state.next):
            yield "set back", state._replace(next=earlier)

    def plan(self, state: State, read: Read) -> State:
        if self.compares_what_was_read and read != (state.next, state.revision):
            return state
        instant = read.next
        runs = state.runs
        if instant not in state.ledger or not self.ledger_has_a_key:
            runs = (*runs[:instant], min(runs[instant] + 1, 2), *runs[instant + 1 :])
        return state._replace(ledger=state.ledger | {instant}, runs=runs, next=instant + 1)


def wrong(state: State) -> str | None:
    """The promise that a state breaks."""
    for instant, runs in enumerate(state.runs):
        if runs > 1:
            return f"instant {instant} has two runs"
        if runs == 0 and instant in state.ledger:
            return f"instant {instant} is decided, and has no run"
    return None


def is_over(state: State) -> bool:
    """Every instant has its run."""
    return all(state.runs)


def _with_planner(state: State, number: int, read: Read | None) -> State:
    planners = (*state.planners[:number], read, *state.planners[number + 1 :])
    return state._replace(planners=planners)

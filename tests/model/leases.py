"""The lease protocol as a state machine: what the database holds, and what each worker believes.

Each step is one transaction of one SQL function, or what a process does by itself. The functions lock the lease's row,
so one transaction at a time changes it, and a step here is indivisible as it is there:

    claim, claim unheard        scheduler.claim, whose answer may be lost
    begin, begin unheard        scheduler.begin
    finish, finish unheard      scheduler.finish, of all runs or one: succeeded or failed; `unheard`: reported once more
    release, release unheard    scheduler.release, of what was not begun, or was never heard of (leases_of)
    dies                        kill -9 at any point: the process forgets all, and starts under another registration
    silent                      scheduler.reclaim declares it dead: there is no time here, so this may happen whenever
    hears                       JS004 from scheduler.heartbeat or claim: it drops all and registers anew
    reclaim                     scheduler.reclaim takes one lease of a worker that is not alive
    cancel                      scheduler.cancel
    retry                       scheduler.retry of an ended run, once

A process that is declared dead and does not hear of it goes on for as long as it likes: SIGSTOP, a frozen machine. So
all reports of the dead are here, in every order. Fences are numbered anew by their rank in each state, which makes the
states finitely many without a bound on how often anything happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

ABSENT, PENDING, LEASED, ENDED = "absent", "pending", "leased", "ended"
PREFETCHED, EXECUTING = "prefetched", "executing"
DEAD = -1
POISON = 3


class Run(NamedTuple):
    limit: int
    place: str = PENDING
    attempt: int = 0
    lost: int = 0
    top: int = 0
    """The greatest fence it was ever claimed under."""
    starts: int = 0
    """How often its execution was begun; more than three are three."""
    ends: int = 0
    stale: bool = False
    """Something was written for it under a smaller fence than its greatest."""


class Lease(NamedTuple):
    fence: int
    holder: int
    """The process in its present life, or DEAD."""
    begun: bool
    open: tuple[int, ...]
    cancel: tuple[int, ...] = ()


class Held(NamedTuple):
    """What a process believes to hold."""

    fence: int
    phase: str
    runs: tuple[int, ...]


class Process(NamedTuple):
    alive: bool = True
    held: Held | None = None


class State(NamedTuple):
    runs: tuple[Run, ...]
    leases: tuple[Lease, ...] = ()
    processes: tuple[Process, ...] = (Process(), Process())
    marked: tuple[Lease, ...] = ()
    """What a reclaim that looks first and takes later has looked at; the real one never does."""


@dataclass(frozen=True)
class Protocol:
    """Which of its checks it has."""

    finish_checks_the_holder: bool = True
    begin_checks_the_holder: bool = True
    reclaim_locks_the_lease: bool = True
    reclaim_counts_begun_as_lost: bool = True
    reclaims: bool = True
    people: bool = True
    """Whether anybody cancels and retries."""

    def start(self, limits: tuple[int, ...]) -> State:
        """Runs with so many attempts each, and one place that `retry` may fill."""
        return State((*(Run(limit) for limit in limits), Run(0, ABSENT)))

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for name, after in self._steps(state):
            yield name, _ranked(after)

    def _steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, process in enumerate(state.processes):
            yield from self._of_a_process(state, number, process)
        yield from self._reclaim(state)
        for run, each in enumerate(state.runs if self.people else ()):
            if each.place in (PENDING, LEASED):
                yield from self._cancel(state, run)
            if each.place == ENDED and state.runs[-1].place == ABSENT and each.limit > 0:
                yield "retry", _with_run(state, len(state.runs) - 1, Run(each.limit))

    def _of_a_process(self, state: State, number: int, process: Process) -> Iterator[tuple[str, State]]:
        if process.alive:
            yield "silent", _with_process(state, number, process._replace(alive=False))
        else:
            yield "hears", _reborn(state, number)
        yield "dies", _reborn(state, number)
        if process.held is None:
            if process.alive:
                yield from self._claim(state, number)
                yield from self._release_unheard(state, number)
        elif process.held.phase == PREFETCHED:
            yield from self._begin(state, number, process.held)
            yield (
                "release",
                _with_process(self.release(state, number, process.held.fence), number, process._replace(held=None)),
            )
        else:
            yield from self._finish(state, number, process, process.held)

    def _claim(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        pending = tuple(run for run, each in enumerate(state.runs) if each.place == PENDING)
        for runs in {pending[:1], pending} - {()}:
            fence = _next_fence(state)
            for begin in (True, False):
                after = state._replace(leases=(*state.leases, Lease(fence, number, begin, runs)))
                for run in runs:
                    after = _with_run(after, run, after.runs[run]._replace(place=LEASED, top=fence))
                yield "claim unheard", after
                held = Held(fence, EXECUTING if begin else PREFETCHED, runs)
                yield "claim", _with_held(_started(after, runs) if begin else after, number, held)

    def _release_unheard(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        for lease in state.leases:
            if lease.holder == number:
                yield "release unheard", self.release(state, number, lease.fence)

    def _begin(self, state: State, number: int, held: Held) -> Iterator[tuple[str, State]]:
        lease = _lease(state, number, held.fence)
        if lease is None:
            if self.begin_checks_the_holder:
                yield "begin refused", _with_held(state, number, None)
            else:
                yield "begin", _with_held(_started(state, held.runs), number, held._replace(phase=EXECUTING))
            return
        begun = _with_lease(state, lease._replace(begun=True))
        yield "begin unheard", begun
        runs = tuple(run for run in held.runs if run in lease.open)
        yield "begin", _with_held(_started(begun, runs), number, held._replace(phase=EXECUTING, runs=runs))

    def _finish(self, state: State, number: int, process: Process, held: Held) -> Iterator[tuple[str, State]]:
        for some in {held.runs, held.runs[:1]}:
            for outcome in ("succeeded", "failed"):
                after = self.finish(state, number, held.fence, some, outcome)
                yield "finish unheard", after
                rest = tuple(run for run in held.runs if run not in some)
                yield (
                    "finish",
                    _with_process(after, number, process._replace(held=held._replace(runs=rest) if rest else None)),
                )

    def finish(self, state: State, number: int, fence: int, runs: tuple[int, ...], outcome: str) -> State:
        lease = _lease(state, number, fence)
        if lease is None and self.finish_checks_the_holder:
            return state
        for run in runs:
            if lease is not None and run not in lease.open:
                continue
            if lease is None and state.runs[run].place == ENDED:
                continue
            if lease is None:  # broken: whoever reports is believed
                state = _struck(state, run)
                state = self.ended(state, run, fence, outcome, cancelled=False)
            else:
                state = self.ended(_struck(state, run), run, fence, outcome, cancelled=run in lease.cancel)
        return state

    def ended(self, state: State, run: int, fence: int, outcome: str, *, cancelled: bool) -> State:
        """An attempt ended: the end of its run, or not."""
        each = state.runs[run]
        attempt, lost = each.attempt + 1, each.lost + 1 if outcome == "lost" else 0
        again = outcome != "succeeded" and attempt < each.limit and lost < POISON and not cancelled
        each = each._replace(
            place=PENDING if again else ENDED, attempt=attempt, lost=lost if again else 0,
            ends=min(each.ends + (not again), 2), stale=each.stale or fence < each.top,
        )  # fmt: skip
        return _with_run(state, run, each)

    def release(self, state: State, number: int, fence: int) -> State:
        lease = _lease(state, number, fence)
        if lease is None:
            return state
        for run in lease.open:
            each = state.runs[run]
            end = run in lease.cancel
            state = _with_run(
                _struck(state, run), run, each._replace(place=ENDED if end else PENDING, ends=min(each.ends + end, 2))
            )
        return state

    def _reclaim(self, state: State) -> Iterator[tuple[str, State]]:
        if not self.reclaims:
            return
        taken = [lease for lease in state.leases if lease.holder == DEAD or not state.processes[lease.holder].alive]
        if self.reclaim_locks_the_lease:
            for lease in taken:
                yield "reclaim", self._taken(state, lease)
            return
        for lease in taken:  # broken: looks first, and takes later what it saw then
            if not state.marked:
                yield "reclaim looks", state._replace(marked=(lease,))
        for lease in state.marked:
            yield "reclaim", self._taken(state._replace(marked=()), lease)

    def _taken(self, state: State, lease: Lease) -> State:
        for run in lease.open:
            if lease.begun and self.reclaim_counts_begun_as_lost:
                state = self.ended(_struck(state, run), run, lease.fence, "lost", cancelled=run in lease.cancel)
            else:
                each = state.runs[run]
                end = run in lease.cancel
                state = _with_run(
                    _struck(state, run),
                    run,
                    each._replace(place=ENDED if end else PENDING, ends=min(each.ends + end, 2)),
                )
        return state

    def _cancel(self, state: State, run: int) -> Iterator[tuple[str, State]]:
        each = state.runs[run]
        lease = next((lease for lease in state.leases if run in lease.open), None)
        if lease is not None and lease.begun:
            if run not in lease.cancel:
                yield "cancel", _with_lease(state, lease._replace(cancel=tuple(sorted((*lease.cancel, run)))))
            return
        yield "cancel", _with_run(_struck(state, run), run, each._replace(place=ENDED, ends=min(each.ends + 1, 2)))


def wrong(state: State) -> str | None:
    """The promise that a state breaks."""
    for run, each in enumerate(state.runs):
        places = sum(run in lease.open for lease in state.leases)
        if each.ends > 1:
            return f"run {run} has two ends"
        if places != (each.place == LEASED):
            return f"run {run} is {each.place}, and in {places} leases"
        if (each.ends == 1) != (each.place == ENDED):
            return f"run {run} is {each.place} and has {each.ends} ends"
        if each.stale:
            return f"something was written for run {run} under a fence that had been taken away"
        if each.limit == 1 and each.starts > 1:
            return f"run {run} may start once, and started again"
    return None


def is_over(state: State) -> bool:
    return all(each.place in (ENDED, ABSENT) for each in state.runs)


def without(**checks: bool) -> Protocol:
    """The protocol with a check left out."""
    return replace(Protocol(), **checks)


def _lease(state: State, number: int, fence: int) -> Lease | None:
    """The lease that a statement finds: it names worker and lease. One that was declared dead still is who it was."""
    return next((lease for lease in state.leases if lease.fence == fence and lease.holder == number), None)


def _started(state: State, runs: tuple[int, ...]) -> State:
    for run in runs:
        state = _with_run(state, run, state.runs[run]._replace(starts=min(state.runs[run].starts + 1, 3)))
    return state


def _struck(state: State, run: int) -> State:
    """Off whichever lease has it; the lease goes with its last run."""
    leases = (lease._replace(open=tuple(one for one in lease.open if one != run)) for lease in state.leases)
    return state._replace(leases=tuple(lease for lease in leases if lease.open))


def _reborn(state: State, number: int) -> State:
    leases = tuple(lease._replace(holder=DEAD) if lease.holder == number else lease for lease in state.leases)
    return _with_process(state._replace(leases=leases), number, Process())


def _with_run(state: State, place: int, run: Run) -> State:
    return state._replace(runs=(*state.runs[:place], run, *state.runs[place + 1 :]))


def _with_process(state: State, number: int, process: Process) -> State:
    return state._replace(processes=(*state.processes[:number], process, *state.processes[number + 1 :]))


def _with_held(state: State, number: int, held: Held | None) -> State:
    return _with_process(state, number, state.processes[number]._replace(held=held))


def _with_lease(state: State, lease: Lease) -> State:
    return state._replace(leases=tuple(lease if one.fence == lease.fence else one for one in state.leases))


def _next_fence(state: State) -> int:
    return 1 + max(_fences(state), default=0)


def _fences(state: State) -> set[int]:
    return {
        *(lease.fence for lease in (*state.leases, *state.marked)),
        *(process.held.fence for process in state.processes if process.held),
        *(run.top for run in state.runs if run.top and run.place != ENDED),
    }


def _ranked(state: State) -> State:
    """The same state, with its fences numbered by rank; processes are alike, so their order does not matter either."""
    rank: dict[int, int] = {fence: place for place, fence in enumerate(sorted(_fences(state)), 1)}
    runs = tuple(
        run._replace(top=rank.get(run.top, 0), starts=run.starts if run.limit == 1 else 0)
        if run.place != ENDED
        else Run(run.limit, ENDED, top=0, ends=run.ends, starts=run.starts if run.limit == 1 else 0, stale=run.stale)
        for run in state.runs
    )
    leases = tuple(sorted(lease._replace(fence=rank[lease.fence]) for lease in state.leases))
    marked = tuple(lease._replace(fence=rank[lease.fence]) for lease in state.marked)
    processes = tuple(
        process._replace(held=process.held._replace(fence=rank[process.held.fence])) if process.held else process
        for process in state.processes
    )
    return _in_order(State(runs, leases, processes, marked))


def _in_order(state: State) -> State:
    def key(process: Process) -> tuple[Any, ...]:
        return process.alive, process.held is not None, process.held or ()

    order = sorted(range(len(state.processes)), key=lambda one: (key(state.processes[one]), _holds(state, one)))
    if order == list(range(len(order))):
        return state
    place = {old: new for new, old in enumerate(order)} | {DEAD: DEAD}

    def moved(leases: tuple[Lease, ...]) -> tuple[Lease, ...]:
        return tuple(lease._replace(holder=place[lease.holder]) for lease in leases)

    return State(state.runs, moved(state.leases), tuple(state.processes[one] for one in order), moved(state.marked))


def _holds(state: State, number: int) -> tuple[int, ...]:
    return tuple(lease.fence for lease in state.leases if lease.holder == number)

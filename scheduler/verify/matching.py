"""Which runs stand for which targets, by time alone, whatever a run says of itself.

As in Jepsen's test of Chronos: each target has a window in which its run must have started, each run may stand for one
target, and a target without a run was missed. There a constraint solver looks for the matching. Here all windows of one
job are equally long, so the order of their beginnings is the order of their ends, and the greedy choice, the earliest
target that is still open, is a greatest matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matching:
    pairs: tuple[tuple[float, float], ...]
    """A target's instant, and the start of its run."""
    missed: tuple[float, ...]
    """Instants without a run in their window."""
    extra: tuple[float, ...]
    """Starts of runs that stand for nothing."""


def match(instants: Sequence[float], starts: Sequence[float], *, early: float, late: float) -> Matching:
    """A greatest matching; a start fits an instant from `early` seconds before it to `late` seconds after."""
    pairs, missed, extra = [], [], []
    waiting = sorted(instants)
    place = 0
    for start in sorted(starts):
        while place < len(waiting) and waiting[place] + late < start:
            missed.append(waiting[place])
            place += 1
        if place < len(waiting) and waiting[place] - early <= start:
            pairs.append((waiting[place], start))
            place += 1
        else:
            extra.append(start)
    missed += waiting[place:]
    return Matching(tuple(pairs), tuple(missed), tuple(extra))

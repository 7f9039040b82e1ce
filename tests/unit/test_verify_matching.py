"""Targets and runs are matched by time alone, and no matching would have more pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.verify.matching import match

instants = st.lists(st.integers(0, 20).map(float), max_size=7)
starts = st.lists(st.integers(-2, 30).map(float), max_size=7)
early = st.sampled_from([0.0, 1.0])
late = st.sampled_from([0.0, 2.0, 5.0])


def greatest(instants: list[float], starts: list[float], early: float, late: float) -> int:
    """How many pairs there can be, by augmenting paths: no assumption about the windows."""
    holder: dict[int, int] = {}

    def augment(target: int, tried: set[int]) -> bool:
        for place, start in enumerate(starts):
            if place not in tried and instants[target] - early <= start <= instants[target] + late:
                tried.add(place)
                if place not in holder or augment(holder[place], tried):
                    holder[place] = target
                    return True
        return False

    return sum(augment(target, set()) for target in range(len(instants)))


@given(instants, starts, early, late)
def test_no_matching_has_more_pairs(instants: list[float], starts: list[float], early: float, late: float) -> None:
    matching = match(instants, starts, early=early, late=late)
    assert len(matching.pairs) == greatest(instants, starts, early, late)


@given(instants, starts, early, late)
def test_every_target_and_every_run_is_in_one_place(
    instants: list[float], starts: list[float], early: float, late: float
) -> None:
    matching = match(instants, starts, early=early, late=late)
    assert sorted([*(instant for instant, _ in matching.pairs), *matching.missed]) == sorted(instants)
    assert sorted([*(start for _, start in matching.pairs), *matching.extra]) == sorted(starts)
    assert all(instant - early <= start <= instant + late for instant, start in matching.pairs)


def test_a_run_stands_for_one_target_only() -> None:
    matching = match([10.0, 11.0], [11.0], early=0, late=5)
    assert (matching.pairs, matching.missed, matching.extra) == (((10.0, 11.0),), (11.0,), ())


def test_a_run_before_its_instant_stands_for_nothing() -> None:
    matching = match([10.0], [9.0], early=0.5, late=5)
    assert (matching.missed, matching.extra) == ((10.0,), (9.0,))

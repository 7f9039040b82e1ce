"""The lease protocol and the planners, in every order of their steps; and the same walk finds each missing check."""

from __future__ import annotations

import pytest

from tests.model import leases, planners
from tests.model.explorer import Walk, explore
from tests.model.leases import Protocol, without
from tests.model.planners import Planning

TWO_RUNS = (2, 1)
"""One that may be tried again and one that must not: claimed together, finished in parts or at once."""


def walk_leases(protocol: Protocol, limits: tuple[int, ...]) -> Walk[leases.State]:
    return explore(protocol.start(limits), protocol.steps, leases.wrong, leases.is_over)


def walk_planners(planning: Planning) -> Walk[planners.State]:
    return explore(planners.State(), planning.steps, planners.wrong, planners.is_over)


@pytest.mark.parametrize(("limits", "least"), [((1,), 500), ((2,), 1_000), ((4,), 2_000)])
def test_the_protocol_keeps_its_promises_about_a_run_in_every_order(limits: tuple[int, ...], least: int) -> None:
    walk = walk_leases(Protocol(), limits)
    assert walk.broken is None, walk.path
    assert walk.states > least, "a model that goes nowhere proves nothing"
    assert walk.taken == {
        *("claim", "claim unheard", "begin", "begin unheard", "begin refused", "finish", "finish unheard"),
        *("release", "release unheard", "silent", "hears", "dies", "reclaim", "cancel", "retry"),
    }


@pytest.mark.parametrize("limits", [(1, 1), (2, 1)])
def test_it_keeps_them_about_two_runs_of_one_lease_which_end_in_parts(limits: tuple[int, ...]) -> None:
    walk = walk_leases(without(people=False), limits)
    assert walk.broken is None, walk.path
    assert walk.states > 2_500


@pytest.mark.parametrize(
    ("protocol", "limit", "why"),
    [
        pytest.param(
            without(finish_checks_the_holder=False), 2, "under a fence that had been taken away", id="no fence check"
        ),
        pytest.param(
            without(begin_checks_the_holder=False), 1, "may start once, and started again", id="begin asks nobody"
        ),
        pytest.param(without(reclaim_locks_the_lease=False), 1, "has two ends", id="reclaim without a holder check"),
        pytest.param(
            without(reclaim_counts_begun_as_lost=False), 1, "may start once", id="reclaim gives back what had begun"
        ),
        pytest.param(without(reclaims=False), 1, "there is no way to the end", id="no reclaim"),
    ],
)
def test_without_one_of_its_checks_the_walk_finds_the_way_to_what_breaks(
    protocol: Protocol, limit: int, why: str
) -> None:
    walk = walk_leases(protocol, (limit,))
    assert walk.broken is not None
    assert why in walk.broken
    assert 1 < len(walk.path) < 10, "the shortest way is one that a person can follow"


@pytest.mark.parametrize("compares", [True, False])
def test_an_instant_fires_once_whatever_twin_planners_do_and_the_key_of_the_ledger_is_enough(*, compares: bool) -> None:
    walk = walk_planners(Planning(compares_what_was_read=compares))
    assert walk.broken is None, walk.path
    assert walk.states > 500
    assert walk.taken == {"read", "plan", "edit", "set back", "dies"}


@pytest.mark.parametrize("compares", [True, False])
def test_without_the_ledgers_key_an_instant_fires_twice(*, compares: bool) -> None:
    walk = walk_planners(Planning(ledger_has_a_key=False, compares_what_was_read=compares))
    assert walk.broken == "instant 0 has two runs"

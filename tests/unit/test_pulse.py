"""The arithmetic of a job that a worker fires from its timer: which instant is next, and what the report says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pulse import Pulse
from worker.store import Report, TakenPulse

MS = 1_000
NOON = 1_772_366_400_000_000  # microseconds
TAKEN = TakenPulse(
    app="shop",
    job="beat",
    lease=7,
    run_id=70,
    queue="default",
    executor="python",
    spec="{}",
    timeout=60.0,
    lost=0,
    period=10 * MS,
    from_end=False,
    anchor_at=NOON,
    after_at=None,
    is_gap=False,
    ends_at=None,
)


def pulse(now: int = NOON - MS, **changed: Any) -> Pulse:
    return Pulse(msgspec.structs.replace(TAKEN, **changed), now / 1e6)


def fire(one: Pulse, *, late: int = 0, takes: int = 0, outcome: str = "succeeded", error: str | None = None) -> int:
    """Fires the next instant, so many microseconds late; returns it."""
    assert one.next is not None
    at, started = one.next, one.next + late
    one.ended(at, Report(one.run_id, outcome, started / 1e6, (started + takes) / 1e6, error=error))
    return at


def report(one: Pulse) -> dict[str, Any]:
    sent = one.to_send()
    assert sent is not None
    return sent


def test_the_first_instant_is_the_anchor() -> None:
    assert pulse().next == NOON


@pytest.mark.parametrize("period", [10 * MS, 33_333, 200 * MS, 4_999_999])
def test_after_any_number_of_fires_an_instant_is_the_anchor_and_whole_periods(period: int) -> None:
    one = pulse(period=period)
    for _ in range(20_000):
        fire(one, late=700, takes=150)
    assert one.next == NOON + 20_000 * period


@given(
    period=st.integers(10 * MS, 5_000 * MS),
    fires=st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000)), max_size=30),
)
def test_every_instant_is_fired_skipped_or_missed_once(period: int, fires: list[tuple[int, int]]) -> None:
    one = pulse(period=period)
    now = NOON
    for delay, takes in fires:
        one.catch_up(now / 1e6)
        assert one.next is not None
        assert (one.next - NOON) % period == 0
        now = max(now, one.next) + delay
        one.catch_up(now / 1e6)
        now = max(now, one.next)
        fire(one, late=now - one.next, takes=takes)
        now += takes
    sent = one.to_send()
    counted = 0 if sent is None else sum(sent["result"][what] for what in ("fires", "skipped", "missed"))
    assert one.next == NOON + counted * period


def test_an_instant_that_comes_while_the_fire_before_runs_is_skipped() -> None:
    one = pulse()
    fire(one, takes=25 * MS)
    assert one.next == NOON + 30 * MS
    assert report(one)["skipped"] == {"first": (NOON + 10 * MS) / 1e6, "last": (NOON + 20 * MS) / 1e6, "count": 2}


def test_an_instant_that_passed_before_the_fire_began_is_fired_late() -> None:
    one = pulse()
    assert [fire(one, late=35 * MS)] + [fire(one, late=late) for late in (26 * MS, 17 * MS, 8 * MS)] == [
        NOON + k * 10 * MS for k in range(4)
    ]
    assert one.next == NOON + 40 * MS
    assert report(one)["result"]["skipped"] == 0


def test_what_is_later_than_a_second_is_missed_and_never_fired() -> None:
    one = pulse()
    one.catch_up((NOON + 3_000 * MS) / 1e6)
    assert one.next == NOON + 2_000 * MS
    sent = report(one)
    assert sent["missed"] == {"first": NOON / 1e6, "last": (NOON + 1_990 * MS) / 1e6, "count": 200}
    assert sent["after"] == (NOON + 1_990 * MS) / 1e6
    assert sent["fires"] == 0


def test_of_a_longer_period_the_last_instant_that_passed_is_made_up_for() -> None:
    one = pulse(period=4_000 * MS)
    one.catch_up((NOON + 11_000 * MS) / 1e6)
    assert one.next == NOON + 8_000 * MS


def test_the_next_holder_goes_on_behind_what_was_dealt_with() -> None:
    assert pulse(after_at=NOON + 70 * MS).next == NOON + 80 * MS
    assert pulse(after_at=NOON + 75 * MS).next == NOON + 80 * MS
    assert pulse(after_at=NOON - 75 * MS).next == NOON


def test_of_what_passed_while_nobody_held_it_the_last_is_made_up_for() -> None:
    one = pulse(NOON + 205 * MS, after_at=NOON + 70 * MS)
    assert one.next == NOON + 200 * MS
    assert report(one)["missed"] == {"first": (NOON + 80 * MS) / 1e6, "last": (NOON + 190 * MS) / 1e6, "count": 12}


def test_after_a_lost_holder_nothing_is_fired_that_it_may_have_fired() -> None:
    one = pulse(NOON + 205 * MS, after_at=NOON + 70 * MS, is_gap=True)
    assert one.next == NOON + 210 * MS
    assert report(one)["missed"] == {"first": (NOON + 80 * MS) / 1e6, "last": (NOON + 200 * MS) / 1e6, "count": 13}


def test_a_delay_counts_from_the_end_of_the_fire() -> None:
    one = pulse(period=100 * MS, from_end=True)
    fire(one, late=3 * MS, takes=50 * MS)
    assert one.next == NOON + 153 * MS
    assert one.after == (NOON + 53 * MS) / 1e6
    one.catch_up((NOON + 9_000 * MS) / 1e6)
    assert one.next == NOON + 153 * MS
    assert report(one)["result"]["missed"] == 0


def test_a_delay_goes_on_behind_the_last_end_and_after_a_lost_holder_at_once() -> None:
    assert pulse(NOON, period=100 * MS, from_end=True, after_at=NOON + 40 * MS).next == NOON + 140 * MS
    one = pulse(NOON + 5_000 * MS, period=100 * MS, from_end=True, after_at=NOON, is_gap=True)
    assert one.next == NOON + 5_000 * MS


def test_there_is_no_instant_after_the_end() -> None:
    one = pulse(ends_at=NOON + 10 * MS)
    fire(one)
    assert fire(one) == NOON + 10 * MS
    assert one.next is None
    assert pulse(ends_at=NOON - MS).next is None


def test_a_span_is_summed_up_with_its_last_error() -> None:
    one = pulse()
    fire(one, late=100)
    fire(one, late=300, takes=5 * MS, outcome="failed", error="ValueError: 7")
    fire(one, late=200, outcome="lost", error="it died")
    fire(one, late=400)
    sent = report(one)
    assert {key: sent[key] for key in ("job", "lease", "run_id", "fires", "failures", "error")} == {
        "job": "beat",
        "lease": 7,
        "run_id": 70,
        "fires": 4,
        "failures": 2,
        "error": "it died",
    }
    assert (sent["first"], sent["last"]) == (NOON / 1e6, (NOON + 30 * MS) / 1e6)
    assert sent["result"]["lateness"] == {"p50": 0.0002, "p99": 0.0004, "max": 0.0004}
    assert sent["result"]["last"] == "2026-03-01T12:00:00.030000Z"


def test_a_job_that_lost_its_worker_is_isolated_until_a_fire_has_come_through() -> None:
    one = pulse(lost=2)
    fire(one, outcome="lost", error="it died")
    assert one.lost == 2
    fire(one, outcome="failed")
    assert one.lost == 0


def test_a_report_stays_as_it_was_sent_until_it_is_answered() -> None:
    one = pulse()
    fire(one)
    first = report(one)
    fire(one)
    assert report(one) is first
    one.answered(71)
    second = report(one)
    assert (second["run_id"], second["fires"]) == (71, 1)
    one.answered(72)
    assert one.to_send() is None
